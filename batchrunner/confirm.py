"""Is it this one request, or would every other fail as well? Asked where the two may be mixed up.

A router answers "no such model" for a parameter that none of its servers takes, a proxy passes on the 401 of one of its
many keys. And everywhere a 400 may quote a prompt that speaks of keys and models, and a 403 come from a filter in front
of the server, for a prompt that looks like an attack. Then one task's word does not stop a run: others have to say the
same, with no answer between them. A refusal is quick and an answer slow, so it may be asked some times before they do.
"""

from collections.abc import Collection
from dataclasses import dataclass
from enum import Enum, auto

from batchrunner.task import Failure, FailureClass

_OF_A_REQUEST = frozenset({400, 403, 422})  # statuses that blame the request, or may
TASKS, TASKS_ONCE_ANSWERED = 2, 3  # that have to say it: where none was answered in this run yet, and after that
TIMES = 6  # that one is asked before nobody else is waited for
SUSPECT, GROWTH = 1.0, 4.0  # seconds until one is asked again, and so many times longer each time


class Finding(Enum):
    """What to make of a failure that would stop the run."""

    UNSURE = auto()  # the task waits; others will tell
    EVERYBODY = auto()
    THIS_ONE = auto()  # others were answered meanwhile


@dataclass(slots=True)
class _Word:
    """One task's: after how many answers it was first said, and how often since."""

    answers: int
    times: int = 0


class Confirm:
    """*misreports*: the classes that this provider also gives to what is one request's fault."""

    def __init__(self, misreports: Collection[FailureClass]) -> None:
        self._misreports = frozenset(misreports)
        self._answers = 0
        self._words: dict[tuple[FailureClass, int], _Word] = {}
        self._since_answer: dict[FailureClass, set[int]] = {}  # tasks

    def answered(self) -> None:
        self._answers += 1
        self._since_answer.clear()

    def find(self, task_id: int, failure: Failure, *, left: int) -> Finding:
        """Of this failure of a task. *left*: tasks that are not done, itself among them.

        A task is asked a few times at most, so no doubt lasts for ever; where nobody is left who could tell, it is that
        task if others were answered in this run.
        """
        kind = failure.kind
        if kind not in self._misreports and failure.status not in _OF_A_REQUEST:
            return Finding.EVERYBODY
        word = self._words.setdefault((kind, task_id), _Word(self._answers))
        if word.answers < self._answers:
            return Finding.THIS_ONE
        word.times += 1
        tasks = self._since_answer.setdefault(kind, set())
        tasks.add(task_id)
        if len(tasks) >= (TASKS_ONCE_ANSWERED if self._answers else TASKS):
            return Finding.EVERYBODY
        if word.times == 1 or (len(tasks) < left and word.times < TIMES):
            return Finding.UNSURE
        return Finding.THIS_ONE if self._answers else Finding.EVERYBODY

    def wait(self, task_id: int, kind: FailureClass) -> float:
        """Seconds until a task that was found ``UNSURE`` is asked again."""
        return SUSPECT * GROWTH ** (self._words[kind, task_id].times - 1)
