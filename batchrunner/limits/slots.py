"""How many requests may be in flight: found by asking for more until the server says no.

AIMD, with what others learned the hard way: one cut per *generation* (a refused request was admitted under an older
limit, and a hundred of them are one event), growth only while the slots are really full, and a hold near the last
refusal whose patience doubles, with at most one try for a hundred answers. A limit of 1 is reachable. Overload is the
platform's state, not our limit: it only pauses growth, unless the same number is overload again and again. A server
that refuses nothing and queues everything (vLLM, llama.cpp) is no faster for more in flight: growth ends where answers
a second no longer grow (saturation.py). Where the server tells nothing, the first refusal may come for all that is in
flight at once: there growth rests at a ceiling, which doubles when it was calm for a while. (Chiu and Jain 1989; the
generation rule is NVIDIA-NeMo/DataDesigner's.)
"""

from math import floor

from batchrunner.growth import grown
from batchrunner.limits.saturation import Saturation

CUT = 0.75
SATURATED = 0.8
GROWTH = 1.0  # for each completion, before the first refusal: doubled in a round trip
PATIENCE = 30.0  # seconds before the first new try near a limit that refused
PATIENCE_MAX = 600.0
TRIPS = 4.0  # answers' times at the least, before a new try where more brought no more
CLEAN = 8  # answers at the least before one more is let in,
DOUBTED = 2  # and where it may never have been the slots
TRY_EVERY = 100  # answers: a try that fails costs a refusal
LUCK = 2  # answers with so many in flight do not matter, where that is overload again and again
UNTOLD = 64  # in flight, where no window is told
CALM = 10.0  # seconds at that ceiling without a refusal, before the next


class Slots:
    """``limit`` requests may be in flight; at most *most*. Starts at *start* and grows until the first refusal."""

    def __init__(self, *, most: int, start: int = 1) -> None:
        self.most = most
        self.in_flight = 0
        self.generation = 0
        self.refused_at: int | None = None  # the limit that was once too much
        self.let_in = 0  # the most that were in flight with one that was answered
        self.doubtful = False  # it may have been something else that refused: ask soon
        self._limit = float(min(start, most))
        self._ceiling = most if start >= most else min(most, UNTOLD)
        self._calm_since: float | None = None
        self._saturation = Saturation(self._limit)
        self._saturated = False  # answers a second did not grow the last time
        self._before = 0.0  # the limit before an overload
        self._overloaded_at = 0  # the limit at the last one
        self._passed = 0  # answers since then, with so many in flight
        self._again = 0  # times in a row that it was the same
        self._clean = self._answers = 0  # since the last growth, and since the last refusal
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

    def succeeded(self, now: float, *, beside: int, took: float) -> None:
        """A clean completion after *took* seconds; call it before ``give``, while its slot still counts.

        *beside*: how many were in flight when it left, itself included.
        """
        self.let_in = max(self.let_in, beside)
        self._passed += beside >= self._overloaded_at
        if self._limit < self._before:
            self._recover()
            return
        self._before = 0.0
        self._answers += 1
        if self.in_flight < SATURATED * self.limit:  # something else limits us, so answers say nothing of the slots
            self._saturation.restart(self._limit)
            return
        if self._is_at_ceiling(now):
            return
        if self.refused_at is None:
            self._grow_freely(now, beside, took)
        elif (
            self.doubtful
            or self._limit + 1 < self.refused_at
            or (now >= self._hold_until and self._answers >= TRY_EVERY)
        ):
            self._clean += 1
            if self._clean >= max(self.limit, DOUBTED if self.doubtful else CLEAN):
                self._grow(now)
        self._limit = min(self._limit, float(self._ceiling))

    def _is_at_ceiling(self, now: float) -> bool:
        """Whether there is nowhere to grow; a ceiling that is not the user's gives way when it was calm."""
        if self.limit < self._ceiling:
            self._calm_since = None
            return False
        if self._ceiling >= self.most:
            return True
        if self._calm_since is None:
            self._calm_since = now
        if now < self._calm_since + CALM:
            return True
        self._ceiling, self._calm_since = min(2 * self._ceiling, self.most), None
        return False

    def _grow_freely(self, now: float, beside: int, took: float) -> None:
        """Nothing was ever refused: grow, as long as more in flight brings more answers a second."""
        if now < self._hold_until or beside > self._limit:  # it left when more were let in
            return
        if self._saturated:  # begin with fewer: had it been too many, that shows now
            self._saturated, self._limit = False, max(1.0, floor(self._limit * CUT))
            self._saturation.restart(self._limit)
            return
        if self._saturation.has_waited(took):
            return
        self._limit += GROWTH
        enough = self._saturation.enough(self._limit, beside, took)
        if enough is not None:
            self._saturated, self._limit = True, max(1.0, min(enough, self._limit))
            self._saturation.restart(self._limit)
            self._hold_until = now + max(self._patience, TRIPS * took)
            self._patience = min(self._patience * 2, PATIENCE_MAX)

    def refused(self, generation: int, now: float, *, exact: bool = False) -> None:
        """Too many in flight, said the server of a request that left in *generation*.

        *exact*: all others that are in flight were let in.
        """
        if generation != self.generation:
            if generation == self.generation - 1 and self.in_flight - 1 < self.limit:  # one more of the same event
                self._limit = max(1.0, float(self.in_flight - 1))
                self.refused_at = self.limit + 1
            return
        again = self.refused_at is not None and self.limit >= self.refused_at
        self._patience = min(self._patience * 2, PATIENCE_MAX) if again else PATIENCE
        self._hold_until = now + self._patience
        self.refused_at = self.limit
        self._limit = max(1.0, self.in_flight - 1 if exact else floor(self._limit * CUT))
        self.generation += 1
        self._clean = self._answers = 0
        self._calm_since = None

    def open(self, limit: int) -> None:
        """The server tells of windows, so most likely it has no other limit: no need to feel the way from one."""
        self._ceiling = self.most
        if self.refused_at is None:
            self._limit = max(self._limit, float(min(limit, self.most)))

    def lift(self) -> None:
        """The server's windows were found, so the next refusal will not come for all that is in flight."""
        self._ceiling = self.most

    def forget(self) -> None:
        """It was something else that refused."""
        self.refused_at, self.doubtful = None, False

    def told(self, limit: int) -> None:
        """The server names its limit."""
        self.most = self._ceiling = max(1, min(self.most, limit))
        self._limit = min(self._limit, float(self.most))

    def overloaded(self, generation: int) -> None:
        """The platform is struggling: half as many for now. Our limit is not moved; successes give it back."""
        self._clean = 0
        if generation != self.generation:
            return
        self.generation += 1
        self._before = max(self._before, self._limit)
        again = self.limit == self._overloaded_at > 1 and self._passed <= LUCK
        self._again = self._again + 1 if again else 0
        self._overloaded_at, self._passed = self.limit, 0
        self._limit = self._limit - 1.0 if again else max(1.0, self._limit / 2)

    def _recover(self) -> None:
        """One more in a round trip; where so many were overload again and again, ever later: that is a limit."""
        answers = grown(self._limit, self._again, most=max(self._limit, TRY_EVERY))
        self._limit = min(self._limit + 1.0 / answers, self._before)
        if self.limit > self._overloaded_at:
            self._again = 0

    @property
    def safe(self) -> int:
        """So many may most likely be in flight at once the next time as well."""
        return max(1, min(self.let_in, floor(max(self._limit, self._before))))

    def believe(self, limit: int, *, refused_at: int | None = None) -> None:
        """Start from what an earlier run learned: so many were let in, and at *refused_at* they were too many.

        Where nothing was ever refused, it is no reason to let in fewer than else.
        """
        self.refused_at = refused_at
        limit = max(limit, 1 if refused_at is not None else self.limit)
        self._limit = float(min(limit, self.most))
        self._ceiling = max(self._ceiling, self.limit)

    def _grow(self, now: float) -> None:
        self._clean = 0
        self._limit += 1.0
        if self.refused_at is not None and self.limit > self.refused_at:  # what once refused is no limit any more
            self.refused_at = self.limit
            self._hold_until = now
            self._patience = PATIENCE
