"""What a run takes over from earlier ones: beliefs about limits, what was sent a moment ago, and who ever answered."""

import json
from dataclasses import dataclass

from sqlalchemy import select

from batchrunner.db import schema
from batchrunner.db.store import Store
from batchrunner.record import Belief

_SENDS = """
    SELECT coalesce(sent_at, leased_at), cost, coalesce(status = 429, 0) FROM attempt
    WHERE lane = :lane AND leased_at >= :since AND outcome IS NOT 'released' AND id > :after
        AND id > coalesce((SELECT id FROM attempt WHERE leased_at < :since ORDER BY id DESC LIMIT 1), 0)
    ORDER BY id
"""
_ANSWERED = """
    SELECT EXISTS (SELECT 1 FROM attempt WHERE lane = ? AND outcome = 'success'
        AND run_id IN (SELECT id FROM run WHERE job_id = ?))
"""
_BELIEVE = "INSERT OR REPLACE INTO belief (endpoint, key_label, model, value, updated_at) VALUES (?, ?, ?, ?, ?)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """One send of the recent past, for limits that hold across restarts."""

    at: float
    cost: float
    refused: bool


class Earlier:
    """Of one database; beliefs and sends are those of all its jobs."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def recent_sends(self, lane: str, *, since: float, limit: int = 200_000) -> list[Sent]:
        """What was sent there since *since*, oldest first, whatever became of it; of the newest *limit* attempts."""
        newest = {"lane": lane, "since": since, "after": self._store.last_attempt_id() - limit}
        with self._store.transaction() as connection:
            rows = connection.exec_driver_sql(_SENDS, newest).all()
        return [Sent(at=row[0], cost=row[1], refused=bool(row[2])) for row in rows]

    def has_answered(self, job_id: int, lane: str) -> bool:
        """Whether a task of the job was ever answered there."""
        with self._store.transaction() as connection:
            return bool(connection.exec_driver_sql(_ANSWERED, (lane, job_id)).scalar_one())

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
