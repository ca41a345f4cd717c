"""Whether a sliding window is a log of our sends, or only counts them: in its first period each reply may disprove it.

A log has as much left as our own log of it says. One that has more, or less, is a count weighed by time.
"""

from math import inf

from batchrunner.limits.mark import Mark
from batchrunner.limits.spent import Spent

JITTER = 0.25  # seconds by which one send may overtake another on its way
MENDS = 3  # of a log of tokens
MUCH = 0.03  # of the limit comes back at one moment


class Proof:
    """``seen``: what the last reply told is left, and was not sent since; until the proof nothing else is used."""

    def __init__(self, *, mends: int = 0) -> None:
        self.seen = 0.0
        self._mends = mends
        self._since = inf

    def follow(self, now: float, *, sliding: bool) -> None:
        """What it is thought to be."""
        self._since = min(self._since, now) if sliding else inf

    def is_due(self, now: float, period: float) -> bool:
        """Of what is thought to be a sliding window."""
        return now < self._since + period

    def fails(
        self, remaining: float, mark: Mark, spent: Spent, *, now: float, period: float, limit: float, later: float
    ) -> bool:
        """A reply told *remaining*; *later*: cost of what was sent after it, and may have come before it.

        Of tokens, what was charged for what is in the log may have been known badly: that is mended, a few times.
        """
        unsure = max(spent.since((now if mark.at is None else mark.at) - JITTER), later)  # may not be in its reply
        ours = spent.since(now - period) - unsure  # what the server forgot, we shall forget soon
        some = max(MUCH * limit, 2.0)
        expected = 0.0 if mark.expected is None else mark.expected - later
        self.seen = remaining - later - mark.shuffled
        more = remaining > limit - ours + some
        if more and self._mends and ours > 0:
            self._mends -= 1
            spent.scale((limit - remaining) / ours)
            return False
        return expected > max(some, 2 * (remaining + mark.cost)) or more
