"""One window of one provider, watched from outside: how much of it is left, and when the next request may go.

The server's limiter is a hidden state machine; a meter keeps our own account of it and corrects that account by what
replies tell. The account is ours alone: *level* = what was there, plus what comes back, minus our own sends. A reply
says ``remaining``, but with N requests in flight that is a picture of some moment between its send and its receipt, so
it only proves an interval for what is left now:

    remaining + (account now - account then),   for every "then" from sent to received

and for a "then" before the send, by as much as sends may overtake one another and servers may charge late. The level
is pulled onto the nearer edge of that interval, quickly down (1/8) and slowly up (1/64), and never assigned but where
nothing else was in flight; inside the interval it stays. Replies may come in any order, and old ones do no harm.
"""

from collections import deque
from dataclasses import replace
from math import inf

from batchrunner.limits.algorithm import SETTLED, STEADY, Algorithm
from batchrunner.limits.charging import RIGHT, Charging
from batchrunner.limits.clock import COARSE, GUARD, PERIOD, Clock
from batchrunner.limits.mark import Burst, Mark
from batchrunner.limits.others import MOST, Others
from batchrunner.limits.periods import snapped
from batchrunner.limits.proof import JITTER, Proof
from batchrunner.limits.question import Question
from batchrunner.limits.refill import Refill
from batchrunner.limits.spent import Spent
from batchrunner.limits.told import Reading, Told
from batchrunner.limits.uncertain import uncertain
from batchrunner.quota import Dimension, Window

MISSING = 0.25  # of the limit
SECOND = 1.0
EPSILON = 1e-6  # a deficit below this is none: a wait shorter than the clock's tick would never end
GAIN_DOWN = 1 / 8
GAIN_UP = 1 / 64
ROOM = 0.05  # of the limit, left by our own account, where a refusal is no matter of milliseconds
OTHERS_AHEAD = 0.5  # seconds of what others take may be held back
FIRST = 4  # replies
FIRST_MOST = 5.0  # times what we reckon, that the first request may have been charged
SAME = 0.95  # times a cost is about the same
CHARGE_GAIN = 1 / 8
LAG_MOST = 0.5  # seconds
LAG_FADES = 0.99  # a reply
TRIP_GAIN = 1 / 8
DEVIATION_GAIN = 1 / 32
DEVIATIONS = 3.0  # of our account from what replies prove, are held back against shuffled arrivals
RESERVE_SHARE = 0.01  # of the limit, at most, is held back against shuffled arrivals
SHUFFLED = 0.2  # of what was sent in that time usually does
BURST = 0.05  # seconds of sends that arrive in any order
QUICK = 0.05  # of a period, for a round trip
UNMET = 0.05  # of what is in flight that others may have taken, until a limit's worth was answered
SHUFFLE = 0.02  # seconds of a bucket's sends that are held back at the least
STEP = 2.0  # permits that are missing at a refusal mean that, where resets are whole seconds
STEP_HELD = 0.7  # of such a second's; our account, which goes down faster than up, holds back the rest
PROBE = 1.0  # seconds to the first try, where nothing is left and nothing says when more will be; then ever longer
PROBE_GROWTH = 1.6


class Meter:
    """What is left in one window, in permits (requests or tokens). The level may be negative: a debt is waited off."""

    def __init__(
        self,
        dimension: Dimension,
        limit: float,
        *,
        now: float,
        period: float | None = None,
        algorithm: Algorithm = Algorithm.UNKNOWN,
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
        self._lag = 0.0  # seconds that sends leave later than they may
        self._burst = Burst(-inf)
        self._own = 0.0  # cost of our sends in this window
        self._burnt = 0.0  # cost of refused requests, of late
        self._others = Others()
        self._question = Question()
        self._usual = 0.0  # cost of a send
        self._unsure = False  # whether the one reply so far tells what is charged for a send that costs so much less
        self._before: tuple[float, float] | None = None  # what the reply to one that went alone told, and when it left
        self._steps = False  # whether what comes back in a second comes all at once
        self._proof = Proof()
        self._refill = Refill()
        self._told_at = now
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
        """The same, without what others take; the limit may have shrunk since that was learned."""
        return max(self.rate - self._others.rate, self.rate * (1 - MOST))

    @property
    def factor(self) -> float:
        """What is charged for a request, over what we reckon."""
        return self._charging.factor

    @property
    def undecided(self) -> bool:
        """Whether a single reply should be seen before the others go."""
        return self.clock.probing or self._unsure

    @property
    def _is_new(self) -> bool:
        """Whether the replies to a limit's worth, which tell whether others are about, are not all here yet."""
        return (
            self.algorithm is not Algorithm.SLIDING and self._reckoned * self.factor - self._outstanding <= self.limit
        )

    @property
    def _is_quick(self) -> bool:
        """Whether it costs nothing to wait for all that is in flight; then replies tell what is left."""
        return self.algorithm is Algorithm.WINDOW and self._trip <= QUICK * self.period

    @property
    def _is_unproven(self) -> bool:
        """Whether our log of a sliding window is not known to be the server's: then only what replies saw is used."""
        if self.clock.presumed and not self.clock.is_timed:
            return True
        return self.algorithm is Algorithm.SLIDING and self._proof.is_due(self._at, self.period)

    @property
    def reserve(self) -> float:
        """Permits that are held back: where capacity comes back all the time, arrivals in another order can need it."""
        unsure = uncertain(self.dimension, self._outstanding, self._usual, most=self.limit / 4)
        if self.dimension is Dimension.REQUESTS and self._is_new:
            unsure = max(unsure, UNMET * (self._flight if self._is_quick else self._outstanding))
        if self._is_exact:
            return max(min(self._burnt, max(self.limit * RESERVE_SHARE, 1.0)), unsure)
        shuffled = max(1.0, self.rate * SHUFFLE)
        theirs: float = DEVIATIONS * (self._others.rate * self._trip) ** 0.5  # may have come more often than usual
        most = max(self.limit * RESERVE_SHARE, 1.0, self._others.rate * OTHERS_AHEAD)
        stepped = self.rate * COARSE * STEP_HELD if self._steps else 0.0
        return max(
            min(max(DEVIATIONS * self._deviation, shuffled), most), min(max(theirs, stepped), self.limit / 4), unsure
        )

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

        *alone*: nothing of ours is in flight, so the reserve has nothing to guard against and blocks nothing.
        """
        self._advance(now)
        cost *= self.factor
        reserve = 0.0 if alone else self.reserve
        level = max(self._level, self._least) if alone and self.replies else self._level
        missing = min(cost, self.limit - reserve) + reserve - level
        if (silence := self._question.wait(now)) > 0:
            return silence
        if self._refill.is_open and (wait := self._asks_refill(cost, missing, now, alone=alone)) > 0:
            return wait
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
        if at > self._burst.since + BURST:
            self._burst = Burst(at)
        self._burst.reckoned = self._reckoned
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
        self.log.add(cost, at, period=self.period)
        self._proof.seen -= cost
        self.clock.sent(at)
        before = self._account if alone else max(self._history[0][1], self._account)
        shuffled = (before - self._account) * SHUFFLED
        if self.dimension is not Dimension.REQUESTS:  # some servers charge tokens when the answer is there, not before
            before = max(before, self._account + self._outstanding)
        self._outstanding += cost
        self._flight = max(self._flight, self._outstanding)
        self._question.sent(self._reckoned, at)
        reckoned, epoch = self._reckoned, self.clock.epoch
        burst, back = self._burst, self._back
        return Mark(self._account, before, epoch, cost, alone, shuffled, reckoned, back, at, burst, expected)

    def release(self, mark: Mark) -> None:
        """A send has ended, however it did: nothing more will be charged for it."""
        self._question.ended(mark.reckoned)
        self._outstanding = max(self._outstanding - mark.cost, 0.0)
        if self._outstanding <= EPSILON:
            self._flight, self._unsure = 0.0, False

    def charge(self, extra: float) -> None:
        """Correct an earlier charge: positive is a debt, negative a refund.

        The account stays as it is: replies to what was sent meanwhile are compared with it as it was then.
        """
        self._own += extra
        self._level = min(self._level - extra, self.limit)
        if extra < 0:
            self.log.give_back(-extra)
        elif extra > 0:
            self.log.add(extra, self._at, period=self.period)

    def restore(self, cost: float, sent: float) -> None:
        """At a start, oldest first: what an earlier run sent still counts."""
        if not self.replies and self._outstanding <= EPSILON:
            self._at = min(self._at, sent)
        self._advance(sent)
        self._level -= cost
        self.log.add(cost, sent, period=self.period)

    def observe(self, window: Window, mark: Mark, *, sent_at: float, received_at: float, refused: bool = False) -> None:
        """Take in what one reply told of this window."""
        self._advance(received_at)
        if mark.at is not None:
            self._told_at = max(self._told_at, mark.at)
            self._lag = max(sent_at - mark.at, self._lag * LAG_FADES)
        self._trip += ((received_at - sent_at) - self._trip) * TRIP_GAIN
        self.replies += 1
        window = self._whole(window, mark.cost)
        remaining = window.remaining
        reading = self._read(window, mark.epoch, sent_at, received_at, refused=refused)
        self._expect(window, received_at)
        if remaining is None or reading is Reading.OLD:
            return
        if reading is Reading.NEXT:
            self._charging.restart()
            self._level = self._least = min(self.limit, remaining)
            return
        if reading is Reading.CHANGED and self.algorithm is not Algorithm.WINDOW:
            self._anchored = False  # of what has come back until now, our account knows nothing
        if not refused and self._refill.asked(mark.reckoned):
            self._refilled(remaining + mark.cost, mark.cost)
        later = (self._reckoned - mark.reckoned) * self.factor
        if (
            self._is_unproven
            and self._proof.fails(
                remaining, mark, self.log, now=self._at, period=self.period, limit=self.limit, later=later
            )
            and not self.clock.presumed  # a fixed window may well have more, or less
        ):
            self.clock.count()
            self._others = Others()  # what seemed to be theirs was just not back yet
            self._level = self._least = min(self._level, self._proof.seen)
            return
        self._least = min(self._least, remaining)
        if not refused and (silence := self._question.answer(mark.reckoned)) is not None:
            self._others.left((remaining + mark.cost) / silence, self.rate)
            self._level = min(self._level, remaining + self._account - mark.account)
        if self.dimension is not Dimension.REQUESTS and mark.cost:
            self._learn_charge(remaining, mark, window.requested, refused=refused)
        if self.clock.presumed and self._went_alone(mark):
            self._time(remaining, mark.cost, refused=refused)
        self._project(remaining, mark)
        self._before = (remaining, mark.at) if self._went_alone(mark) and mark.at is not None else None

    def refused(self, mark: Mark, now: float, window: Window | None = None, retry_after: float | None = None) -> None:
        """A refusal is an observation: there was not enough for that cost, and the send itself was not charged.

        A bucket may be in debt, which ``remaining`` does not show: then *retry_after* does.
        """
        self._advance(now)
        self.refusals += 1
        if self._refill.asked(mark.reckoned):
            self._refill.refused()
        if not self.clock.presumed:
            self._doubt(mark, now)
        if mark.epoch == self.clock.epoch and self.limit - self._own > ROOM * self.limit:
            self.clock.shared = True
        self.charge(-mark.cost)
        self._expect(window, now)
        drift = max(self._account - mark.account, 0.0)
        self._deviation = min(self._deviation + mark.cost / DEVIATIONS, self.limit * RESERVE_SHARE)
        self._burnt += mark.cost
        left = mark.cost - 1
        if window is not None and window.remaining is not None:
            left = min(left, window.remaining)
        if retry_after is not None and self.algorithm is Algorithm.BUCKET and retry_after < self.period:
            left = min(left, mark.cost - retry_after * self.rate)
        self._least = min(self._least, left)
        if self.clock.presumed:
            self._wait_longer(left)
            return
        if self.algorithm is Algorithm.SLIDING and self._is_exact:
            self._lag = min(self._lag + GUARD, LAG_MOST)
            self._others.hint(self.rate)
            return
        self._blame(max(self._level - left - drift, 0.0), mark, now if mark.at is None else mark.at)
        self._level = min(self._level, left + drift)

    # -- private

    def _asks_in(self, now: float) -> float:
        """Whatever we believe: a period after the last send one asks."""
        last = self._history[-1][0] if self._history else self._at
        return max(last + self.period - now, 0.0)

    def _doubt(self, mark: Mark, now: float) -> None:
        """Whether a refusal is no matter of a moment at this kind of limit."""
        verdict = self.algorithm
        if self.algorithm is Algorithm.SLIDING and self.limit - self.log.total > ROOM * self.limit:
            self.clock.doubt(now)
        if self.algorithm is Algorithm.WINDOW and mark.epoch == self.clock.epoch and self._level > self.limit / 2:
            self.clock.doubt(now)
        if self.algorithm is not verdict:  # our account was that of another kind of limit
            self._anchored, self._others = False, Others()
            self._level = max(self._level, 0.0)

    def _wait_longer(self, left: float) -> None:
        """Only *left* is there, and nothing tells when more will be: all that is used comes back a period from now."""
        self._level = min(self._level, left)
        if self._outstanding > EPSILON:
            return
        self._keep_log()

    def _blame(self, permits: float, mark: Mark, at: float) -> None:
        """So much less was there for a send at *at* than we thought: others took it, or it comes back in steps."""
        if self.algorithm is Algorithm.BUCKET:
            self._steps = self._steps or (self.clock.is_coarse and permits > STEP)
            if self.dimension is Dimension.REQUESTS:
                self._question.raise_(at, trip=self._trip, period=self.period)
        if self.algorithm in STEADY:
            self._others.took(permits, at, sent=self._own, whole=self.rate, period=self.period)
        elif mark.epoch == self.clock.epoch and (begun := self.clock.begun_at) is not None:
            self._others.had(self.limit - self._own, at - begun, whole=self.rate)

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
            most = max(self.limit - self.log.total, self._level)
        self._level = min(self._level + back, most)
        self._proof.follow(now, sliding=self.algorithm is Algorithm.SLIDING)
        if self.clock.roll(now):
            self._level = self._least = self.limit
            self._own = 0.0
            self._charging.restart()
        elif self.algorithm is Algorithm.SLIDING and self._is_exact and self._outstanding <= EPSILON:
            self._level = self.limit - self.log.total  # our own log says it all
        self._deviation *= 0.5 ** (passed / self.period)
        self._others.fade(passed, self.period)
        self._burnt *= 0.5 ** (passed / self.period)

    def _read(self, window: Window, epoch: int, sent_at: float, received_at: float, *, refused: bool) -> Reading:
        """Take in limit, period and reset; says what ``remaining`` is about."""
        if window.limit is not None and window.limit > 0:
            self._set_limit(window.limit)
        if window.period is not None:
            self.clock.name_period(window.period)
        if epoch == self.clock.epoch:
            self.clock.sent(sent_at)
        told = Told(
            limit=self.limit,
            used=None if window.remaining is None else self.limit - window.remaining,
            reset=window.reset_after,
            epoch=epoch,
            sent_at=sent_at,
            received_at=received_at,
            refused=refused,
            coarse=window.coarse,
        )
        reading = self.clock.read(told)
        if reading is Reading.CHANGED and self.clock.presumed:
            self._refill.open(is_named=self.clock.is_timed)
        return reading

    def _asks_refill(self, cost: float, missing: float, now: float, *, alone: bool) -> float:
        """Seconds until the next send may go, which asks what came back; the last of what is left is kept for it."""
        if missing + cost <= EPSILON:
            self._refill.rest()
            return 0.0
        if not alone:
            return inf
        left = max(self._level, self._least)
        known = {"left": left, "told_at": self._told_at, "rate": self.rate, "period": self.period}
        return self._refill.wait(cost, now=now, **known)

    def _refilled(self, found: float, cost: float) -> None:
        """The one that asks found so much."""
        known = self._refill.answer(found, cost, limit=self.limit, period=self.period)
        if known is not None:
            period, drips = known
            self.clock.time(period, drips=drips)
            self._anchored = False

    def _time(self, remaining: float, cost: float, *, refused: bool) -> None:
        """A request that went alone tells whether what our log says is back is so."""
        missing = self.limit - self.log.total - remaining
        early = missing > (cost if refused else MISSING * self.limit)
        if self.clock.outlasts(early=early, full=remaining > self.limit / 2):
            self._refill.open(is_named=False)

    def _expect(self, window: Window | None, now: float) -> None:
        """When to ask again if nothing is left and no clock is known: at the reset that was told, or step by step."""
        if window is not None and window.reset_after is not None:
            self._probe_at = now + window.reset_after + GUARD
        elif window is not None and window.remaining is not None and window.remaining >= 1:
            self._probe_step = PROBE
        else:
            self._probe_at = now + self._probe_step
            self._probe_step = min(self._probe_step * PROBE_GROWTH, self.period)

    def _set_limit(self, limit: float) -> None:
        if limit == self.limit:
            return
        if self.replies == 1 or self.algorithm not in STEADY:  # what was used of it stays used
            self._level += limit - self.limit
            self._least += limit - self.limit
        self.limit = limit
        self._level = min(self._level, limit)

    def _whole(self, window: Window, cost: float) -> Window:
        """A limit by the second, and more left than that: then it is a rate, and what is left is of a longer time."""
        if window.period != SECOND or not window.limit:
            return window
        if window.remaining is not None and window.remaining > window.limit:
            self._holds = max(self._holds, snapped((window.remaining + cost) / window.limit))
        return replace(window, limit=self._holds * window.limit, period=self._holds)

    def _project(self, remaining: float, mark: Mark) -> None:
        then = remaining + self._account - mark.account  # were the header written as the request was sent
        low = min(remaining + self._account - mark.before, remaining)
        high = min(then + mark.overtaken(self.factor), max(self.limit, remaining))
        nothing_else = self._went_alone(mark)
        if self.algorithm is Algorithm.SLIDING and not (nothing_else and self.clock.presumed):
            high = min(high, self.limit - self.log.total)
            low = min(low, high)
        if nothing_else:
            self.clock.shared = self.limit - remaining - self._own > ROOM * self.limit
        if not self._anchored or nothing_else:
            self._level, self._least, self._anchored = low, remaining, True  # the first word, or under a new verdict
            self._keep_log()
            return
        if self._outstanding <= EPSILON:  # all that we sent is in what replies told: no interval is left
            self._level = min(max(self._level, self._least), self._least + 1.0)
            self._keep_log()
            return
        if self._level > high:
            self._others.missing(max(self._level - 1.0 - high, 0.0), self.rate)  # remaining is told in whole permits
            self._correct(high - self._level, GAIN_UP if self._is_exact else GAIN_DOWN)
        elif self._level < low:
            self._others.missing(self._level - low, self.rate)
            self._correct(low - self._level, GAIN_UP)
        else:
            self._deviation *= 1 - DEVIATION_GAIN

    def _keep_log(self) -> None:
        """How much of the window is used is known; our own log then only says when that comes back."""
        if self.clock.presumed:
            self.log.hold(self.limit - self._level, self._at)

    def _went_alone(self, mark: Mark) -> bool:
        """Nothing else of ours was on its way with it, or left since."""
        return mark.alone and mark.reckoned == self._reckoned

    def _learn_charge(self, remaining: float, mark: Mark, requested: float | None, *, refused: bool) -> None:
        """What is charged for a request, of what we reckon: the first tells at once, the others by and by."""
        request, charged = mark.cost / self.factor, self.limit - remaining
        if self.replies == 1 and request < charged <= FIRST_MOST * request:  # of a quota that was full, most likely
            self._charging.refused(charged, request)
        elif refused:
            self._charging.refused(requested or (remaining + 1.0), request)
        elif self.replies <= FIRST and self._before is not None and self._went_alone(mark):
            left, at = self._before  # nothing else of ours was sent since then
            back = 0.0 if self.algorithm is Algorithm.WINDOW or mark.at is None else (mark.at - at) * self.rate
            charged = min(min(left + back, self.limit) - remaining, FIRST_MOST * request)
            if charged > (1 + RIGHT) * mark.cost:
                self._charging.refused(charged, request)
        elif self.algorithm not in SETTLED:  # what comes back there, we know too roughly
            told = {"reckoned": mark.reckoned, "back": mark.back, "request": request, "shuffled": mark.shuffled}
            gain = CHARGE_GAIN if self.algorithm is Algorithm.BUCKET else 0.0  # in a window each picture is too rough
            self._charging.learn(remaining, gain=gain, **told)

    def _correct(self, error: float, gain: float) -> None:
        self._level += error * gain
        if not self._is_exact:
            self._deviation += (abs(error) - self._deviation) * DEVIATION_GAIN
