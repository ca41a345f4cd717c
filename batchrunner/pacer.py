"""Even spacing of sends: the last guard before the wire.

The limiter decides how much may go; this keeps what it let through from leaving in one lump, after the process was
stopped for a while or a thousand waits ended at once. aiolimiter's bucket is exactly right for it: every send costs
one, the rate is fixed, and equal amounts are served in order. A new rate is a new bucket.
"""

from aiolimiter import AsyncLimiter

CHANGE = 0.02  # a rate that differs by less is the same


class Pacer:
    """``wait`` returns when the next send may leave. Without a pace it returns at once."""

    def __init__(self) -> None:
        self._pace: tuple[float, float] | None = None
        self._limiter: AsyncLimiter | None = None

    def set(self, pace: tuple[float, float] | None) -> None:
        """*pace* is sends a second, and how many of them may leave at once; None for no limit."""
        if pace == self._pace or (
            pace and self._pace and _same(pace[0], self._pace[0]) and _same(pace[1], self._pace[1])
        ):
            return
        self._pace = pace
        self._limiter = None if pace is None else AsyncLimiter(max_rate=pace[1], time_period=pace[1] / pace[0])

    async def wait(self) -> None:
        if self._limiter is not None:
            await self._limiter.acquire()


def _same(one: float, other: float) -> bool:
    return abs(one - other) <= CHANGE * max(one, other)
