"""Jobs on their way into the queue: a file's lines become tasks, once; a changed file is compared before it is applied.

A task is known by its custom_id and the fingerprint of what it asks. A line that is edited gets a new task, and its old
one is *retired* with its answer; a line that is edited back finds that answer again. So nothing is paid for twice, and
nothing that was paid for is thrown away. Lines go in by the thousand, with the place reached in the file, in one
transaction: a load that was killed goes on from there. Each reading from the file's start is a *generation*.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Literal

from sqlalchemy import Connection, insert, select, update
from sqlalchemy.exc import IntegrityError

from batchrunner.db import schema
from batchrunner.db.store import Store, recount
from batchrunner.task import RejectedLine, Request, TaskState

Policy = Literal["redo", "keep"]
Place = tuple[int, int, int]  # offset, line, record
SLICE = 500  # custom_ids looked up at once

_TASK = "INSERT INTO task (id, job_id, custom_id, fingerprint, position, seen) VALUES (?, ?, ?, ?, ?, ?)"
_REQUEST = "INSERT INTO request (task_id, endpoint, model, body, row) VALUES (?, ?, ?, ?, ?)"
_MODEL = "INSERT OR IGNORE INTO model (job_id, name) VALUES (?, ?)"
_REJECT = "INSERT OR REPLACE INTO rejected (job_id, line, offset, reason) VALUES (?, ?, ?, ?)"
_KNOWN = """
    SELECT id, custom_id, fingerprint, seen, position, state, retired FROM task
    WHERE job_id = ? AND custom_id IN (SELECT value FROM json_each(?))
"""
_TOUCH = "UPDATE task SET seen = ?, position = ? WHERE id = ?"
_ROW = "UPDATE request SET row = ?1 WHERE task_id = ?2 AND row IS NOT ?1"
# running: in flight at a crash, and not yet recovered. held stays held: brought back, it must wait for a human again
_RETIRE = """
    UPDATE task SET retired = id, run_id = NULL,
        state = CASE WHEN state IN ('pending', 'running') THEN 'cancelled' ELSE state END
"""
_BRING_BACK = """
    UPDATE task SET retired = 0, seen = ?, position = ?,
        state = CASE state WHEN 'cancelled' THEN 'pending' ELSE state END
    WHERE id = ?
"""
_TALLY = "UPDATE tally SET count = count + ? WHERE job_id = ? AND state = ?"


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRow:
    """A job as far as loading needs it. ``stamp`` is the file's, when its present generation was begun."""

    id: int
    shape: str
    digest: bytes
    stamp: str
    loading: bool
    generation: int
    policy: Policy
    place: Place
    settings: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """How a file differs from what was loaded of it. ``gone``: tasks whose line is no longer there.

    Where one custom_id stands on several lines, the first counts; only among the new ones each line does.
    """

    same: int
    edited: int
    added: int
    gone: int


@dataclass(slots=True)
class _Moves:
    """What a chunk of lines does to the tasks."""

    touch: list[tuple[int, int, int]] = field(default_factory=list)
    rows: list[tuple[str | None, int]] = field(default_factory=list)
    retire: list[tuple[int]] = field(default_factory=list)
    bring_back: list[tuple[int, int, int]] = field(default_factory=list)
    insert: list[Request] = field(default_factory=list)
    duplicates: list[RejectedLine] = field(default_factory=list)
    tally: Counter[str] = field(default_factory=Counter)


@dataclass(slots=True)
class _Known:
    id: int
    fingerprint: bytes
    seen: int
    position: int
    state: str


class Jobs:
    """The loading verbs of a store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        with store.transaction() as connection:
            self._last_id = int(connection.exec_driver_sql("SELECT coalesce(max(id), 0) FROM task").scalar_one())

    def find(self, source: str) -> JobRow | None:
        """The job that was loaded from *source*, if any was."""
        with self._store.transaction() as connection:
            row = connection.execute(select(schema.job).where(schema.job.c.source == source)).mappings().first()
        if row is None:
            return None
        return JobRow(
            id=row["id"],
            shape=row["shape"],
            digest=row["digest"],
            stamp=row["stamp"],
            loading=row["state"] == "loading",
            generation=row["generation"],
            policy=row["policy"],
            place=(row["offset"], row["line"], row["record"]),
            settings=row["settings"],
        )

    def create(self, *, name: str, source: str, shape: str, digest: bytes, stamp: str, settings: str, at: float) -> int:
        """A new job, still empty; returns its id."""
        values = {"name": name, "source": source, "shape": shape, "digest": digest, "stamp": stamp}
        with self._store.transaction() as connection:
            row = insert(schema.job).values(**values, state="loading", settings=settings, created_at=at)
            job_id = int(connection.execute(row).inserted_primary_key[0])  # type: ignore[index]  # one row has one
            recount(connection, job_id)
            return job_id

    def begin(self, job_id: int, *, shape: str, digest: bytes, stamp: str, policy: Policy) -> None:
        """A new generation: the file is read from its start again."""
        job, rejected = schema.job, schema.rejected
        values = {"shape": shape, "digest": digest, "stamp": stamp, "policy": policy}
        with self._store.transaction() as connection:
            connection.execute(
                update(job)
                .where(job.c.id == job_id)
                .values(**values, state="loading", generation=job.c.generation + 1, offset=0, line=0, record=0)
            )
            connection.execute(rejected.delete().where(rejected.c.job_id == job_id))

    def remember(self, job_id: int, settings: str) -> None:
        """Keep the options of the newest run."""
        job = schema.job
        with self._store.transaction() as connection:
            connection.execute(update(job).where(job.c.id == job_id).values(settings=settings))

    def add(
        self,
        job: JobRow,
        requests: Sequence[Request],
        rejected: Sequence[RejectedLine],
        place: Place,
        *,
        strict: bool = False,
    ) -> list[RejectedLine]:
        """Take up a chunk of lines and the place reached; returns the lines whose custom_id stood in this file before.

        With *strict*, nothing of a chunk that has such lines is taken up.
        """
        if job.generation == 1:
            try:
                self._add_new(job, requests, rejected, place)
            except IntegrityError:  # a custom_id stands twice; the careful way says where
                pass
            else:
                return []
        return self._add_known(job, requests, rejected, place, strict=strict)

    def finish(self, job: JobRow) -> None:
        """The file's end: what was not seen in this generation is retired, and the accounts are made anew."""
        table = schema.job
        with self._store.transaction() as connection:
            if job.generation > 1:
                sql = f"{_RETIRE} WHERE job_id = ? AND retired = 0 AND seen < ?"
                connection.exec_driver_sql(sql, (job.id, job.generation))
            recount(connection, job.id)
            connection.execute(update(table).where(table.c.id == job.id).values(state="loaded"))

    def compare(self, job_id: int, requests: Iterable[Request]) -> Difference:
        """How *requests*, all of a file's, differ from the job's tasks. Changes nothing."""
        same = added = 0
        met = bytearray(self._last_id + 1)  # a byte a task: a line that stands twice must not hide one that is gone
        with self._store.transaction() as connection:
            count = "SELECT count(*) FROM task WHERE job_id = ? AND retired = 0"
            total = int(connection.exec_driver_sql(count, (job_id,)).scalar_one())
        for chunk in _slices(requests):
            with self._store.transaction() as connection:
                current, _ = _known(connection, job_id, chunk)
            for request in chunk:
                known = current.get(request.custom_id)
                if known is None:
                    added += 1
                elif not met[known.id]:
                    met[known.id] = 1
                    same += known.fingerprint == request.fingerprint
        found = met.count(1)
        return Difference(same=same, edited=found - same, added=added, gone=total - found)

    # -- private

    def _add_new(
        self, job: JobRow, requests: Sequence[Request], rejected: Sequence[RejectedLine], place: Place
    ) -> None:
        with self._store.transaction() as connection:
            last = self._insert(connection, job, requests)
            _move_tally(connection, job, {TaskState.PENDING: len(requests)})
            self._mark(connection, job, rejected, place)
        self._last_id = last

    def _add_known(
        self,
        job: JobRow,
        requests: Sequence[Request],
        rejected: Sequence[RejectedLine],
        place: Place,
        *,
        strict: bool,
    ) -> list[RejectedLine]:
        duplicates: list[RejectedLine] = []
        last = self._last_id
        with self._store.transaction() as connection:
            for chunk in _slices(requests):
                moves = _moves(job, chunk, *_known(connection, job.id, chunk))
                duplicates += moves.duplicates
                _apply(connection, moves)
                self._last_id = self._insert(connection, job, moves.insert)
                _move_tally(connection, job, moves.tally)
            if strict and duplicates:
                connection.rollback()
                self._last_id = last
                return duplicates
            self._mark(connection, job, [*rejected, *duplicates], place)
        return duplicates

    def _insert(self, connection: Connection, job: JobRow, requests: Sequence[Request]) -> int:
        """Tasks and their requests; returns the last id. Ids are counted here, so that none has to be asked for."""
        if not requests:
            return self._last_id
        first = self._last_id + 1
        g = job.generation
        tasks = [(i, job.id, r.custom_id, r.fingerprint, r.line, g) for i, r in enumerate(requests, first)]
        connection.exec_driver_sql(_TASK, tasks)
        wide = [(i, r.endpoint, r.model, r.body, r.row) for i, r in enumerate(requests, first)]
        connection.exec_driver_sql(_REQUEST, wide)
        connection.exec_driver_sql(_MODEL, [(job.id, model) for model in {r.model or "" for r in requests}])
        return first + len(requests) - 1

    def _mark(self, connection: Connection, job: JobRow, rejected: Sequence[RejectedLine], place: Place) -> None:
        if rejected:
            rows = [(job.id, line.line, line.offset, line.reason) for line in rejected]
            connection.exec_driver_sql(_REJECT, rows)
        sql = 'UPDATE job SET "offset" = ?, line = ?, record = ? WHERE id = ?'
        connection.exec_driver_sql(sql, (*place, job.id))


def _known(
    connection: Connection, job_id: int, requests: Sequence[Request]
) -> tuple[dict[str, _Known], dict[tuple[str, bytes], _Known]]:
    """The current tasks by custom_id, and the retired ones by custom_id and fingerprint."""
    current: dict[str, _Known] = {}
    retired: dict[tuple[str, bytes], _Known] = {}
    ids = json.dumps([request.custom_id for request in requests])
    rows = connection.exec_driver_sql(_KNOWN, (job_id, ids))
    for task_id, custom_id, fingerprint, seen, position, state, was_retired in rows:
        known = _Known(task_id, fingerprint, seen, position, state)
        if was_retired:
            retired[custom_id, fingerprint] = known
        else:
            current[custom_id] = known
    return current, retired


def _moves(
    job: JobRow, requests: Sequence[Request], current: dict[str, _Known], retired: dict[tuple[str, bytes], _Known]
) -> _Moves:
    """What is to be done for each line: keep its task, replace it, bring an old one back, make a new one."""
    moves, generation = _Moves(), job.generation
    for request in requests:
        known = current.get(request.custom_id)
        if known is not None and known.seen == generation:
            reason = f"custom_id {request.custom_id!r} already stands in line {known.position}; each line needs its own"
            moves.duplicates.append(RejectedLine(line=request.line, offset=request.offset, reason=reason))
            continue
        current[request.custom_id] = _Known(0, request.fingerprint, generation, request.line, "")
        is_same = known is not None and known.fingerprint == request.fingerprint
        if known is not None and is_same:
            moves.rows.append((request.row, known.id))  # columns that the request does not use may have changed
        if known is not None and (is_same or job.policy == "keep"):
            moves.touch.append((generation, request.line, known.id))
            continue
        if known is not None:
            moves.retire.append((known.id,))
            moves.tally[known.state] -= 1
        earlier = retired.get((request.custom_id, request.fingerprint))
        if earlier is not None:
            moves.bring_back.append((generation, request.line, earlier.id))
            moves.rows.append((request.row, earlier.id))
            moves.tally[TaskState.PENDING if earlier.state == TaskState.CANCELLED else earlier.state] += 1
        else:
            moves.insert.append(request)
            moves.tally[TaskState.PENDING] += 1
    return moves


def _apply(connection: Connection, moves: _Moves) -> None:
    for sql, rows in (
        (_TOUCH, moves.touch),
        (_ROW, moves.rows),
        (f"{_RETIRE} WHERE id = ?", moves.retire),
        (_BRING_BACK, moves.bring_back),
    ):
        if rows:
            connection.exec_driver_sql(sql, rows)


def _move_tally(connection: Connection, job: JobRow, moves: Mapping[str, int]) -> None:
    if changed := [(count, job.id, state) for state, count in moves.items() if count]:
        connection.exec_driver_sql(_TALLY, changed)


def _slices(requests: Iterable[Request]) -> Iterator[list[Request]]:
    iterator = iter(requests)
    while chunk := list(islice(iterator, SLICE)):
        yield chunk
