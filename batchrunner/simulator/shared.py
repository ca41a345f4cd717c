"""A limit that another client of the same account uses too: it takes its share, evenly, and it insists.

It asks for ``share`` of the limit, a portion at a time and evenly spaced, from the first request of ours on. What it is
refused it takes as soon as it is there, before anybody else. So by any time t at which a request of ours gets in, it
had all it asked for until then, share*t*L/W, and the rest is what was left for us.

Nothing happens between two looks at the limit, so it is enough to let it catch up at each of them, in order of time.
"""

from batchrunner.simulator.rules import Bound, Charge, Limiter, State

_PORTIONS = 100  # a window's tokens, in portions


class Shared:
    """A limiter, as it is when somebody else has a *share* (0 to 1) of it."""

    __slots__ = ("_at", "_due", "_limiter", "_share", "_window", "bound")

    def __init__(self, limiter: Limiter, *, share: float, window: float) -> None:
        self.bound = limiter.bound
        self._limiter = limiter
        self._share = share
        self._window = window
        self._due: float | None = None  # when it asks for its next portion; None = it waits for our first request
        self._at = 0.0  # until when it took what it could

    @property
    def limit(self) -> int:
        return self._limiter.limit

    @property
    def _portion(self) -> float:
        return 1.0 if self.bound is Bound.REQUESTS else max(1.0, self.limit / _PORTIONS)

    def _catch_up(self, now: float) -> None:
        while self._due is not None and self._due <= now:
            at = self._possible(max(self._due, self._at), now)
            if at is None:
                break
            self._limiter.charge(self._portion, at)
            self._at = at
            self._due += self._portion / (self._share * self.limit) * self._window
        self._at = now

    def _possible(self, at: float, now: float) -> float | None:
        """The first time from *at* to *now* at which a portion was there; a told wait may be longer than it takes."""
        told = at + self._limiter.wait(self._portion, at)
        if told <= now:
            return told
        return now if self._limiter.wait(self._portion, now) <= 0 else None

    def wait(self, cost: float, now: float) -> float:
        if self._due is None:
            self._due = now
        self._catch_up(now)
        return self._limiter.wait(cost, now)

    def charge(self, cost: float, now: float) -> Charge:
        self._catch_up(now)
        return self._limiter.charge(cost, now)

    def settle(self, charge: Charge, actual: float, now: float) -> None:
        self._catch_up(now)
        self._limiter.settle(charge, actual, now)

    def penalise(self, cost: float, now: float) -> None:
        self._catch_up(now)
        self._limiter.penalise(cost, now)

    def state(self, now: float) -> State:
        self._catch_up(now)
        return self._limiter.state(now)

    def set_limit(self, limit: int, now: float) -> None:
        self._catch_up(now)
        if self._due is not None and self._due > now:
            self._due = now + (self._due - now) * self.limit / limit  # what it waited already counts
        self._limiter.set_limit(limit, now)
