"""Notices that two lanes draw from one quota: some providers count an account's models together, some apart.

Lanes begin apart. From reply to reply a window loses what its own lane sent; if it loses more, and just as much more as
the other lanes of the route got answered meanwhile, it was these; a stranger would have to keep step with them. From
then on one limiter serves them all: two for one quota would be refused again and again.
"""

from batchrunner.quota import Dimension, Quota, Window

LEAST = 3  # requests; less may be a server that counts a little differently
PART = 0.7  # of what the others got answered must be missing; a little may have come back already
VOTES = 3  # replies

_Key = tuple[float | None, float | None, str]


class Kinship:
    """Of one lane. Told each reply's windows, and how many requests have ended and are in flight, here and beside."""

    def __init__(self) -> None:
        self._bases: dict[_Key, tuple[float, int]] = {}  # what a window had lost beyond ours, and the others' number
        self._votes = 0

    def is_shown(self, quota: Quota, *, ended: int, in_flight: int, ended_beside: int, in_flight_beside: int) -> bool:
        """Whether by now the others' requests are surely counted here too."""
        for window in quota.windows:
            if (lost := _lost(window)) is None:
                continue
            key, lost = (window.limit, window.period, window.scope), lost - ended
            base = self._bases.setdefault(key, (lost, ended_beside))
            gain, growth = lost - base[0], ended_beside - base[1]
            if gain < 0:
                self._bases[key] = (lost, ended_beside)  # it was filled up again
            elif gain >= in_flight + LEAST and PART * growth <= gain <= growth + in_flight_beside:
                self._votes += 1
        return self._votes >= VOTES


def _lost(window: Window) -> float | None:
    if window.dimension is not Dimension.REQUESTS or window.limit is None or window.remaining is None:
        return None
    return window.limit - window.remaining
