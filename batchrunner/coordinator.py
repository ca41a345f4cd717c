"""Owns the queue, the lanes and the verdicts; one verb: take what came back, give what may go.

``exchange`` is the only door between the worker and everything that must be kept true. In one transaction it records
what the worker's attempts came to and opens the attempts it may send next, so that an attempt's row is on disk before
its request leaves, and a slot is free again only after its answer is. It has no clock, no event loop and no threads.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from random import Random
from typing import assert_never

from batchrunner.backlog import Backlog, Queue
from batchrunner.config import RetrySettings
from batchrunner.db.store import NO_LAST, Closing, Store
from batchrunner.db.waiting import Waiting
from batchrunner.entries import closing, opening
from batchrunner.judge import WORTH_WAITING, Judge
from batchrunner.lane import Lane, Ticket
from batchrunner.lanes import Lanes, first_free
from batchrunner.limits.limiter import Limiter
from batchrunner.logbook import Logbook, Standing
from batchrunner.retry import Done, GiveUp, Limit, Retry, Snooze, Stop, Verdict
from batchrunner.spending import Purse, Tariff
from batchrunner.task import Abandoned, Failure, Lease, Outcome, Report, Sighting, Success, TaskState

BITE = 4_000_000  # characters of bodies that one exchange leases; of more, the first would wait for the last's counting


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """What the worker may do next.

    ``wait``: seconds after which asking again makes sense even without news; infinite if only news can change anything.
    ``paces``: of each lane, sends a second and how many at once, None while no limit is known. ``finished``: nothing is
    left to do. ``stop``: no lane is left for any task that waits, or no money; send nothing. ``notices``: for the user
    to read.
    """

    leases: tuple[Lease, ...]
    wait: float
    finished: bool
    stop: Stop | Limit | None
    paces: Mapping[str, tuple[float, float] | None] = field(default_factory=dict)
    notices: tuple[str, ...] = ()


class Coordinator:
    """Call ``exchange`` from one thread at a time. *patience*: seconds that are waited for where all lanes rest."""

    def __init__(
        self,
        store: Store,
        lanes: Lanes,
        *,
        job_id: int,
        run_id: int,
        policy: RetrySettings,
        rng: Random,
        hold: bool = False,
        last: int = NO_LAST,
        purse: Purse | None = None,
        patience: float = WORTH_WAITING,
    ) -> None:
        self._store, self._lanes = store, lanes
        self._job_id, self._run_id = job_id, run_id
        self._hold, self._patience = hold, patience
        self._backlog = Backlog(Waiting(store, job_id, last=last))
        self._purse = purse or Purse(Tariff())
        self._attempt_id = store.last_attempt_id()
        self._leased = 0
        self._unsendable: list[Report] = []
        self._too_dear: Queue | None = None  # its first task may cost more than is left
        self._logbook = Logbook(store.counts(job_id))
        self._judge = Judge(lanes, self._logbook, policy=policy, rng=rng, patience=patience)

    def exchange(
        self, reports: Sequence[Report], *, want: int, now: float, sightings: Sequence[Sighting] = ()
    ) -> Grant:
        """Record *reports*, lease up to *want* tasks. Durable when it returns; raises StoreError where it can't be.

        *sightings* are heads of replies that are still on their way.
        """
        self._backlog.wake(now)
        for seen in sightings:
            self._lanes[seen.lease.lane].observe(seen)
        reports = [*self._unsendable, *reports]
        self._unsendable.clear()
        closings = [self._close(report, now) for report in reports]
        stop: Stop | Limit | None = self._reason_to_stop(now)
        leases, wait = self._lease(want if stop is None else 0, now)
        stop = stop or self._out_of_money(wait, now)
        if want and math.isinf(wait) and not self._leased:
            stop = stop or self._dead_end(now)
        self._commit(closings, leases, now)
        return self._grant(leases, wait, stop)

    def standing(self, now: float) -> Standing:
        return self._logbook.standing(self._lanes.states(now), self._purse.state)

    # -- what came back

    def _close(self, report: Report, now: float) -> Closing:
        lease, outcome = report.lease, report.outcome
        lane = self._lanes[lease.lane]
        if lease.permit is not None:
            lane.settle(report)
        self._note(report)
        spent = self._purse.settle(lease, outcome)
        verdict = self._judge.judge(report, lane, now, is_last=self._is_last)
        if isinstance(verdict, Retry):
            self._logbook.retry()
        if isinstance(verdict, GiveUp):
            report = replace(report, outcome=verdict.reason)  # its words say why
        self._leased -= 1
        state, available_at = self._destination(lease, outcome, verdict, now)
        self._logbook.move(TaskState.RUNNING, state)
        return closing(report, verdict, state, available_at, spent=spent)

    def _note(self, report: Report) -> None:
        outcome = report.outcome
        if isinstance(outcome, Success):
            self._logbook.answer(report)
        elif isinstance(outcome, Failure):
            self._logbook.fail(report.lease, outcome)
        if isinstance(outcome, Success | Failure) and outcome.usage is not None:
            self._logbook.use(outcome.usage)

    @property
    def _is_last(self) -> bool:
        """Whether the run has no task left but the one that is looked at."""
        return self._leased <= 1 and not self._judge.revived and all(queue.is_idle for queue in self._backlog)

    def _destination(self, lease: Lease, outcome: Outcome, verdict: Verdict, now: float) -> tuple[TaskState, float]:
        match verdict:
            case Done():
                return TaskState.SUCCEEDED, 0.0
            case GiveUp():
                return TaskState.FAILED, 0.0
            case Stop():
                return self._again(lease, now)
            case Retry(after) | Snooze(after):
                if isinstance(outcome, Abandoned) and self._hold:
                    return TaskState.HELD, 0.0
                return self._again(lease, now + after)
            case _:
                assert_never(verdict)

    def _again(self, lease: Lease, at: float) -> tuple[TaskState, float]:
        return TaskState.PENDING, self._backlog[lease.line_model].expect(at)

    # -- what may go

    def _lease(self, want: int, now: float) -> tuple[list[Lease], float]:
        """Up to *want* leases, and seconds until asking for more makes sense."""
        leases: list[Lease] = []
        wait = math.inf
        blocked: set[str] = set()  # models whose first task has to wait
        spoken_for: set[Limiter] = set()  # an older task waits for them: no younger one may take its place
        self._too_dear = None
        bite = BITE
        while len(leases) + len(self._unsendable) < want and self._too_dear is None:
            queue = self._backlog.oldest(but=blocked)
            if queue is None:
                return leases, min(wait, self._backlog.wait(now))
            found = self._offer(queue, spoken_for, now)
            if isinstance(found, Lease):
                leases.append(found)
                bite -= len(found.body)
                if bite < 0:
                    return leases, 0.0
            elif found is not None:
                wait = min(wait, found)
                blocked.add(queue.model)
        return leases, wait

    def _offer(self, queue: Queue, spoken_for: set[Limiter], now: float) -> Lease | float | None:
        """A lease on the queue's first task, or how long it has to wait; None for one that can never pass."""
        candidate = queue.first
        choices = [(lane, lane.cost(candidate)) for lane in self._lanes.serving(queue.model, now)]
        fitting = [(lane, cost) for lane, cost in choices if lane.too_large(candidate, cost) is None]
        if choices and not fitting:
            self._refuse(queue, *choices[0], now)
            return None
        fitting = [
            (lane, cost) for lane, cost in fitting if self._purse.affords(lane.name, candidate.endpoint, candidate.body)
        ]
        if choices and not fitting:
            self._too_dear = queue  # nothing goes before it, however small
            return math.inf
        free = [(lane, cost) for lane, cost in fitting if lane.limiter not in spoken_for]
        if not free:
            return math.inf
        lane, cost = first_free(free, now)
        ticket = lane.admit(cost, now)
        if ticket is None:
            spoken_for.add(lane.limiter)
            return 0.0 if self._rests(free, now) else lane.wait(cost, now)
        return self._take(queue, lane, cost, ticket.send_at, ticket)

    def _rests(self, lanes: Sequence[tuple[Lane, float]], now: float) -> bool:
        """Whether one of them is to rest now: replies told that too little is left there for what this task costs."""
        gone = [(lane, stop) for lane, cost in lanes if (stop := lane.used_up(cost, now)) is not None]
        for lane, stop in gone:
            self._judge.shut(lane, stop, now)
        return bool(gone)

    def _refuse(self, queue: Queue, lane: Lane, cost: float, now: float) -> None:
        """What can never pass fails unsent: leased now, reported with the next exchange."""
        failure = lane.too_large(queue.first, cost)
        assert failure is not None
        lease = self._take(queue, lane, cost, now, None)
        self._unsendable.append(Report(lease=lease, outcome=failure, sent_at=now, received_at=now))

    def _take(self, queue: Queue, lane: Lane, cost: float, send_at: float, ticket: Ticket | None) -> Lease:
        candidate = queue.take()
        self._attempt_id += 1
        self._leased += 1
        self._logbook.move(TaskState.PENDING, TaskState.RUNNING)
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
            permit=ticket,
            lane=lane.name,
            model=None if lane.model == queue.model else lane.model,
            line_model=queue.model,
            reserved=None if ticket is None else self._purse.reserve(lane.name, candidate.endpoint, candidate.body),
            size=lane.measure(candidate.body),
        )

    # -- what is said

    def _reason_to_stop(self, now: float) -> Stop | None:
        """Why nothing more can be done: tasks wait, and none of the lanes that take them is open."""
        if all(lane.stop is None for lane in self._lanes):
            return None
        waiting = [queue for queue in self._backlog if not queue.is_idle]
        needed = [lane for queue in waiting for lane in self._lanes.serving(queue.model, now)]
        if not needed or any(lane.rest(now) <= self._patience and lane.rest(now) < math.inf for lane in needed):
            return None
        if any(lane.in_flight and not lane.is_closed(now) for lane in self._lanes):
            return None  # others are at work, and their tasks may want to go again
        stops = [lane.stop for lane in needed if lane.stop is not None]
        return next((stop for stop in stops if stop.later), stops[0])

    def _out_of_money(self, wait: float, now: float) -> Limit | None:
        """Why nothing more goes: the next task may cost too much, and nothing is in flight that could cost less."""
        queue = self._too_dear
        if queue is None:
            return None
        if self._leased or wait <= WORTH_WAITING:
            self._purse.wait()
            return None
        first, lanes = queue.first, [lane.name for lane in self._lanes.serving(queue.model, now)]
        return self._purse.too_little(lanes, first.endpoint, first.body, first.custom_id)

    def _dead_end(self, now: float) -> Stop | None:
        """Nothing is on its way or waited for: a lane is closed, and the open ones can't take the next task.

        It may cost more there than is left of a budget, or be larger than they ever let pass.
        """
        waiting = [queue for queue in self._backlog if not queue.is_idle]
        needed = [lane for queue in waiting for lane in self._lanes.serving(queue.model, now)]
        return next((lane.stop for lane in needed if lane.stop is not None), None)

    def _commit(self, closings: Sequence[Closing], leases: Sequence[Lease], now: float) -> None:
        openings = [opening(lease, now) for lease in (*leases, *(report.lease for report in self._unsendable))]
        sample = self._logbook.sample(self.standing(now), now) if self._logbook.is_due(now) else None
        changes = self._lanes.changes()
        if closings or openings or sample is not None or changes:
            self._store.exchange(
                self._job_id,
                self._run_id,
                closings=closings,
                openings=openings,
                revived=[lease.task_id for lease in self._judge.revived],
                sample=sample,
                changes=changes,
            )
        for lease in self._judge.revived:
            self._again(lease, now)
            self._logbook.move(TaskState.FAILED, TaskState.PENDING)
        self._judge.revived.clear()

    def _grant(self, leases: Sequence[Lease], wait: float, stop: Stop | Limit | None) -> Grant:
        return Grant(
            leases=tuple(leases),
            wait=0.0 if self._unsendable else wait,
            finished=not self._leased and all(queue.is_idle for queue in self._backlog),
            stop=stop,
            paces={lane.name: lane.limiter.pace for lane in self._lanes},
            notices=(*self._judge.notices(), *self._purse.words()),
        )
