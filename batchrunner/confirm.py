"""Is it this one request, or would every other fail as well? Asked where the two may be mixed up.

A router answers "no such model" for a parameter that none of its servers takes, a proxy passes on the 401 of one of its
many keys. And everywhere a 400 may quote a prompt that speaks of keys and models, and a 403 come from a filter in front
of the server, for a prompt that looks like an attack. Then one task's word does not stop a run: others have to say the
same, with no answer between them.
"""

from collections.abc import Collection
from enum import Enum, auto

from batchrunner.task import Failure, FailureClass

_OF_A_REQUEST = frozenset({400, 403, 422})  # statuses that blame the request, or may
TASKS, TASKS_ONCE_ANSWERED = 2, 3  # that have to say it: where none was answered in this run yet, and after that


class Finding(Enum):
    """What to make of a failure that would stop the run."""

    UNSURE = auto()  # the task waits; others will tell
    EVERYBODY = auto()
    THIS_ONE = auto()  # others were answered meanwhile


class Confirm:
    """*misreports*: the classes that this provider also gives to what is one request's fault."""

    def __init__(self, misreports: Collection[FailureClass]) -> None:
        self._misreports = frozenset(misreports)
        self._answers = 0
        self._accused: dict[tuple[FailureClass, int], int] = {}  # a task's first, and after how many answers it was
        self._since_answer: dict[FailureClass, set[int]] = {}  # tasks

    def answered(self) -> None:
        self._answers += 1
        self._since_answer.clear()

    def find(self, task_id: int, failure: Failure) -> Finding:
        """Of this failure of a task. A task is asked once more at most, so no doubt lasts for ever."""
        kind = failure.kind
        if kind not in self._misreports and failure.status not in _OF_A_REQUEST:
            return Finding.EVERYBODY
        earlier = self._accused.setdefault((kind, task_id), self._answers)
        if earlier < self._answers:
            return Finding.THIS_ONE
        tasks = self._since_answer.setdefault(kind, set())
        was_asked_again = task_id in tasks
        tasks.add(task_id)
        needed = TASKS_ONCE_ANSWERED if self._answers else TASKS
        return Finding.EVERYBODY if was_asked_again or len(tasks) >= needed else Finding.UNSURE
