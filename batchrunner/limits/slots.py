"""How many requests may be in flight: found by asking for more until the server says no.

AIMD, with what others learned the hard way: one cut per *generation* (a refused request was admitted under an older
limit, and a hundred of them are one event), growth only while the slots are really full, and a hold near the last
refusal whose patience doubles. A limit of 1 is reachable. Overload is the platform's state, not our limit: it only
pauses growth. (Chiu and Jain 1989; the generation rule is NVIDIA-NeMo/DataDesigner's, the saturation rule
Netflix/concurrency-limits'.)
"""

from math import floor

CUT = 0.75
SATURATED = 0.8
GROWTH = 0.5  # for each completion, before the first refusal: by half in a round trip
GROWTH_TOLD = 1.0  # where the server tells of its windows: doubled
PATIENCE = 30.0  # seconds before the first new try near a limit that refused
PATIENCE_MAX = 600.0


class Slots:
    """``limit`` requests may be in flight; at most *most*. Starts at *start* and grows until the first refusal."""

    def __init__(self, *, most: int, start: int = 1) -> None:
        self.most = most
        self.in_flight = 0
        self.generation = 0
        self.refused_at: int | None = None  # the limit that was once too much
        self._limit = float(min(start, most))
        self._growth = GROWTH
        self._before = 0.0  # the limit before an overload
        self._clean = 0
        self._patience = PATIENCE
        self._hold_until = 0.0

    @property
    def limit(self) -> int:
        return max(1, floor(self._limit))

    @property
    def free(self) -> int:
        return self.limit - self.in_flight

    def take(self) -> int:
        """One more in flight; returns the generation to hand back with ``give``."""
        self.in_flight += 1
        return self.generation

    def give(self) -> None:
        self.in_flight -= 1

    def succeeded(self, now: float) -> None:
        """A clean completion; call it before ``give``, while its slot still counts."""
        if self._limit < self._before:
            self._limit = min(self._limit + 1.0 / self._limit, self._before)
            return
        self._before = 0.0
        if self.in_flight < SATURATED * self.limit or self.limit >= self.most:
            return
        if self.refused_at is None:
            self._limit += self._growth
        elif self._limit + 1 < self.refused_at or now >= self._hold_until:
            self._clean += 1
            if self._clean >= max(self.limit, 8):
                self._grow(now)
        self._limit = min(self._limit, float(self.most))

    def refused(self, generation: int, now: float) -> None:
        """Too many in flight, said the server of a request that left in *generation*."""
        if generation != self.generation:
            return
        again = self.refused_at is not None and self.limit >= self.refused_at
        self._patience = min(self._patience * 2, PATIENCE_MAX) if again else PATIENCE
        self._hold_until = now + self._patience
        self.refused_at = self.limit
        self._limit = max(1.0, floor(self._limit * CUT))
        self.generation += 1
        self._clean = 0

    def open(self, limit: int) -> None:
        """The server tells of windows, so most likely it has no other limit: no need to feel the way from one."""
        self._growth = GROWTH_TOLD
        if self.refused_at is None:
            self._limit = max(self._limit, float(min(limit, self.most)))

    def told(self, limit: int) -> None:
        """The server names its limit."""
        self.most = max(1, min(self.most, limit))
        self._limit = min(self._limit, float(self.most))

    def overloaded(self, generation: int) -> None:
        """The platform is struggling: half as many for now. Our limit is not moved; successes give it back."""
        self._clean = 0
        if generation != self.generation:
            return
        self.generation += 1
        self._before = max(self._before, self._limit)
        self._limit = max(1.0, self._limit / 2)

    def believe(self, limit: int) -> None:
        """Start from what an earlier run learned."""
        self._limit = float(min(max(limit, 1), self.most))

    def _grow(self, now: float) -> None:
        self._clean = 0
        self._limit += 1.0
        if self.refused_at is not None and self.limit > self.refused_at:  # what once refused is no limit any more
            self.refused_at = self.limit
            self._hold_until = now
            self._patience = PATIENCE
