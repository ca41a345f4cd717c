"""How late did a request arrive? Where most answers take the same time, one that takes longer was held up. Pure.

A network or a processor that stalls for a moment holds up many requests; the server counts each from its arrival on,
and so forgets it that much later. Where answers take as long as they like, nothing can be told from that.
"""

from math import inf

NEAR = 0.05  # seconds over the least, that are no delay
ALIKE = 1 / 3  # of the replies have to be so near: the others may be late as well
GAIN = 1 / 256  # a stall of a hundred requests does not hide itself
FEW = 32  # replies tell nothing
CREEP = 1 / 1024  # a reply: the least time grows towards what is usual now
MOST = 0.5  # seconds; of more, nobody knows how much of it was on the way there


class Trips:
    """The times from sends to their answers."""

    def __init__(self) -> None:
        self._least = inf
        self._near = 0.0  # share of the replies that came nearly in the least time
        self._gain = 1 / FEW

    def late(self, took: float) -> float | None:
        """Seconds that a request which was answered after *took* seconds arrived late, as far as that can be told.

        None: it was held up, on its way there or back.
        """
        self._least = min(self._least, took)
        over = took - self._least
        self._least += (over if self._near < ALIKE else min(over, NEAR)) * CREEP
        self._near += ((over <= NEAR) - self._near) * self._gain
        self._gain = max(self._gain / (1 + self._gain), GAIN)
        if self._near < ALIKE:
            return 0.0
        return over if over <= MOST else None
