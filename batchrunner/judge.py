"""What a report means for its task and its lane: done, again, later, given up, or nothing more goes there.

``decide`` (retry.py) knows one outcome; here it is seen beside the others: whether a second task says the same, whether
the first tasks of a lane all fail, whether one request is refused while all others pass.
"""

from dataclasses import replace
from random import Random

from batchrunner.config import RetrySettings
from batchrunner.confirm import Finding
from batchrunner.lane import Lane
from batchrunner.lanes import Lanes
from batchrunner.logbook import Logbook
from batchrunner.report.rests import rest_word
from batchrunner.retry import GiveUp, Snooze, Stop, Verdict, decide
from batchrunner.task import Failure, FailureClass, Lease, Report

WORTH_WAITING = 60.0  # seconds; a rest of a lane that nobody has to be told of


class Judge:
    """*patience*: seconds that are waited for where all lanes rest. ``revived``: their tasks failed, and go again."""

    def __init__(self, lanes: Lanes, logbook: Logbook, *, policy: RetrySettings, rng: Random, patience: float) -> None:
        self._lanes, self._logbook = lanes, logbook
        self._policy, self._rng, self._patience = policy, rng, patience
        self.revived: list[Lease] = []
        self._notices: list[str] = []

    def notices(self) -> list[str]:
        """What the user is to read, since this was last asked."""
        notices, self._notices = self._notices, []
        return notices

    def judge(self, report: Report, lane: Lane, now: float, *, is_last: bool) -> Verdict:
        """*is_last*: the run has no task left but this one."""
        lease, outcome = report.lease, report.outcome
        outage = lane.limiter.breaker.is_open
        verdict = decide(outcome, failures=lease.failures, policy=self._policy, rng=self._rng, outage=outage)
        if isinstance(verdict, Snooze) and isinstance(outcome, Failure) and outcome.kind is FailureClass.RATE_LIMIT:
            gone = lane.used_up(lease.cost, now, refused=outcome)
            verdict = gone or self._turned_down(verdict, outcome, lease, lane, now, is_last=is_last)
        elif isinstance(outcome, Failure) and outcome.is_page and not lane.answered:
            verdict = Stop(outcome)  # nothing here ever answered: the wrong place rather than a page that passes
        elif isinstance(verdict, GiveUp):
            verdict = self._doubt(verdict, lease, lane, now)
        if isinstance(verdict, Stop) and not verdict.later:
            verdict = self._confirmed(verdict, lease, lane, is_last=is_last)
        if isinstance(verdict, Stop):
            self.shut(lane, verdict, now)
        if word := lane.canary.word():
            self._notices.append(f"canary{f' at {lane.name}' if len(self._lanes) > 1 else ''}: {word}")
        return verdict

    def shut(self, lane: Lane, stop: Stop, now: float) -> None:
        """The lane takes nothing more, or rests; the user hears of it now if the run goes on."""
        for closed in self._lanes.close(lane, stop, now):
            rest, alone = closed.rest(now), len(self._lanes) == 1
            is_news = not (stop.later and closed.is_heard_of)
            if is_news and (not alone or (stop.later and WORTH_WAITING < rest <= self._patience)):
                closed.is_heard_of = True
                self._notices.append(rest_word(stop, rest, now, lane="" if alone else closed.name))

    def _confirmed(self, stop: Stop, lease: Lease, lane: Lane, *, is_last: bool) -> Verdict:
        """What may be one request's fault, a second task has to say as well."""
        match lane.confirm.find(lease.task_id, stop.reason, left=1 if is_last else self._logbook.counts.left):
            case Finding.EVERYBODY:
                return stop
            case Finding.THIS_ONE:
                return GiveUp(stop.reason)
            case Finding.UNSURE:
                return Snooze(lane.confirm.wait(lease.task_id, stop.reason.kind))

    def _turned_down(
        self, verdict: Snooze, failure: Failure, lease: Lease, lane: Lane, now: float, *, is_last: bool
    ) -> Snooze | GiveUp:
        """Refused for a rate, and not for the first time."""
        silent = failure.is_silent(lease.cost)
        found = lane.turned_down.refused(lease.task_id, lease.cost, now, alone=is_last, silent=silent)
        if isinstance(found, str):
            return GiveUp(replace(failure, message=f"{failure.message} ({found})"))
        return Snooze(max(verdict.after, found))

    def _doubt(self, verdict: GiveUp, lease: Lease, lane: Lane, now: float) -> GiveUp | Stop:
        """Is this task at fault, or would every other fail as well?"""
        failure = verdict.reason
        if failure.kind is FailureClass.MALFORMED_SUCCESS and not lane.answered:
            return Stop(failure)  # nothing here ever answered: the wrong place rather than a bad answer
        lane.canary.failed(lease, failure)
        if not lane.canary.is_dead:
            return verdict
        stop = Stop(replace(failure, message=f"{failure.message} (so it was with each of {lane.canary.size} tasks)"))
        self.shut(lane, stop, now)
        self.revived += [one for one in lane.canary.unpaid if one.task_id != lease.task_id]
        return stop if failure.usage is None else verdict
