"""Our own sends of one window's length: what comes back when, at a server that remembers each request for a while."""

from collections import deque
from dataclasses import dataclass, replace
from math import inf

STEPS = 2000  # a window is kept in twice so many steps at most, however many sends fell into it
STEP_MIN = 0.01  # seconds
RECALLED = 0.5  # seconds for which what is forgotten may be recalled
NOISE = 1e-6  # of sums of floats: who waits for all of them must not wait for ever


@dataclass(slots=True)
class _Step:
    first: float
    last: float
    cost: float


class Spent:
    """A log of costs in steps of 10 ms; once there are 2000, of the window's length / 2000. Times may arrive a little
    out of order.
    """

    def __init__(self) -> None:
        self.total = 0.0
        self._steps: deque[_Step] = deque()
        self._gone: deque[_Step] = deque()

    def copy(self) -> "Spent":
        copied = Spent()
        copied.total = self.total
        copied._steps.extend(replace(step) for step in self._steps)
        return copied

    @property
    def steps(self) -> int:
        """How many there are."""
        return len(self._steps)

    def add(self, cost: float, at: float, *, period: float) -> None:
        self.total += cost
        newest = self._steps[-1] if self._steps else None
        step = max(STEP_MIN, period / STEPS) if len(self._steps) >= STEPS else STEP_MIN
        if newest is not None and at < newest.first + step:
            newest.cost += cost
            newest.last = max(newest.last, at)
        else:
            self._steps.append(_Step(at, at, cost))

    def correct(self, extra: float, at: float, *, period: float) -> None:
        """What was sent at *at* costs so much more, or less if negative."""
        if extra < 0:
            self.give_back(-extra, at)
        elif extra > 0:
            self.add(extra, at, period=period)

    def give_back(self, cost: float, at: float = inf) -> None:
        """A send at *at* did not count after all, or counted less; taken off the newest steps that are no newer."""
        for step in reversed(self._steps):
            if step.first > at:
                continue
            taken = min(cost, step.cost)
            step.cost -= taken
            self.total -= taken
            cost -= taken
            if cost <= 0:
                break
        while self._steps and self._steps[-1].cost <= 0:
            self._steps.pop()

    def forget(self, until: float) -> float:
        """Drop what was sent at *until* or before; returns how much that was."""
        gone = 0.0
        while self._steps and self._steps[0].last <= until:
            gone += self._steps[0].cost
            self._gone.append(self._steps.popleft())
        while self._gone and self._gone[0].last <= until - RECALLED:
            self._gone.popleft()
        self.total = max(self.total - gone, 0.0) if self._steps else 0.0
        return gone

    def recall(self, cost: float) -> tuple[float, float]:
        """The server remembers so much more, of what was forgotten just now; returns how much, and when it was sent."""
        recalled, sent = 0.0, inf
        while self._gone and recalled < cost - NOISE:
            step = self._gone.pop()
            recalled, sent = recalled + step.cost, step.last
            self._steps.appendleft(step)
        self.total += recalled
        return recalled, sent

    def hold(self, cost: float, now: float) -> None:
        """It is known to be so much in all: what is too much was the oldest, what is missing the newest."""
        if cost > self.total:
            self.add(cost - self.total, self._steps[-1].first if self._steps else now, period=STEPS)
        while self._steps and self.total > cost:
            oldest = self._steps[0]
            taken = min(self.total - cost, oldest.cost)
            oldest.cost -= taken
            self.total -= taken
            if oldest.cost <= 0:
                self._steps.popleft()

    def scale(self, by: float) -> None:
        """All of it cost so many times what was thought."""
        self.total *= by
        for step in self._steps:
            step.cost *= by

    def arrived(self, sent: float, by: float | None) -> None:
        """What left at *sent* was there at *by*, and is forgotten that much later, as is what left after it.

        None: nobody knows.
        """
        if by is None:
            return
        for step in reversed(self._steps):
            if step.first <= sent:
                step.last = max(step.last, by)
                return

    def since(self, begin: float) -> float:
        """How much was sent after *begin*."""
        amount = 0.0
        for step in reversed(self._steps):
            if step.first <= begin:
                break
            amount += step.cost
        return amount

    def sent_when(self, cost: float) -> float:
        """When the send happened with which the oldest ones come to *cost*; infinite if there is not so much."""
        latest = -inf
        for step in self._steps:
            cost -= step.cost
            latest = max(latest, step.last)
            if cost <= NOISE:
                return latest
        return inf

    @property
    def oldest(self) -> float | None:
        return self._steps[0].first if self._steps else None
