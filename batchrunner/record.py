"""What the database tells, as values: a task with its story, the runs, the failures by class, the totals.

They stand at the bottom floor because the reader makes them, result files are written from them and reports show them.
All times are UTC seconds; None = not known.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from batchrunner.task import TaskState, Usage


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One send of a task. ``outcome``: success, failure, released, unknown (a crash came between), None = still open.

    ``code`` is the provider's own error code; ``reply`` what came instead of an answer, as received. ``spent`` and
    ``reserved``, the most it could cost, are billionths of ``currency``.
    """

    id: int
    run_id: int
    number: int
    outcome: str | None
    leased_at: float
    sent_at: float | None = None
    finished_at: float | None = None
    first_token_at: float | None = None
    status: int | None = None
    error_class: str | None = None
    code: str | None = None
    message: str | None = None
    request_id: str | None = None
    usage: Usage | None = None
    possibly_charged: bool = False
    reserved: int | None = None
    spent: int | None = None
    currency: str | None = None
    reply: str | bytes | None = None

    @property
    def latency(self) -> float | None:
        """Seconds from the send to the end."""
        return None if self.sent_at is None or self.finished_at is None else self.finished_at - self.sent_at

    @property
    def first_token(self) -> float | None:
        """Seconds from the send to the first token, of a stream."""
        return None if self.sent_at is None or self.first_token_at is None else self.first_token_at - self.sent_at


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The one answer of a task. ``body`` is as received: text, or bytes where it was not UTF-8."""

    status: int
    body: str | bytes
    finish_reason: str | None
    simulated: bool
    received_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A task as result files need it.

    ``row`` is the input row as a JSON object, None where the line was the request itself. ``attempt`` is the one that
    brought the answer, else the last one. ``attempts`` counts them all; ``cost`` is what they cost together, in
    billionths, None where that is not known.
    """

    task_id: int
    position: int
    custom_id: str
    state: TaskState
    error_class: str | None
    attempts: int
    endpoint: str
    model: str | None
    request: str
    row: str | None
    cost: int | None = None
    currency: str | None = None
    attempt: Attempt | None = None
    answer: Answer | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """Everything known of one task: the record, and every attempt from the first to the last."""

    job: str
    record: Record
    attempts: tuple[Attempt, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorGroup:
    """The failed tasks of one class, with the first of them (in input order) as the example."""

    error_class: str
    count: int
    custom_id: str
    code: str | None
    message: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Spending:
    """What sends cost, in billionths of one currency.

    ``spent`` None: no price is known. ``unsettled``: the most that sends cost of which no reply told. ``unknown``:
    sends whose cost has no known bound. ``limit``: the budget, if there is one; ``is_short``: nothing more goes until
    something comes back.
    """

    currency: str | None = None
    spent: int | None = None
    unsettled: int = 0
    unknown: int = 0
    limit: int | None = None
    is_short: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """What all sends of a job add up to. ``sends`` counts attempts that left; ``refused`` those answered with 429.

    ``p50`` and ``p95`` are seconds to an answer, ``first_token_p50`` to the first token of a stream, over the newest
    10,000 attempts. ``ended_at`` is the newest run's end, None while it runs.
    ``spending``: one for each currency.
    """

    sends: int
    refused: int
    possibly_charged: int
    usage: Usage
    p50: float | None
    p95: float | None
    started_at: float | None
    ended_at: float | None
    first_token_p50: float | None = None
    spending: tuple[Spending, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneTotals:
    """What the sends of a job by one lane add up to. ``spent``: billionths of the run's currency, None = not known."""

    lane: str
    sends: int
    answered: int
    refused: int
    possibly_charged: int
    usage: Usage
    spent: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A loaded job file. ``loading``: its end was not reached yet. ``settings`` is JSON."""

    id: int
    name: str
    source: str
    loading: bool
    settings: str
    created_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One run of a job; ``ended_at`` None = it is running, or was killed."""

    id: int
    started_at: float
    ended_at: float | None
    pid: int
    host: str
    version: str
    endpoint: str
    settings: str
    exit_code: int | None
    reason: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """A result file that was written, and how many tasks are in it."""

    path: str
    rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A belief about a limit that changed: *what* ("requests told limit", "slots"), from, to, and on what evidence."""

    at: float
    what: str
    old: str
    new: str
    evidence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Belief:
    """What was learned of the limits of one endpoint, key and model. ``value`` is as the limiter wrote it, JSON."""

    endpoint: str
    key_label: str
    model: str
    value: Mapping[str, Any]
    at: float
