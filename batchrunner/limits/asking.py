"""When one request at a time asks, after a refusal, whether the server lets pass again; and whether it did.

It asks step by step, ever longer, and at the moments when windows usually end. A refusal comes at once and an answer
may take a minute, so a question that was not refused soon has passed.
"""

from math import floor

from batchrunner.growth import grown
from batchrunner.limits.clock import GUARD
from batchrunner.limits.periods import PERIODS

EPSILON = 1e-6
MINUTE = 60.0
GRIDS = (10.0, MINUTE)  # seconds of windows that often stand on the clock's grid; too short a one is found out soon
AHEAD = 0.1  # seconds that permits may have been given ahead
FIRST_STEP = 0.3  # seconds from an edge to the first question; then ever longer
STEP_GROWTH = 1.6
STEP_MOST = 60.0
NEAR = 0.5  # seconds at the least to the end of a window; a little after it is as good
LATE = 1.0  # seconds after a window's end that a question may come, and still tell that it ended
TRIP_FADES = 0.9  # at each refusal
TRIPS = 4.0  # times the way of a refusal without one, and the question has passed, however long its answer takes;
PASSED = 1.0  # seconds of that at the least


class Asking:
    """``ended``: the usual period at whose end it still refused.

    ``late``: seconds after a window's end that a question may come, and still tell that it ended.
    """

    def __init__(self, *, now: float) -> None:
        self.ended: float | None = None
        self.late = LATE
        self._named = False  # a wait, since the edge
        self._asked = 0
        self._begun_at = self._at = now
        self._question: tuple[float, float] | None = None  # its cost, and when it left
        self._trip = 0.0  # seconds, of the slowest refusal lately

    def begin(self, now: float) -> None:
        """Another edge: what was asked before it says nothing of it."""
        self._begun_at, self._asked, self.ended, self._question = now, 0, None, None
        self.late, self._named = LATE, False

    def again(
        self, now: float, retry_after: float | None, *, begun_at: float, again_at: float, step: float = FIRST_STEP
    ) -> None:
        """Refused: ask when the server says, else after the next step, or when a window usually ends.

        *begun_at*: when windows began, if they begin with a send; *again_at*: when the believed one ends.
        """
        ended = next((period for period in PERIODS if begun_at + period <= now <= begun_at + period + LATE), None)
        if ended is not None and ended != self.ended:
            self.ended, self._asked = ended, 0
        self._asked += 1
        if retry_after is not None:
            if self._named:  # refused again: the waits that it asks for are not until it passes again
                self.late = max(LATE, retry_after)
            self._named = True
            self._at = now + max(retry_after, EPSILON)
            return
        grids = [grid for grid in GRIDS if grid >= MINUTE or now < self._begun_at + grid]
        usual = [begun_at + period for period in PERIODS] + [(floor(now / grid) + 1) * grid for grid in grids]
        stepped = now + grown(step, self._asked - 1, by=STEP_GROWTH, most=max(STEP_MOST, step))
        likely = [max(end + GUARD, now + NEAR) for end in (*usual, again_at) if now < end + GUARD < stepped]
        self._at = min(likely, default=stepped)

    def wait(self, now: float) -> float:
        """Seconds until something may leave: the question, or what waits for it."""
        if self._question is not None:
            return max(self._passes_at - now, EPSILON)
        return max(self._at - now, 0.0)

    def sent(self, cost: float, at: float) -> None:
        """The question leaves."""
        self._question = cost, at

    def is_question(self, sent_at: float) -> bool:
        return self._question is not None and sent_at >= self._question[1] - AHEAD

    def refused(self, sent_at: float, now: float) -> None:
        """A refusal, of the question or of what left before it."""
        if self.is_question(sent_at):
            self._question = None
        self._trip = max(now - sent_at, self._trip * TRIP_FADES)

    def drop(self) -> None:
        """The question is answered, or was never charged."""
        self._question = None

    def passed(self, now: float) -> tuple[float, float] | None:
        """Cost and time of the question, if it would have been refused by now."""
        return self._question if self._question is not None and now >= self._passes_at else None

    @property
    def _passes_at(self) -> float:
        assert self._question is not None
        return self._question[1] + max(PASSED, TRIPS * self._trip)
