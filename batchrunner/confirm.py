"""Is it this one request, or would every other fail as well? Asked where a provider is known to mix the two up.

A router answers "no such model" for a parameter that none of its servers takes, a proxy passes on the 401 of one of its
many keys. So at a provider that misreports a class, one task's word does not stop a run: a second task has to say the
same, with no answer between them.
"""

from collections.abc import Collection
from enum import Enum, auto

from batchrunner.task import FailureClass


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
        self._suspects: dict[FailureClass, tuple[int, int]] = {}  # who said so last, and after how many answers

    def answered(self) -> None:
        self._answers += 1

    def find(self, task_id: int, kind: FailureClass) -> Finding:
        if kind not in self._misreports:
            return Finding.EVERYBODY
        earlier, answers = self._suspects.get(kind, (None, -1))
        self._suspects[kind] = (task_id, self._answers)
        if answers == self._answers:
            return Finding.EVERYBODY
        return Finding.THIS_ONE if earlier == task_id else Finding.UNSURE
