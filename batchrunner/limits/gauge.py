"""How much went by in the last minute, counted in one-second buckets so that it costs the same at any rate."""

from collections import deque

SPAN = 60  # seconds


class Gauge:
    """A sum over the last minute. Times may arrive a little out of order."""

    def __init__(self) -> None:
        self._seconds: deque[tuple[int, float]] = deque()
        self._total = 0.0

    def add(self, amount: float, now: float) -> None:
        second = int(now)
        if self._seconds and self._seconds[-1][0] >= second:
            second, before = self._seconds.pop()
            self._seconds.append((second, before + amount))
        else:
            self._seconds.append((second, amount))
        self._total += amount

    def total(self, now: float) -> float:
        while self._seconds and self._seconds[0][0] <= now - SPAN:
            self._total -= self._seconds.popleft()[1]
        return self._total if self._seconds else 0.0
