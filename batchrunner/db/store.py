"""The queue in SQLite: lease, record, release, recover. Each public method is one verb and one transaction.

The hot verbs are constant SQL run in groups; what is rare goes through SQLAlchemy's expressions. Only the owner of the
database (lock.py) may hold a Store, so what it has read stays true until it writes itself.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, func, insert, select, text, update
from sqlalchemy.exc import DatabaseError, OperationalError

from batchrunner.db import schema
from batchrunner.db.engine import close_writer, open_writer
from batchrunner.errors import AccountingError, StoreError
from batchrunner.record import Change
from batchrunner.task import Counts, TaskState, Usage


@dataclass(frozen=True, slots=True)
class Candidate:
    """A pending task that may be leased."""

    task_id: int
    custom_id: str
    endpoint: str
    body: str
    attempts: int
    failures: int
    model: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """A lease about to be taken: its attempt row is written before the request leaves.

    ``cost`` is tokens; ``reserved`` is money, the most it could cost, in billionths of the run's currency, None =
    not known. ``model`` is as sent, None = as the line says.
    """

    attempt_id: int
    task_id: int
    number: int
    leased_at: float
    cost: float
    lane: str | None = None
    model: str | None = None
    reserved: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Closing:
    """The end of an attempt, and where its task goes from there. ``spent``: money, in billionths, None = not known."""

    attempt_id: int
    task_id: int
    outcome: str
    state: TaskState
    sent_at: float | None
    finished_at: float
    available_at: float = 0.0
    used_up_a_try: bool = False
    status: int | None = None
    error_class: str | None = None
    error_code: str | None = None
    message: str | None = None
    request_id: str | None = None
    usage: Usage | None = None
    possibly_charged: bool = False
    finish_reason: str | None = None
    simulated: bool = False
    body: bytes | None = None
    first_token_at: float | None = None
    spent: int | None = None


@dataclass(frozen=True, slots=True)
class Sample:
    """The gauges of one second, in the order of the table's columns after ``run_id``."""

    at: float
    succeeded: int
    failed: int
    pending: int
    in_flight: int
    slots: int
    sent_1m: int
    tokens_1m: int
    refused_1m: int
    rpm_limit: float | None
    tpm_limit: float | None
    p50: float | None
    p95: float | None
    limiting: str
    spent: int | None = None


NO_LAST = 2**62  # a position beyond every file's end
_OPEN = """
    INSERT INTO attempt (id, task_id, run_id, number, leased_at, cost, lane, model, reserved)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
_LEASE = "UPDATE task SET state = 'running', run_id = ?, attempts = ? WHERE id = ? AND state = 'pending'"
_CLOSE = """
    UPDATE attempt SET outcome = ?, sent_at = ?, finished_at = ?, status = ?, error_class = ?, error_code = ?,
        message = ?, request_id = ?, prompt_tokens = ?, completion_tokens = ?, cached_tokens = ?, reasoning_tokens = ?,
        possibly_charged = ?, first_token_at = ?, spent = ?
    WHERE id = ? AND outcome IS NULL
"""
# By its runs, not by its tasks: few attempts are open, and a job may have millions of tasks.
_STILL_OPEN = """
    SELECT id, task_id FROM attempt WHERE outcome IS NULL AND run_id IN (SELECT id FROM run WHERE job_id = ?)
"""
_MOVE = """
    UPDATE task SET state = ?, run_id = NULL, available_at = ?, failures = failures + ?, finished_at = ?,
        error_class = ?
    WHERE id = ? AND state = 'running'
"""
# 1e-9, not 0: a due task goes before the ones that were never sent
_REVIVE = """
    UPDATE task SET state = 'pending', available_at = 1e-9, failures = 0, finished_at = NULL, error_class = NULL
    WHERE id = ? AND state = 'failed'
"""
_RESULT = """
    INSERT INTO result (task_id, attempt_id, status, body, finish_reason, simulated, received_at)
    VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (task_id) DO NOTHING
"""
_LATE = """
    INSERT INTO late_result SELECT ?1, ?2, ?3, ?4
    WHERE NOT EXISTS (SELECT 1 FROM result WHERE attempt_id = ?1 AND task_id = ?2)
"""
_REPLY = "INSERT INTO reply (attempt_id, body) VALUES (?, ?)"
_TALLY = "UPDATE tally SET count = count + ? WHERE job_id = ? AND state = ?"
_EVENT = "INSERT INTO event (run_id, at, what, old, new, evidence) VALUES (?, ?, ?, ?, ?, ?)"
_SAMPLE = "INSERT OR REPLACE INTO sample VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"


class Store:
    """The writing side of a database. Not thread-safe: one thread at a time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._connection = open_writer(path)

    def close(self) -> None:
        """Checkpoint and close; with nothing left to do in any job, as one plain file."""
        left = self._scalar("SELECT coalesce(sum(count), 0) FROM tally WHERE state IN ('pending', 'running')")
        close_writer(self._connection, single_file=left == 0)

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """All or nothing, durable when it returns. Raises StoreError where the disk refuses."""
        try:
            with self._connection.begin():
                yield self._connection
        except OperationalError as error:
            raise StoreError(
                f"{self.path}: {error.orig}. Nothing finished was lost; run the same command again"
            ) from error
        except DatabaseError as error:
            if type(error) is not DatabaseError:  # a rule of the schema: for the verb to deal with
                raise
            raise StoreError(
                f"{self.path}: {error.orig}. The file is damaged: keep it as it is, and go on with a copy of it"
            ) from error

    # -- runs

    def begin_run(self, job_id: int, **columns: object) -> int:
        """A row for this run; returns its id. Raises StoreError if the job file was not read to its end."""
        with self.transaction() as connection:
            state = connection.execute(select(schema.job.c.state).where(schema.job.c.id == job_id)).scalar()
            if state == "loading":
                raise StoreError(f"{self.path}: the job is only half loaded; run its job file again to load the rest")
            inserted = connection.execute(insert(schema.run).values(job_id=job_id, **columns))
            return int(inserted.inserted_primary_key[0])  # type: ignore[index]  # one row always has one

    def end_run(self, run_id: int, *, ended_at: float, exit_code: int, reason: str) -> None:
        run = schema.run
        with self.transaction() as connection:
            connection.execute(
                update(run).where(run.c.id == run_id).values(ended_at=ended_at, exit_code=exit_code, reason=reason)
            )

    def recover(self, job_id: int, *, at: float, hold: bool) -> int:
        """Close what a crash left open: those attempts are *unknown*, possibly charged. Returns how many.

        Their tasks go back to the front of the queue, or are held for a human.
        """
        state = TaskState.HELD if hold else TaskState.PENDING
        with self.transaction() as connection:
            rows = connection.exec_driver_sql(_STILL_OPEN, (job_id,)).all()
            if not rows:
                return 0
            connection.exec_driver_sql(
                "UPDATE attempt SET outcome = 'unknown', finished_at = ?, possibly_charged = 1 WHERE id = ?",
                [(at, row.id) for row in rows],
            )
            connection.exec_driver_sql(
                "UPDATE task SET state = ?, run_id = NULL, available_at = ? WHERE id = ? AND state = 'running'",
                # 1e-9, not 0: a due task goes before the ones that were never sent
                [(state, 0.0 if hold else 1e-9, row.task_id) for row in rows],
            )
            recount(connection, job_id)
            return len(rows)

    # -- the queue

    def position_of(self, job_id: int, ordinal: int) -> int:
        """The position of the job's *ordinal*-th task, counted from 1; beyond every position if it has fewer."""
        query = "SELECT position FROM task WHERE job_id = ? AND retired = 0 ORDER BY position LIMIT 1 OFFSET ?"
        value = self._scalar(query, job_id, ordinal - 1)
        return NO_LAST if value is None else int(value)

    def last_attempt_id(self) -> int:
        return int(self._scalar("SELECT coalesce(max(id), 0) FROM attempt"))

    def exchange(
        self,
        job_id: int,
        run_id: int,
        *,
        closings: Sequence[Closing],
        openings: Sequence[Opening],
        revived: Sequence[int] = (),
        sample: Sample | None = None,
        changes: Sequence[Change] = (),
    ) -> None:
        """End attempts and begin others, in one transaction: the group commit.

        *revived*: tasks that failed and are to go again at once, with all their tries.
        """
        moves: Counter[str] = Counter()
        with self.transaction() as connection:
            if closings:
                self._close(connection, closings, moves)
            if revived:
                count = connection.exec_driver_sql(_REVIVE, [(task_id,) for task_id in revived]).rowcount
                moves[TaskState.FAILED] -= count
                moves[TaskState.PENDING] += count
            if openings:
                self._open(connection, run_id, openings, moves)
            changed = [(count, job_id, state) for state, count in moves.items() if count]
            if changed:
                connection.exec_driver_sql(_TALLY, changed)
            if sample is not None:
                connection.exec_driver_sql(_SAMPLE, (run_id, *astuple(sample)))
            if changes:
                connection.exec_driver_sql(_EVENT, [(run_id, *astuple(change)) for change in changes])

    # -- by hand

    def retry(
        self, job_id: int, *, classes: Sequence[str] = (), custom_ids: Sequence[str] = (), held: bool = False
    ) -> int:
        """Failed (or held) tasks back to pending, with all their tries. Returns how many."""
        task = schema.task
        states = [TaskState.FAILED, TaskState.HELD] if held else [TaskState.FAILED]
        chosen = [task.c.job_id == job_id, task.c.retired == 0, task.c.state.in_(states)]
        if classes:
            chosen.append(task.c.error_class.in_(classes))
        if custom_ids:
            chosen.append(task.c.custom_id.in_(custom_ids))
        with self.transaction() as connection:
            moved = connection.execute(
                update(task)
                .where(*chosen)
                .values(state=TaskState.PENDING, finished_at=None, error_class=None, failures=0, available_at=0.0)
            )
            recount(connection, job_id)
            return moved.rowcount

    # -- accounts

    def counts(self, job_id: int) -> Counts:
        with self.transaction() as connection:
            return read_counts(connection, job_id)

    def check_accounts(self, job_id: int) -> None:
        """Hold the tally against the tasks themselves. Raises AccountingError where they differ."""
        with self.transaction() as connection:
            actual = _count(connection, job_id)
        counts = self.counts(job_id)
        tally = {state: counts[state] for state in TaskState}
        if actual != tally:
            raise AccountingError(f"{self.path}: the tasks say {actual}, the tally says {tally}; please report this")

    # -- private

    def _scalar(self, query: str, *parameters: object) -> Any:
        with self.transaction() as connection:
            return connection.exec_driver_sql(query, parameters).scalar()

    def _open(self, connection: Connection, run_id: int, openings: Sequence[Opening], moves: Counter[str]) -> None:
        rows = [
            (o.attempt_id, o.task_id, run_id, o.number, o.leased_at, o.cost, o.lane, o.model, o.reserved)
            for o in openings
        ]
        connection.exec_driver_sql(_OPEN, rows)
        moved = connection.exec_driver_sql(_LEASE, [(run_id, o.number, o.task_id) for o in openings]).rowcount
        if moved != len(openings):
            raise AccountingError(f"{self.path}: {len(openings)} leases, {moved} tasks were pending; report this")
        moves[TaskState.PENDING] -= len(openings)
        moves[TaskState.RUNNING] += len(openings)

    def _close(self, connection: Connection, closings: Sequence[Closing], moves: Counter[str]) -> None:
        connection.exec_driver_sql(_CLOSE, [_attempt_row(c) for c in closings])
        moved = connection.exec_driver_sql(_MOVE, [_task_row(c) for c in closings]).rowcount
        if moved != len(closings):
            raise AccountingError(
                f"{self.path}: {len(closings)} attempts ended, {moved} tasks were running; report this"
            )
        if answers := [c for c in closings if c.outcome == "success"]:
            stored = connection.exec_driver_sql(_RESULT, [_result_row(c) for c in answers]).rowcount
            if stored < len(answers):  # the first answer wins; a second one was paid for, so it is kept
                connection.exec_driver_sql(_LATE, [_late_row(c) for c in answers])
        if replies := [
            (c.attempt_id, _text(c.body)) for c in closings if c.outcome == "failure" and c.body is not None
        ]:
            connection.exec_driver_sql(_REPLY, replies)
        moves[TaskState.RUNNING] -= len(closings)
        for closing in closings:
            moves[closing.state] += 1


def recount(connection: Connection, job_id: int) -> None:
    """Make the tally anew, a row for each state; for a new job, and after a verb that moves tasks by the thousand."""
    connection.exec_driver_sql("DELETE FROM tally WHERE job_id = ?", (job_id,))
    rows = [(job_id, state, count) for state, count in _count(connection, job_id).items()]
    connection.exec_driver_sql("INSERT INTO tally VALUES (?, ?, ?)", rows)


def _count(connection: Connection, job_id: int) -> dict[TaskState, int]:
    """The current tasks in each state, in one pass; GROUP BY would sort a million rows in memory first."""
    task = schema.task
    counts = [func.count().filter(task.c.state == state) for state in TaskState]
    row = connection.execute(select(*counts).where(task.c.job_id == job_id, task.c.retired == 0)).one()
    return dict(zip(TaskState, row, strict=True))


def read_counts(connection: Connection, job_id: int) -> Counts:
    rows = connection.exec_driver_sql("SELECT state, count FROM tally WHERE job_id = ?", (job_id,)).all()
    rejected = connection.execute(
        text("SELECT count(*) FROM rejected WHERE job_id = :job"), {"job": job_id}
    ).scalar_one()
    return Counts(states={TaskState(state): count for state, count in rows}, rejected=rejected)


def _attempt_row(closing: Closing) -> tuple[object, ...]:
    usage = closing.usage
    tokens: tuple[int | None, ...] = (None, None, None, None)
    if usage is not None:
        tokens = (usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens, usage.reasoning_tokens)
    return (
        closing.outcome,
        closing.sent_at,
        closing.finished_at,
        closing.status,
        closing.error_class if closing.outcome == "failure" else None,
        closing.error_code,
        closing.message,
        closing.request_id,
        *tokens,
        closing.possibly_charged,
        closing.first_token_at,
        closing.spent,
        closing.attempt_id,
    )


def _task_row(closing: Closing) -> tuple[object, ...]:
    final = closing.state in (TaskState.SUCCEEDED, TaskState.FAILED)
    return (
        closing.state,
        closing.available_at,
        closing.used_up_a_try,
        closing.finished_at if final else None,
        closing.error_class if closing.state is TaskState.FAILED else None,
        closing.task_id,
    )


def _result_row(closing: Closing) -> tuple[object, ...]:
    return (
        closing.task_id,
        closing.attempt_id,
        closing.status,
        _text(closing.body),
        closing.finish_reason,
        closing.simulated,
        closing.finished_at,
    )


def _late_row(closing: Closing) -> tuple[object, ...]:
    return (closing.attempt_id, closing.task_id, _text(closing.body), closing.finished_at)


def _text(body: bytes | None) -> str | bytes:
    """Text where every tool can read it as text; the bytes themselves where they are not UTF-8 or hold a NUL."""
    if body is None:
        return b""
    try:
        return body.decode() if b"\0" not in body else body
    except UnicodeDecodeError:
        return body
