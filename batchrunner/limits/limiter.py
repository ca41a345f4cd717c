"""When may the next request go? One admission decision over requests, tokens and slots, all of it told the time.

A permit is given only if every meter, the slots, the gate and the breaker agree; who asks first is served first, so a
large request is never overtaken. Until the first reply is here, one request goes alone: it costs one latency and
usually tells limit, remaining and reset. Three kinds of meter watch the windows:

* *told*: a window that replies report on. Trusted most; corrected by each reply.
* *stated*: what the user configured. Paced evenly while nothing is told, so that no minute ever holds more than the
limit.
* *found*: the server refuses without saying why. What it accepted in the last minute is the first guess; it grows by a
  tenth for each limit's worth of clean sends.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any

from batchrunner.config import LimitSettings
from batchrunner.limits.breaker import Breaker
from batchrunner.limits.gauge import Gauge
from batchrunner.limits.meter import Algorithm, Mark, Meter
from batchrunner.limits.slots import Slots
from batchrunner.quota import Dimension, Quota, Window
from batchrunner.task import Abandoned, Failure, FailureClass, Outcome, Released, Success

HORIZON = 0.1  # seconds ahead that a permit may be given, so that one exchange serves many sends
LADDER = (1.0, 2.0, 15.0, 30.0, 60.0)  # seconds after refusals in a row that say nothing
MINUTE = 60.0
GROWTH = 1.1
OUTAGE = frozenset({FailureClass.SERVER_ERROR, FailureClass.TIMEOUT, FailureClass.NETWORK, FailureClass.UNREACHABLE})
_STATED, _FOUND = "stated", "found"

MeterKey = tuple[Dimension, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Permit:
    """Leave for one send, and what the accounts were at that moment. Hand it back with ``settle``, whatever came."""

    cost: float
    send_at: float
    generation: int
    marks: tuple[tuple[MeterKey, Mark], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One belief that changed: *what* (``requests 60s``, ``slots``, ``algorithm requests``), from, to, and why."""

    at: float
    what: str
    old: str
    new: str
    evidence: str


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
        self._alone = True  # one request at a time: before the first reply, and after a refusal that says nothing
        self._blind = 0  # refusals in a row that said nothing
        self._blocked_until = now
        self._limiting = "start"
        self._waiting_until = now
        self._sent, self._tokens, self._refused = Gauge(), Gauge(), Gauge()
        self._changes: list[Change] = []
        self._clean = 0
        for dimension, limit in ((Dimension.REQUESTS, settings.rpm), (Dimension.TOKENS, settings.tpm)):
            if limit is not None:
                usable = limit * (1 - settings.headroom)
                self._meters[dimension, _STATED] = self._paced(dimension, usable, now)

    def admit(self, cost: float, now: float) -> Permit | None:
        """A permit to send *cost* tokens at ``send_at`` (now, or at most HORIZON ahead); None if it has to wait."""
        wait, limiting = self._obstacle(cost, now)
        if wait > HORIZON:
            self._limiting, self._waiting_until = limiting, now + wait if isfinite(wait) else now
            return None
        self._limiting = "none"
        send_at = now + wait
        marks = tuple((key, meter.take(self._share(key, cost), send_at)) for key, meter in self._meters.items())
        self._sent.add(1, send_at)
        self._tokens.add(cost, send_at)
        return Permit(cost=cost, send_at=send_at, generation=self.slots.take(), marks=marks)

    def wait(self, cost: float, now: float) -> float:
        """Seconds until asking for *cost* again makes sense; infinite if only a reply can change anything."""
        return max(self._obstacle(cost, now)[0] - HORIZON / 2, 0.0)

    @property
    def pace(self) -> tuple[float, float] | None:
        """Sends a second that the tightest request limit allows, and how many at once; None if none is known."""
        meters = [meter for (dimension, _), meter in self._meters.items() if dimension is Dimension.REQUESTS]
        if not meters:
            return None
        tightest = min(meters, key=lambda meter: meter.rate)
        return tightest.rate, max(tightest.capacity, 1.0)

    def largest(self, dimension: Dimension) -> float | None:
        """The most one request may ever cost: the smallest limit known in that dimension."""
        limits = [meter.limit for (seen, kind), meter in self._meters.items() if seen is dimension and kind != _FOUND]
        return min(limits, default=None)

    def settle(self, permit: Permit, outcome: Outcome, *, sent_at: float, received_at: float) -> None:
        """Take in what a send came to."""
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
                self._succeeded(received_at)
            case Failure():
                self._observe(permit, outcome.quota, sent_at, received_at)
                self._failed(permit, outcome, received_at)
        self.slots.give()

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
            {"dimension": dimension, "kind": kind, "limit": m.limit, "period": m.period, "algorithm": m.algorithm}
            for (dimension, kind), m in self._meters.items()
            if kind != _STATED
        ]
        return {"meters": meters, "slots": self.slots.limit, "slots_refused_at": self.slots.refused_at}

    def changes(self) -> list[Change]:
        """The beliefs that changed since this was last asked."""
        changes, self._changes = self._changes, []
        return changes

    def believe(self, beliefs: Mapping[str, Any], *, now: float) -> None:
        """Start from what an earlier run learned: a belief, which the first reply may correct."""
        for seen in beliefs.get("meters", ()):
            key = (Dimension(seen["dimension"]), str(seen["kind"]))
            paced = key[1] == _FOUND
            self._meters[key] = Meter(
                key[0],
                float(seen["limit"]),
                now=now,
                period=float(seen["period"]),
                algorithm=Algorithm(seen["algorithm"]),
                burst=max(1.0, float(seen["limit"]) / MINUTE) if paced else None,
            )
        if beliefs.get("slots_refused_at") is not None:
            self.slots.refused_at = int(beliefs["slots_refused_at"])
            self.slots.believe(int(beliefs["slots"]))

    def remember(self, sent: float, cost: float, now: float) -> None:
        """A send of an earlier run, at *sent*: it still counts in every window that was open then."""
        self._sent.add(1, sent)
        self._tokens.add(cost, sent)
        for key, meter in self._meters.items():
            if sent > now - meter.period:
                share = self._share(key, cost)
                back = 0.0 if meter.algorithm is Algorithm.WINDOW else (now - sent) * meter.rate
                meter.restore(max(share - back, 0.0) if meter.capacity < meter.limit else share)

    # -- private

    def _obstacle(self, cost: float, now: float) -> tuple[float, str]:
        """The longest wait, and what imposes it."""
        alone = self.slots.in_flight == 0
        if self.slots.free <= 0:
            return float("inf"), "slots"
        if not alone and (self._alone or self.breaker.is_open or any(m.undecided for m in self._meters.values())):
            return float("inf"), "probe"
        waits = [(self._blocked_until - now, "refused"), (self.breaker.wait(now), "server")]
        for key, meter in self._meters.items():
            waits.append((meter.wait(self._share(key, cost), now, alone=alone), _NAMES[key[0]]))
        return max((0.0, "none"), *waits)

    def _observe(self, permit: Permit, quota: Quota, sent_at: float, received_at: float) -> None:
        marks = dict(permit.marks)
        for window in quota.windows:
            key = (window.dimension, f"told {window.period:g}s" if window.period else "told")
            meter = self._meters.get(key)
            if meter is None:
                meter = self._meet(key, window, received_at)
                if meter is None:
                    continue
            mark = marks.get(key, Mark(meter.account, meter.account, 0, 0.0))
            meter.observe(window, mark, sent_at=sent_at, received_at=received_at)

    def _meet(self, key: MeterKey, window: Window, now: float) -> Meter | None:
        """A window that no reply reported on before."""
        if window.limit is None or window.limit <= 0:
            return None
        meter = Meter(window.dimension, float(window.limit), now=now, period=window.period or MINUTE)
        self._meters[key] = meter
        self._meters.pop((window.dimension, _FOUND), None)
        stated = self._meters.get((window.dimension, _STATED))
        if stated is not None and stated.limit >= 0.95 * meter.limit * MINUTE / meter.period:
            stated.unpace()
        return meter

    def _use(self, permit: Permit, total: int | None, now: float) -> None:
        """Settle the tokens: what is told corrects itself; where nothing is told, usage is the truth."""
        if total is None:
            return
        self._tokens.add(total - permit.cost, now)
        for key, _ in permit.marks:
            if key[0] is Dimension.TOKENS and not key[1].startswith("told"):
                self._meters[key].charge(total - permit.cost)

    def _succeeded(self, now: float) -> None:
        self._alone = False
        self._blind = 0
        self.breaker.succeeded()
        self.slots.succeeded(now)
        found = self._meters.get((Dimension.REQUESTS, _FOUND))
        if found is None:
            return
        self._clean += 1
        if self._clean >= found.limit:
            self._clean = 0
            self._find(found.limit * GROWTH, now)

    def _failed(self, permit: Permit, failure: Failure, now: float) -> None:
        if not failure.sent:
            self._refund(permit)
        if failure.kind is FailureClass.CONCURRENCY:
            self._count_refusal(now)
            self._refund(permit)
            self.slots.refused(permit.generation, now)
            self._block(failure.retry_after, now)
        elif failure.kind is FailureClass.RATE_LIMIT:
            self._count_refusal(now)
            self._rate_refused(permit, failure, now)
        elif failure.kind in OUTAGE:
            self.slots.overloaded()
            self.breaker.failed(now)
            self._block(failure.retry_after, now)
        elif failure.kind is FailureClass.OVERLOADED:
            self._count_refusal(now)
            self.slots.overloaded()
            self.breaker.failed(now)
            self._block(failure.retry_after, now)
        else:  # the server read the request and judged it: it is up, and our limits let it through
            self._succeeded(now)

    def _rate_refused(self, permit: Permit, failure: Failure, now: float) -> None:
        """Whichever told window is exhausted refused; if none is, something hidden did."""
        exhausted = {w.dimension for w in failure.quota.windows if w.remaining is not None and self._short(w, permit)}
        told = {window.dimension: window for window in failure.quota.windows}
        for key, mark in permit.marks:
            meter = self._meters.get(key)
            if meter is None:
                continue
            if key[0] in exhausted and key[1].startswith("told"):
                meter.refused(mark, now, told.get(key[0]))
            else:
                meter.charge(-mark.cost)
        self._block(failure.retry_after, now)
        if exhausted:
            return
        if any(w.dimension is Dimension.REQUESTS for w in failure.quota.windows):
            # it says that there was enough, and refuses all the same: most likely too many at once
            self.slots.refused(permit.generation, now)
            return
        self._alone = True
        self._find(max(self._sent.total(now) - self._refused.total(now), 1.0), now)
        if failure.retry_after is None and now >= self._blocked_until:
            self._block(LADDER[min(self._blind, len(LADDER) - 1)], now)
            self._blind += 1

    def _short(self, window: Window, permit: Permit) -> bool:
        return (window.remaining or 0) < (1 if window.dimension is Dimension.REQUESTS else permit.cost)

    def _find(self, limit: float, now: float) -> None:
        """Believe that the server takes *limit* requests a minute."""
        key = (Dimension.REQUESTS, _FOUND)
        if any(seen is Dimension.REQUESTS and kind.startswith("told") for seen, kind in self._meters):
            return
        old = self._meters.get(key)
        if old is not None and old.limit * 0.5 < limit < old.limit:
            limit = max(limit, old.limit * 0.9)
        self._meters[key] = self._paced(Dimension.REQUESTS, limit, now)
        self._clean = 0

    def _paced(self, dimension: Dimension, limit: float, now: float) -> Meter:
        """A meter that lets a second's worth go at once, and the rest evenly."""
        burst = max(1.0, limit / MINUTE)
        return Meter(dimension, limit, now=now, algorithm=Algorithm.BUCKET, burst=burst)

    def _block(self, seconds: float | None, now: float) -> None:
        if seconds is not None:
            self._blocked_until = max(self._blocked_until, now + seconds)

    def _count_refusal(self, now: float) -> None:
        self.refusals += 1
        self._refused.add(1, now)

    def _refund(self, permit: Permit) -> None:
        for key, mark in permit.marks:
            if key in self._meters:
                self._meters[key].charge(-mark.cost)

    def _share(self, key: MeterKey, cost: float) -> float:
        return 1.0 if key[0] is Dimension.REQUESTS else cost

    def _per_minute(self, dimension: Dimension) -> float | None:
        limits = [m.limit * MINUTE / m.period for (seen, _), m in self._meters.items() if seen is dimension]
        return min(limits, default=None)


_NAMES = {Dimension.REQUESTS: "rpm", Dimension.TOKENS: "tpm"}
