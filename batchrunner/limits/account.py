"""Our own account of one window of one provider: what was there, plus what comes back, minus our own sends.

What comes back is as the window's kind has it (clock.py); what is held back of the level (the *reserve*) is for
arrivals in another order, for others, and for tokens that are only reckoned.
"""

from collections import deque
from math import inf

from batchrunner.limits.algorithm import STEADY, Algorithm
from batchrunner.limits.burst import LENGTH, Burst, Sums
from batchrunner.limits.charging import Charging, Rule, When
from batchrunner.limits.clock import COARSE, GUARD, PERIOD, Clock
from batchrunner.limits.mark import Mark
from batchrunner.limits.others import Others
from batchrunner.limits.proof import JITTER, MENDS, Proof
from batchrunner.limits.question import Question
from batchrunner.limits.refill import Refill
from batchrunner.limits.spent import Spent
from batchrunner.limits.uncertain import Uncertain
from batchrunner.limits.written import Written
from batchrunner.quota import Dimension

SECOND = 1.0
UNUSED = 2.0  # times what a request is charged were not used: then one asks whether that is given back
UNUSED_SHARE = 0.3  # of what seems to be gone
EPSILON = 1e-6  # a deficit below this is none: a wait shorter than the clock's tick would never end
OTHERS_AHEAD = 0.5  # seconds of what others take may be held back
SAME = 0.95  # times a cost is about the same
DEVIATIONS = 3.0  # of our account from what replies prove, are held back against shuffled arrivals
RESERVE_SHARE = 0.01  # of the limit, at most, is held back against shuffled arrivals
SHUFFLED = 0.2  # of what was sent in that time usually does
SCOUTED = 1.0  # seconds
QUICK = 0.05  # of a period, for a round trip
QUICK_REST = 0.15  # of what is left of a window
UNMET = 0.05  # of the most that was in flight is what others may have taken
UNTOLD = 0.1  # of what is still in flight, where it costs nothing to wait for the replies to it
MET_STEADY = 1.5  # limits, where capacity comes back all the time
SHUFFLE = 0.02  # seconds of a bucket's sends that are held back at the least
STEP_HELD = 0.7  # of such a second's; our account, which goes down faster than up, holds back the rest
PROBE = 1.0  # seconds to the first try, where nothing is left and nothing says when more will be; then ever longer


class Account:
    """What is left in one window, in permits (requests or tokens). The level may be negative: a debt is waited off."""

    def __init__(
        self,
        dimension: Dimension,
        limit: float,
        *,
        now: float,
        period: float | None = None,
        algorithm: Algorithm = Algorithm.UNKNOWN,
        written: Written | None = None,
    ) -> None:
        self.dimension = dimension
        self.limit = limit
        self.clock = Clock(period=period or PERIOD, algorithm=algorithm)
        if period is not None:
            self.clock.name_period(period)
        self.replies = 0
        self.refusals = 0
        self._level = limit
        self._account = 0.0
        self._outstanding = 0.0  # cost of what is in flight
        self._flight = 0.0  # the most of it since nothing was
        self._at = now
        self._probe_at = -inf
        self._probe_step = PROBE
        self.log = Spent()
        self._history: deque[tuple[float, float]] = deque()
        self._anchored = False
        self._least = limit  # of what replies said is left, and what came back since
        self._deviation = 0.0
        self._charging = Charging()
        self._reckoned = self._back = 0.0  # cost of all sends, and all that came back
        self._lag = 0.0  # seconds that the server forgets later than we do
        self._burst = Burst(-inf)
        self._own = 0.0  # cost of our sends in this window
        self._burnt = 0.0  # cost of refused requests, of late
        self._others = Others()
        self._question = Question()
        self._uncertain = Uncertain()
        self._usual = 0.0  # cost of a send
        self._unsure = False  # whether the one reply so far tells what is charged for a send that costs so much less
        self._first = 0.0  # what was charged for the first one, most likely
        self._before: tuple[float, float] | None = None  # what the reply to one that went alone told, and when it left
        self._steps = False  # whether what comes back in a second comes all at once
        self._scout: tuple[float, float, int] | None = None  # its number, when it left, and for which window
        self._written = written or Written()
        self._proof = Proof(mends=0 if dimension is Dimension.REQUESTS else MENDS)
        self._refill = Refill()
        self._told_at = now
        self._lowered_at = -inf  # when a reply last lowered the level, where answers are what is charged
        self._holds = SECOND  # seconds of the rate, where one is told
        self._trip = 0.0  # seconds from a send to what its reply tells

    @property
    def period(self) -> float:
        return self.clock.period

    @property
    def algorithm(self) -> Algorithm:
        return self.clock.algorithm

    @property
    def rate(self) -> float:
        """Permits a second, on average."""
        return self.limit / self.period

    @property
    def _ours(self) -> float:
        """The same, without what others take."""
        return self._others.leave(self.rate)

    @property
    def factor(self) -> float:
        """What is charged for a request, over what we reckon."""
        return self._charging.factor

    @property
    def rule(self) -> Rule | None:
        """What is charged for a request and when, of what we reckon; None: it counts one, as a request."""
        return None if self.dimension is Dimension.REQUESTS else self._charging.rule

    @property
    def _logged(self) -> float:
        """What was used within a period, by our own log, and what is charged for what is in flight."""
        return self.log.total + (self._outstanding if self._charging.is_later else 0.0)

    @property
    def _sums(self) -> Sums:
        """Of all sends until now."""
        return Sums(self._reckoned, self._back, self._charging.done, self._charging.used)

    @property
    def undecided(self) -> bool:
        """Whether a single reply should be seen before the others go."""
        return self._unsure

    @property
    def _may_meet(self) -> bool:
        """Whether others may be about: they are, or not all replies to a limit's worth are here yet, which tell."""
        answered = self._reckoned * self.factor - self._outstanding
        worth = self.limit * (MET_STEADY if self.algorithm in STEADY else 1.0)
        shared = self.clock.shared and self.algorithm is Algorithm.WINDOW
        return shared or (self.algorithm is not Algorithm.SLIDING and answered <= worth)

    @property
    def _is_quick(self) -> bool:
        """Whether it costs nothing to wait for all that is in flight; then replies tell what is left."""
        if self.algorithm is not Algorithm.WINDOW or self._trip > QUICK * self.period:
            return False
        end = self.clock.ends_at
        return end is None or self._trip <= QUICK_REST * (end - self._at)

    @property
    def _is_unproven(self) -> bool:
        """Whether our log of a sliding window is not known to be the server's: then only what replies saw is used."""
        if self.clock.presumed and not self.clock.is_timed:
            return True
        return self.algorithm is Algorithm.SLIDING and self._proof.is_due(self._at, self.period)

    @property
    def _unmet(self) -> float:
        """What others may have taken that no reply told of yet, where they may be about."""
        if self.algorithm in STEADY:  # what is held back there is not lost
            return min(UNMET * self._flight, self.rate * SECOND)
        if self._is_quick:
            return max(UNMET * self._flight, UNTOLD * self._outstanding)
        return UNMET * self._outstanding

    @property
    def _theirs(self) -> float:
        """What others may take, more often than usual, from one look at what is left to the next."""
        return float(DEVIATIONS * (self._others.rate * (self._trip + 1.0 / self._ours)) ** 0.5)

    @property
    def _for_others(self) -> float:
        """What is held back where nothing of ours is in flight: it comes back all the time, so that costs nothing."""
        shared = self.algorithm in STEADY and not self._others.are_few(self.rate)
        return min(self._theirs, self.limit / 4) if shared else 0.0

    @property
    def reserve(self) -> float:
        """Permits that are held back: where capacity comes back all the time, arrivals in another order can need it."""
        unsure = self._uncertain.reserve(self.dimension, self._outstanding, self._usual, most=self.limit / 4)
        if self.dimension is Dimension.REQUESTS and self._may_meet:
            unsure = max(unsure, self._unmet)
        if self._is_exact:
            return max(min(self._burnt, max(self.limit * RESERVE_SHARE, 1.0)), unsure)
        shuffled = max(1.0, self.rate * SHUFFLE)
        most = max(self.limit * RESERVE_SHARE, 1.0, self._others.rate * OTHERS_AHEAD)
        stepped = self.rate * COARSE * STEP_HELD if self._steps else 0.0
        sure = min(max(DEVIATIONS * self._deviation, shuffled), most)
        return max(sure, min(max(self._theirs, stepped), self.limit / 4), unsure)

    @property
    def _is_exact(self) -> bool:
        """Whether the order of arrivals makes no difference: all that counts is how many, and all of them are ours."""
        return self.algorithm not in STEADY and self._others.are_few(self.rate)

    @property
    def remaining(self) -> float:
        """The level at the last event."""
        return self._level

    @property
    def used(self) -> float:
        """Share of the limit that is gone, by our account."""
        return 1.0 - max(self._level, 0.0) / self.limit

    @property
    def account(self) -> float:
        """What came back minus own sends since the beginning; only differences of it mean anything."""
        return self._account

    def level(self, now: float) -> float:
        """What is left at *now*, by our account."""
        self._advance(now)
        return self._level

    def wait(self, cost: float, now: float, *, alone: bool = False) -> float:
        """Seconds until *cost* may be sent; more than the window holds counts as all of it.

        *alone*: nothing of ours is in flight, so the reserve has nothing to guard against but others.
        """
        self._advance(now)
        cost *= self.factor
        reserve = self._for_others if alone else self.reserve
        is_told = alone and self.replies and not self._charging.is_corrected
        level = max(self._level, self._least) if is_told else self._level
        missing = min(cost, self.limit - reserve) + reserve - level
        if (held := self._held(cost, missing, now, alone=alone)) is not None:
            return held
        if missing <= EPSILON:
            if not alone and self._proof.seen < cost and self._is_unproven:
                return inf
            unseen = 0.0 if alone else self.clock.unseen(now)
            if unseen and missing + self.limit / 2 > EPSILON:
                return unseen  # the limit may have changed: the other half goes when a reply tells
            return max(self._at - now, 0.0)  # what is there by the last permit's time may not be there before
        if (until_end := self.clock.wait(now)) is not None:
            return until_end
        match self.algorithm:
            case Algorithm.BUCKET | Algorithm.COUNTER:
                return min(max(self._at - now, 0.0) + missing / self._ours, self._asks_in(now) if alone else inf)
            case Algorithm.SLIDING if (sent := self.log.sent_when(missing)) < inf:
                return max(sent + self.period + GUARD + self._lag - now, EPSILON)
            case _:  # others' requests fill it, or we can't tell: one request asks
                return max(self._probe_at - now, 0.0) if alone else inf

    def take(self, cost: float, at: float) -> Mark:
        """Charge a send that leaves at *at* (which may lie a little ahead)."""
        self._advance(at)
        self._reckoned += cost
        cost *= self.factor
        while len(self._history) > 1 and self._history[1][0] <= at - JITTER:
            self._history.popleft()
        self._own += cost
        if self.dimension is not Dimension.REQUESTS and self.replies == 1 and cost < SAME * self._usual:
            self._unsure = True
        self._usual = cost
        self._refill.sent(self._reckoned, at, first=self._level >= self.limit - EPSILON)
        self._level -= cost
        self._account -= cost
        self._history.append((at, self._account))
        alone = self._outstanding <= EPSILON  # then there is nothing to overtake, and nothing left to be charged
        expected = self.limit - self.log.total if alone and self._is_unproven else None
        if not self._charging.is_later:
            self.log.add(cost, at, period=self.period)
        self._proof.seen -= cost
        self.clock.sent(at)
        before = self._account if alone else max(self._history[0][1], self._account)
        shuffled = (before - self._account) * SHUFFLED
        if self.dimension is not Dimension.REQUESTS:  # some servers charge tokens when the answer is there, not before
            before = max(before, self._account + self._outstanding)
            before += cost if self._charging.is_later else 0.0
        self._gather(at, alone=alone, shuffled=shuffled)
        self._outstanding += cost
        self._flight = max(self._flight, self._outstanding)
        self._question.sent(self._reckoned, at)
        if self.clock.probing and (self._scout is None or self._scout[2] != self.clock.epoch):
            self._scout = self._reckoned, at, self.clock.epoch
        epoch, burst, factor = self.clock.epoch, self._burst, self.factor
        return Mark(self._account, before, epoch, cost, alone, shuffled, burst.last, at, burst, expected, factor)

    def release(self, mark: Mark) -> None:
        """A send has ended, however it did: nothing more will be charged for it."""
        self._question.ended(mark.reckoned)
        self._refill.ended(mark.reckoned)
        if self._scout is not None and self._scout[0] == mark.reckoned:
            self._scout = None
        self._outstanding = max(self._outstanding - mark.cost, 0.0)
        if self._outstanding <= EPSILON:
            self._flight, self._unsure = 0.0, False

    def charge(self, extra: float) -> None:
        """Correct an earlier charge: positive is a debt, negative a refund.

        The account stays as it is: replies to what was sent meanwhile are compared with it as it was then.
        """
        self._own += extra
        self._level = min(self._level - extra, self.limit)
        if not self._charging.is_later:
            self.log.correct(extra, self._at, period=self.period)

    def answered(self, mark: Mark, tokens: float, now: float, *, reckoned: float) -> None:
        """The answer to a send took *tokens*: some servers charge them only now, and the reply told nothing of them."""
        self._charging.answered(tokens, reckoned)
        if not self._charging.is_corrected:
            return
        self._advance(now)
        extra = tokens - mark.cost
        self._own += extra
        self._account -= extra
        self._level = min(self._level - extra, self.limit)
        if self._charging.is_later:
            self._uncertain.learn(tokens, mark.cost)
            self.log.add(tokens, self._at, period=self.period)
        else:
            self.log.correct(extra, self._at if mark.at is None else mark.at, period=self.period)

    def unseen(self, mark: Mark, now: float) -> None:
        """A send to which nobody saw the answer: where that is what is charged, it took what we reckoned, by now."""
        self._advance(now)
        if self._charging.is_later:
            self.log.add(mark.cost, self._at, period=self.period)

    def arrived(self, sent: float, by: float | None) -> None:
        """What was to leave at *sent* was at the server at *by*, and counts from then on; None = nobody knows."""
        self.log.arrived(sent, by)
        self.clock.arrived(sent, by)

    def believe(self, charged: When) -> None:
        """An earlier run saw tokens charged so."""
        self._charging.believe(charged)

    def restore(self, cost: float, sent: float) -> None:
        """At a start, oldest first: what an earlier run sent still counts."""
        if not self.replies and self._outstanding <= EPSILON:
            self._at = min(self._at, sent)
        self._advance(sent)
        self._level -= cost
        self.log.add(cost, sent, period=self.period)

    # -- private

    def _held(self, cost: float, missing: float, now: float, *, alone: bool) -> float | None:
        """Seconds that a question of ours takes, however much is left; None: there is none."""
        if (silence := self._question.wait(now)) > 0:
            return silence
        if self._refill.is_open and (asks_in := self._asks_refill(cost, missing, now, alone=alone)) is not None:
            return asks_in
        if self.clock.probing and (behind := self._behind_scout(cost, now)) > 0:
            return behind
        if self._asks_what_is_unused(cost):
            return max(self._at - now, 0.0) if alone else inf
        return None

    def _gather(self, at: float, *, alone: bool, shuffled: float) -> None:
        """The send belongs to the burst of the one before, or begins another."""
        sums = self._sums
        if at > self._burst.at + LENGTH:
            self._burst = Burst(at, first=sums, alone=alone, shuffled=shuffled)
        self._burst.count += 1
        self._burst.last = sums

    def _asks_in(self, now: float) -> float:
        """Whatever we believe: a period after the last send one asks."""
        last = self._history[-1][0] if self._history else self._at
        asks_at = last + self.period
        if self.algorithm is Algorithm.COUNTER and self._level < 0:  # a debt there does not come back evenly
            asks_at = min(asks_at, self._probe_at)
        return max(asks_at - now, 0.0)

    def _asks_what_is_unused(self, cost: float) -> bool:
        """Whether one goes alone now, as more may have been given back than is left; *cost*: as charged."""
        least = max(UNUSED * cost, UNUSED_SHARE * (self.limit - self._level), self._level)
        return self._charging.doubtful > least

    def _behind_scout(self, cost: float, now: float) -> float:
        """Seconds until another may follow the one that went ahead into a new window, before its answer is here.

        Once it would have been refused, what our own log allows is right at any server.
        """
        if self._scout is None or self._scout[2] != self.clock.epoch:
            return 0.0
        missing = self.log.total + cost - self.limit
        forgotten = self.log.sent_when(missing) + self.period + GUARD if missing > EPSILON else now
        return max(self._scout[1] + SCOUTED, forgotten) - now

    def _asks_refill(self, cost: float, missing: float, now: float, *, alone: bool) -> float | None:
        """Seconds until the next send may go, which asks what came back; the last of what is left is kept for it.

        None: what is believed decides when that is.
        """
        no_window = self._refill.is_bold and self.algorithm is not Algorithm.WINDOW  # that is known by now
        enough = missing + cost <= EPSILON or no_window
        if not alone and (self._refill.is_asking or not enough):
            return inf
        left, told_at = max(self._level, self._least), self._told_at
        if enough:
            if alone and left < self.limit / 2 and self._trip <= QUICK * self.period:
                self._refill.ask_now(left=left, told_at=told_at, now=now)
            else:
                self._refill.rest()
            return None
        wait = self._refill.wait(cost, left=left, told_at=told_at, limit=self.limit, period=self.period, now=now)
        bold = self._refill.is_open and self._refill.is_bold and missing > EPSILON
        return wait if wait > 0 or bold else None

    def _advance(self, now: float) -> None:
        passed = now - self._at
        if passed <= 0:
            return
        self._at = now
        forgotten = self.log.forget(now - self.period - GUARD - self._lag)
        match self.algorithm:
            case Algorithm.BUCKET | Algorithm.COUNTER:
                back = passed * self.rate
            case Algorithm.SLIDING:
                back = forgotten
            case _:
                back = 0.0
        self._least = min(self._least + back, self.limit)
        back -= 0.0 if self._is_exact else passed * (self.rate - self._ours)
        self._back += back
        self._account += back
        most = self.limit
        if self.algorithm is Algorithm.SLIDING:  # what a reply told is back does not come back by our log again
            most = max(self.limit - self._logged, self._level)
        self._level = min(self._level + back, most)
        self._proof.follow(now, sliding=self.algorithm is Algorithm.SLIDING)
        if self.clock.roll(now):
            self._level = self._least = self.limit
            self._own = 0.0
            self._charging.roll(self.limit, self._sums)
        elif self.algorithm is Algorithm.SLIDING and self._is_exact and self._outstanding <= EPSILON:
            self._level = self.limit - self._logged  # our own log says it all
        self._deviation *= 0.5 ** (passed / self.period)
        self._others.fade(passed, self.period)
        self._burnt *= 0.5 ** (passed / self.period)
