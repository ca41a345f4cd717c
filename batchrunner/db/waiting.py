"""What waits to be sent, read model by model, so that a model whose lane is blocked holds up no other.

Tasks that were never sent are read in input order, those sent before by the time they may go again. A read looks at a
bounded stretch of the job, for among a million tasks of other models the next one may be far away.
"""

from collections.abc import Sequence
from typing import Any

from batchrunner.db.store import NO_LAST, Candidate, Store

STRETCH = 20_000  # tasks looked at in one read: some ten milliseconds

_CANDIDATE = """
    SELECT task.id, custom_id, endpoint, body, attempts, failures, model FROM task JOIN request ON task_id = task.id
    WHERE job_id = ? AND state = 'pending' AND position <= ? AND coalesce(model, '') = ?
"""
# Every task has available_at >= 0; saying so leads to the index of what waits, not through all that is done.
_SOME = f"{_CANDIDATE} AND available_at >= 0 LIMIT 1"
_FRESH = f"{_CANDIDATE} AND available_at = 0 AND task.id > ? AND task.id <= ? ORDER BY task.id LIMIT ?"
_DUE = f"{_CANDIDATE} AND available_at > 0 AND available_at <= ? ORDER BY available_at, task.id LIMIT ?"
_NEXT_DUE = """
    SELECT available_at FROM task JOIN request ON task_id = task.id
    WHERE job_id = ? AND state = 'pending' AND position <= ? AND coalesce(model, '') = ? AND available_at > ?
    ORDER BY available_at LIMIT 1
"""
_NEVER_SENT = "SELECT id FROM task WHERE job_id = ? AND state = 'pending' AND available_at = 0 ORDER BY id"
_FIRST, _LAST = f"{_NEVER_SENT} LIMIT 1", f"{_NEVER_SENT} DESC LIMIT 1"


class Waiting:
    """The pending tasks of a job, up to position *last*. A model is known by its name, none by the empty one.

    ``start`` is the task id after which the first one stands that was never sent.
    """

    def __init__(self, store: Store, job_id: int, *, last: int = NO_LAST, stretch: int = STRETCH) -> None:
        self._store, self._stretch = store, stretch
        self._job_id, self._last = job_id, last
        self.models = tuple(row[0] for row in self._all("SELECT name FROM model WHERE job_id = ? ORDER BY name"))
        first, last_one = self._all(_FIRST), self._all(_LAST)
        self.start = int(first[0][0]) - 1 if first else 0
        self._last_id = int(last_one[0][0]) if last_one else 0

    def fresh(self, model: str, *, after: int, limit: int) -> tuple[list[Candidate], int | None]:
        """Tasks that were never sent, beyond task id *after*; and where to read on, None after the last.

        There may be more further on although none is found.
        """
        upto = after + self._stretch
        found = [Candidate(*row) for row in self._all(_FRESH, self._last, model, after, upto, limit)]
        if len(found) == limit:
            upto = found[-1].task_id
        return found, upto if upto < self._last_id else None

    def has(self, model: str) -> bool:
        """Whether anything of a model waits; looks as far as it has to."""
        return bool(self._all(_SOME, self._last, model))

    def due(self, model: str, *, now: float, limit: int) -> list[Candidate]:
        """Tasks sent before whose wait is over, longest waiting first."""
        return [Candidate(*row) for row in self._all(_DUE, self._last, model, now, limit)]

    def next_due(self, model: str, *, after: float = 0.0) -> float | None:
        """When the next task that waits may be sent again, looking beyond *after*; None if none waits."""
        found = self._all(_NEXT_DUE, self._last, model, after)
        return float(found[0][0]) if found else None

    def _all(self, query: str, *parameters: object) -> Sequence[Any]:
        with self._store.transaction() as connection:
            return connection.exec_driver_sql(query, (self._job_id, *parameters)).all()
