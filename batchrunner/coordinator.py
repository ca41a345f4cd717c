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
from batchrunner.confirm import Finding
from batchrunner.db.store import NO_LAST, Closing, Store
from batchrunner.db.waiting import Waiting
from batchrunner.entries import closing, opening
from batchrunner.lane import Lane, Ticket
from batchrunner.lanes import Lanes, first_free
from batchrunner.limits.limiter import Limiter
from batchrunner.logbook import Logbook, Standing
from batchrunner.report.rests import rest_word
from batchrunner.retry import Done, GiveUp, Limit, Retry, Snooze, Stop, Verdict, decide
from batchrunner.spending import Purse, Tariff
from batchrunner.task import Abandoned, Failure, FailureClass, Lease, Outcome, Report, Sighting, Success, TaskState

WORTH_WAITING = 60.0  # seconds; a rest of a lane that nobody has to be told of
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
        self._policy, self._rng, self._hold = policy, rng, hold
        self._patience = patience
        self._backlog = Backlog(Waiting(store, job_id, last=last))
        self._purse = purse or Purse(Tariff())
        self._attempt_id = store.last_attempt_id()
        self._leased = 0
        self._unsendable: list[Report] = []
        self._too_dear: Queue | None = None  # its first task may cost more than is left
        self._revived: list[Lease] = []  # their tasks failed, and are to go again
        self._notices: list[str] = []
        self._logbook = Logbook(store.counts(job_id))

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
        verdict = self._judge(report, lane, now)
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

    def _judge(self, report: Report, lane: Lane, now: float) -> Verdict:
        lease, outcome = report.lease, report.outcome
        outage = lane.limiter.breaker.is_open
        verdict = decide(outcome, failures=lease.failures, policy=self._policy, rng=self._rng, outage=outage)
        if isinstance(verdict, Snooze) and isinstance(outcome, Failure) and outcome.kind is FailureClass.RATE_LIMIT:
            gone = lane.used_up(lease.cost, now, refused=outcome)
            verdict = gone or self._turned_down(verdict, outcome, lease, lane, now)
        elif isinstance(outcome, Failure) and outcome.is_page and not lane.answered:
            verdict = Stop(outcome)  # nothing here ever answered: the wrong place rather than a page that passes
        elif isinstance(verdict, GiveUp):
            verdict = self._doubt(verdict, lease, lane, now)
        if isinstance(verdict, Stop) and not verdict.later:
            verdict = self._confirmed(verdict, lease, lane)
        if isinstance(verdict, Stop):
            self._shut(lane, verdict, now)
        if isinstance(verdict, Retry):
            self._logbook.retry()
        self._notices += self._purse.words()
        if word := lane.canary.word():
            self._notices.append(f"canary{f' at {lane.name}' if len(self._lanes) > 1 else ''}: {word}")
        return verdict

    def _confirmed(self, stop: Stop, lease: Lease, lane: Lane) -> Verdict:
        """What may be one request's fault, a second task has to say as well."""
        match lane.confirm.find(lease.task_id, stop.reason, left=1 if self._is_last else self._logbook.counts.left):
            case Finding.EVERYBODY:
                return stop
            case Finding.THIS_ONE:
                return GiveUp(stop.reason)
            case Finding.UNSURE:
                return Snooze(lane.confirm.wait(lease.task_id, stop.reason.kind))

    def _turned_down(self, verdict: Snooze, failure: Failure, lease: Lease, lane: Lane, now: float) -> Snooze | GiveUp:
        """Refused for a rate, and not for the first time."""
        silent = failure.is_silent(lease.cost)
        found = lane.turned_down.refused(lease.task_id, lease.cost, now, alone=self._is_last, silent=silent)
        if isinstance(found, str):
            return GiveUp(replace(failure, message=f"{failure.message} ({found})"))
        return Snooze(max(verdict.after, found))

    @property
    def _is_last(self) -> bool:
        """Whether the run has no task left but the one that is looked at."""
        return self._leased <= 1 and not self._revived and all(queue.is_idle for queue in self._backlog)

    def _doubt(self, verdict: GiveUp, lease: Lease, lane: Lane, now: float) -> GiveUp | Stop:
        """Is this task at fault, or would every other fail as well?"""
        failure = verdict.reason
        if failure.kind is FailureClass.MALFORMED_SUCCESS and not lane.answered:
            return Stop(failure)  # nothing here ever answered: the wrong place rather than a bad answer
        lane.canary.failed(lease, failure)
        if not lane.canary.is_dead:
            return verdict
        stop = Stop(replace(failure, message=f"{failure.message} (so it was with each of {lane.canary.size} tasks)"))
        self._shut(lane, stop, now)
        self._revived += [one for one in lane.canary.unpaid if one.task_id != lease.task_id]
        return stop if failure.usage is None else verdict

    def _shut(self, lane: Lane, stop: Stop, now: float) -> None:
        """The lane takes nothing more, or rests; the user hears of it now if the run goes on."""
        for closed in self._lanes.close(lane, stop, now):
            rest, alone = closed.rest(now), len(self._lanes) == 1
            is_news = not (stop.later and closed.is_heard_of)
            if is_news and (not alone or (stop.later and WORTH_WAITING < rest <= self._patience)):
                closed.is_heard_of = True
                self._notices.append(rest_word(stop, rest, now, lane="" if alone else closed.name))

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
            self._shut(lane, stop, now)
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
                revived=[lease.task_id for lease in self._revived],
                sample=sample,
                changes=changes,
            )
        for lease in self._revived:
            self._again(lease, now)
            self._logbook.move(TaskState.FAILED, TaskState.PENDING)
        self._revived.clear()

    def _grant(self, leases: Sequence[Lease], wait: float, stop: Stop | Limit | None) -> Grant:
        notices, self._notices = tuple(self._notices), []
        return Grant(
            leases=tuple(leases),
            wait=0.0 if self._unsendable else wait,
            finished=not self._leased and all(queue.is_idle for queue in self._backlog),
            stop=stop,
            paces={lane.name: lane.limiter.pace for lane in self._lanes},
            notices=notices,
        )
