"""When may the next request go? One admission decision over requests, tokens and slots, all of it told the time.

A permit is given only if every window, the slots, the brake and the breaker agree; who asks first is served first, so a
large request is never overtaken. Until the first reply is here, one request goes alone: it costs one latency and
usually tells limit, remaining and reset.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf, isfinite
from typing import Any

from batchrunner.config import LimitSettings
from batchrunner.limits.brake import Brake
from batchrunner.limits.breaker import Breaker
from batchrunner.limits.crowd import SHORT, Crowd
from batchrunner.limits.diary import Diary
from batchrunner.limits.gauge import Gauge
from batchrunner.limits.slots import Slots
from batchrunner.limits.trips import Trips
from batchrunner.limits.windows import Marks, Windows
from batchrunner.quota import Dimension, Quota, Window
from batchrunner.record import Change
from batchrunner.task import Abandoned, Failure, FailureClass, Outcome, Released, Success, Usage

HORIZON = 0.1  # seconds ahead that a permit may be given, so that one exchange serves many sends
TOLD_START = 32  # in flight at once, where the first reply told of a window
OUTAGE = frozenset({FailureClass.SERVER_ERROR, FailureClass.TIMEOUT, FailureClass.NETWORK, FailureClass.UNREACHABLE})


@dataclass(frozen=True, slots=True, kw_only=True)
class Permit:
    """Leave for one send, and what the accounts were at that moment. Hand it back with ``settle``, whatever came."""

    cost: float
    given_at: float
    send_at: float
    generation: int
    beside: int  # in flight with it, itself included
    marks: Marks


@dataclass(frozen=True, slots=True, kw_only=True)
class LimiterState:
    """What the limiter believes, for screens. Limits are per minute; None = none seen."""

    sent_1m: int
    tokens_1m: int
    refused_1m: int
    rpm_limit: float | None
    tpm_limit: float | None
    in_flight: int
    slots: int
    limiting: str
    waiting: float


class Limiter:
    """The limits of one endpoint, key and model. Not thread-safe; ``now`` never goes back by more than a moment."""

    def __init__(self, settings: LimitSettings, *, now: float, start: int = 1) -> None:
        self.slots = Slots(most=settings.concurrency, start=start)
        self.breaker = Breaker()
        self.refusals = 0
        self._windows = Windows(now=now)
        self._brake = Brake(now=now)
        self._crowd = Crowd()
        self._trips = Trips()
        self._alone = True  # one request at a time, before the first reply
        self._limiting = "start"
        self._waiting_until = now
        self._sent, self._tokens, self._refused = Gauge(), Gauge(), Gauge()
        self._diary = Diary()
        for dimension, limit in ((Dimension.REQUESTS, settings.rpm), (Dimension.TOKENS, settings.tpm)):
            if limit is not None:
                self._windows.state(dimension, limit * (1 - settings.headroom), now=now)
                self.slots.open(settings.concurrency)

    def admit(self, cost: float, now: float) -> Permit | None:
        """A permit to send *cost* tokens at ``send_at`` (now, or at most HORIZON ahead); None if it has to wait."""
        wait, limiting = self._obstacle(cost, now)
        if wait > HORIZON:
            self._limiting, self._waiting_until = limiting, now + wait if isfinite(wait) else now
            return None
        self._limiting = "none"
        send_at = now + wait
        marks = self._windows.take(cost, send_at)
        self._sent.add(1, send_at)
        self._tokens.add(cost, send_at)
        generation = self.slots.take()
        permit = Permit(
            cost=cost, given_at=now, send_at=send_at, generation=generation, beside=self.slots.in_flight, marks=marks
        )
        self._brake.sent(permit, send_at)
        self._crowd.sent(send_at)
        return permit

    def wait(self, cost: float, now: float) -> float:
        """Seconds until asking for *cost* again makes sense; infinite if only a reply can change anything."""
        return max(self._obstacle(cost, now)[0] - HORIZON / 2, 0.0)

    @property
    def pace(self) -> tuple[float, float] | None:
        """Sends a second that the tightest bucket allows, and how many at once; None if none is known."""
        return self._windows.pace

    def largest(self, dimension: Dimension) -> float | None:
        """The most one request may ever cost: the smallest limit told or stated in that dimension."""
        return self._windows.largest(dimension)

    def used_up(self, cost: float, now: float, *, refused: bool) -> Window | None:
        """The allowance of a day or more of which too little is left, where nobody says when there will be more.

        *refused*: a request of this cost was; else the wait for it has to be long, and nothing in flight.
        """
        if self.slots.in_flight and not refused:
            return None
        return self._windows.used_up(cost, now, refused=refused)

    def ask_anew(self) -> None:
        """What is left of such an allowance is not known any more: one request goes alone, and tells."""
        self._alone = True
        self._windows.forget_allowances()

    def settle(self, permit: Permit, outcome: Outcome, *, sent_at: float, received_at: float) -> None:
        """Take in what a send came to."""
        self._brake.came_back(permit)
        self._windows.release(permit.marks)
        match outcome:
            case Released():
                self._windows.refund(permit.marks, permit.cost)
                self._sent.add(-1, received_at)
                self._tokens.add(-permit.cost, received_at)
            case Abandoned():  # it counts as sent
                self._windows.unseen(permit.marks, received_at)
            case Success():
                self._observe(permit, outcome.quota, sent_at, received_at)
                self._use(permit, outcome.usage, received_at)
                self._succeeded(permit, sent_at, received_at)
            case Failure():
                limited = outcome.kind is FailureClass.RATE_LIMIT
                self._observe(permit, outcome.quota, sent_at, received_at, refused=limited)
                self._use(permit, outcome.usage, received_at)
                if outcome.usage is None and outcome.maybe_charged:
                    self._windows.unseen(permit.marks, received_at)
                self._failed(permit, outcome, sent_at, received_at)
        self.slots.give()
        self._note(received_at)

    def observe(self, permit: Permit, quota: Quota, *, sent_at: float, received_at: float) -> None:
        """Take in what the head of a reply told while its body still comes; ``settle`` is not to be told it again."""
        self._alone = False
        self._observe(permit, quota, sent_at, received_at)
        self._note(received_at)

    def state(self, now: float) -> LimiterState:
        return LimiterState(
            sent_1m=round(self._sent.total(now)),
            tokens_1m=round(self._tokens.total(now)),
            refused_1m=round(self._refused.total(now)),
            rpm_limit=self._windows.per_minute(Dimension.REQUESTS),
            tpm_limit=self._windows.per_minute(Dimension.TOKENS),
            in_flight=self.slots.in_flight,
            slots=self.slots.limit,
            limiting="slots" if self.slots.free <= 0 else self._limiting,
            waiting=max(self._waiting_until - now, 0.0),
        )

    # -- memory across runs

    def beliefs(self) -> dict[str, Any]:
        """What was learned, as JSON for the database."""
        slots = {"slots": self.slots.limit, "slots_safe": self.slots.safe, "slots_refused_at": self.slots.refused_at}
        return {"meters": self._windows.beliefs(), **slots}

    def changes(self) -> list[Change]:
        """The beliefs that changed since this was last asked."""
        return self._diary.take()

    def believe(self, beliefs: Mapping[str, Any], *, now: float) -> None:
        """Start from what an earlier run learned: a belief, which the first reply may correct.

        Raises KeyError, TypeError or ValueError for what no limiter of ours wrote.
        """
        for seen in beliefs.get("meters", ()):
            self._windows.believe(seen, now=now)
        if beliefs.get("slots_refused_at") is not None:
            self.slots.believe(int(beliefs["slots"]), refused_at=int(beliefs["slots_refused_at"]))
        elif beliefs.get("slots_safe") is not None:
            self.slots.believe(int(beliefs["slots_safe"]))
        self._note(now, "an earlier run")

    @property
    def memory(self) -> float:
        """Seconds of what earlier runs sent that should be given to ``remember``: a minute, or a longer window."""
        return self._windows.memory

    def remember(self, sent: float, cost: float, now: float) -> None:
        """A send of an earlier run, at *sent*, oldest first: it still counts in every window that was open then."""
        self._sent.add(1, sent)
        self._tokens.add(cost, sent)
        self._windows.remember(sent, cost, now)

    # -- private

    def _obstacle(self, cost: float, now: float) -> tuple[float, str]:
        """The longest wait, and what imposes it."""
        alone = self.slots.in_flight == 0
        if self.slots.free <= 0:
            return inf, "slots"
        if not alone and (self._alone or self.breaker.is_open or self._windows.undecided):
            return inf, "probe"
        held = max(self._brake.wait(now, alone=alone), self._crowd.wait(self.slots, now))
        down = self.breaker.wait(now)
        return max((0.0, "none"), (held, "refused"), (down, "server"), *self._windows.waits(cost, now, alone=alone))

    def _observe(
        self, permit: Permit, quota: Quota, sent_at: float, received_at: float, *, refused: bool = False
    ) -> None:
        for window in quota.windows:
            if window.dimension is Dimension.IN_FLIGHT:
                if window.limit is not None:
                    self.slots.told(int(window.limit))
            elif self._windows.observe(
                window, permit.marks, permit.cost, sent_at=sent_at, received_at=received_at, refused=refused
            ):
                self.slots.open(TOLD_START)

    def _use(self, permit: Permit, usage: Usage | None, now: float) -> None:
        """So much was used, if the answer told."""
        if usage is None:
            return
        more = usage.total - permit.cost
        self._tokens.add(more, now)
        self._windows.use(more)
        self._windows.answered(permit.marks, permit.cost, usage, now)

    def _succeeded(self, permit: Permit, sent_at: float, now: float) -> None:
        self._alone = False
        self._brake.answered()
        self._crowd.passed(permit.beside, permit.given_at, sent_at, now, self.slots)
        self._decide(now)
        self.breaker.succeeded()
        self.slots.succeeded(now, beside=permit.beside, took=now - sent_at)
        late = self._trips.late(now - sent_at)
        self._windows.arrived(permit.send_at, None if late is None else sent_at + late)
        if self._windows.accepted(permit.marks, permit.cost, sent_at=sent_at, now=now):
            self.slots.lift()

    def _failed(self, permit: Permit, failure: Failure, sent_at: float, now: float) -> None:
        if not failure.sent:
            self._windows.refund(permit.marks, permit.cost)
        match failure.kind:
            case FailureClass.CONCURRENCY:
                self._count_refusal(now)
                self._windows.refund(permit.marks, permit.cost)
                self.slots.refused(permit.generation, now)
            case FailureClass.RATE_LIMIT:
                self._count_refusal(now)
                self._brake.refused(sent_at, now)
                if self._is_crowd(permit, failure, sent_at, now):
                    self.slots.refused(permit.generation, now, exact=True)
                    if not self._crowd.is_in_doubt or (failure.retry_after or 0.0) <= SHORT:
                        self._windows.refund(permit.marks, permit.cost)
                    else:  # its wait is as long as one for a window, so that is looked for as well
                        self._windows.doubt()
                        self._windows.refused(permit.marks, permit.cost, failure, sent_at=sent_at, now=now)
                elif not self._windows.refused(permit.marks, permit.cost, failure, sent_at=sent_at, now=now):
                    self.slots.refused(permit.generation, now)
            case FailureClass.OVERLOADED:
                self._count_refusal(now)
                self._struggles(permit, now)
            case kind if kind in OUTAGE or failure.is_page:
                self._struggles(permit, now)
            case _:  # the server read the request and judged it: it is up, and our limits let it through
                self._succeeded(permit, sent_at, now)
                return
        self._brake.named(failure.retry_after, now)

    def _is_crowd(self, permit: Permit, failure: Failure, sent_at: float, now: float) -> bool:
        """Whether a refusal that tells nothing is put down to how many are in flight."""
        if not self._windows.is_untold(failure, permit.cost):
            return False
        known, after = self._windows.is_found, failure.retry_after
        is_crowd = self._crowd.refused(permit.beside, sent_at, now, self.slots, known=known, retry_after=after)
        self._decide(now)
        if is_crowd:
            return True
        self._windows.let_in(self._crowd.at_once)
        return False

    def _decide(self, now: float) -> None:
        """What was looked for beside a crowd is there, or is not."""
        if not self._crowd.is_in_doubt:
            self._windows.decide(now, found=not self._crowd.is_proven)

    def _struggles(self, permit: Permit, now: float) -> None:
        self.slots.overloaded(permit.generation)
        self.breaker.failed(now)

    def _count_refusal(self, now: float) -> None:
        self.refusals += 1
        self._alone = False
        self._refused.add(1, now)

    def _note(self, now: float, evidence: str = "") -> None:
        """Write down which beliefs are new."""
        self._windows.note(self._diary, now, evidence)
        if self.slots.refused_at is not None:
            self._diary.note("slots", float(self.slots.limit), now, evidence or f"refused at {self.slots.refused_at}")
