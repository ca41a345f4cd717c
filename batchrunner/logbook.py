"""What is kept of a run for its screens: the accounts, the gauges, the newest failure, a row a second."""

from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import inf

from batchrunner.db.store import Sample
from batchrunner.lane import LaneState
from batchrunner.limits.limiter import LimiterState
from batchrunner.record import Spending
from batchrunner.task import Counts, Failure, FailureClass, Lease, Report, TaskState, Usage

REFUSALS = frozenset({FailureClass.RATE_LIMIT, FailureClass.CONCURRENCY, FailureClass.OVERLOADED})
NO_SPENDING = Spending()
LATENCIES = 500  # of the newest answers, for the percentiles


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Where the run stands, for screens. ``limiter``: all lanes together. ``spending``: of the whole job."""

    counts: Counts
    limiter: LimiterState
    answered: int  # in this run
    retries: int
    refusals: int
    usage: Usage
    p50: float | None
    p95: float | None
    last_failure: tuple[str, Failure] | None
    bound_by: str  # what limited the speed in most seconds of this run
    lanes: tuple[LaneState, ...] = ()
    spending: Spending = NO_SPENDING


class Logbook:
    """Told of every lease and of every report."""

    def __init__(self, counts: Counts) -> None:
        self._states = {state: counts[state] for state in TaskState}
        self._rejected = counts.rejected
        self._answered = self._retries = self._refusals = 0
        self._usage = Usage()
        self._latencies: deque[float] = deque(maxlen=LATENCIES)
        self._limiting: Counter[str] = Counter()
        self._last_failure: tuple[str, Failure] | None = None
        self._sampled_at = 0.0

    def move(self, before: TaskState, after: TaskState, count: int = 1) -> None:
        self._states[before] -= count
        self._states[after] += count

    @property
    def counts(self) -> Counts:
        return Counts(states=dict(self._states), rejected=self._rejected)

    def answer(self, report: Report) -> None:
        self._answered += 1
        self._latencies.append(report.received_at - report.sent_at)

    def fail(self, lease: Lease, failure: Failure) -> None:
        self._last_failure = (lease.custom_id, failure)
        self._refusals += failure.kind in REFUSALS

    def use(self, usage: Usage) -> None:
        self._usage = self._usage + usage

    def retry(self) -> None:
        self._retries += 1

    def standing(self, lanes: Sequence[LaneState], spending: Spending = NO_SPENDING) -> Standing:
        ordered = sorted(self._latencies)
        return Standing(
            counts=self.counts,
            limiter=together(lanes),
            answered=self._answered,
            retries=self._retries,
            refusals=self._refusals,
            usage=self._usage,
            p50=ordered[len(ordered) // 2] if ordered else None,
            p95=ordered[int(len(ordered) * 0.95)] if ordered else None,
            last_failure=self._last_failure,
            bound_by=max(self._limiting, key=lambda name: self._limiting[name], default=""),
            lanes=tuple(lanes),
            spending=spending,
        )

    def is_due(self, now: float) -> bool:
        """Whether a second has passed since the last row."""
        return now >= self._sampled_at + 1

    def sample(self, standing: Standing, now: float) -> Sample:
        """A row for screens and reports."""
        self._sampled_at = now
        limits, states = standing.limiter, self._states
        self._limiting[limits.limiting] += 1
        return Sample(
            at=now,
            succeeded=states[TaskState.SUCCEEDED],
            failed=states[TaskState.FAILED],
            pending=states[TaskState.PENDING],
            in_flight=limits.in_flight,
            slots=limits.slots,
            sent_1m=limits.sent_1m,
            tokens_1m=limits.tokens_1m,
            refused_1m=limits.refused_1m,
            rpm_limit=limits.rpm_limit,
            tpm_limit=limits.tpm_limit,
            p50=standing.p50,
            p95=standing.p95,
            limiting=limits.limiting,
            spent=standing.spending.spent,
        )


NO_LIMITS = LimiterState(
    sent_1m=0,
    tokens_1m=0,
    refused_1m=0,
    rpm_limit=None,
    tpm_limit=None,
    in_flight=0,
    slots=0,
    limiting="start",
    waiting=0.0,
)


def together(lanes: Sequence[LaneState]) -> LimiterState:
    """The lanes that are open as one: what was sent and what may be adds up; a limit that one does not know, none does.

    What limits them is what limits most of them; they wait for the first of them, and be it to end its rest.
    """
    every = list({id(lane.limiter): lane.limiter for lane in lanes}.values())  # some may share one
    going = list({id(lane.limiter): lane.limiter for lane in lanes if lane.stop is None}.values())
    if not going:
        rest = min((lane.rest for lane in lanes), default=inf)
        limits = every[0] if every else NO_LIMITS
        return limits if rest == inf else replace(limits, limiting="allowance", waiting=rest)
    if len(lanes) == 1:
        return lanes[0].limiter
    return LimiterState(
        sent_1m=sum(one.sent_1m for one in every),
        tokens_1m=sum(one.tokens_1m for one in every),
        refused_1m=sum(one.refused_1m for one in every),
        rpm_limit=_sum([one.rpm_limit for one in going]),
        tpm_limit=_sum([one.tpm_limit for one in going]),
        in_flight=sum(one.in_flight for one in every),
        slots=sum(one.slots for one in going),
        limiting=Counter(one.limiting for one in going).most_common(1)[0][0],
        waiting=min(one.waiting for one in going),
    )


def _sum(limits: Sequence[float | None]) -> float | None:
    known = [limit for limit in limits if limit is not None]
    return sum(known) if len(known) == len(limits) else None
