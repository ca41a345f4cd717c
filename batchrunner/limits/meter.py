"""One window of one provider, watched from outside: our own account of it, corrected by what replies tell.

The server's limiter is a hidden state machine; the account is ours alone (account.py). A reply says ``remaining``, but
with N requests in flight that is a picture of some moment between its send and its receipt, so it only proves an
interval for what is left now:

    remaining + (account now - account then),   for every "then" from sent to received

and for a "then" before the send, by as much as sends may overtake one another and servers may charge late. The level
is pulled onto the nearer edge of that interval, quickly down (1/8) and slowly up (1/64), and never assigned but where
nothing else was in flight; inside the interval it stays. Replies may come in any order, and old ones do no harm.
"""

from dataclasses import replace
from math import inf

from batchrunner.limits.account import DEVIATIONS, EPSILON, PROBE, RESERVE_SHARE, SECOND, UNUSED, Account
from batchrunner.limits.algorithm import SETTLED, STEADY, Algorithm
from batchrunner.limits.burst import LENGTH, Burst
from batchrunner.limits.charging import RIGHT
from batchrunner.limits.clock import GUARD
from batchrunner.limits.mark import Mark
from batchrunner.limits.others import Others
from batchrunner.limits.periods import snapped
from batchrunner.limits.proof import JITTER
from batchrunner.limits.question import SILENCE
from batchrunner.limits.spent import RECALLED
from batchrunner.limits.told import Reading, Told
from batchrunner.limits.written import Picture
from batchrunner.quota import Dimension, Window

MISSING = 0.25  # of the limit
GAIN_DOWN = 1 / 8
GAIN_UP = 1 / 64
ROOM = 0.05  # of the limit, left by our own account, where a refusal is no matter of milliseconds
FIRST, SECOND_REPLY = 4, 2  # replies
FIRST_MOST = 5.0  # times what we reckon, that the first request may have been charged
CHARGE_GAIN = 1 / 8
LAG_MOST = RECALLED
LAG_FADES = 0.99  # a reply
LATER = 2.0  # times what is known to be remembered too long
TRIP_GAIN = 1 / 8
DEVIATION_GAIN = 1 / 32
STEP = 2.0  # permits that are missing at a refusal mean that, where resets are whole seconds
PROBE_GROWTH = 1.6
SOON = 1.0  # seconds, from a send to its arrival at the server
RETURNS = 4.0  # times what comes back in a round trip
TELLING = 4.0  # permits should come back in the silence before a question, for the answer to tell anything


class Meter(Account):
    """An account that replies correct: ``observe`` what each tells, ``refused`` as well where it was a refusal."""

    def observe(self, window: Window, mark: Mark, *, sent_at: float, received_at: float, refused: bool = False) -> None:
        """Take in what one reply told of this window."""
        self._advance(received_at)
        if mark.at is not None:
            self._told_at = max(self._told_at, mark.at)
            self._lag *= LAG_FADES
        self._trip += ((received_at - sent_at) - self._trip) * TRIP_GAIN
        self.replies += 1
        window = self._whole(window, mark.cost)
        remaining = window.remaining
        went_ahead = self.clock.probing
        reading = self._read(window, mark, sent_at, received_at, refused=refused)
        self._expect(window, received_at)
        if remaining is None or reading is Reading.OLD:
            self._tell_by_account(mark)
            return
        if reading is Reading.NEXT:
            self._charging.roll(remaining, mark.sums)
            self._level = self._least = min(self.limit, remaining)
            return
        if reading is Reading.CHANGED and self.algorithm is not Algorithm.WINDOW:
            self._anchored = False  # of what has come back until now, our account knows nothing
        if not refused and self._refill.asked(mark.reckoned):
            self._refilled(remaining + mark.cost, mark.cost)
        if self._is_disproven(remaining, mark):
            return
        self._least = min(self._least, remaining)
        if refused:
            self._see_what_it_took(remaining, mark)
        else:
            self._see_silence(remaining, mark)
            self._learn_charge(remaining, mark)
        if self.clock.presumed and self._went_alone(mark):
            self._time(remaining, mark.cost, refused=refused)
        self._project(remaining, mark, first=went_ahead and not self.clock.probing)
        self._before = (remaining, mark.at) if self._went_alone(mark) and mark.at is not None else None

    def fell_short(self, window: Window, mark: Mark) -> None:
        """A refusal told so little of no other window: more than is left is charged for such a request, most likely."""
        if self.dimension is not Dimension.REQUESTS and mark.cost and window.remaining is not None:
            self._charging.needs(window.requested or (window.remaining + 1.0), mark.cost / mark.factor)

    def refused(self, mark: Mark, now: float, window: Window | None = None, retry_after: float | None = None) -> None:
        """A refusal is an observation: there was not enough for that cost, and the send itself was not charged.

        A bucket may be in debt, which ``remaining`` does not show: then *retry_after* does.
        """
        self._advance(now)
        self.refusals += 1
        if self._refill.asked(mark.reckoned):
            self._refill.refused()
        left = mark.cost - 1
        if window is not None and window.remaining is not None:
            left = min(left, window.remaining)
        recalled = self._recall(left, mark)
        if not self.clock.presumed:
            self._doubt(mark, now)
        if self._is_whole(mark) and self.limit - self._own > ROOM * self.limit:
            self.clock.shared = True
        self.charge(-mark.cost)
        self._charging.refused(self._reckoned)
        if mark.burst is not None:
            mark.burst.refused += 1
        self._expect(window, now)
        drift = max(self._account - mark.account, 0.0)
        self._deviation = min(self._deviation + mark.cost / DEVIATIONS, self.limit * RESERVE_SHARE)
        self._burnt += mark.cost
        if retry_after is not None and self.algorithm is Algorithm.BUCKET and retry_after < self.period:
            left = min(left, mark.cost - retry_after * self.rate)
        self._least = min(self._least, left)
        if self.clock.presumed:
            self._wait_longer(left)
            return
        if self.algorithm is Algorithm.SLIDING and self._is_exact:
            if not recalled:
                self._lag = min(self._lag + GUARD, LAG_MOST)
                self._others.hint(self.rate)
            return
        self._blame(max(self._level - left - drift, 0.0), mark, now if mark.at is None else mark.at)
        self._level = min(self._level, left + drift)

    # -- private

    def _tell_by_account(self, mark: Mark) -> None:
        """A reply tells nothing of what is left; of the window that we are in, our own account does."""
        if mark.epoch == self.clock.epoch:
            self._least = min(self._least, self._level)

    def _is_disproven(self, remaining: float, mark: Mark) -> bool:
        """Whether our own log of a sliding window is not what the server counts, as this reply tells."""
        if not self._is_unproven:
            return False
        later = (self._reckoned - mark.reckoned) * self.factor
        fails = self._proof.fails(
            remaining, mark, self.log, now=self._at, period=self.period, limit=self.limit, later=later
        )
        if not fails or self.clock.presumed:  # a fixed window may well have more, or less
            return False
        self.clock.count()
        self._others = Others()  # what seemed to be theirs was just not back yet
        self._level = self._least = min(self._level, self._proof.seen)
        return True

    def _recall(self, left: float, mark: Mark) -> float:
        """What our log of a sliding window forgot last, the server remembered when it refused; returns how much."""
        is_ours = self._is_exact and not self._charging.is_later  # then our log is of answers, not of sends
        if self.clock.presumed or self.algorithm is not Algorithm.SLIDING or not is_ours or mark.at is None:
            return 0.0
        recalled, sent = self.log.recall(self.limit - left - self.log.total + mark.cost)
        if recalled:
            self._lag = min(max(self._lag, LATER * (mark.at - sent - self.period)), LAG_MOST)
            self._level -= recalled
            self._account -= recalled
            self._back -= recalled
        return recalled

    def _doubt(self, mark: Mark, now: float) -> None:
        """Whether a refusal is no matter of a moment at this kind of limit."""
        verdict = self.algorithm
        if self.algorithm is Algorithm.SLIDING and self.limit - self._logged > ROOM * self.limit:
            self.clock.doubt(now if mark.at is None else mark.at, now)
        if self.algorithm is Algorithm.WINDOW and mark.epoch == self.clock.epoch and self._level > self.limit / 2:
            self.clock.doubt(now if mark.at is None else mark.at, now)
        if self.algorithm is not verdict:  # our account was that of another kind of limit
            self._anchored, self._others = False, Others()
            self._level = max(self._level, 0.0)

    def _wait_longer(self, left: float) -> None:
        """Only *left* is there, and nothing tells when more will be: all that is used comes back a period from now."""
        self._level = min(self._level, left)
        if self._outstanding <= EPSILON:
            self._keep_log()

    def _blame(self, permits: float, mark: Mark, at: float) -> None:
        """So much less was there for a send at *at* than we thought: others took it, or it comes back in steps."""
        if self.algorithm is Algorithm.BUCKET:
            self._steps = self._steps or (self.clock.is_coarse and permits > STEP)
            if self.dimension is Dimension.REQUESTS and self.rate * SILENCE >= TELLING:
                self._question.raise_(at, trip=self._trip, period=self.period)
        if self.algorithm in STEADY:
            self._others.took(permits, at, sent=self._own, whole=self.rate, period=self.period)
        elif self._is_whole(mark) and (begun := self.clock.begun_at) is not None:
            self._others.had(self.limit - self._own, at - begun, whole=self.rate)

    def _is_whole(self, mark: Mark) -> bool:
        """Whether it was sent in the window we are in, of which we know all that we sent."""
        return mark.epoch == self.clock.epoch and not self.clock.is_rest

    def _read(self, window: Window, mark: Mark, sent_at: float, received_at: float, *, refused: bool) -> Reading:
        """Take in limit, period and reset; says what ``remaining`` is about."""
        if window.limit is not None and window.limit > 0:
            self._set_limit(window.limit)
        if window.period is not None:
            self.clock.name_period(window.period)
        if mark.epoch == self.clock.epoch:
            self.clock.sent(sent_at)
        if not refused:
            self._see(window, mark, sent_at)
        if self._written.early and not window.instant:
            received_at = min(received_at, sent_at + SOON)
        told = Told(
            limit=self.limit,
            used=None if window.remaining is None else self.limit - window.remaining,
            reset=None if window.reset_after is None else window.reset_after - window.ago,
            epoch=mark.epoch,
            sent_at=sent_at,
            received_at=received_at,
            refused=refused,
            instant=window.instant or self._written.early is False,
            coarse=window.coarse,
        )
        went_ahead = self.clock.probing
        reading = self.clock.read(told)
        if reading is Reading.CHANGED and self.clock.presumed:
            self._refill.open(is_named=self.clock.is_timed)
        elif went_ahead and reading is not Reading.OLD and self._is_stale(window):
            self._refill.open(is_named=True, bold=True)
        return reading

    def _see(self, window: Window, mark: Mark, sent_at: float) -> None:
        """Whether it was written as the request came in, only requests tell: what tokens cost is not known so well."""
        if self.dimension is Dimension.REQUESTS and window.remaining is not None and mark.at is not None:
            used, by_then = self.limit - window.remaining, self._reckoned
            self._written.add(
                Picture(used=used, sent=mark.reckoned, by_then=by_then, sent_at=sent_at, epoch=mark.epoch)
            )

    def _is_stale(self, window: Window) -> bool:
        """Whether a whole new window begins with much of what our own log holds used: others', or it is none."""
        if self.algorithm is not Algorithm.WINDOW or window.remaining is None or window.reset_after is None:
            return False
        whole = window.reset_after > self.period / 2
        return whole and self.limit - window.remaining >= max(self.log.total, self.limit / 2) / 2

    def _refilled(self, found: float, cost: float) -> None:
        """The one that asks found so much."""
        known = self._refill.answer(found, cost, limit=self.limit, period=self.period)
        if known is not None and self._refill.is_bold:
            self.clock.count()
            self._anchored, self._others = False, Others()
        elif known is not None:
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
        if window is not None and window.reset_after is not None and (window.remaining or 0.0) >= 0:
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

    def _project(self, remaining: float, mark: Mark, *, first: bool) -> None:
        """Correct the level; *first*: of a window, into which what left before it may have fallen as well."""
        then = remaining + self._account - mark.account  # were the header written as the request was sent
        if first:
            self._level = min(self._level, then)
        nothing_else = self._went_alone(mark)
        low, high = self._interval(remaining, mark, then, nothing_else=nothing_else)
        if nothing_else:
            self.clock.shared = self.limit - remaining - self._own > ROOM * self.limit
            self._count_others(remaining, mark)
        if not self._anchored or nothing_else:
            self._level, self._least, self._anchored = low, remaining, True  # the first word, or under a new verdict
            self._charging.anchor(remaining, mark.sums)
            self._keep_log()
            return
        all_told = self._outstanding <= EPSILON and not self._charging.is_corrected
        if all_told:  # all that we sent is in what replies told: no interval is left
            self._level = min(max(self._level, self._least), self._least + 1.0)
            self._count_others(self._least, mark)
            self._keep_log()
            return
        if self._is_guessed and self._level < low:  # so much is there
            self._level, self._least = low, max(self._least, low)
            self._keep_log()
            return
        if self._level > (most := self._most(mark)):
            self._others.missing(max(self._level - 1.0 - most, 0.0), self.rate)
            self._level = most
            return
        if self._level > high and self._is_news(mark):
            self._others.missing(max(self._level - 1.0 - high, 0.0), self.rate)  # remaining is told in whole permits
            self._correct(high - self._level, GAIN_UP if self._is_exact else GAIN_DOWN)
        elif self._level < low:
            self._others.missing(self._level - low, self.rate)
            self._correct(low - self._level, GAIN_UP)
        else:
            self._deviation *= 1 - DEVIATION_GAIN

    def _count_others(self, remaining: float, mark: Mark) -> None:
        """All that we sent is in what replies told: what else is used of a window is theirs."""
        if self.dimension is not Dimension.REQUESTS or not self._is_whole(
            mark
        ):  # what tokens cost is not known so well
            return
        if (begun := self.clock.begun_at) is not None:
            sent = self._at if mark.at is None else mark.at
            self._others.counted(self.limit - remaining - self._own, sent - begun, self.rate)

    def _is_news(self, mark: Mark) -> bool:
        """Whether it may lower the level. What answers changed by then is unsure where they came late, so only one may
        of all that was on its way together.
        """
        if not self._charging.is_later or mark.at is None:
            return True
        if mark.at <= self._lowered_at:
            return False
        self._lowered_at = self._at
        return True

    def _interval(self, remaining: float, mark: Mark, then: float, *, nothing_else: bool) -> tuple[float, float]:
        """The least and the most that can be left now."""
        low = remaining + self._account - mark.before
        if not self._written.early and not self._charging.is_later:
            low = min(low, remaining)
        high = min(then + mark.overtaken(self.factor), max(self.limit, remaining))
        if self.dimension is Dimension.REQUESTS and self.algorithm is Algorithm.BUCKET:
            high = min(high, self._after(mark.burst))
        if self._charging.is_later and mark.at is not None:  # what was charged since then is known, but for a moment
            on_the_way = self.log.since(mark.at) - self.log.since(mark.at + JITTER)
            high = min(high, low + mark.cost + on_the_way)
        guessed = self._is_guessed or (nothing_else and self.clock.presumed)
        if self.algorithm is Algorithm.SLIDING and not guessed:
            high = min(high, self.limit - self._logged)
            low = min(low, high)
        return low, high

    def _most(self, mark: Mark) -> float:
        """What surely is the most that is left of a window: the order of arrivals makes no difference there."""
        if self.dimension is not Dimension.REQUESTS or not self._is_quick:
            return inf
        return self._after(mark.burst) if mark.burst is not None and mark.burst.is_early else inf

    def _after(self, burst: Burst | None) -> float:
        """What is left, by what all of a burst was told: in whatever order it arrived, its last was told the least."""
        if burst is None or not burst.is_told:
            return inf
        since = self._sums.since(burst.last)
        return burst.least + since.back - since.sent

    @property
    def _is_guessed(self) -> bool:
        """Whether all of it comes back soon, and we don't know when."""
        return self.clock.is_brief and not self.clock.is_timed

    def _keep_log(self) -> None:
        """How much of the window is used is known; our own log then only says when that comes back."""
        if self.clock.presumed:
            self.log.hold(self.limit - self._level, self._at)

    def _went_alone(self, mark: Mark) -> bool:
        """Nothing else of ours was on its way with it, or left since."""
        return mark.alone and mark.reckoned == self._reckoned

    def _learn_charge(self, remaining: float, mark: Mark) -> None:
        """What is charged for a request, of what we reckon: the first tells at once, the others by and by."""
        burst = mark.burst
        if burst is not None:
            burst.tell(remaining)
        if self.dimension is Dimension.REQUESTS or not mark.cost:
            return
        self._see_refund(remaining, mark)
        if self.algorithm in STEADY and remaining + mark.cost >= self.limit - EPSILON:  # no more could come back
            self._charging.full(mark.reckoned)
        self._see_charge(remaining, mark)
        request, charged = mark.cost / mark.factor, self.limit - remaining
        if self.replies == 1 and charged <= FIRST_MOST * request:  # of a quota that was full, most likely
            self._first = charged
            if charged > request:
                self._charging.needs(charged, request)
        elif self.replies <= FIRST and self._before is not None and self._went_alone(mark):
            left, at = self._before  # nothing else of ours was sent since then
            back = 0.0 if self.algorithm is Algorithm.WINDOW or mark.at is None else (mark.at - at) * self.rate
            given_back = max(self._first - self._charging.used, 0.0) if self.replies == SECOND_REPLY else 0.0
            charged = min(min(left + back + given_back, self.limit) - remaining, FIRST_MOST * request)
            if charged > (1 + RIGHT) * mark.cost:
                self._charging.needs(charged, request)
        elif burst is not None and burst.is_known and self._at > burst.at + LENGTH:
            gain = CHARGE_GAIN if self.algorithm is Algorithm.BUCKET else 0.0  # in a window each picture is too rough
            rate = self.rate if self.algorithm in STEADY else 0.0
            known = self.algorithm not in SETTLED
            self._charging.learn(burst, request=request, rate=rate, gain=gain, over_time=known)

    def _see_silence(self, remaining: float, mark: Mark) -> None:
        """What came back while we asked a question by saying nothing."""
        if (silence := self._question.answer(mark.reckoned)) is not None:
            self._others.left((remaining + mark.cost) / silence, self.rate)
            self._level = min(self._level, remaining + self._account - mark.account)

    def _see_what_it_took(self, remaining: float, mark: Mark) -> None:
        """Refused right after one that went alone, and less is left: only the answer to that can have been charged."""
        if self._before is None or not self._went_alone(mark):
            return
        if self._before[0] - remaining >= (1 - RIGHT) * mark.cost:
            self._charging.uncharged()

    def _see_refund(self, remaining: float, mark: Mark) -> None:
        """Whether much more is left than if nothing of what answers did not use had been given back."""
        late = None if self._went_alone(mark) else mark.before - mark.account
        self._charging.compare(remaining, mark.sums, late=late, limit=self.limit, least=UNUSED * mark.cost)

    def _see_charge(self, remaining: float, mark: Mark) -> None:
        """Whether it is charged when the answer is there: then that is when it is written into our log."""
        was_later = self._charging.is_later
        tells = self._outstanding > RETURNS * self.rate * self._trip
        self._charging.told(self.limit - remaining, burst=mark.burst, request=mark.cost, tells=tells)
        if remaining >= self.limit and self.algorithm not in STEADY:  # it is not in what is used itself
            self._charging.uncharged()
        if self._charging.is_later and not was_later:
            self.log.give_back(self._outstanding)

    def _correct(self, error: float, gain: float) -> None:
        self._level += error * gain
        if not self._is_exact:
            self._deviation += (abs(error) - self._deviation) * DEVIATION_GAIN
