"""What a server charges for a request, of what we reckon: learned from the fall of ``remaining`` over many of them.

Some charge the prompt alone, some the prompt and max_tokens, some what was really used, afterwards.
"""

from batchrunner.limits.mark import Burst

CHARGES = 32  # requests whose charges are looked at together
SHUFFLES = 8  # times what may arrive in another order
RIGHT = 0.15  # off, and it is most likely our snapshots that are
DOUBTS = 2  # in a row, until a charge is believed to be another
MOST = 50.0
SURE = 4  # replies more than not tell the same as the one before,
SAME = 0.1  # of what a request is charged
UNTIL = 8  # answers tell as much as what we reckon
FORGET = 0.99  # per answer


class Charging:
    """``factor``: what is charged, over what we reckon. ``is_later``: when the answer is there, not before.

    Then replies to one burst tell the same, and no more than answers told of, as nothing of it was charged yet.
    """

    def __init__(self) -> None:
        self.factor = 1.0
        self._last: tuple[Burst | None, float] | None = None  # reply to one of a burst
        self._votes = 0
        self._answered = 0.0  # tokens that answers told of
        self._tokens = self._reckoned = 0.0  # of late
        self._since: tuple[float, float, float] | None = None  # remaining, reckoned and come back, a while ago
        self._doubts = 0

    @property
    def is_later(self) -> bool:
        return self._votes >= SURE

    def restart(self) -> None:
        """A window is over: from what was left of it to what is left of the next is no fall."""
        self._since, self._doubts = None, 0

    def told(self, used: float, *, burst: Burst | None, request: float, tells: bool) -> None:
        """A reply to one of a burst told of so much; *request*: what is charged for one. *tells*: what is in flight is
        so much that it can't have come back already.
        """
        last, self._last = self._last, (burst, used)
        if abs(self._votes) >= SURE or burst is None or last is None or last[0] is not burst:
            return
        if used <= 0 and not tells:
            return
        same = abs(used - last[1]) <= SAME * request and used <= self._answered
        self._votes += 1 if same else -1

    def answered(self, tokens: float, reckoned: float) -> None:
        """An answer took so many."""
        self._answered += tokens
        if not self._reckoned:
            self._tokens = self._reckoned = UNTIL * reckoned
        self._tokens = self._tokens * FORGET + tokens
        self._reckoned = self._reckoned * FORGET + reckoned
        if self.is_later:
            self.factor = min(max(self._tokens / self._reckoned, 1 / MOST), MOST)

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
        if self.is_later:
            return
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
