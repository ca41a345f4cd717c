"""Notices that the server is down, so that the outage is waited out instead of spent on the tasks' tries.

Closed: all is well. After several failures in a row without one success between them it opens: one request at a time
goes out, after a wait that doubles, until one succeeds. What fails meanwhile says nothing about its task.
"""

THRESHOLD = 8  # failures in a row
WAIT_INITIAL = 1.0
WAIT_MAX = 60.0


class Breaker:
    """Told of each success and each failure of the server's (5xx, timeouts, broken connections)."""

    def __init__(self, threshold: int = THRESHOLD) -> None:
        self._threshold = threshold
        self._failures = 0
        self._wait = WAIT_INITIAL
        self._until = 0.0

    @property
    def is_open(self) -> bool:
        return self._failures >= self._threshold

    def wait(self, now: float) -> float:
        """Seconds until the next probe; 0 when closed."""
        return max(self._until - now, 0.0) if self.is_open else 0.0

    def succeeded(self) -> None:
        self._failures = 0
        self._wait = WAIT_INITIAL

    def failed(self, now: float) -> None:
        self._failures += 1
        if self.is_open and now >= self._until:
            self._until = now + self._wait
            self._wait = min(self._wait * 2, WAIT_MAX)
