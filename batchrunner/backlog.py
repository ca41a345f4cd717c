"""What waits for its turn: a queue for each model, read ahead from the database by the page.

Tasks of one model keep their order: first those that were sent before and whose wait is over, then those never sent, in
input order. Tasks of different models may pass one another, for their lanes have limits of their own; a page a model is
all that is ever held.
"""

from collections import deque
from collections.abc import Collection, Iterator
from math import inf

from batchrunner.db.store import Candidate
from batchrunner.db.waiting import Waiting

PAGE = 256  # tasks read from the database at once
DUE_SOON = 1e-9  # an available_at that is over, but not 0: such a task goes before the ones never sent

Age = tuple[bool, int]


class Queue:
    """The tasks of one model that wait."""

    def __init__(self, waiting: Waiting, model: str) -> None:
        self.model = model
        self._waiting = waiting
        self._again: deque[Candidate] = deque()
        self._fresh: deque[Candidate] = deque()
        self._read_to: int | None = waiting.start  # None: to the job's end
        self._is_barren = False  # the last stretch held nothing of ours: one such a wake is enough
        self._next_due = waiting.next_due(model)

    def wake(self, now: float) -> None:
        """Fetch the tasks whose wait is over. At the start of an exchange only: what it leases is not on disk yet."""
        self._is_barren = False
        if self._again or self._next_due is None or self._next_due > now:
            return
        due = self._waiting.due(self.model, now=now, limit=PAGE)
        self._again.extend(due)
        self._next_due = now if len(due) == PAGE else self._waiting.next_due(self.model, after=now)

    def look(self) -> Candidate | None:
        """The task whose turn it is; None if none is, or none was met yet (see ``wait``)."""
        if self._again:
            return self._again[0]
        if not self._fresh and self._read_to is not None and not self._is_barren:
            found, self._read_to = self._waiting.fresh(self.model, after=self._read_to, limit=PAGE)
            self._fresh.extend(found)
            self._is_barren = not found
        return self._fresh[0] if self._fresh else None

    @property
    def first(self) -> Candidate:
        """The same, once ``look`` has found one."""
        return (self._again or self._fresh)[0]

    def take(self) -> Candidate:
        """The first one, off the queue."""
        return (self._again or self._fresh).popleft()

    def expect(self, at: float) -> float:
        """One of its tasks comes back at *at*; returns the time to store."""
        at = max(at, DUE_SOON)
        self._next_due = at if self._next_due is None else min(self._next_due, at)
        return at

    @property
    def age(self) -> Age:
        """Of its first task; smaller is older."""
        return (not self._again, self.first.task_id)

    @property
    def is_idle(self) -> bool:
        """Whether nothing waits, now or later."""
        return not (self._again or self._fresh) and self._read_to is None and self._next_due is None

    def wait(self, now: float) -> float:
        """Seconds until a task may turn up that is not there now."""
        if self._again or self._fresh:
            return inf
        if self._read_to is not None:
            return 0.0
        return inf if self._next_due is None else max(self._next_due - now, 0.0)


class Backlog:
    """All queues of a job."""

    def __init__(self, waiting: Waiting) -> None:
        self._queues = {model: Queue(waiting, model) for model in waiting.models}

    def __iter__(self) -> Iterator[Queue]:
        return iter(self._queues.values())

    def __getitem__(self, model: str) -> Queue:
        return self._queues[model]

    def wake(self, now: float) -> None:
        for queue in self:
            queue.wake(now)

    def oldest(self, *, but: Collection[str]) -> Queue | None:
        """The queue whose first task is the oldest; those of the models *but* apart."""
        ready = [queue for queue in self if queue.model not in but and queue.look() is not None]
        return min(ready, key=lambda queue: queue.age, default=None)

    def wait(self, now: float) -> float:
        return min((queue.wait(now) for queue in self), default=inf)
