"""What a server charges for a request, of what we reckon: learned from the fall of ``remaining`` over many of them.

Some charge the prompt alone, some the prompt and max_tokens, some what was really used, afterwards.
"""

CHARGES = 32  # requests whose charges are looked at together
SHUFFLES = 8  # times what may arrive in another order
RIGHT = 0.15  # off, and it is most likely our snapshots that are
DOUBTS = 2  # in a row, until a charge is believed to be another
MOST = 50.0


class Charging:
    """``factor``: what is charged, over what we reckon."""

    def __init__(self) -> None:
        self.factor = 1.0
        self._since: tuple[float, float, float] | None = None  # remaining, reckoned and come back, a while ago
        self._doubts = 0

    def restart(self) -> None:
        """A window is over: from what was left of it to what is left of the next is no fall."""
        self._since, self._doubts = None, 0

    def refused(self, needs: float, reckoned: float) -> None:
        """A request that we reckon to take *reckoned* needs more than was left: *needs* at the least."""
        self.factor = min(max(self.factor, needs / reckoned), MOST)

    def learn(
        self, remaining: float, *, reckoned: float, back: float, request: float, shuffled: float, gain: float
    ) -> None:
        """A reply told *remaining*; by its send we had *reckoned* so much in all, and *back* had come back.

        *request*: what is reckoned for one; *shuffled*: what may well arrive in another order. *gain*: of a small
        difference, which is believed by and by.
        """
        now = (remaining, reckoned, back)
        if self._since is None:
            self._since = now
            return
        spent = reckoned - self._since[1]
        if spent < CHARGES * request + SHUFFLES * shuffled / self.factor:
            return
        fallen = self._since[0] - remaining + back - self._since[2]
        self._since = now
        factor = min(max(fallen / spent, 1 / MOST), MOST)
        if abs(factor / self.factor - 1.0) < RIGHT:
            self._doubts = 0
            self.factor += (factor - self.factor) * gain
        elif (doubts := self._doubts + 1) >= DOUBTS:
            self.factor, self._doubts = factor, 0
        else:
            self._doubts = doubts
