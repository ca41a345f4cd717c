"""A limit at a server that tells nothing of it: found from what it accepts, and from when it refuses.

An *edge* is the first refusal after a time of acceptance: at that moment nothing was left. What happens after it tells
the two kinds of server apart, so one request at a time asks (asking.py).

* it soon passes again: capacity comes back steadily (a bucket). Between two edges the server gave exactly what it
  accepted in that time, so accepted / seconds is its rate. We go at that rate, creeping upwards until the next edge.
* it passes at the end of some window only: what was accepted before the edge is that window's limit. Our own sends of
  the last window are kept, and go again when the server has forgotten them.
"""

from dataclasses import dataclass
from enum import StrEnum
from math import floor, inf

from batchrunner.growth import grown
from batchrunner.limits.algorithm import Algorithm
from batchrunner.limits.asking import AHEAD, EPSILON, FIRST_STEP, GRIDS, LATE, MINUTE, Asking
from batchrunner.limits.clock import GUARD
from batchrunner.limits.periods import PERIODS
from batchrunner.limits.spent import Spent

SPAN = 3600.0  # seconds of sends that are kept while no period is known
SMOOTH = 1 / 8  # of a new cost, in the usual one

SOON = 1.5  # seconds; a question that passes by then means a bucket
COUNTED = 1.5  # times a window's length after its beginning, by which a count of it has passed something again
PAUSE = 0.5  # seconds, for a count that is full to go down
SNAP = 0.05  # by which a window may seem longer than it is

# a rate: guessed, then measured between two edges
FIRST = 3.0  # times the guess, so that the next edge is near
GROWTH = 1.35  # a second, of a rate that is only a guess
GROWTH_EACH = 1.2  # at most, for one accepted
MEASURABLE = 20  # requests accepted between two edges give the rate to a twentieth
SETTLED = 0.995  # of a measured rate is used
CREEP = 0.01  # of a measured rate, for each hundred accepted
CREEP_AFTER = 100
CREEP_PRICE = 3.0  # or so many times as many as go in the wait that the server asks for: that is what an edge costs
CREEP_GROWTH = 1.35  # each time that nothing is refused
CREEP_MAX = 0.1
BACK_OFF = 0.85  # of the rate, at an edge too near to the last one to measure between them
REGROWTH = 1.02  # a second, of a rate that was lowered without a measure
REGROWTH_EACH = 1.03  # at most, for one accepted
NEARS = 4  # such edges in a row, and it is no rate
STEADY = 1.5  # times what was accepted is as fast as we went; else a full bucket was measured, not its rate
LATELY = 2.0  # seconds that are measured instead; a minute, where the server asks for longer waits,
SETTLED_LATELY = 0.95  # of which so much is used
TELLING = 8  # accepted; of fewer the rate is a guess, which grows
ONE = 2.0  # seconds; a wait that is longer is that for one request, at a slow bucket
MANY = 5.0  # requests in that time, as fast as we went, are no wait for one
SLOW = 3.0  # times the time that one takes to come back
BURST = 0.1  # seconds of the rate that may go at once; of a bucket's capacity nothing is known
BLOCKED = 0.5  # the same after a wait that the server asked for: in that time it filled up a little
SLOWEST = 600.0  # seconds for one; whatever is refused meanwhile, so often one is asked for
SINGLE = 1.5  # let in at once; where it is less, each has only to keep its distance from the one before
NEARER = 0.025  # of such a rate, for each hundred accepted: how near one may go is told by refusals only,
FARTHER = 0.985  # so a little more than one in a hundred is spent on that
MUCH_FARTHER = 0.96  # of the rate, at an edge too near to the last one, or after a guess
CUSHION = 0.1  # seconds of the rate that an edge leaves to the server, for arrivals in another order

# a window
FULL = 0.98  # of its limit used up: a refusal then only corrects the number
EDGES = 2  # in half a window, and its limit is not what it was
HALF = 0.5  # of its limit, at the least, is still believed after an edge that came too early
TOO_LONG = 1.5  # times a window, and it is none of that length
WIDEN_AFTER = 3  # windows without a refusal; twice as many each time that it was refused,
PATIENCE = 100  # or so many accepted: then a question costs a hundredth, where windows are small
REPEATS = 3  # refusals at what was proven, without a whole window between them: it was not
GAP = 0.1  # of a period without a send begins a new burst
LATE_MAX = 0.5  # seconds after a window's time that may be waited, where it refuses at that very moment
LATE_FADES = 0.999  # for each accepted


class Mode(StrEnum):
    """What is known."""

    OPEN = "open"  # nothing was refused yet
    ASKING = "asking"  # at an edge, one request at a time
    RATE = "rate"  # so much a second
    WINDOW = "window"  # so much in any stretch of a period


@dataclass(slots=True)
class _Edge:
    at: float
    accepted: float = 0.0  # since
    lately: float = 0.0  # a second, before it


class Found:
    """One dimension's limit as it was found. ``limit`` permits in ``period`` seconds, once there are any."""

    def __init__(self, *, now: float, log: Spent | None = None) -> None:
        self.mode = Mode.OPEN
        self.limit = inf
        self.period = MINUTE
        self.evidence = "nothing refused yet"
        self.at_once = inf  # so many of a burst passed, whatever the rate
        self.version = 0  # of the belief; what only creeps is the same
        self.log = Spent() if log is None else log  # of what was sent
        self._began_at: float | None = self.log.oldest
        self._edge = _Edge(now, self.log.total)
        self._opening: _Edge | None = None  # the last end of a long wait
        self._at_last = now
        self._burst_at = now  # of a window, the first of ours
        self._windowed = self._rated = False  # a window, a rate was believed in before we asked
        self._base = _Edge(now)  # the edge the rate is measured from
        self._measured = False
        self._edges, self._edges_from = 0, -inf  # of one window, and since when
        self._lowered = False  # without a measure
        self._asked_for: float | None = None  # seconds that the server asked to wait, the last time
        self._late = 0.0  # seconds after a window's time that its requests are surely forgotten
        self._halved = False  # since the last whole window without a refusal
        self._repeats = 0  # refusals at what was proven, window after window
        self._patience = 0.0  # accepted until the next question
        self._proven = 0.0  # the limit that a whole window was used up without a refusal
        self._nears = 0  # edges in a row with little accepted between them
        self._again = False  # the last edge was too near to the one before
        self._level = 0.0
        self._at = now
        self._clean = 0.0
        self._creep = CREEP
        self._grown_at = now
        self._asking = Asking(now=now)
        self._last_no = -inf
        self._counted = 0.0  # the rate of such a count
        self._step = 1.0  # requests
        self._unit = 1.0  # what a request usually costs

    @property
    def algorithm(self) -> Algorithm:
        return {Mode.RATE: Algorithm.BUCKET, Mode.WINDOW: Algorithm.SLIDING}.get(self.mode, Algorithm.UNKNOWN)

    @property
    def rate(self) -> float:
        return self.limit / self.period

    @property
    def is_known(self) -> bool:
        return self.limit < inf

    @property
    def _burst(self) -> float:
        return max(self._unit, min(self.rate * (BURST if self._asked_for is None else BLOCKED), self.at_once))

    def believe(self, limit: float, period: float, algorithm: Algorithm, *, now: float) -> None:
        """Start from what an earlier run found."""
        self.limit, self.period = limit, period
        self.mode = Mode.WINDOW if algorithm is Algorithm.SLIDING else Mode.RATE
        self.evidence = "an earlier run"
        self._measured, self._proven, self._windowed = True, limit, self.mode is Mode.WINDOW
        self._began_at = now
        self._level = min(self.rate * BURST, 1.0)
        self._edge, self._base = _Edge(now), _Edge(now)

    def restore(self, cost: float, sent: float) -> None:
        """At a start: what an earlier run sent within the window still counts."""
        self.log.add(cost, sent, period=self.period)

    def wait(self, cost: float, now: float) -> float:
        """Seconds until asking for *cost* again makes sense; 0 or less: it may be sent."""
        self._advance(now)
        match self.mode:
            case Mode.OPEN:
                return 0.0
            case Mode.ASKING:
                return self._asking.wait(now)
            case Mode.RATE:
                missing = min(cost, self._burst) - self._level
                return max(self._at - now, 0.0) + (missing / self.rate if missing > EPSILON else 0.0)
            case Mode.WINDOW:
                missing = self.log.total + cost - max(self.limit, cost)
                sent = self.log.sent_when(missing) if missing > EPSILON else -inf
                if sent == -inf:
                    return max(self._at - now, 0.0)
                return max(sent + self.period + GUARD + self._late - now, EPSILON)

    def take(self, cost: float, at: float) -> None:
        self._advance(at)
        if self._began_at is None:
            self._began_at = at
        if at - self._at_last > GAP * self.period:
            self._burst_at = at
        self._at_last = at
        self.log.add(cost, at, period=self.period)
        self._unit = cost if self._began_at == at else self._unit + (cost - self._unit) * SMOOTH
        self._count(cost)
        if self.mode is Mode.ASKING:
            self._asking.sent(cost, at)

    def charge(self, extra: float) -> None:
        """Correct an earlier charge: positive is a debt, negative a refund."""
        self._count(extra)
        if extra < 0:
            self.log.give_back(-extra)
        else:
            self.log.add(extra, self._at, period=self.period)

    def refund(self, cost: float) -> None:
        """One that was sent did not count: if it was a question, it is asked again."""
        self.charge(-cost)
        self._asking.drop()

    def excuse(self) -> None:
        """What was sent while nobody had to keep to the rate is no debt."""
        self._level = max(self._level, 0.0)

    def _count(self, cost: float) -> None:
        self._level -= cost
        for edge in (self._edge, self._base, self._opening):
            if edge is not None:
                edge.accepted += cost

    def accepted(self, cost: float, sent_at: float, now: float) -> None:
        """A reply that was no refusal."""
        self._advance(now)
        if self.mode is Mode.ASKING:
            if self._asking.is_question(sent_at):
                self._answered(cost, sent_at)
        elif self.mode is Mode.RATE:
            self._creep_up(cost, now)
        elif self.mode is Mode.WINDOW:
            self._widen(cost)

    def refused(self, cost: float, sent_at: float, now: float, *, retry_after: float | None) -> None:
        """A refusal. Those sent before the last edge was known belong to it and tell nothing new."""
        self._advance(now)
        self._give_back(cost, sent_at)
        if sent_at <= self._last_no:
            return
        self._asking.refused(sent_at, now)
        self._asked_for = retry_after
        self._last_no = now + (AHEAD if self.mode is Mode.RATE else 0.0)
        match self.mode:
            case Mode.OPEN:
                self._ask(now, retry_after, first=True)
            case Mode.ASKING:
                self._ask(now, retry_after)
            case Mode.RATE:
                self._edge_of_rate(sent_at, now, retry_after)
            case Mode.WINDOW:
                self._edge_of_window(now, retry_after)

    def _give_back(self, cost: float, sent_at: float) -> None:
        """A refusal costs nothing. It counts against the edge after which it was sent."""
        self._level += cost
        self.log.give_back(cost)
        if sent_at >= self._edge.at or self.mode in (Mode.OPEN, Mode.ASKING):
            self._edge.accepted -= cost
        for edge in (self._base, self._opening):
            if edge is not None and sent_at >= edge.at:
                edge.accepted -= cost

    # -- asking

    def _ask(self, now: float, retry_after: float | None, *, first: bool = False) -> None:
        """Go on asking: when the server says, else step by step, and at the moments when windows usually end."""
        if first:
            if self.mode is not Mode.WINDOW:
                since = max(now - LATELY, self._began_at or -inf)
                self._edge = _Edge(now, self.log.total, self.log.since(since) / max(now - since, FIRST_STEP))
            self._windowed, self._rated = self.mode is Mode.WINDOW, self.mode is Mode.RATE
            self._base, self.mode = _Edge(now), Mode.ASKING
            self._asking.begin(now)
        step = max(FIRST_STEP, 0.5 * self._unit / self.rate) if self._rated else FIRST_STEP
        again_at = self._burst_at + self.period
        self._asking.again(now, retry_after, begun_at=self._begun_at, again_at=again_at, step=step)

    @property
    def _begun_at(self) -> float:
        """When the first window began, if a window begins with a send."""
        return self._edge.at if self._began_at is None else self._began_at

    def _answered(self, cost: float, sent_at: float) -> None:
        """The question passed: by when it did, a bucket or a window."""
        self._asking.drop()
        begin, ended = self._begun_at, self._asking.ended
        limit = max(self._edge.accepted - cost, 1.0)
        evidence = f"{limit:g} were accepted, the next only {sent_at - self._edge.at:.1f} s later"
        took = sent_at - self._edge.at
        if took <= SOON:
            if self._rated:
                self._go_at(self.rate * BACK_OFF, "refused again and again")
                self._lowered = True
                return
            # were it a minute's limit, and full at the beginning; or that of a window which we misjudged
            seconds = self.period if self._windowed else MINUTE + self._edge.at - begin
            guess = (1.0 if self._windowed else FIRST) * limit / seconds
            if self.at_once < SINGLE:
                guess = max(guess, self._edge.lately)
            self._go_at(
                max(guess, self._unit / max(took, FIRST_STEP)),
                f"refused after {limit:g}, and passed again after {took:.1f} s",
            )
            return
        if ended is not None and self._opening is None and not self._windowed and sent_at <= begin + COUNTED * ended:
            # nothing was forgotten at a window's end, but soon after it: two windows' counts weighed by time
            self._counted = limit / ended * SETTLED
            self._go_at(self._counted, evidence)
            self._base, self._edge, self._measured = _Edge(sent_at, cost), _Edge(sent_at, cost), True
            return
        last, self._opening = self._opening, _Edge(sent_at, cost)
        if self._windowed and took <= TOO_LONG * self.period:
            least = 0.0 if self._halved else self.limit * HALF
            limit = max(self.log.since(sent_at - self.period) - cost, limit, least)
            self._halved = True
            self._believe_window(limit, self.period, evidence)
        elif last is None and (period := self._period(begin, sent_at)) is not None:
            self._believe_window(limit, period, evidence)
            if sent_at < begin + period - SNAP * period:  # the clock's window is over, before ours would be
                self.log = Spent()
                self.log.add(cost, sent_at, period=period)
        elif last is None:
            self._go_at(FIRST * limit / max(MINUTE + self._edge.at - begin, EPSILON), evidence)
        else:
            gap, limit = sent_at - last.at, max(last.accepted - cost, 1.0)
            near = [period for period in PERIODS if abs(gap - period) <= SNAP * period]
            evidence = f"{limit:g} were accepted in {gap:.1f} s from one long wait to the next"
            if near:
                self._believe_window(limit, near[0], evidence)
            else:
                self._go_at(limit / gap * SETTLED, evidence)
                self._measured = True

    def _believe_window(self, limit: float, period: float, evidence: str) -> None:
        self.mode, self.period = Mode.WINDOW, period
        self._windowed, self._proven = True, limit
        if self._step > 1.0:  # it was the search for more that was refused
            self._patience = min(2 * max(WIDEN_AFTER * limit, self._patience), PATIENCE * self._unit)
        self._step, self._clean = 1.0, 0.0
        self._tell(limit, evidence)

    def _period(self, begin: float, sent_at: float) -> float | None:
        """The usual length of a window that ended between the last refusal and this success."""
        for period in PERIODS:
            if (
                self._edge.at < begin + period <= sent_at + EPSILON
                and sent_at - begin <= period * (1 + SNAP) + self._asking.late
            ):
                return period
        for grid in GRIDS:
            boundary = floor(sent_at / grid) * grid
            by_chance = grid < MINUTE and (self._asked_for is not None or self._edge.at < boundary - grid - LATE)
            if self._edge.at < boundary <= sent_at <= boundary + self._asking.late and not by_chance:
                return grid
        return None

    # -- a rate

    def _go_at(self, rate: float, evidence: str) -> None:
        rate = max(rate, self._unit / SLOWEST)
        self.mode, self.period, self.limit = Mode.RATE, MINUTE, rate * MINUTE
        self.evidence = evidence
        self.version += 1
        self._level = min(self._level, self._burst)
        self._grown_at = self._at

    def _creep_up(self, cost: float, now: float) -> None:
        """Until its first edge a rate grows by the second; a measured one creeps."""
        if not self._measured:
            self.limit *= grown(1.0, now - self._grown_at, by=GROWTH, most=GROWTH_EACH)
            self._grown_at = now
            return
        if self._lowered:  # without a measure: that was a guess
            self.limit *= grown(1.0, now - self._grown_at, by=REGROWTH, most=REGROWTH_EACH)
            self._grown_at = now
            return
        self._clean += cost
        if self._clean >= max(CREEP_AFTER * self._unit, CREEP_PRICE * (self._asked_for or 0.0) * self.rate):
            self._clean = 0.0
            if self.at_once < SINGLE:
                self.limit *= 1 + NEARER
                return
            self.limit *= 1 + self._creep
            self._creep = min(self._creep * CREEP_GROWTH, CREEP_MAX)

    def _edge_of_rate(self, sent_at: float, now: float, retry_after: float | None) -> None:
        later = self.log.since(sent_at)  # in flight behind the refused one: nobody knows of them yet
        seconds, accepted = sent_at - self._base.at, self._base.accepted - later
        near = self._edge.accepted - later < MEASURABLE * self._unit
        self._nears = self._nears + 1 if near else 0
        no_rate = self._nears > NEARS and self.at_once >= SINGLE
        if (accepted < self._unit and seconds > max(SOON, SLOW * self._unit / self.rate)) or no_rate:
            self._nears = 0
            self._ask(now, retry_after, first=True)
            return
        if self.at_once < SINGLE:
            much = not self._measured or (near and self._again)
            self._go_at(self.rate * (MUCH_FARTHER if much else FARTHER), "some came too near to the one before")
            self._base, self._edge, self._again = _Edge(sent_at, later), _Edge(sent_at, later), near
            self._measured, self._lowered, self._clean, self._level = True, False, 0.0, min(self._level, 0.0)
            return
        if self._counted and not (near and self._again):
            self._go_at(self._counted, "of a count that is full")
            self._base, self._edge, self._again = _Edge(sent_at, later), _Edge(sent_at, later), near
            self._clean, self._creep, self._level = 0.0, CREEP, -PAUSE * self.rate
            return
        self._counted = 0.0
        enough = accepted >= MEASURABLE * self._unit
        if enough or (accepted >= self._unit and not self._measured):
            rate, evidence = accepted / seconds, f"{accepted:g} were accepted in {seconds:.1f} s between refusals"
            if not self._measured and seconds > LATELY and rate * STEADY < self.rate:
                # we went much slower for a while, and the server's bucket was full then, or its log not yet empty
                rate, evidence = max((rate, evidence), self._lately(sent_at, later))
                enough = True
                self._base = _Edge(sent_at, later)
            elif enough:
                self._base = _Edge(sent_at, later)
            self._go_at(rate * SETTLED, evidence)
            self._lowered = accepted < TELLING * self._unit
        elif self._again:
            self._go_at(self.rate * BACK_OFF, "refused again at once")
            self._lowered = True
        self._again = near
        self._measured = self._measured or enough
        one_in = self._one_in(retry_after, accepted, seconds)
        if one_in is not None and self.rate > self._unit / one_in:
            if self.rate > MANY * self._unit / one_in:
                self._measured = False  # more likely many come back then, at the end of a window
            self._go_at(self._unit / one_in, f"one comes back in {one_in:g} s")
            self._lowered = True
        self._clean, self._creep = 0.0, CREEP
        self._edge = _Edge(sent_at, later)
        self._level = min(self._level, -max(self._unit, CUSHION * self.rate))

    def _lately(self, sent_at: float, later: float) -> tuple[float, str]:
        """A second, shortly before an edge; in a minute before it, where the server's own waits are in that time."""
        span, settled = (LATELY, 1.0) if (self._asked_for or 0.0) <= LATELY else (MINUTE, SETTLED_LATELY)
        lately = self.log.since(sent_at - span) - later
        if span == MINUTE and lately < MEASURABLE * self._unit:  # mostly of a burst
            return 0.0, ""
        return lately / span * settled, f"{lately:g} were accepted in the last {span:g} s before a refusal"

    def _one_in(self, retry_after: float | None, accepted: float, seconds: float) -> float | None:
        """The wait that the server names, if one comes back in it and not many, as *accepted* in *seconds* tells."""
        if retry_after is None or not ONE <= retry_after <= MINUTE:
            return None
        many = seconds >= retry_after and accepted * retry_after > MANY * self._unit * seconds
        return None if many else retry_after

    # -- a window

    def _widen(self, cost: float) -> None:
        """After some windows without a refusal ask for one more, then for two, four, …"""
        self._clean += cost
        self._late *= LATE_FADES
        if self._clean >= (max(WIDEN_AFTER * self.limit, self._patience) if self._step == 1.0 else self.limit):
            self._clean, self._proven, self._halved = 0.0, self.limit, False
            self._patience = self._patience if self._step == 1.0 else 0.0
            self.limit += self._step * self._unit
            self._step *= 2.0

    def _edge_of_window(self, now: float, retry_after: float | None) -> None:
        used = self.log.total
        if retry_after is not None and retry_after > self.period:  # longer than any window of that length
            self.period = next((period for period in PERIODS if period >= retry_after - LATE), PERIODS[-1])
        if now > self._edges_from + self.period / 2:
            self._edges, self._edges_from = 0, now
        self._edges += 1
        self._edge = _Edge(now)
        if self._edges <= EDGES and used >= min(FULL * self.limit, self.limit - self._unit):
            if self.limit > self._proven:
                self._patience = min(2 * max(WIDEN_AFTER * self.limit, self._patience), PATIENCE * self._unit)
                self._tell(self._proven, f"refused after {used:g}")
            elif self._clean < self.limit and used < self.limit and self._repeats >= REPEATS:
                self._proven, self._repeats = max(used, 1.0), 0  # it was only let through once, at a window's end
                self._tell(self._proven, f"refused after {used:g}, again and again")
            else:
                self._repeats = self._repeats + 1 if self._clean < self.limit else 0
                self._late = min(self._late + GUARD, LATE_MAX)  # enough was left, a moment later
            self._step, self._clean = 1.0, 0.0
            return
        self._edge = _Edge(now, self.log.since(self._burst_at - EPSILON))
        self._ask(now, retry_after, first=True)

    def _tell(self, limit: float, evidence: str) -> None:
        self.limit, self.evidence = limit, evidence
        self.version += 1

    def _advance(self, now: float) -> None:
        passed = now - self._at
        if passed <= 0:
            return
        self._at = now
        self.log.forget(now - (self.period + GUARD + self._late if self.mode is Mode.WINDOW else SPAN))
        if self.mode is Mode.RATE:
            self._level = min(self._level + passed * self.rate, self._burst)
        elif self.mode is not Mode.OPEN:
            self._level = 0.0
        if (question := self._asking.passed(now)) is not None:
            self._answered(*question)
