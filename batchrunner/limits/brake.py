"""Waiting that no window explains: a wait the server named, and refusal after refusal.

When a long wait is over, one request goes ahead of the others, so that they are not all wrong at once.
"""

LONG = 1.0  # seconds; after a shorter wait nobody goes ahead
AHEAD_MOST = 10.0  # seconds that the others wait for that one's reply
IN_A_ROW = 3  # refusals without an answer between them, and from then on ever longer waits
FIRST, MOST = 0.05, 1.0  # seconds


class Brake:
    """``wait`` holds everybody. *send* is whatever tells one send from another."""

    def __init__(self, *, now: float) -> None:
        self._until = now
        self._seconds = 0.0  # the longest wait since somebody went
        self._scout: object = None  # who went ahead
        self._scout_at = now
        self._refused_at = now
        self._row = 0
        self._step = FIRST

    def wait(self, now: float, *, alone: bool) -> float:
        """Seconds to hold everybody; *alone*: nobody else is in flight."""
        if self._scout is not None and not alone:
            return max(self._until, self._scout_at + AHEAD_MOST) - now
        return self._until - now

    def sent(self, send: object, at: float) -> None:
        if self._seconds > LONG:
            self._scout, self._scout_at, self._seconds = send, at, 0.0

    def came_back(self, send: object) -> None:
        if send is self._scout:
            self._scout = None

    def named(self, seconds: float | None, now: float) -> None:
        """The server named a wait, or did not."""
        if seconds is not None and now + seconds > self._until:
            self._until, self._seconds = now + seconds, max(seconds, self._seconds)

    def refused(self, sent_at: float, now: float) -> None:
        """Whatever we believe: refusals in a row slow us down, if each left after the one before had come back."""
        if sent_at <= self._refused_at:
            return
        self._refused_at = now
        self._row += 1
        if self._row > IN_A_ROW:
            self._step = min(2 * self._step, MOST)
            self.named(self._step, now)

    def answered(self) -> None:
        self._row, self._step = 0, FIRST
