"""When may the next request go? One admission decision over requests, tokens and slots, all of it told the time.

A permit is given only if every meter, the slots, the gate and the breaker agree; who asks first is served first, so a
large request is never overtaken. Until the first reply is here, one request goes alone: it costs one latency and
usually tells limit, remaining and reset. Three kinds of watch are kept on the windows:

* *told*: a window that replies report on. Trusted most; corrected by each reply.
* *stated*: what the user configured. No stretch of a minute ever holds more, until replies confirm the limit.
* *found*: the server refuses without saying why; see found.py.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any

from batchrunner.config import LimitSettings
from batchrunner.limits.breaker import Breaker
from batchrunner.limits.clock import Algorithm
from batchrunner.limits.diary import Diary
from batchrunner.limits.found import Found
from batchrunner.limits.gauge import Gauge
from batchrunner.limits.meter import Mark, Meter
from batchrunner.limits.slots import Slots
from batchrunner.quota import Dimension, Quota, Window
from batchrunner.record import Change
from batchrunner.task import Abandoned, Failure, FailureClass, Outcome, Released, Success

HORIZON = 0.1  # seconds ahead that a permit may be given, so that one exchange serves many sends
MINUTE = 60.0
USED_UP = 0.95  # of a stated limit
CONFIRMED = 0.95  # of a stated limit, told by the server, is the same limit
SCOUT_MOST = 10.0  # seconds that the others wait for its reply
LONG = 1.0  # seconds of a wait that the server named, after which one request goes ahead of the others
IN_A_ROW = 3  # refusals without an answer between them, and then ever longer waits: at first, and at most
BRAKE, BRAKE_MOST = 0.05, 1.0  # seconds
SOON = 2.0  # seconds; a refusal to be repeated by then, with plenty remaining, is of too many at once
TOLD_START = 32  # in flight at once, where the first reply told of a window
OUTAGE = frozenset({FailureClass.SERVER_ERROR, FailureClass.TIMEOUT, FailureClass.NETWORK, FailureClass.UNREACHABLE})
STATED = "stated"
FINDABLE = (Dimension.REQUESTS, Dimension.TOKENS)

MeterKey = tuple[Dimension, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Permit:
    """Leave for one send, and what the accounts were at that moment. Hand it back with ``settle``, whatever came."""

    cost: float
    send_at: float
    generation: int
    marks: tuple[tuple[MeterKey, Mark], ...]


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
        self._meters: dict[MeterKey, Meter] = {}
        self._found = {dimension: Found(now=now) for dimension in FINDABLE}
        self._alone = True  # one request at a time, before the first reply
        self._blocked_until = now
        self._blocked_for = 0.0
        self._refused_at = now  # the newest refusal, of how many without an answer between them
        self._in_a_row = 0
        self._scout: Permit | None = None  # the one that went ahead
        self._limiting = "start"
        self._waiting_until = now
        self._sent, self._tokens, self._refused = Gauge(), Gauge(), Gauge()
        self._diary = Diary()
        self._noted: dict[Dimension, int] = {}
        self._confirmed: frozenset[Dimension] = frozenset()
        for dimension, limit in ((Dimension.REQUESTS, settings.rpm), (Dimension.TOKENS, settings.tpm)):
            if limit is not None:
                usable = limit * (1 - settings.headroom)
                meter = Meter(dimension, usable, now=now, period=MINUTE, algorithm=Algorithm.SLIDING, untold=True)
                self._meters[dimension, STATED] = meter
                self.slots.open(settings.concurrency)

    def admit(self, cost: float, now: float) -> Permit | None:
        """A permit to send *cost* tokens at ``send_at`` (now, or at most HORIZON ahead); None if it has to wait."""
        wait, limiting = self._obstacle(cost, now)
        if wait > HORIZON:
            self._limiting, self._waiting_until = limiting, now + wait if isfinite(wait) else now
            return None
        self._limiting = "none"
        send_at = now + wait
        marks = tuple((key, meter.take(_share(key[0], cost), send_at)) for key, meter in self._meters.items())
        for dimension, found in self._found.items():
            found.take(_share(dimension, cost), send_at)
        self._sent.add(1, send_at)
        self._tokens.add(cost, send_at)
        permit = Permit(cost=cost, send_at=send_at, generation=self.slots.take(), marks=marks)
        if self._blocked_for > LONG:
            self._scout, self._blocked_for = permit, 0.0
        return permit

    def wait(self, cost: float, now: float) -> float:
        """Seconds until asking for *cost* again makes sense; infinite if only a reply can change anything."""
        return max(self._obstacle(cost, now)[0] - HORIZON / 2, 0.0)

    @property
    def pace(self) -> tuple[float, float] | None:
        """Sends a second that the tightest bucket allows, and how many at once; None if none is known."""
        meters = [m for (seen, _), m in self._meters.items() if seen is Dimension.REQUESTS]
        buckets = [meter for meter in meters if meter.algorithm is Algorithm.BUCKET]
        if not buckets or len(buckets) < len(meters):
            return None
        tightest = min(buckets, key=lambda meter: meter.rate)
        return tightest.rate, max(tightest.limit, 1.0)

    def largest(self, dimension: Dimension) -> float | None:
        """The most one request may ever cost: the smallest limit told or stated in that dimension."""
        return min((meter.limit for (seen, _), meter in self._meters.items() if seen is dimension), default=None)

    def settle(self, permit: Permit, outcome: Outcome, *, sent_at: float, received_at: float) -> None:
        """Take in what a send came to."""
        if permit is self._scout:
            self._scout = None
        for key, mark in permit.marks:
            if key in self._meters:
                self._meters[key].release(mark)
        match outcome:
            case Released():
                self._refund(permit)
                self._sent.add(-1, received_at)
                self._tokens.add(-permit.cost, received_at)
            case Abandoned():
                pass  # it counts as sent
            case Success():
                self._observe(permit, outcome.quota, sent_at, received_at)
                self._use(permit, None if outcome.usage is None else outcome.usage.total, received_at)
                self._succeeded(permit, sent_at, received_at)
            case Failure():
                limited = outcome.kind is FailureClass.RATE_LIMIT
                self._observe(permit, outcome.quota, sent_at, received_at, refused=limited)
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
            rpm_limit=self._per_minute(Dimension.REQUESTS),
            tpm_limit=self._per_minute(Dimension.TOKENS),
            in_flight=self.slots.in_flight,
            slots=self.slots.limit,
            limiting="slots" if self.slots.free <= 0 else self._limiting,
            waiting=max(self._waiting_until - now, 0.0),
        )

    # -- memory across runs

    def beliefs(self) -> dict[str, Any]:
        """What was learned, as JSON for the database."""
        meters = [
            {
                "dimension": dimension,
                "kind": kind,
                "limit": meter.limit,
                "period": meter.period,
                "algorithm": meter.algorithm,
                "remaining": round(meter.remaining, 1),
                "reserve": round(meter.reserve, 1),
                "replies": meter.replies,
                "refusals": meter.refusals,
            }
            for (dimension, kind), meter in self._meters.items()
        ]
        found = [
            {
                "dimension": dimension,
                "kind": "found",
                "limit": one.limit,
                "period": one.period,
                "algorithm": one.algorithm,
                "evidence": one.evidence,
            }
            for dimension, one in self._found.items()
            if one.is_known
        ]
        return {"meters": meters + found, "slots": self.slots.limit, "slots_refused_at": self.slots.refused_at}

    def changes(self) -> list[Change]:
        """The beliefs that changed since this was last asked."""
        return self._diary.take()

    def believe(self, beliefs: Mapping[str, Any], *, now: float) -> None:
        """Start from what an earlier run learned: a belief, which the first reply may correct.

        Raises KeyError, TypeError or ValueError for what no limiter of ours wrote.
        """
        for seen in beliefs.get("meters", ()):
            dimension, kind = Dimension(seen["dimension"]), str(seen["kind"])
            limit, period, algorithm = float(seen["limit"]), float(seen["period"]), Algorithm(seen["algorithm"])
            if not (0 < limit < float("inf") and 0 < period < float("inf")):
                raise ValueError(f"a limit of {limit} in {period} s is none")
            if kind == "found":
                self._found[dimension] = Found(now=now)
                self._found[dimension].believe(limit, period, algorithm, now=now)
            elif kind != STATED:
                meter = Meter(dimension, limit, now=now, algorithm=algorithm)
                meter.clock.period = period
                self._meters[dimension, kind] = meter
                self._found.pop(dimension, None)
        if beliefs.get("slots_refused_at") is not None:
            self.slots.refused_at = int(beliefs["slots_refused_at"])
            self.slots.believe(int(beliefs["slots"]))
        self._note(now, "an earlier run")

    def remember(self, sent: float, cost: float, now: float) -> None:
        """A send of an earlier run, at *sent*, oldest first: it still counts in every window that was open then."""
        self._sent.add(1, sent)
        self._tokens.add(cost, sent)
        for (dimension, _), meter in self._meters.items():
            if sent > now - meter.period:
                meter.restore(_share(dimension, cost), sent)
        for dimension, found in self._found.items():
            if sent > now - found.period:
                found.restore(_share(dimension, cost), sent)

    # -- private

    def _obstacle(self, cost: float, now: float) -> tuple[float, str]:
        """The longest wait, and what imposes it."""
        alone = self.slots.in_flight == 0
        if self.slots.free <= 0:
            return float("inf"), "slots"
        if not alone and (self._alone or self.breaker.is_open or any(m.undecided for m in self._meters.values())):
            return float("inf"), "probe"
        waits = [(self._blocked_until - now, "refused"), (self.breaker.wait(now), "server")]
        if self._scout is not None and not alone:
            waits.append((self._scout.send_at + SCOUT_MOST - now, "refused"))
        for (dimension, kind), meter in self._meters.items():
            if kind != STATED or dimension not in self._confirmed:
                waits.append((meter.wait(_share(dimension, cost), now, alone=alone), _NAMES.get(dimension, dimension)))
        for dimension, found in self._found.items():
            waits.append((found.wait(_share(dimension, cost), now, alone=alone), _NAMES[dimension]))
        return max((0.0, "none"), *waits)

    def _observe(
        self, permit: Permit, quota: Quota, sent_at: float, received_at: float, *, refused: bool = False
    ) -> None:
        marks = dict(permit.marks)
        for window in quota.windows:
            if window.dimension is Dimension.IN_FLIGHT:
                if window.limit is not None:
                    self.slots.told(int(window.limit))
                continue
            key = self._key(window)
            meter = self._meters.get(key)
            if meter is None:
                meter = self._meet(key, window, permit, sent_at, received_at)
                if meter is None:
                    continue
                marks[key] = meter.take(_share(key[0], permit.cost), sent_at)
                meter.release(marks[key])
            mark = marks.get(key) or Mark(meter.account, meter.account, meter.clock.epoch, 0.0)
            meter.observe(window, mark, sent_at=sent_at, received_at=received_at, refused=refused)
        if quota.windows:
            self._confirmed = frozenset(key[0] for key in self._meters if self._is_confirmed(key[0]))

    def _key(self, window: Window) -> MeterKey:
        """Which meter a window belongs to: by its name; by its limit, where only a refusal names the period."""
        named = " ".join(filter(None, ("told", f"{window.period:g}s" if window.period else "", window.scope)))
        key = (window.dimension, named)
        if key in self._meters or not window.period:
            return key
        for (dimension, kind), meter in self._meters.items():
            if dimension is window.dimension and kind != STATED and meter.limit == window.limit:
                return dimension, kind
        return key

    def _meet(self, key: MeterKey, window: Window, permit: Permit, sent_at: float, now: float) -> Meter | None:
        """A window that no reply reported on before."""
        limit = window.limit
        if limit is None and window.remaining is not None:
            limit = window.remaining + _share(key[0], permit.cost)
        if limit is None or limit <= 0:
            return None
        meter = Meter(window.dimension, limit, now=min(sent_at, now), period=window.period)
        self._meters[key] = meter
        self._found.pop(window.dimension, None)
        self.slots.open(TOLD_START)
        return meter

    def _is_confirmed(self, dimension: Dimension) -> bool:
        """Whether the server itself tells of the limit that the user stated, or of a tighter one."""
        stated = self._meters.get((dimension, STATED))
        told = [m for (seen, kind), m in self._meters.items() if seen is dimension and kind != STATED]
        return stated is not None and any(stated.rate >= CONFIRMED * meter.rate for meter in told)

    def _use(self, permit: Permit, total: int | None, now: float) -> None:
        """Settle the tokens: what is told corrects itself; where nothing is told, usage is the truth."""
        if total is None:
            return
        self._tokens.add(total - permit.cost, now)
        for key, _ in permit.marks:
            if key == (Dimension.TOKENS, STATED):
                self._meters[key].charge(total - permit.cost)
        if (found := self._found.get(Dimension.TOKENS)) is not None:
            found.charge(total - permit.cost)

    def _succeeded(self, permit: Permit, sent_at: float, now: float) -> None:
        self._alone = False
        self._in_a_row = 0
        self.breaker.succeeded()
        self.slots.succeeded(now)
        for key, mark in permit.marks:
            if key in self._meters:
                self._meters[key].passed(mark, now)
        for dimension, found in self._found.items():
            found.accepted(_share(dimension, permit.cost), sent_at, now)
            if found.is_known:
                self.slots.lift()

    def _failed(self, permit: Permit, failure: Failure, sent_at: float, now: float) -> None:
        if not failure.sent:
            self._refund(permit)
        if failure.kind is FailureClass.CONCURRENCY:
            self._count_refusal(now)
            self._refund(permit)
            self.slots.refused(permit.generation, now)
            self._block(failure.retry_after, now)
        elif failure.kind is FailureClass.RATE_LIMIT:
            self._count_refusal(now)
            self._rate_refused(permit, failure, sent_at, now)
        elif failure.kind in OUTAGE:
            self.slots.overloaded(permit.generation)
            self.breaker.failed(now)
            self._block(failure.retry_after, now)
        elif failure.kind is FailureClass.OVERLOADED:
            self._count_refusal(now)
            self.slots.overloaded(permit.generation)
            self.breaker.failed(now)
            self._block(failure.retry_after, now)
        else:  # the server read the request and judged it: it is up, and our limits let it through
            self._succeeded(permit, sent_at, now)

    def _rate_refused(self, permit: Permit, failure: Failure, sent_at: float, now: float) -> None:
        """Whichever told window is exhausted refused; if none is, something hidden did."""
        told = {self._key(window): window for window in failure.quota.windows}
        short = {key for key, window in told.items() if key in self._meters and _is_short(window, permit)}
        if not told:  # at a limit that was stated, a refusal may just be a moment too early
            stated = {self._meters[key].used: key for key, _ in permit.marks if key[1] == STATED}
            short = {key for used, key in stated.items() if used == max(stated) and used >= USED_UP}
        for key, mark in permit.marks:
            if key in short:
                self._meters[key].refused(mark, now, told.get(key), failure.retry_after)
            elif key in self._meters:
                self._meters[key].charge(-mark.cost)
        self._block(failure.retry_after, now)
        self._brake(sent_at, now)
        hidden = failure.dimension if failure.dimension in FINDABLE else Dimension.REQUESTS
        for dimension, found in self._found.items():
            if dimension is not hidden or short:
                found.charge(-_share(dimension, permit.cost))
        if short:
            return
        if hidden not in self._found:
            if (failure.retry_after or 0.0) <= SOON:
                # it says that there was enough, and refuses all the same: most likely too many at once
                self.slots.refused(permit.generation, now)
                return
            self._found[hidden] = Found(now=now)
            self._found[hidden].take(_share(hidden, permit.cost), sent_at)
        self._found[hidden].refused(_share(hidden, permit.cost), sent_at, now, retry_after=failure.retry_after)

    def _block(self, seconds: float | None, now: float) -> None:
        if seconds is not None and now + seconds > self._blocked_until:
            self._blocked_until, self._blocked_for = now + seconds, max(seconds, self._blocked_for)

    def _brake(self, sent_at: float, now: float) -> None:
        """Whatever we believe: refusal after refusal, each of a request that left after the one before, slows us down."""
        if sent_at <= self._refused_at:
            return
        self._refused_at = now
        self._in_a_row += 1
        if self._in_a_row > IN_A_ROW:
            self._block(min(BRAKE * 2.0 ** (self._in_a_row - IN_A_ROW), BRAKE_MOST), now)

    def _count_refusal(self, now: float) -> None:
        self.refusals += 1
        self._alone = False
        self._refused.add(1, now)

    def _refund(self, permit: Permit) -> None:
        for key, mark in permit.marks:
            if key in self._meters:
                self._meters[key].charge(-mark.cost)
        for dimension, found in self._found.items():
            found.charge(-_share(dimension, permit.cost))

    def _per_minute(self, dimension: Dimension) -> float | None:
        rates = [meter.rate for (seen, _), meter in self._meters.items() if seen is dimension]
        if (found := self._found.get(dimension)) is not None and found.is_known:
            rates.append(found.rate)
        return min(rates) * MINUTE if rates else None

    def _note(self, now: float, evidence: str = "") -> None:
        """Write down which beliefs are new."""
        for (dimension, kind), meter in self._meters.items():
            if kind == STATED:
                continue
            told = evidence or f"{meter.replies} replies, {meter.refusals} refusals"
            self._diary.note(f"{dimension} {kind} limit", meter.limit, now, told)
            self._diary.note(f"{dimension} {kind} algorithm", f"{meter.algorithm} of {meter.period:g}s", now, told)
        for dimension, found in self._found.items():
            if found.is_known and self._noted.get(dimension) != found.version:
                self._noted[dimension] = found.version
                self._diary.note(f"{dimension} found", found.limit, now, evidence or found.evidence)
                self._diary.note(
                    f"{dimension} found algorithm", f"{found.algorithm} of {found.period:g}s", now, found.evidence
                )
        if self.slots.refused_at is not None:
            self._diary.note("slots", float(self.slots.limit), now, evidence or f"refused at {self.slots.refused_at}")


def _share(dimension: Dimension, cost: float) -> float:
    """What a request of *cost* tokens takes of a window of *dimension*."""
    return cost if dimension in _TOKENS else 1.0


def _is_short(window: Window, permit: Permit) -> bool:
    return window.remaining is not None and window.remaining < _share(window.dimension, permit.cost)


_TOKENS = frozenset({Dimension.TOKENS, Dimension.INPUT_TOKENS, Dimension.OUTPUT_TOKENS})
_NAMES = {Dimension.REQUESTS: "rpm", Dimension.TOKENS: "tpm"}
