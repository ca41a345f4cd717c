"""One lane: a route for one model, with its own limits. It says when it could take a task, and takes it.

A lane may rest (an allowance is used up until some hour) or be closed (its key, its model or its address is no good);
others go on meanwhile.
"""

from dataclasses import dataclass
from math import inf

from batchrunner.canary import Canary
from batchrunner.config import Route
from batchrunner.confirm import Confirm
from batchrunner.db.store import Candidate
from batchrunner.limits.diary import Diary
from batchrunner.limits.estimate import TokenEstimate
from batchrunner.limits.limiter import Limiter, LimiterState, Permit
from batchrunner.quota import Dimension, Quota
from batchrunner.record import Change
from batchrunner.report.rests import LANE, OPEN, standing
from batchrunner.rest import Rest
from batchrunner.retry import Stop
from batchrunner.shared import Kinship
from batchrunner.size import Measure, by_bytes
from batchrunner.task import Failure, FailureClass, Lease, Outcome, Released, Report, Sighting, Success
from batchrunner.turned_down import TurnedDown

UNCOUNTED = frozenset({FailureClass.RATE_LIMIT, FailureClass.CONCURRENCY, FailureClass.OVERLOADED})


@dataclass(frozen=True, slots=True)
class Ticket:
    """A permit, and the limiter that gave it: by the time it is settled the lane may have another."""

    limiter: Limiter
    permit: Permit

    @property
    def send_at(self) -> float:
        return self.permit.send_at


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneState:
    """Where a lane stands, for screens. ``stop``: why it takes nothing; ``rest``: seconds to its end, or infinite."""

    name: str
    limiter: LimiterState
    stop: Stop | None
    rest: float


class Lane:
    """``model`` is the name to send. ``siblings``: the lanes of the same route; it adds itself.

    ``answered``: it has answered a task of this job, now or in an earlier run; until then *canary* tasks go alone.
    """

    def __init__(
        self,
        route: Route,
        model: str,
        limiter: Limiter,
        *,
        siblings: "list[Lane]",
        estimate: TokenEstimate | None = None,
        answered: bool = False,
        canary: int = 0,
        measure: Measure = by_bytes,
    ) -> None:
        self.name = f"{route.name}/{model}"
        self.route, self.model = route, model
        self.limiter, self.estimate = limiter, estimate or TokenEstimate()
        self.measure = measure
        self.answered = answered
        self.canary = Canary(0 if answered else canary)
        self.confirm = Confirm(route.endpoint.provider.misreports)
        self.turned_down = TurnedDown()
        self.siblings = siblings
        siblings.append(self)
        self.in_flight = self.ended = 0
        self._kinship = Kinship()
        self.stop: Stop | None = None
        self._until = inf
        self._rest = Rest()
        self._rested: Stop | None = None  # why, and nothing was answered since
        self.is_heard_of = False  # by the user: that it rests
        self._diary = Diary()

    def __repr__(self) -> str:
        return f"<Lane {self.name}>"

    def cost(self, candidate: Candidate) -> float:
        """Tokens to reserve."""
        return self.estimate.cost(self.measure(candidate.body), candidate.body, endpoint=candidate.endpoint)

    def is_closed(self, now: float) -> bool:
        """Whether it takes nothing now."""
        return self.stop is not None and now < self._until

    def rest(self, now: float) -> float:
        """Seconds until it is open again; 0 if it is, infinite if a human has to act."""
        return self._until - now if self.is_closed(now) else 0.0

    def wait(self, cost: float, now: float) -> float:
        """Seconds until asking again makes sense; infinite if only news can change anything."""
        self._wake(now)
        if self.stop is not None:
            return self.rest(now)
        if self.canary.is_waiting or self.free <= 0:
            return inf
        return self.limiter.wait(cost, now)

    def admit(self, cost: float, now: float) -> Ticket | None:
        """Leave to send one request; None if it has to wait."""
        self._wake(now)
        if self.stop is not None or self.canary.is_waiting or self.free <= 0:
            return None
        permit = self.limiter.admit(cost, now)
        if permit is None:
            return None
        self.in_flight += 1
        self.canary.sent()
        return Ticket(self.limiter, permit)

    def observe(self, seen: Sighting) -> None:
        """Take in the head of a reply whose body is still on its way; its report does not repeat it."""
        ticket: Ticket = seen.lease.permit
        ticket.limiter.observe(ticket.permit, seen.quota, sent_at=seen.sent_at, received_at=seen.received_at)
        if len(self.siblings) > 1:
            self._find_kin(seen.quota, seen.received_at)

    def settle(self, report: Report) -> None:
        """Take in what a send came to, and learn from it."""
        lease, outcome = report.lease, report.outcome
        ticket: Ticket = lease.permit
        told = Released() if self._says_little(lease, outcome) else outcome
        ticket.limiter.settle(ticket.permit, told, sent_at=report.sent_at, received_at=report.received_at)
        self.in_flight -= 1
        self.canary.came_back()
        if isinstance(outcome, Success | Failure):
            self.ended += _counts(outcome)
            if len(self.siblings) > 1:
                self._find_kin(outcome.quota, report.received_at)
        if isinstance(outcome, Success):
            self.answered = True
            self._rest.answered()
            self._rested, self.is_heard_of = None, False
            self.confirm.answered()
            self.turned_down.answered(lease.task_id, lease.cost)
            self.canary.answered(outcome)
        if isinstance(outcome, Success | Failure) and (usage := outcome.usage) is not None:
            self.estimate.learn(lease.size, usage.prompt_tokens, usage.completion_tokens)

    def _says_little(self, lease: Lease, outcome: Outcome) -> bool:
        """Whether it is a refusal without a word, of a request that is far larger than those that pass."""
        return (
            isinstance(outcome, Failure)
            and outcome.kind is FailureClass.RATE_LIMIT
            and outcome.is_silent(lease.cost)
            and self.turned_down.is_large(lease.cost)
        )

    @property
    def free(self) -> int:
        """How many more may be in flight: here, and on the whole route."""
        free = self.limiter.slots.free
        if len(self.siblings) == 1:
            return free
        return min(free, self.route.limits.concurrency - sum(lane.in_flight for lane in self.siblings))

    def too_large(self, candidate: Candidate, cost: float) -> Failure | None:
        """Why this request can never pass, if its prompt alone is well over the whole token limit."""
        limit = self.limiter.largest(Dimension.TOKENS)
        if limit is None or cost <= limit:
            return None
        size = self.measure(candidate.body)
        if self.estimate.surely(size) < limit:
            return None
        prompt = self.estimate.prompt(size)
        message = f"needs about {prompt:,.0f} tokens, and the limit is {limit:,.0f} a window: it can never pass"
        return Failure(kind=FailureClass.REQUEST_TOO_LARGE, message=message, sent=False)

    def close(self, stop: Stop, now: float) -> bool:
        """Take nothing more, or nothing for as long as the server said; returns whether that is news."""
        if self.is_closed(now):
            return False
        self.stop, self._until = stop, now + self._rest.seconds(stop.asked) if stop.later else inf
        self._diary.note(LANE, standing(self._until), now, f"{stop.reason.kind}: {stop.reason.message}")
        return True

    def used_up(self, cost: float, now: float, *, refused: Failure | None = None) -> Stop | None:
        """Why it should rest: too little is left of an allowance, and nothing says when there will be more.

        *refused*: what a request of this cost came to, else that is only expected.
        """
        if self.is_closed(now):
            return None
        if refused is not None and self._rested is not None and refused.is_silent(cost):
            return self._rested  # the one that asked was refused without a word
        window = self.limiter.used_up(cost, now, refused=refused is not None)
        if window is None:
            return None
        return Stop(Failure(kind=FailureClass.QUOTA_WINDOW, message=window.words, sent=False), later=True)

    def _wake(self, now: float) -> None:
        """After a rest one request goes alone, and its reply tells what there is."""
        if self.stop is not None and not self.is_closed(now):
            self._rested, self.stop = self.stop, None
            self._diary.note(LANE, OPEN, now, "its rest is over")
            self.limiter.ask_anew()

    def _find_kin(self, quota: Quota, now: float) -> None:
        """Where the route's models turn out to be counted together, they get one limiter."""
        others = [lane for lane in self.siblings if lane.limiter is not self.limiter]
        if others and self._kinship.is_shown(
            quota,
            ended=self.ended,
            in_flight=self.in_flight,
            ended_beside=sum(lane.ended for lane in others),
            in_flight_beside=sum(lane.in_flight for lane in others),
        ):
            for lane in others:
                self._adopt(lane, now)

    def _adopt(self, other: "Lane", now: float) -> None:
        """Its requests draw from our limits from now on, and those in flight already do."""
        recent = other.limiter.state(now)
        for _ in range(other.in_flight):
            self.limiter.remember(now, recent.tokens_1m / max(recent.sent_1m, 1), now)
        other.limiter = self.limiter

    def changes(self) -> list[Change]:
        """What changed since this was last asked: in what is believed of its limits, and whether it rests."""
        return [*self.limiter.changes(), *self._diary.take()]

    def state(self, limiter: LimiterState, now: float) -> LaneState:
        """*limiter*: its limiter's state, one value for all that share it."""
        return LaneState(
            name=self.name,
            limiter=limiter,
            stop=self.stop if self.is_closed(now) else None,
            rest=self.rest(now),
        )


def _counts(outcome: Success | Failure) -> bool:
    """Whether a limit of requests is surely charged with it."""
    return isinstance(outcome, Success) or (outcome.sent and outcome.kind not in UNCOUNTED)
