"""A task that is refused for a rate, again and again: how long it waits, and when it is given up. Pure.

Such a refusal is nobody's fault, and waited for. But a request that needs more than a window holds, at a server that
does not tell its limit, is refused for ever. Tasks that wait go before those that were never sent, so two of that kind
would keep all others from being asked for. Each therefore waits longer from one refusal to the next, much longer if it
is far larger than what passes; and one that others pass by, again and again until they are all done, fails.
"""

from dataclasses import dataclass

EARLY = 3  # refusals that are nothing special; after these it waits twice as long each time,
LARGE = 4.0  # times the tokens that answered ones were reckoned to take on the average: most likely it is that
LARGE_WAITS = 30.0  # seconds, at first
LATEST = 1200.0  # seconds at the most
DOUBLINGS = 12
CALM = 180.0  # seconds from one refusal of such a task to the next that count as much, with no answer between them
GIVE_UP = 12  # times that it was passed by


@dataclass(slots=True)
class _Task:
    """``passed_by``: times that others were answered from one refusal to the next, as of ``at`` and ``answers``."""

    at: float
    answers: int
    refusals: int = 0
    passed_by: int = 0


class TurnedDown:
    """Of one lane."""

    def __init__(self) -> None:
        self._answers = 0
        self._usual = 0.0  # tokens reckoned for one that was answered
        self._tasks: dict[int, _Task] = {}

    def answered(self, task_id: int, cost: float) -> None:
        self._answers += 1
        self._usual += (cost - self._usual) / self._answers
        self._tasks.pop(task_id, None)

    def is_large(self, cost: float) -> bool:
        """Whether a request is so much larger than what was answered that its refusal says little of the others."""
        return self._answers > 0 and cost > LARGE * self._usual

    def refused(self, task_id: int, cost: float, now: float, *, alone: bool) -> float | None:
        """Seconds that the task should wait at the least; None to give it up. *alone*: no other task is left.

        *cost*: the tokens that are reckoned for it.
        """
        task = self._tasks.setdefault(task_id, _Task(now, self._answers))
        task.refusals += 1
        is_calm = now >= task.at + CALM and (alone or task.passed_by >= EARLY)
        if self._answers > task.answers or is_calm:
            task.passed_by, task.at, task.answers = task.passed_by + 1, now, self._answers
        if task.passed_by >= GIVE_UP:
            return None
        if alone:
            return 0.0
        if self.is_large(cost):
            return min(LARGE_WAITS * 2.0 ** min(task.refusals - 1, DOUBLINGS), LATEST)
        if task.refusals <= EARLY:
            return 0.0
        return min(2.0 ** min(task.refusals - EARLY, DOUBLINGS), LATEST)
