"""Whether resets are the time until a bucket is full: then each reply allows some periods, and all of them the same.

A bucket of L permits that takes W seconds to fill tells (L-m-1)/L*W <= reset <= (L-m)/L*W, m being what is left. At a
window reset falls, or stays, while more is used, so that replies soon contradict one another.
"""

from math import inf

from batchrunner.limits.periods import snapped

SPAN = 2.0  # times as much was used at one reply as at another
AGREED = 1.15  # times the least period that is allowed, for the most
ROUGH = 0.01  # of a reset, by which it may be off
REPLIES = 5  # that agree; of a sliding window, some do by chance


class Filling:
    """The periods that all replies allow, since the last contradiction."""

    def __init__(self) -> None:
        self._restart()

    def _restart(self) -> None:
        self._least, self._most = 0.0, inf
        self._used = (inf, 0.0)
        self._replies = 0

    def add(self, *, used: float, limit: float, reset: float, resolution: float) -> None:
        """One reply, by which *used* (at least two) of *limit* were used; *resolution*: seconds it is exact to."""
        slack = resolution + ROUGH * reset
        least, most = (reset - slack) * limit / used, (reset + slack) * limit / (used - 1)
        if max(self._least, least) > min(self._most, most):
            self._restart()
        self._least, self._most = max(self._least, least), min(self._most, most)
        self._used = min(self._used[0], used), max(self._used[1], used)
        self._replies += 1

    @property
    def period(self) -> float | None:
        """Seconds until an empty one is full, once that is sure."""
        if (
            self._replies < REPLIES
            or self._used[1] < SPAN * self._used[0]
            or not 0 < self._most <= AGREED * self._least
        ):
            return None
        return snapped((self._least + self._most) / 2)
