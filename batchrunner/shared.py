"""Notices that two lanes draw from one quota: some providers count an account's models together, some apart.

Lanes begin apart. What a window has lost beyond what its own lane sent was taken by someone else; if it is, three
replies in a row, just as much as the other lanes of the route sent, it was these, for a stranger's traffic would hardly
add up so. From then on one limiter serves them all: two for one quota would be refused again and again.
"""

from batchrunner.quota import Dimension, Quota

LEAST = 3  # requests; less may be a server that counts a little differently
PART = 0.5  # of what the others sent must be missing; the rest may be under way, or have come back already
VOTES = 3  # replies in a row


class Kinship:
    """Of one lane. Told of each reply's windows, and of what was sent in the last minute: here, and by its siblings."""

    def __init__(self) -> None:
        self._votes = 0

    def is_shown(self, quota: Quota, *, sent: int, by_siblings: int) -> bool:
        """Whether by now the siblings' sends are surely counted here too."""
        missing = [
            window.limit - window.remaining - sent
            for window in quota.windows
            if window.dimension is Dimension.REQUESTS and window.limit is not None and window.remaining is not None
        ]
        if missing:
            fits = any(max(LEAST, PART * by_siblings) <= each <= by_siblings for each in missing)
            self._votes = self._votes + 1 if fits else 0
        return self._votes >= VOTES
