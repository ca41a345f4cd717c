"""Whether a server writes what is left as a request comes in, or as its answer leaves: with answers of many seconds
these are two pictures, and only one of them is true. Pure.

Most limiters write their headers before the request is worked on, some proxies when all is done. Between two pictures
of a window as much more is used as was sent between them: by the order in which they were sent, or in which their
answers came. Where the two differ, and one of them is right, that is a vote.
"""

from collections import deque
from dataclasses import dataclass

KEPT = 16  # replies that each new one is compared with
APART = 0.25  # seconds between two sends, so that they arrived in that order
TELLING = 4.0  # requests by which the two must differ, and at the least were used
ROUGH = 0.05  # of what was used between them, and
EXACT = 1.0  # a request, by which it may be off
SURE, MOST = 3, 8  # votes
NEITHER = 0.2  # of a vote is lost where neither is right: others use it, or some came back


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """*used* of a limit, as one reply told. ``sent``, ``by_then``: all that we had sent when it left, and when its
    reply was here; ``epoch``: of its window.
    """

    used: float
    sent: float
    by_then: float
    sent_at: float
    epoch: int


class Written:
    """``early``: as the request comes in; None = nobody knows."""

    def __init__(self) -> None:
        self._pictures: deque[Picture] = deque(maxlen=KEPT)
        self._votes = 0.0

    @property
    def early(self) -> bool | None:
        return None if abs(self._votes) < SURE else self._votes > 0

    def add(self, picture: Picture) -> None:
        """One more, in the order of the replies."""
        for other in self._pictures:
            if other.epoch == picture.epoch and abs(other.sent_at - picture.sent_at) >= APART:
                vote = _vote(other, picture)
                if vote is not None:
                    change = vote or NEITHER * ((self._votes < 0) - (self._votes > 0))
                    self._votes = max(-MOST, min(self._votes + change, MOST))
                    break
        self._pictures.append(picture)


def _vote(one: Picture, other: Picture) -> int | None:
    """1: it was written as the request came in; -1: as the answer left; 0: neither; None: nothing tells."""
    used = other.used - one.used
    early, late = other.sent - one.sent, other.by_then - one.by_then
    if abs(early - late) < TELLING or abs(used) < TELLING:
        return None
    off = EXACT + ROUGH * abs(used)
    return (abs(used - early) <= off) - (abs(used - late) <= off)
