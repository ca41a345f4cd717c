"""What other clients of the same account seem to take of a limit: what goes on missing, and what refusals show."""

from math import inf

GAIN = 1 / 12  # of an error, a second: what goes on missing is what others take
TAKEN_GAIN = 0.5  # the same, of an error that a refusal shows
BETWEEN = 0.5  # seconds from one refusal to another, for what happened between them to mean anything
MOST = 0.9  # of the rate
FEW = 0.05  # of the rate; less is most likely noise


class Others:
    """``rate``: permits a second. *ours* is always the whole rate of the limit. It is forgotten by half in a period."""

    def __init__(self) -> None:
        self.rate = 0.0
        self._empty = (-inf, 0.0)  # when the limit was last seen used up, and what we had sent by then

    def are_few(self, whole: float) -> bool:
        return self.rate < FEW * whole

    def leave(self, whole: float) -> float:
        """Permits a second for us; *whole*, the limit's rate, may have shrunk since theirs was learned."""
        return max(whole - self.rate, whole * (1 - MOST))

    def missing(self, permits: float, whole: float) -> None:
        """So much less is there than our account says, or more, if negative."""
        self.rate = min(max(self.rate + permits * GAIN, 0.0), whole * MOST)

    def left(self, rate: float, whole: float) -> None:
        """While we sent nothing, permits came back for us at *rate*."""
        self.rate = min(max(whole - rate, 0.0), whole * MOST)

    def hint(self, whole: float) -> None:
        """A refusal that may be a matter of milliseconds; twice, and it is somebody else."""
        self.rate += FEW * whole * 0.8

    def took(self, permits: float, at: float, *, sent: float, whole: float, period: float) -> None:
        """A refusal: they had taken *permits* that we thought were there; between two, all that we did not get.

        *sent*: the cost of our own sends so far.
        """
        passed = at - self._empty[0]
        if BETWEEN <= passed <= period:
            theirs = whole - (sent - self._empty[1]) / passed
        else:
            theirs = self.rate + permits * TAKEN_GAIN
        self.rate = min(max(theirs, self.rate), whole * MOST)
        if passed >= BETWEEN:
            self._empty = (at, sent)

    def had(self, permits: float, seconds: float, *, whole: float) -> None:
        """A refusal: all that we did not get in the first *seconds* of a window was theirs."""
        if seconds >= BETWEEN:
            self.rate = min(max(permits / seconds, self.rate), whole * MOST)

    def counted(self, permits: float, seconds: float, whole: float) -> None:
        """All of ours is known to be in what is used of a window: so much of it, in its first *seconds*, was theirs.

        That there were none, it shows; how many there usually are, not so well.
        """
        if seconds >= BETWEEN and permits < FEW * whole * seconds:
            self.rate = min(self.rate, max(permits, 0.0) / seconds)

    def fade(self, passed: float, period: float) -> None:
        self.rate *= 0.5 ** (passed / period)
