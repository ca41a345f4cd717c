"""A job's database from Python: how far it is, its results one by one, its result files."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from batchrunner.answer import answer_text
from batchrunner.db.reader import Reader
from batchrunner.errors import ConfigError
from batchrunner.jobfile.results import Layout, form_of, write_results
from batchrunner.money import BILLION
from batchrunner.record import Output, Record
from batchrunner.task import Counts, TaskState, Usage


@dataclass(frozen=True, slots=True, kw_only=True)
class Error:
    """Why a task failed. ``kind`` is our class, ``code`` the provider's own."""

    kind: str
    message: str
    code: str | None
    status: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One task of a job. ``text`` is the answer's text, ``response`` its whole body; both None without an answer.

    ``cost``: of all its sends, in ``currency``; None where no price is known.
    """

    custom_id: str
    status: TaskState
    text: str | None
    response: Any
    usage: Usage | None
    cost: float | None
    currency: str | None
    attempts: int
    error: Error | None
    row: Mapping[str, Any] | None
    simulated: bool


class Job:
    """A job's database, for reading; also while it runs. Raises StoreError if it is none."""

    def __init__(self, database: str | Path) -> None:
        self.path = Path(database)
        with Reader(self.path) as reader:
            jobs = reader.jobs()
        if not jobs:
            raise ConfigError(f"{self.path}: no job was loaded into it yet")
        self.name = jobs[-1].name
        self._id = jobs[-1].id

    def __repr__(self) -> str:
        counts = self.counts
        states = ", ".join(f"{counts[state]:,} {state}" for state in TaskState if counts[state])
        return f"Job {self.name}: {states or 'empty'}"

    @property
    def counts(self) -> Counts:
        """How many tasks are in each state just now."""
        with Reader(self.path) as reader:
            return reader.counts(self._id)

    def results(self, *states: TaskState) -> Iterator[Result]:
        """Every task in input order, or those in *states*; read a page at a time."""
        with Reader(self.path) as reader:
            for record in reader.records(self._id, states or None):
                yield _result(record)

    def succeeded(self) -> Iterator[Result]:
        return self.results(TaskState.SUCCEEDED)

    def failed(self) -> Iterator[Result]:
        return self.results(TaskState.FAILED)

    def write(self, path: str | Path, *, partial: bool = False, force: bool = False) -> tuple[Output, ...]:
        """Write a result file, whose suffix says the form: .jsonl (OpenAI Batch output), .csv or .tsv."""
        target = str(path)
        with Reader(self.path) as reader:
            layout = Layout(form=form_of(target), columns=reader.columns(self._id))
            return write_results(reader.records(self._id), target, layout, partial=partial, force=force)


def _result(record: Record) -> Result:
    answer, attempt = record.answer, record.attempt
    failed = record.state is TaskState.FAILED and attempt is not None
    return Result(
        custom_id=record.custom_id,
        status=record.state,
        text=None if answer is None else answer_text(answer.body),
        response=None if answer is None else _parsed(answer.body),
        usage=None if attempt is None else attempt.usage,
        cost=None if record.cost is None else record.cost / BILLION,
        currency=record.currency,
        attempts=record.attempts,
        error=_error(record) if failed else None,
        row=None if record.row is None else json.loads(record.row),
        simulated=answer is not None and answer.simulated,
    )


def _error(record: Record) -> Error:
    attempt = record.attempt
    assert attempt is not None
    kind, message = record.error_class or "unknown", attempt.message or ""
    return Error(kind=kind, message=message, code=attempt.code, status=attempt.status)


def _parsed(body: str | bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return body
