"""The words of the queue as values: request, task, lease, attempt, outcome, progress."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from batchrunner.quota import NO_QUOTA, Dimension, Quota
from batchrunner.size import NOTHING, Size

PAGE_BEGIN = 200  # bytes in which a page begins


class TaskState(StrEnum):
    """Where a task stands; exactly one of these at any time."""

    PENDING = "pending"  # to be sent, now or at ``available_at``
    RUNNING = "running"  # leased to a worker; its attempt row is open
    SUCCEEDED = "succeeded"  # its one immutable result is in the database
    FAILED = "failed"  # given up, with a reason; ``retry`` brings it back
    HELD = "held"  # in flight at a crash and kept back for a human (--in-flight hold)
    CANCELLED = "cancelled"  # taken out of the job: its line is gone from the job file


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What one line of a job file asks to send; checked, not yet stored.

    ``endpoint`` is the path under the base URL, such as ``chat/completions``. ``body`` is JSON text, sent as it stands.
    ``row`` is the input row as a JSON object, for joining answers back; None where the line *is* the request.
    ``line`` counts from 1; ``offset`` is the line's first byte in the (decompressed) file.
    ``fingerprint`` identifies the content: same fingerprint = the same question, never paid twice.
    """

    custom_id: str
    endpoint: str
    body: str
    model: str | None
    row: str | None
    line: int
    offset: int
    fingerprint: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class RejectedLine:
    """A line that could not become a request, and why."""

    line: int
    offset: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """Leave to send one task once, at ``send_at`` or later; its attempt row is already committed.

    ``attempt`` counts the sends of this task from 1; ``failures`` those of them that used up a try.
    ``cost`` is the tokens reserved for it. ``permit`` is the limiter's own note, handed back with the report.
    ``lane`` names where it goes: ``route/model``. ``model`` is the one to send instead of the line's own, None = as the
    line says, which is ``line_model`` (empty for none). ``reserved``: money, the most it can cost, in billionths; None
    = no price is known. ``size`` is the prompt's, as it was measured.
    """

    attempt_id: int
    task_id: int
    custom_id: str
    endpoint: str
    body: str
    attempt: int
    failures: int
    cost: float
    send_at: float
    permit: Any = field(repr=False)
    lane: str = ""
    model: str | None = None
    line_model: str = ""
    reserved: int | None = None
    size: Size = NOTHING


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Tokens a request did use, as the provider says. ``cached`` is part of prompt, ``reasoning`` of completion.

    ``is_whole``: it told of prompt and answer both, so that 0 is no gap.
    """

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    is_whole: bool = field(default=True, compare=False)

    @property
    def total(self) -> int:
        return self.prompt_tokens + self.completion_tokens

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(
            prompt_tokens=self.prompt_tokens + other.prompt_tokens,
            completion_tokens=self.completion_tokens + other.completion_tokens,
            cached_tokens=self.cached_tokens + other.cached_tokens,
            reasoning_tokens=self.reasoning_tokens + other.reasoning_tokens,
        )


class FailureClass(StrEnum):
    """Why an attempt brought no answer; each has one action in retry.py and one sentence for the user in report/."""

    RATE_LIMIT = "rate_limit"  # requests or tokens a window
    CONCURRENCY = "concurrency"  # too many requests in flight
    OVERLOADED = "overloaded"  # the platform, not our quota
    QUOTA_WINDOW = "quota_window"  # a five-hour, daily or monthly allowance is used up
    QUOTA_EXHAUSTED = "quota_exhausted"  # no balance, no plan
    AUTH = "auth"
    PERMISSION = "permission"
    MODEL_NOT_FOUND = "model_not_found"
    WRONG_ENDPOINT = "wrong_endpoint"
    BAD_REQUEST = "bad_request"
    CONTEXT_LENGTH = "context_length"
    REQUEST_TOO_LARGE = "request_too_large"  # larger than the whole limit: can never pass
    CONTENT_FILTER = "content_filter"
    SERVER_ERROR = "server_error"
    MALFORMED_SUCCESS = "malformed_success"  # HTTP 200 without an answer in it
    EMPTY_REASONING = "empty_reasoning"  # HTTP 200, the reasoning used up max_tokens
    NO_VALID_RESPONSE = "no_valid_response"  # the model came to nothing; Cohere says so, and another try may
    RESPONSE_TOO_LARGE = "response_too_large"
    TRUNCATED = "truncated"
    TIMEOUT = "timeout"
    NETWORK = "network"  # the connection broke, possibly after the request was read
    UNREACHABLE = "unreachable"  # the request certainly never left
    CERTIFICATE = "certificate"


@dataclass(frozen=True, slots=True, kw_only=True)
class Success:
    """An answer, whole. ``body`` is as received, or what a stream was put together to.

    ``simulated`` marks the built-in simulator's answers; ``first_token_at``: clock seconds, of a stream.
    """

    status: int
    body: bytes
    usage: Usage | None = None
    finish_reason: str | None = None
    request_id: str | None = None
    quota: Quota = NO_QUOTA
    simulated: bool = False
    first_token_at: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """No answer, and why.

    ``sent``: False if the request certainly never left (costs nothing). ``maybe_charged``: it may have been paid for.
    ``retry_after``: seconds the server asked us to wait, None = it did not say. ``code``: the provider's own.
    ``dimension``: what refused, where the reply names it. ``hint``: what to do, where the provider's table knows.
    """

    kind: FailureClass
    message: str
    status: int | None = None
    code: str | None = None
    body: bytes | None = None
    usage: Usage | None = None
    sent: bool = True
    maybe_charged: bool = False
    retry_after: float | None = None
    dimension: Dimension | None = None
    hint: str | None = None
    request_id: str | None = None
    quota: Quota = NO_QUOTA

    def is_silent(self, tokens: float) -> bool:
        """Of a refusal of *tokens*: it tells neither how long to wait nor of a window that has not enough for them."""
        return not self.retry_after and all(window.has(tokens) for window in self.quota.windows)

    @property
    def is_page(self) -> bool:
        """A 200 with a web page, or with nothing: not the provider's, who sends JSON, but of something on the way."""
        is_malformed = self.kind is FailureClass.MALFORMED_SUCCESS and self.body is not None
        return is_malformed and (self.body or b"")[:PAGE_BEGIN].lstrip()[:1] in (b"", b"<")


@dataclass(frozen=True, slots=True, kw_only=True)
class Released:
    """The lease comes back unsent (drain, stop): as if it had never been taken."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Abandoned:
    """Cut off by us while it was in flight: it may have been read, answered and paid for."""


Outcome = Success | Failure | Released | Abandoned


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What one lease came to. Times are clock seconds; ``sent_at`` is when the request began to leave."""

    lease: Lease
    outcome: Outcome
    sent_at: float
    received_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Sighting:
    """What the head of a reply told of limits while its body still comes; the report does not repeat it."""

    lease: Lease
    quota: Quota
    sent_at: float
    received_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """How many tasks of a job are in each state, and how many lines were rejected."""

    states: Mapping[TaskState, int]
    rejected: int = 0

    def __getitem__(self, state: TaskState) -> int:
        return self.states.get(state, 0)

    @property
    def total(self) -> int:
        return sum(self.states.values())

    @property
    def left(self) -> int:
        return self[TaskState.PENDING] + self[TaskState.RUNNING]
