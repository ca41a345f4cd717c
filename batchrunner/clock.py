"""What time it is: UTC seconds that never jump and never go back.

Anchored to the wall clock once, then counting with the monotonic one. So one number serves both for waiting and for
what is stored, and a clock that is set in the middle of a run moves no limit.
"""

import time


class Clock:
    """Call it for the time."""

    def __init__(self) -> None:
        self._offset = time.time() - time.monotonic()

    def __call__(self) -> float:
        return self._offset + time.monotonic()
