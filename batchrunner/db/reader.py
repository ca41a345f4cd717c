"""The reading side of a database: status, failures, results, for anyone, while a runner is writing or not.

Each method is one short transaction of its own, and what streams is read in pages by key, so that a slow reader never
keeps the writer from checkpointing. Values go out, never rows.
"""

import json
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from sqlalchemy import Connection
from sqlalchemy.exc import DatabaseError

from batchrunner.db.engine import open_reader
from batchrunner.db.store import Sample, read_counts
from batchrunner.db.sums import lane_totals, spending, totals, usage_of
from batchrunner.errors import StoreError
from batchrunner.record import (
    Answer,
    Attempt,
    Belief,
    Change,
    ErrorGroup,
    Job,
    LaneTotals,
    Record,
    Run,
    Spending,
    Story,
    Totals,
)
from batchrunner.task import Counts, RejectedLine, TaskState

_Row = tuple[Any, ...]
LONGEST_NUMBER = 18  # digits that surely fit SQLite's integers
PAGE = 500  # rows a transaction

_JOBS = "SELECT id, name, source, state, settings, created_at FROM job ORDER BY id"
_RUNS = """
    SELECT id, started_at, ended_at, pid, host, version, endpoint, settings, exit_code, reason
    FROM run WHERE job_id = ? ORDER BY id
"""
_SAMPLE = """
    SELECT at, succeeded, failed, pending, in_flight, slots, sent_1m, tokens_1m, refused_1m, rpm_limit, tpm_limit,
           p50, p95, limiting, spent
    FROM sample WHERE run_id = ?
"""
_BELIEFS = "SELECT endpoint, key_label, model, value, updated_at FROM belief ORDER BY updated_at DESC"
_CHANGES = "SELECT at, what, old, new, evidence FROM event WHERE ?1 IS NULL OR run_id = ?1 ORDER BY id"
_ERRORS = """
    SELECT first.error_class, tasks, custom_id, error_code, message
    FROM (SELECT id, custom_id, attempts, error_class, count(*) AS tasks, min(position)
          FROM task WHERE job_id = ? AND retired = 0 AND state = 'failed' GROUP BY error_class) AS first
         LEFT JOIN attempt ON attempt.task_id = first.id AND attempt.number = first.attempts
    ORDER BY tasks DESC, first.error_class
"""
_ATTEMPT = """
    attempt.id, attempt.run_id, attempt.number, attempt.outcome, attempt.leased_at, attempt.sent_at,
    attempt.finished_at, attempt.status, attempt.error_class, attempt.error_code, attempt.message, attempt.request_id,
    attempt.prompt_tokens, attempt.completion_tokens, attempt.cached_tokens, attempt.reasoning_tokens,
    attempt.possibly_charged, attempt.first_token_at, attempt.reserved, attempt.spent,
    (SELECT currency FROM run WHERE run.id = attempt.run_id), reply.body
"""
# the attempt that brought the answer, else the last one
_RECORD = f"""
    SELECT task.id, task.position, task.custom_id, task.state, task.error_class, task.attempts,
           request.endpoint, request.model, request.body, request.row,
           result.status, result.body, result.finish_reason, result.simulated, result.received_at,
           (SELECT sum(spent) FROM attempt AS each WHERE each.task_id = task.id), {_ATTEMPT}
    FROM task JOIN request ON request.task_id = task.id LEFT JOIN result ON result.task_id = task.id
         LEFT JOIN attempt ON attempt.id = coalesce(result.attempt_id, (
             SELECT id FROM attempt AS last WHERE last.task_id = task.id AND last.number = task.attempts))
         LEFT JOIN reply ON reply.attempt_id = attempt.id
"""  # noqa: S608  (no input: constants of ours)
_PAGE = f"""
    {_RECORD} WHERE task.job_id = ? AND task.retired = 0 AND (task.position, task.id) > (?, ?)
        AND task.state IN (SELECT value FROM json_each(?))
    ORDER BY task.position, task.id LIMIT ?
"""  # noqa: S608  (no input: constants of ours)
_BY_CUSTOM_ID = f"""
    {_RECORD} WHERE task.job_id IN (SELECT id FROM job WHERE ?1 IS NULL OR id = ?1)
        AND task.custom_id = ?2 AND task.retired = 0 ORDER BY task.id LIMIT 1
"""  # noqa: S608  (no input: constants of ours)
_BY_NUMBER = f"{_RECORD} WHERE (?1 IS NULL OR task.job_id = ?1) AND task.id = ?2"
_ATTEMPTS = f"""
    SELECT {_ATTEMPT} FROM attempt LEFT JOIN reply ON reply.attempt_id = attempt.id
    WHERE attempt.task_id = ? ORDER BY attempt.number
"""  # noqa: S608  (no input: constants of ours)
_JOB_NAME = "SELECT name FROM job JOIN task ON task.job_id = job.id WHERE task.id = ?"
_ROWS = """
    SELECT task.position, task.id, request.row FROM task JOIN request ON request.task_id = task.id
    WHERE task.job_id = ? AND task.retired = 0 AND (task.position, task.id) > (?, ?)
    ORDER BY task.position, task.id LIMIT ?
"""
_SIMULATED = """
    SELECT simulated FROM result JOIN task ON task.id = task_id WHERE job_id = ? ORDER BY task_id DESC LIMIT 1
"""
_REJECTED = "SELECT line, offset, reason FROM rejected WHERE job_id = ? AND line > ? ORDER BY line LIMIT ?"


class Reader:
    """A database to look at. Raises StoreError where it is missing, not ours, or can't be read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._engine = open_reader(path)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._engine.dispose()

    # -- where things stand: cheap at any size

    def jobs(self) -> tuple[Job, ...]:
        return tuple(
            Job(id=row[0], name=row[1], source=row[2], loading=row[3] == "loading", settings=row[4], created_at=row[5])
            for row in self._all(_JOBS)
        )

    def counts(self, job_id: int) -> Counts:
        """Tasks by state, from the tally the writer keeps: no scan."""
        with self._transaction() as connection:
            return read_counts(connection, job_id)

    def runs(self, job_id: int) -> tuple[Run, ...]:
        """Oldest first."""
        return tuple(_run(row) for row in self._all(_RUNS, job_id))

    def samples(self, run_id: int) -> tuple[Sample, ...]:
        """The gauges of a run, oldest first."""
        return tuple(Sample(*row) for row in self._all(f"{_SAMPLE} ORDER BY at", run_id))

    def first_sample(self, run_id: int) -> Sample | None:
        rows = self._all(f"{_SAMPLE} ORDER BY at LIMIT 1", run_id)
        return Sample(*rows[0]) if rows else None

    def last_sample(self, run_id: int) -> Sample | None:
        rows = self._all(f"{_SAMPLE} ORDER BY at DESC LIMIT 1", run_id)
        return Sample(*rows[0]) if rows else None

    def beliefs(self) -> list[Belief]:
        """What is believed of limits, the newest first."""
        rows = self._all(_BELIEFS)
        return [
            Belief(endpoint=row[0], key_label=row[1], model=row[2], value=json.loads(row[3]), at=row[4]) for row in rows
        ]

    def changes(self, run_id: int | None = None) -> list[Change]:
        """The beliefs that changed, oldest first, of one run or of all; none where that table is younger."""
        if not self._all("SELECT 1 FROM sqlite_master WHERE name = 'event'"):
            return []
        rows = self._all(_CHANGES, run_id)
        return [Change(at=row[0], what=row[1], old=row[2], new=row[3], evidence=row[4]) for row in rows]

    # -- looked at one by one: as long as the job

    def errors_by_class(self, job_id: int) -> tuple[ErrorGroup, ...]:
        """The failed tasks by class, most frequent first; free where none failed."""
        if not self.counts(job_id)[TaskState.FAILED]:
            return ()
        return tuple(
            ErrorGroup(error_class=row[0], count=row[1], custom_id=row[2], code=row[3], message=row[4])
            for row in self._all(_ERRORS, job_id)
        )

    def totals(self, job_id: int) -> Totals:
        """Sums over every attempt of the job."""
        with self._transaction() as connection:
            return totals(connection, job_id)

    def spending(self, job_id: int, *, in_flight: bool = False) -> tuple[Spending, ...]:
        """What the job's sends cost, for each currency that its runs were billed in; those *in_flight*, at most."""
        with self._transaction() as connection:
            return spending(connection, job_id, in_flight=in_flight)

    def lanes(self, job_id: int) -> tuple[LaneTotals, ...]:
        """Sums over the attempts of each lane; empty where there was one only, for then the totals say it all."""
        with self._transaction() as connection:
            return lane_totals(connection, job_id)

    def task(self, key: str, *, job_id: int | None = None) -> Story | None:
        """The story of the task with this custom_id, or else with this number; None if there is no such task."""
        found = self._all(_BY_CUSTOM_ID, job_id, key)
        if not found and key.isascii() and key.isdecimal() and len(key) <= LONGEST_NUMBER:
            found = self._all(_BY_NUMBER, job_id, int(key))
        if not found:
            return None
        record = _record(found[0])
        attempts = self._all(_ATTEMPTS, record.task_id)
        job = self._all(_JOB_NAME, record.task_id)[0][0]
        return Story(job=job, record=record, attempts=tuple(map(_attempt, attempts)))

    # -- streams: in pages, each a transaction

    def records(self, job_id: int, states: Collection[TaskState] | None = None) -> Iterator[Record]:
        """The tasks in input order, all or those in *states*, each as it is when its page is read."""
        chosen = json.dumps(list(TaskState if states is None else states))
        after: tuple[int, int] = (0, 0)
        while page := self._all(_PAGE, job_id, *after, chosen, PAGE):
            yield from map(_record, page)
            after = (page[-1][1], page[-1][0])

    def columns(self, job_id: int) -> tuple[str, ...]:
        """The columns of the input rows, in order of first appearance; empty where lines were requests themselves."""
        columns: dict[str, None] = {}
        after: tuple[int, int] = (0, 0)
        while page := self._all(_ROWS, job_id, *after, PAGE):
            for row in page:
                if row[2] is not None:
                    columns.update(dict.fromkeys(json.loads(row[2])))
            after = (page[-1][0], page[-1][1])
        return tuple(columns)

    def is_simulated(self, job_id: int) -> bool:
        """Whether the newest answer is canned."""
        rows = self._all(_SIMULATED, job_id)
        return bool(rows and rows[0][0])

    def rejected(self, job_id: int) -> Iterator[RejectedLine]:
        """The lines that could not become tasks, in order."""
        after = 0
        while page := self._all(_REJECTED, job_id, after, PAGE):
            for row in page:
                yield RejectedLine(line=row[0], offset=row[1], reason=row[2])
            after = page[-1][0]

    # -- private

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        try:
            with self._engine.connect() as connection:
                yield connection
        except DatabaseError as error:
            raise StoreError(
                f"{self.path}: can't be read now ({error.orig}); nothing was changed, try again"
            ) from error

    def _all(self, query: str, *parameters: object) -> list[_Row]:
        with self._transaction() as connection:
            return [tuple(row) for row in connection.exec_driver_sql(query, parameters)]


def _run(row: _Row) -> Run:
    return Run(
        id=row[0],
        started_at=row[1],
        ended_at=row[2],
        pid=row[3],
        host=row[4],
        version=row[5],
        endpoint=row[6],
        settings=row[7],
        exit_code=row[8],
        reason=row[9],
    )


def _record(row: _Row) -> Record:
    return Record(
        task_id=row[0],
        position=row[1],
        custom_id=row[2],
        state=TaskState(row[3]),
        error_class=row[4],
        attempts=row[5],
        endpoint=row[6],
        model=row[7],
        request=row[8],
        row=row[9],
        answer=None if row[10] is None else _answer(row[10:15]),
        cost=row[15],
        currency=None if row[15] is None else row[-2],
        attempt=None if row[16] is None else _attempt(row[16:]),
    )


def _answer(cells: _Row) -> Answer:
    return Answer(
        status=cells[0], body=cells[1], finish_reason=cells[2], simulated=bool(cells[3]), received_at=cells[4]
    )


def _attempt(cells: _Row) -> Attempt:
    return Attempt(
        id=cells[0],
        run_id=cells[1],
        number=cells[2],
        outcome=cells[3],
        leased_at=cells[4],
        sent_at=cells[5],
        finished_at=cells[6],
        status=cells[7],
        error_class=cells[8],
        code=cells[9],
        message=cells[10],
        request_id=cells[11],
        usage=None if cells[12] is None else usage_of(cells[12:16]),
        possibly_charged=bool(cells[16]),
        first_token_at=cells[17],
        reserved=cells[18],
        spent=cells[19],
        currency=cells[20],
        reply=cells[21],
    )
