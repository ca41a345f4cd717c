"""A task that is refused for a rate, again and again: how long it waits, and when it is given up. Pure.

Such a refusal is nobody's fault, and waited for: as long as the server says, where it says something. But a request
that needs more than a window holds, at a server that does not tell its limit, is refused for ever. Tasks that wait go
before those that were never sent, so two of that kind would keep all others from being asked for. Each therefore waits
longer from one refusal to the next, much longer if it is far larger than what passes and nothing is told; and one that
others pass by, again and again until they are all done, fails. Who was told how long to wait, or of a window that is
used up, may just be unlucky: of its refusals a few count, hours go by before it fails.
"""

from dataclasses import dataclass

from batchrunner.growth import grown

EARLY = 3  # refusals that are nothing special; after these it waits twice as long each time,
LARGE = 4.0  # times the tokens that answered ones were reckoned to take on the average: most likely it is that
LARGE_WAITS = 30.0  # seconds, at first
LATEST = 1200.0  # seconds at the most
CALM = 180.0  # seconds from one refusal of such a task to the next that count as much, with no answer between them
SELDOM = LATEST  # the same of those that tell something, and of those that were hardly passed by
GIVE_UP = 12  # times that it was passed by


@dataclass(slots=True)
class _Task:
    """``passed_by``: times that others were answered from one refusal to the next, as of ``at`` and ``answers``."""

    since: float
    answers_before: int
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

    def refused(self, task_id: int, cost: float, now: float, *, alone: bool, silent: bool) -> float | str:
        """Seconds that the task should wait at the least; or why it is to be given up, in words.

        *cost*: tokens reckoned for it. *alone*: no other task is left. *silent*: the refusal tells nothing.
        """
        task = self._tasks.setdefault(task_id, _Task(now, self._answers, now, self._answers))
        task.refusals += 1
        if self._counts(task, now, alone=alone, silent=silent):
            task.passed_by, task.at, task.answers = task.passed_by + 1, now, self._answers
        if task.passed_by >= GIVE_UP:
            return self._words(self._tasks.pop(task_id), now)
        if alone:
            return 0.0
        if silent and self.is_large(cost):
            return grown(LARGE_WAITS, task.refusals - 1, most=LATEST)
        if task.refusals <= EARLY:
            return 0.0
        return grown(1.0, task.refusals - EARLY, most=LATEST)

    def _counts(self, task: _Task, now: float, *, alone: bool, silent: bool) -> bool:
        """Whether others passed it by since the last time that did, or would have, were any left."""
        if silent and self._answers > task.answers:
            return True
        is_sure = silent and (alone or task.passed_by >= EARLY)
        was_passed = alone or self._answers > task.answers_before
        return was_passed and now >= task.at + (CALM if is_sure else SELDOM)

    def _words(self, task: _Task, now: float) -> str:
        others = self._answers - task.answers_before
        passed = f" while {others:,} others passed" if others else ""
        times = f"{task.refusals} times in {(now - task.since) / 60:,.0f} minutes"
        return f"refused {times}{passed}: it may need more than the limit holds"
