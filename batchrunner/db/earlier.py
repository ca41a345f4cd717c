"""What a run takes over from earlier ones: beliefs about limits, what was sent a moment ago, and who ever answered."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select

from batchrunner.db import schema
from batchrunner.db.store import Store
from batchrunner.record import Belief

_SENDS = """
    SELECT lane, coalesce(sent_at, leased_at), cost, coalesce(status = 429, 0) FROM attempt
    WHERE leased_at >= ? AND outcome IS NOT 'released' AND id > ? ORDER BY id
"""
_ANSWERED = """
    SELECT EXISTS (SELECT 1 FROM attempt WHERE lane = ? AND outcome = 'success'
        AND run_id IN (SELECT id FROM run WHERE job_id = ?))
"""
_BELIEVE = "INSERT OR REPLACE INTO belief (endpoint, key_label, model, value, updated_at) VALUES (?, ?, ?, ?, ?)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """One send of the recent past, for limits that hold across restarts."""

    lane: str | None
    at: float
    cost: float
    refused: bool


class Earlier:
    """Of one database; beliefs and sends are those of all its jobs."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def recent_sends(self, *, since: float, limit: int = 200_000) -> list[Sent]:
        """What was sent since *since*, oldest first, whatever became of it."""
        rows = self._all(_SENDS, since, self._store.last_attempt_id() - limit)
        return [Sent(lane=row[0], at=row[1], cost=row[2], refused=bool(row[3])) for row in rows]

    def has_answered(self, job_id: int, lane: str) -> bool:
        """Whether a task of the job was ever answered there."""
        return bool(self._all(_ANSWERED, lane, job_id)[0][0])

    def belief(self, endpoint: str, key_label: str, model: str) -> Belief | None:
        """What an earlier run learned of this endpoint's limits."""
        b = schema.belief
        query = select(b.c.value, b.c.updated_at).where(
            b.c.endpoint == endpoint, b.c.key_label == key_label, b.c.model == model
        )
        with self._store.transaction() as connection:
            row = connection.execute(query).one_or_none()
        if row is None:
            return None
        return Belief(endpoint=endpoint, key_label=key_label, model=model, value=json.loads(row[0]), at=row[1])

    def believe(self, *beliefs: Belief) -> None:
        """For the next run, in place of what was believed before."""
        rows = [(b.endpoint, b.key_label, b.model, json.dumps(b.value), b.at) for b in beliefs]
        if rows:
            with self._store.transaction() as connection:
                connection.exec_driver_sql(_BELIEVE, rows)

    def _all(self, query: str, *parameters: object) -> Sequence[Any]:
        with self._store.transaction() as connection:
            return connection.exec_driver_sql(query, parameters).all()
