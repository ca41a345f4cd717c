"""How rate limiters count, each told the time: what composed.py makes servers of.

All of them say how long something has to wait, take what was let in, and tell what could stand in a header.
"""

from collections import deque
from dataclasses import dataclass
from math import ceil, floor
from typing import Protocol

LEAST = 1e-6  # a lack below it is none


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What can be told. ``full``, ``next``: seconds until all of it, or one more, is there; ``burst``: at once."""

    limit: float
    remaining: int
    full: float
    next: float
    burst: float


class Core(Protocol):
    """One count. *cost*: what a request takes of it."""

    limit: float
    window: float

    def wait(self, cost: float, now: float) -> float:
        """Seconds until it may be let in; 0 = now."""

    def take(self, cost: float, now: float) -> None: ...

    def give_back(self, cost: float, taken_at: float, now: float) -> None:
        """So much less was used of what was taken then."""

    def state(self, now: float) -> State: ...

    def scale(self, factor: float) -> None:
        """From now on the limit is another."""


class Bucket:
    """Holds *burst* and is filled by *limit* a *window*, steadily or every *step* seconds of the clock."""

    def __init__(self, limit: float, window: float, *, burst: float | None = None, step: float = 0.0) -> None:
        self.limit, self.window, self.step = limit, window, step
        self.burst = limit if burst is None else burst
        self._level, self._at = float(self.burst), -1.0

    def wait(self, cost: float, now: float) -> float:
        lack = min(cost, self.burst) - self._filled(now)
        if lack < LEAST:
            return 0.0
        wait = lack * self.window / self.limit
        if self.step:
            wait = ceil((self._at + wait) / self.step - 1e-9) * self.step - now
        return max(wait, LEAST)

    def take(self, cost: float, now: float) -> None:
        self._level = self._filled(now) - cost

    def give_back(self, cost: float, taken_at: float, now: float) -> None:
        del taken_at
        self._level = min(self._filled(now) + cost, self.burst)

    def state(self, now: float) -> State:
        level = self._filled(now)
        return State(
            limit=self.limit,
            remaining=floor(level + LEAST),
            full=(self.burst - level) * self.window / self.limit,
            next=max(0.0, (1 - level) * self.window / self.limit),
            burst=self.burst,
        )

    def scale(self, factor: float) -> None:
        self.burst *= factor
        self._level = min(self._level, self.burst)
        self.limit = int(self.limit * factor)

    def _filled(self, now: float) -> float:
        if self.step:
            now = floor(now / self.step) * self.step
        if self._at < 0:
            self._at = now
        if now > self._at:
            self._level = min(self.burst, self._level + (now - self._at) * self.limit / self.window)
            self._at = now
        return self._level


class Fixed:
    """A window that begins with its first request, or on the clock's grid (*aligned*)."""

    def __init__(self, limit: float, window: float, *, aligned: bool = True) -> None:
        self.limit, self.window, self.aligned = limit, window, aligned
        self._end: float | None = None
        self._used = 0.0

    def wait(self, cost: float, now: float) -> float:
        self._turn(now)
        fits = self._used + min(cost, self.limit) - self.limit < LEAST
        return 0.0 if fits or self._end is None else self._end - now

    def take(self, cost: float, now: float) -> None:
        self._turn(now)
        if self._end is None:
            self._end = now + self.window
        self._used += cost

    def give_back(self, cost: float, taken_at: float, now: float) -> None:
        self._turn(now)
        if self._end is not None and taken_at >= self._end - self.window:
            self._used -= cost

    def state(self, now: float) -> State:
        self._turn(now)
        left = 0.0 if self._end is None else self._end - now
        return State(
            limit=self.limit,
            remaining=max(floor(self.limit - self._used), 0),
            full=left,
            next=left if self._used >= self.limit else 0.0,
            burst=self.limit,
        )

    def scale(self, factor: float) -> None:
        self.limit = int(self.limit * factor)

    def _turn(self, now: float) -> None:
        if self._end is not None and now >= self._end - LEAST:
            self._end, self._used = None, 0.0
        if self._end is None and self.aligned:
            self._end = (floor((now + LEAST) / self.window) + 1) * self.window


class Sliding:
    """A log of what was let in, each forgotten after a window."""

    def __init__(self, limit: float, window: float) -> None:
        self.limit, self.window = limit, window
        self._log: deque[tuple[float, float]] = deque()
        self._total = 0.0

    def wait(self, cost: float, now: float) -> float:
        self._forget(now)
        over = self._total + min(cost, self.limit) - self.limit
        if over < LEAST:
            return 0.0
        for at, taken in self._log:
            over -= taken
            if over < LEAST:
                return at + self.window - now
        return self.window

    def take(self, cost: float, now: float) -> None:
        self._forget(now)
        self._log.append((now, cost))
        self._total += cost

    def give_back(self, cost: float, taken_at: float, now: float) -> None:
        self._forget(now)
        for n, (at, taken) in enumerate(self._log):
            if at == taken_at and taken >= cost:
                self._log[n] = at, taken - cost
                self._total -= cost
                return

    def state(self, now: float) -> State:
        self._forget(now)
        return State(
            limit=self.limit,
            remaining=max(floor(self.limit - self._total), 0),
            full=self._log[-1][0] + self.window - now if self._log else 0.0,
            next=self._log[0][0] + self.window - now if self._log else 0.0,
            burst=self.limit,
        )

    def scale(self, factor: float) -> None:
        self.limit = int(self.limit * factor)

    def _forget(self, now: float) -> None:
        while self._log and self._log[0][0] + self.window <= now + LEAST:
            self._total -= self._log.popleft()[1]


class Weighted:
    """Two windows' counts on the clock's grid, weighed by time."""

    def __init__(self, limit: float, window: float) -> None:
        self.limit, self.window = limit, window
        self._begin: float | None = None
        self._previous = self._current = 0.0

    def wait(self, cost: float, now: float) -> float:
        over = self._weighed(now) + cost - self.limit
        if over < LEAST:
            return 0.0
        left = self._left(now)
        if self._previous and over <= self._previous * left / self.window:
            return over * self.window / self._previous + LEAST
        return left + LEAST

    def take(self, cost: float, now: float) -> None:
        self._weighed(now)
        self._current += cost

    def give_back(self, cost: float, taken_at: float, now: float) -> None:
        self._weighed(now)
        if self._begin is not None and taken_at >= self._begin:
            self._current -= cost
        else:
            self._previous -= cost

    def state(self, now: float) -> State:
        return State(
            limit=self.limit,
            remaining=max(floor(self.limit - self._weighed(now)), 0),
            full=self._left(now),
            next=self.wait(1, now),
            burst=self.limit,
        )

    def scale(self, factor: float) -> None:
        self.limit = int(self.limit * factor)

    def _left(self, now: float) -> float:
        assert self._begin is not None
        return self._begin + self.window - now

    def _weighed(self, now: float) -> float:
        if self._begin is None:
            self._begin = floor(now / self.window) * self.window
        while now >= self._begin + self.window - 1e-9:
            self._begin += self.window
            self._previous, self._current = self._current, 0.0
        return self._previous * (1 - (now - self._begin) / self.window) + self._current
