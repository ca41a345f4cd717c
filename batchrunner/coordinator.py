"""Owns the queue, the limits and the verdicts; one verb: take what came back, give what may go.

``exchange`` is the only door between the worker and everything that must be kept true. In one transaction it records
what the worker's attempts came to and opens the attempts it may send next, so that an attempt's row is on disk before
its request leaves, and a slot is free again only after its answer is. It has no clock, no event loop and no threads.
"""

import math
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import assert_never

from batchrunner.config import RetrySettings
from batchrunner.db.store import NO_LAST, Candidate, Closing, Opening, Sample, Store
from batchrunner.limits.estimate import TokenEstimate
from batchrunner.limits.limiter import Limiter, LimiterState, Permit
from batchrunner.quota import Dimension
from batchrunner.retry import Done, GiveUp, Retry, Snooze, Stop, Verdict, decide
from batchrunner.task import (
    Abandoned,
    Counts,
    Failure,
    FailureClass,
    Lease,
    Outcome,
    Released,
    Report,
    Sighting,
    Success,
    TaskState,
    Usage,
)

READ_AHEAD = 256  # tasks read from the database at once
LATENCIES = 500  # of the newest answers, for the percentiles
SURELY = 0.7  # an estimate may be a third too high; only what is over the limit even then is refused unsent
DUE_SOON = 1e-9  # an available_at that is over, but not 0: such a task goes before the ones never sent


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """What the worker may do next.

    ``wait``: seconds after which asking again makes sense even without news; infinite if only news can change anything.
    ``pace``: sends a second and how many at once, None while no limit is known. ``finished``: nothing is left to do.
    ``stop``: no task can succeed any more; send nothing.
    """

    leases: tuple[Lease, ...]
    wait: float
    pace: tuple[float, float] | None
    finished: bool
    stop: Stop | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Where the run stands, for screens."""

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


class Coordinator:
    """Call ``exchange`` from one thread at a time."""

    def __init__(
        self,
        store: Store,
        limiter: Limiter,
        *,
        job_id: int,
        run_id: int,
        policy: RetrySettings,
        rng: Random,
        hold: bool = False,
        last: int = NO_LAST,
    ) -> None:
        self._store = store
        self._limiter = limiter
        self._job_id, self._run_id = job_id, run_id
        self._policy, self._rng, self._hold, self._last = policy, rng, hold, last
        self._estimate = TokenEstimate()
        self._fresh_queue: deque[Candidate] = deque()
        self._again_queue: deque[Candidate] = deque()
        self._read_to = 0
        self._exhausted = False
        self._next_due = store.next_due(job_id, last=last)
        self._wait = math.inf
        self._attempt_id = store.last_attempt_id()
        self._leased = 0
        self._unsendable: list[Report] = []
        self._stop: Stop | None = None
        counts = store.counts(job_id)
        self._states = {state: counts[state] for state in TaskState}
        self._rejected = counts.rejected
        self._ever_succeeded = counts[TaskState.SUCCEEDED] > 0
        self._sampled_at = 0.0
        self._answered = self._retries = 0
        self._usage = Usage()
        self._limiting: Counter[str] = Counter()
        self._latencies: deque[float] = deque(maxlen=LATENCIES)
        self._last_failure: tuple[str, Failure] | None = None

    def exchange(
        self, reports: Sequence[Report], *, want: int, now: float, sightings: Sequence[Sighting] = ()
    ) -> Grant:
        """Record *reports*, lease up to *want* tasks. Durable when it returns; raises StoreError where it can't be.

        *sightings* are heads of replies that are still on their way.
        """
        self._wake(now)
        for seen in sightings:
            self._sight(seen)
        reports = [*self._unsendable, *reports]
        self._unsendable.clear()
        closings = [self._close(report, now) for report in reports]
        leases = self._lease(want, now)
        openings = [_opening(lease, now) for lease in (*leases, *(r.lease for r in self._unsendable))]
        sample, changes = self._sample(now), self._limiter.changes()
        if closings or openings or sample is not None or changes:
            self._store.exchange(
                self._job_id, self._run_id, closings=closings, openings=openings, sample=sample, changes=changes
            )
        return self._grant(leases, now)

    def standing(self, now: float) -> Standing:
        ordered = sorted(self._latencies)
        return Standing(
            counts=Counts(states=dict(self._states), rejected=self._rejected),
            limiter=self._limiter.state(now),
            answered=self._answered,
            retries=self._retries,
            refusals=self._limiter.refusals,
            usage=self._usage,
            p50=ordered[len(ordered) // 2] if ordered else None,
            p95=ordered[int(len(ordered) * 0.95)] if ordered else None,
            last_failure=self._last_failure,
            bound_by=max(self._limiting, key=lambda name: self._limiting[name], default=""),
        )

    # -- what came back

    def _sight(self, seen: Sighting) -> None:
        if seen.lease.permit is not None:
            self._limiter.observe(seen.lease.permit, seen.quota, sent_at=seen.sent_at, received_at=seen.received_at)

    def _close(self, report: Report, now: float) -> Closing:
        lease, outcome = report.lease, report.outcome
        if lease.permit is not None:
            self._limiter.settle(lease.permit, outcome, sent_at=report.sent_at, received_at=report.received_at)
        self._learn(report)
        verdict = self._judge(lease, outcome)
        self._leased -= 1
        state, available_at = self._destination(outcome, verdict, now)
        self._states[TaskState.RUNNING] -= 1
        self._states[state] += 1
        return _closing(report, verdict, state, available_at)

    def _learn(self, report: Report) -> None:
        outcome = report.outcome
        if isinstance(outcome, Success):
            self._answered += 1
            self._ever_succeeded = True
            self._latencies.append(report.received_at - report.sent_at)
        elif isinstance(outcome, Failure):
            self._last_failure = (report.lease.custom_id, outcome)
        usage = outcome.usage if isinstance(outcome, Success | Failure) else None
        if usage is not None:
            self._estimate.learn(len(report.lease.body.encode()), usage.prompt_tokens, usage.completion_tokens)
            self._usage = self._usage + usage

    def _judge(self, lease: Lease, outcome: Outcome) -> Verdict:
        outage = self._limiter.breaker.is_open
        verdict = decide(outcome, failures=lease.failures, policy=self._policy, rng=self._rng, outage=outage)
        if isinstance(verdict, GiveUp) and self._is_lost(verdict.reason):
            verdict = Stop(verdict.reason)
        if isinstance(verdict, Stop) and self._stop is None:
            self._stop = verdict
        self._retries += isinstance(verdict, Retry)
        return verdict

    def _is_lost(self, failure: Failure) -> bool:
        """Nothing here ever answered, and now a page that is no answer: the wrong place rather than a bad answer."""
        return failure.kind is FailureClass.MALFORMED_SUCCESS and not self._ever_succeeded

    def _destination(self, outcome: Outcome, verdict: Verdict, now: float) -> tuple[TaskState, float]:
        match verdict:
            case Done():
                return TaskState.SUCCEEDED, 0.0
            case GiveUp():
                return TaskState.FAILED, 0.0
            case Stop():
                return self._again(now)
            case Retry(after) | Snooze(after):
                if isinstance(outcome, Abandoned) and self._hold:
                    return TaskState.HELD, 0.0
                return self._again(now + after)
            case _:
                assert_never(verdict)

    def _again(self, at: float) -> tuple[TaskState, float]:
        at = max(at, DUE_SOON)
        self._next_due = at if self._next_due is None else min(self._next_due, at)
        return TaskState.PENDING, at

    # -- what may go

    def _lease(self, want: int, now: float) -> list[Lease]:
        leases: list[Lease] = []
        self._wait = math.inf
        if self._stop is not None:
            return leases
        while len(leases) + len(self._unsendable) < want and (candidate := self._peek()) is not None:
            cost = self._estimate.cost(candidate.body, endpoint=candidate.endpoint)
            failure = self._too_large(candidate, cost)
            if failure is not None:
                lease = self._take(cost, now, None)
                self._unsendable.append(Report(lease=lease, outcome=failure, sent_at=now, received_at=now))
                continue
            permit = self._limiter.admit(cost, now)
            if permit is None:
                self._wait = self._limiter.wait(cost, now)
                break
            leases.append(self._take(cost, permit.send_at, permit))
        return leases

    def _wake(self, now: float) -> None:
        """Fetch the tasks whose wait is over. At the start of an exchange only: what it leases is not on disk yet."""
        if self._again_queue or self._next_due is None or self._next_due > now:
            return
        due = self._store.due(self._job_id, now=now, limit=READ_AHEAD, last=self._last)
        self._again_queue.extend(due)
        self._next_due = (
            now if len(due) == READ_AHEAD else self._store.next_due(self._job_id, after=now, last=self._last)
        )

    def _peek(self) -> Candidate | None:
        """The task whose turn it is: first those whose wait is over, then those never sent, in input order."""
        if self._again_queue:
            return self._again_queue[0]
        if not self._fresh_queue and not self._exhausted:
            fresh = self._store.fresh(self._job_id, after=self._read_to, limit=READ_AHEAD, last=self._last)
            self._exhausted = len(fresh) < READ_AHEAD
            self._read_to = fresh[-1].task_id if fresh else self._read_to
            self._fresh_queue.extend(fresh)
        return self._fresh_queue[0] if self._fresh_queue else None

    def _take(self, cost: float, send_at: float, permit: Permit | None) -> Lease:
        candidate = (self._again_queue or self._fresh_queue).popleft()
        self._attempt_id += 1
        self._leased += 1
        self._states[TaskState.PENDING] -= 1
        self._states[TaskState.RUNNING] += 1
        return Lease(
            attempt_id=self._attempt_id,
            task_id=candidate.task_id,
            custom_id=candidate.custom_id,
            endpoint=candidate.endpoint,
            body=candidate.body,
            attempt=candidate.attempts + 1,
            failures=candidate.failures,
            cost=cost,
            send_at=send_at,
            permit=permit,
        )

    def _too_large(self, candidate: Candidate, cost: float) -> Failure | None:
        """Why this request can never pass, if its prompt alone is well over the whole token limit."""
        limit = self._limiter.largest(Dimension.TOKENS)
        prompt = self._estimate.prompt(len(candidate.body.encode()))
        if limit is None or cost <= limit or prompt * SURELY < limit:
            return None
        message = f"needs about {prompt:,.0f} tokens, and the limit is {limit:,.0f} a window: it can never pass"
        return Failure(kind=FailureClass.REQUEST_TOO_LARGE, message=message, sent=False)

    def _grant(self, leases: list[Lease], now: float) -> Grant:
        wait = self._wait
        if self._next_due is not None and not (self._again_queue or self._fresh_queue):
            wait = min(wait, max(self._next_due - now, 0.0))
        idle = not (self._again_queue or self._fresh_queue or self._leased) and self._exhausted
        return Grant(
            leases=tuple(leases),
            wait=0.0 if self._unsendable else wait,
            pace=self._limiter.pace,
            finished=idle and self._next_due is None,
            stop=self._stop,
        )

    def _sample(self, now: float) -> Sample | None:
        """A row for screens and reports, at most one a second."""
        if now < self._sampled_at + 1:
            return None
        self._sampled_at = now
        standing = self.standing(now)
        self._limiting[standing.limiter.limiting] += 1
        limits, states = standing.limiter, self._states
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
        )


def _opening(lease: Lease, now: float) -> Opening:
    return Opening(
        attempt_id=lease.attempt_id, task_id=lease.task_id, number=lease.attempt, leased_at=now, cost=lease.cost
    )


def _closing(report: Report, verdict: Verdict, state: TaskState, available_at: float) -> Closing:
    """The row of an attempt that ended."""
    lease, outcome = report.lease, report.outcome
    ended = partial(
        Closing,
        attempt_id=lease.attempt_id,
        task_id=lease.task_id,
        state=state,
        finished_at=report.received_at,
        available_at=available_at,
    )
    match outcome:
        case Success():
            return ended(
                outcome="success",
                sent_at=report.sent_at,
                status=outcome.status,
                request_id=outcome.request_id,
                usage=outcome.usage,
                finish_reason=outcome.finish_reason,
                simulated=outcome.simulated,
                body=outcome.body,
                first_token_at=outcome.first_token_at,
            )
        case Failure():
            return ended(
                outcome="failure",
                sent_at=report.sent_at if outcome.sent else None,
                used_up_a_try=isinstance(verdict, Retry | GiveUp),
                status=outcome.status,
                error_class=outcome.kind,
                error_code=outcome.code,
                message=outcome.message,
                request_id=outcome.request_id,
                usage=outcome.usage,
                possibly_charged=outcome.maybe_charged,
                body=None if isinstance(verdict, Snooze) else outcome.body,
            )
        case Abandoned():
            return ended(outcome="unknown", sent_at=report.sent_at, possibly_charged=True)
        case Released():
            return ended(outcome="released", sent_at=None)
        case _:
            assert_never(outcome)
