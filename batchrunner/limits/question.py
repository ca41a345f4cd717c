"""After a refusal that our account can't explain, nobody sends for a moment; then one asks what came back meanwhile.

The silence costs nothing, for what comes back in it is still there afterwards; and as nothing else of ours is on its
way, the answer tells what others take.
"""

from math import inf

SILENCE = 0.5  # seconds
MOST = 0.1  # of a period, for a silence or a round trip: a quota that comes back faster must not wait for an answer


class Question:
    """*number* is whatever tells one send from another."""

    def __init__(self) -> None:
        self._since: float | None = None  # when everything was gone
        self._asked: tuple[float, float] | None = None  # the number of the send that asks, and how long after that
        self._open = False

    def raise_(self, at: float, *, trip: float, period: float) -> None:
        """A send at *at* was refused."""
        if max(SILENCE, trip) <= MOST * period:
            self._since, self._asked, self._open = at, None, False

    def wait(self, now: float) -> float:
        """Seconds that nobody should send; infinite if only an answer can end it."""
        if self._since is None:
            return 0.0
        return inf if self._open else self._since + SILENCE - now

    def sent(self, number: float, at: float) -> None:
        if self._since is not None and not self._open:
            self._asked, self._open = (number, at - self._since), True

    def ended(self, number: float) -> None:
        """A send has ended, whatever came of it."""
        if self._open and self._asked is not None and self._asked[0] == number:
            self._since, self._open = None, False

    def answer(self, number: float) -> float | None:
        """Seconds since everything was gone, if this is the send that asked."""
        if self._asked is None or self._asked[0] != number:
            return None
        return self._asked[1]
