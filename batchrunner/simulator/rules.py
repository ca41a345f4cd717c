"""The simulator's limiters: pure, told the time, and strict to the request.

Three machines a provider may run, all with one limit L a window of W seconds:

* *bucket*: holds at most L, refills at L/W a second. In any stretch of t seconds it admits at most L + t*L/W. Its
  ``reset`` is the time until it is FULL, (L - level)/L*W, and ``remaining`` is the level rounded down, hence
  (L-m-1)/L*W <= reset <= (L-m)/L*W: the law that OpenAI's and Groq's recorded headers obey.
* *fixed*: L from the window's start to its end, then L again. Windows begin with the first request, or stand on a grid.
* *sliding*: L in any W seconds; what one request took comes back exactly W after that request.

A charge may be corrected once the real usage is known. The level may go below zero by that: a debt, shown as a negative
``remaining``, which the next request waits for.
"""

from collections import deque
from dataclasses import dataclass
from enum import StrEnum
from math import ceil, floor, inf
from typing import Protocol

EPSILON = 1e-6  # a deficit (or a wait) smaller than this is float noise, not a reason to refuse


class Bound(StrEnum):
    """What kind of limit refused."""

    CONCURRENCY = "concurrency"
    REQUESTS = "requests"
    TOKENS = "tokens"


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What a header may tell: counts, and seconds to the reset as the algorithm means it."""

    limit: int
    remaining: int
    reset: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """One limit said no.

    ``wait``: seconds after which the same request passes if nobody else sends; ``inf`` = never, it is larger than the
    whole limit; None = nobody can tell (in-flight limits).
    """

    bound: Bound
    limit: int
    used: int
    requested: int
    wait: float | None


@dataclass(slots=True)
class Charge:
    """What one request was charged, and when; kept so that it can be corrected."""

    at: float
    cost: float


class Limiter(Protocol):
    """One limit a window: a bucket, a fixed window or a sliding log."""

    bound: Bound

    @property
    def limit(self) -> int:
        """What a window allows."""

    def wait(self, cost: float, now: float) -> float:
        """Seconds until *cost* passes: 0 = now, ``inf`` = never."""

    def charge(self, cost: float, now: float) -> Charge:
        """Take *cost*, whether it is there or not."""

    def settle(self, charge: Charge, actual: float, now: float) -> None:
        """Correct *charge* to *actual*: refund or debt."""

    def penalise(self, cost: float, now: float) -> None:
        """Charge a request that was refused."""

    def state(self, now: float) -> State:
        """The limit as a header would tell it."""

    def set_limit(self, limit: int, now: float) -> None:
        """Change the limit from *now* on."""


def admit(limiter: Limiter, cost: float, now: float) -> Refusal | None:
    """Charge *cost* and say nothing, or charge nothing and say why not."""
    refusal = check(limiter, cost, now)
    if refusal is None:
        limiter.charge(cost, now)
    return refusal


def check(limiter: Limiter, cost: float, now: float) -> Refusal | None:
    """Why *cost* would be refused; None if it would pass. Charges nothing."""
    wait = limiter.wait(cost, now)
    if wait <= 0:
        return None
    state = limiter.state(now)
    return Refusal(
        bound=limiter.bound,
        limit=state.limit,
        used=state.limit - state.remaining,
        requested=ceil(cost),
        wait=wait,
    )


def _shown(level: float) -> float:
    """The level as it is told: what went below zero by float noise alone is no debt."""
    return 0.0 if -EPSILON < level < 0 else level


class TokenBucket:
    """Refills steadily; full at the beginning."""

    __slots__ = ("_at", "_level", "bound", "limit", "window")

    def __init__(self, bound: Bound, *, limit: int, window: float, now: float) -> None:
        self.bound = bound
        self.limit = limit
        self.window = window
        self._level = float(limit)
        self._at = now

    def _refill(self, now: float) -> float:
        if now > self._at:
            self._level = min(self.limit, self._level + (now - self._at) * self.limit / self.window)
            self._at = now
        return self._level

    def wait(self, cost: float, now: float) -> float:
        # Like the recorded refusals, what is told counts whole permits only: (Used + Requested - Limit) / Limit * W.
        # It is never too short.
        if cost > self.limit:
            return inf
        level = self._refill(now)
        return 0.0 if cost - level < EPSILON else (cost - floor(_shown(level))) * self.window / self.limit

    def charge(self, cost: float, now: float) -> Charge:
        self._level = self._refill(now) - cost
        return Charge(now, cost)

    def settle(self, charge: Charge, actual: float, now: float) -> None:
        self._level = min(self.limit, self._refill(now) + charge.cost - actual)
        charge.cost = actual

    def penalise(self, cost: float, now: float) -> None:
        # Only what is there: with a debt from refusals a client could lock itself out for hours, which none reports.
        level = self._refill(now)
        self._level = min(level, max(0.0, level - cost))

    def state(self, now: float) -> State:
        level = _shown(self._refill(now))
        return State(limit=self.limit, remaining=floor(level), reset=(self.limit - level) * self.window / self.limit)

    def set_limit(self, limit: int, now: float) -> None:
        self._level = min(self._refill(now), limit)
        self.limit = limit


class FixedWindow:
    """Starts afresh every window.

    ``origin`` None: a window begins with the first request after the last one's end. Else windows begin at
    ``origin`` + k*W, as where a provider counts by the minutes of its clock.
    """

    __slots__ = ("_end", "_used", "bound", "limit", "origin", "window")

    def __init__(self, bound: Bound, *, limit: int, window: float, origin: float | None = None) -> None:
        self.bound = bound
        self.limit = limit
        self.window = window
        self.origin = origin
        self._end: float | None = None
        self._used = 0.0

    def _turn(self, now: float) -> None:
        if self._end is not None and self._end - now < EPSILON:
            self._end = None
            self._used = 0.0
        if self._end is None and self.origin is not None:
            turns = floor((now - self.origin + EPSILON) / self.window)
            self._end = self.origin + (turns + 1) * self.window

    def _left(self, now: float) -> float:
        return 0.0 if self._end is None else self._end - now

    def wait(self, cost: float, now: float) -> float:
        if cost > self.limit:
            return inf
        self._turn(now)
        return 0.0 if self._used + cost - self.limit < EPSILON else self._left(now)

    def charge(self, cost: float, now: float) -> Charge:
        self._turn(now)
        if self._end is None:
            self._end = now + self.window
        self._used += cost
        return Charge(now, cost)

    def settle(self, charge: Charge, actual: float, now: float) -> None:
        # A charge of an earlier window is forgotten with it: neither refund nor debt.
        self._turn(now)
        if self._end is not None and charge.at - (self._end - self.window) > -EPSILON:
            self._used += actual - charge.cost
            charge.cost = actual

    def penalise(self, cost: float, now: float) -> None:
        self._turn(now)
        if self._end is not None:
            self._used = max(self._used, min(self.limit, self._used + cost))

    def state(self, now: float) -> State:
        self._turn(now)
        return State(limit=self.limit, remaining=floor(_shown(self.limit - self._used)), reset=self._left(now))

    def set_limit(self, limit: int, now: float) -> None:
        self._turn(now)
        self.limit = limit


class SlidingLog:
    """Remembers each charge for one window."""

    __slots__ = ("_log", "_total", "bound", "limit", "window")

    def __init__(self, bound: Bound, *, limit: int, window: float) -> None:
        self.bound = bound
        self.limit = limit
        self.window = window
        self._log: deque[Charge] = deque()
        self._total = 0.0

    def _forget(self, now: float) -> None:
        log = self._log
        while log and log[0].at + self.window - now < EPSILON:
            self._total -= log.popleft().cost
        if not log:
            self._total = 0.0

    def wait(self, cost: float, now: float) -> float:
        if cost > self.limit:
            return inf
        self._forget(now)
        excess = self._total + cost - self.limit
        if excess < EPSILON:
            return 0.0
        for charge in self._log:
            excess -= charge.cost
            if excess < EPSILON:
                return charge.at + self.window - now
        return self.window

    def charge(self, cost: float, now: float) -> Charge:
        self._forget(now)
        charge = Charge(now, cost)
        self._log.append(charge)
        self._total += cost
        return charge

    def settle(self, charge: Charge, actual: float, now: float) -> None:
        self._forget(now)
        if self._log and charge.at >= self._log[0].at:
            self._total += actual - charge.cost
            charge.cost = actual

    def penalise(self, cost: float, now: float) -> None:
        self.charge(cost, now)

    def state(self, now: float) -> State:
        self._forget(now)
        reset = self._log[0].at + self.window - now if self._log else 0.0
        return State(limit=self.limit, remaining=floor(_shown(self.limit - self._total)), reset=reset)

    def set_limit(self, limit: int, now: float) -> None:
        self._forget(now)
        self.limit = limit


class Concurrency:
    """At most ``limit`` requests in flight; None = no limit."""

    __slots__ = ("in_flight", "limit")

    def __init__(self, limit: int | None) -> None:
        self.limit = limit
        self.in_flight = 0

    def check(self) -> Refusal | None:
        if self.limit is None or self.in_flight < self.limit:
            return None
        return Refusal(bound=Bound.CONCURRENCY, limit=self.limit, used=self.in_flight, requested=1, wait=None)
