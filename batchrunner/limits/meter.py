"""One window of one provider, watched from outside: how much of it is left, and when the next request may go.

The server's limiter is a hidden state machine; a meter keeps our own account of it and corrects that account by what
replies tell. The account is ours alone: *level* = what was there, plus refill, minus our own sends. A reply says
``remaining``, but with N requests in flight that is a picture of some moment between its send and its receipt, so it
only proves an interval for what is left now:

    remaining + (account now - account then),   for every "then" from sent to received

and for a "then" before the send, by as much as sends may overtake one another and servers may charge late. The level
is pulled onto the nearer edge of that interval, quickly down (1/8) and slowly up (1/64), and never assigned; inside
the interval it stays. Replies may come in any order, and old ones do no harm.

Which clock the server runs is told apart by ``reset``. At a token bucket of capacity L over W seconds it is the time
until *full*: (L-m-1)/L*W <= reset <= (L-m)/L*W. At a fixed window ``now + reset`` stands still while ``remaining``
falls. One reply that can tell decides; two that contradict undo it.
"""

from collections import deque
from dataclasses import dataclass
from enum import StrEnum
from math import floor, inf

from batchrunner.quota import Dimension, Window

EPSILON = 1e-6  # a deficit below this is none: a wait shorter than the clock's tick would never end
GAIN_DOWN = 1 / 8
GAIN_UP = 1 / 64
DEVIATIONS = 3.0  # of our account from what replies prove, are held back against shuffled arrivals
RESERVE_SHARE = 0.01  # of the limit, at most, is held back against shuffled arrivals
PERIODS = (1.0, 10.0, 60.0, 300.0, 3600.0, 86400.0)
PERIOD = 60.0  # where neither a name nor a reset tells
PROBES = 4  # replies, one at a time, after which an undecided meter opens all the same
CONTRADICTIONS = 2
JITTER = 0.25  # seconds by which one send may overtake another on its way
GUARD = 0.05  # seconds past a window's end before the next one is used


class Algorithm(StrEnum):
    """What kind of clock the server seems to run."""

    UNKNOWN = "unknown"  # treated as a bucket, the more careful guess
    BUCKET = "bucket"
    WINDOW = "window"


@dataclass(frozen=True, slots=True)
class Mark:
    """A meter's account at one send, kept in the permit and compared when the reply is here.

    ``before``: the account as it was before what this send may have overtaken, or what the server had not charged yet.
    """

    account: float
    before: float
    epoch: int
    cost: float


class Meter:
    """What is left in one window, in permits (requests or tokens). The level may be negative: a debt is waited off."""

    def __init__(
        self,
        dimension: Dimension,
        limit: float,
        *,
        now: float,
        period: float = PERIOD,
        algorithm: Algorithm = Algorithm.UNKNOWN,
        burst: float | None = None,
    ) -> None:
        self.dimension = dimension
        self.limit = limit
        self.period = period
        self.algorithm = algorithm
        self.replies = 0
        self.refusals = 0
        self.probing = False  # a presumed window has just rolled over for the first time
        self._burst = burst  # capacity where it is known to be less than the limit
        self._level = self.capacity
        self._account = 0.0
        self._outstanding = 0.0  # cost of what is in flight
        self._at = now
        self._epoch = 0
        self._ends_at: float | None = None
        self._ended_at = -inf  # the end of the window before
        self._held_until = -inf
        self._timed = False  # whether the period was measured
        self._history: deque[tuple[float, float]] = deque()
        self._trusted = False
        self._anchored = False
        self._deviation = limit * RESERVE_SHARE / DEVIATIONS  # until it is known how far off we are
        self._resolution = 1.0
        self._margin = 0.0
        self._contradictions = 0

    @property
    def capacity(self) -> float:
        return self.limit if self._burst is None else min(self.limit, self._burst)

    @property
    def rate(self) -> float:
        """Permits a second that come back."""
        return self.limit / self.period

    @property
    def undecided(self) -> bool:
        """Whether a few single replies should still be seen before the gates open."""
        return self.probing or (self.algorithm is Algorithm.UNKNOWN and 0 < self.replies < PROBES)

    @property
    def account(self) -> float:
        """Refill minus own sends since the beginning; only differences of it mean anything."""
        return self._account

    def unpace(self) -> None:
        """Let the whole limit go at once: something better watches the window now."""
        self._level += self.limit - self.capacity
        self._burst = None

    def level(self, now: float) -> float:
        """What is left at *now*, by our account."""
        self._advance(now)
        return self._level

    def wait(self, cost: float, now: float, *, alone: bool = False) -> float:
        """Seconds until *cost* may be sent; more than the window holds counts as all of it.

        *alone*: nothing of ours is in flight, so the reserve has nothing to guard against and blocks nothing.
        """
        self._advance(now)
        reserve = 0.0 if alone else min(DEVIATIONS * self._deviation, self.limit * RESERVE_SHARE)
        missing = min(cost, self.capacity - reserve) + reserve - self._level
        if missing <= EPSILON:
            return 0.0
        if self._held_until > now:
            return self._held_until + GUARD - now
        ends_at = self._ends_at if self._ends_at is not None else self._ended_at + self.period
        if self.algorithm is Algorithm.WINDOW and ends_at > now:
            return ends_at + GUARD - now
        return missing / self.rate

    def take(self, cost: float, at: float) -> Mark:
        """Charge a send that leaves at *at* (which may lie a little ahead)."""
        self._advance(at)
        while len(self._history) > 1 and self._history[1][0] <= at - JITTER:
            self._history.popleft()
        self._level -= cost
        self._account -= cost
        self._history.append((at, self._account))
        before = max(self._history[0][1], self._account)
        if self.dimension is Dimension.TOKENS:  # some servers charge tokens when the answer is there, not before
            before = max(before, self._account + self._outstanding)
        self._outstanding += cost
        return Mark(self._account, before, self._epoch, cost)

    def release(self, mark: Mark) -> None:
        """A send has ended, however it did: nothing more will be charged for it."""
        self._outstanding -= mark.cost

    def charge(self, extra: float) -> None:
        """Correct an earlier charge: positive is a debt, negative a refund.

        The account stays as it is: replies to what was sent meanwhile are compared with it as it was then.
        """
        self._level = min(self._level - extra, self.capacity)

    def restore(self, used: float) -> None:
        """At a start: what earlier runs sent within the window still counts."""
        self._level -= used

    def observe(self, window: Window, mark: Mark, *, sent_at: float, received_at: float) -> None:
        """Take in what one reply told of this window."""
        self._advance(received_at)
        self.replies += 1
        if window.limit is not None and window.limit > 0:
            self._set_limit(float(window.limit))
        if window.period is not None:
            self.period, self._timed = window.period, True
        self._decide(window, sent_at, received_at)
        if self.algorithm is Algorithm.WINDOW and not self._same_window(window, mark, sent_at, received_at):
            return
        if window.remaining is not None:
            self._project(float(window.remaining), mark)
        self.probing = False

    def refused(self, mark: Mark, now: float, window: Window | None = None) -> None:
        """A refusal is an observation: there was not enough for that cost, and the send itself was not charged.

        While it is not known what clock the server runs, the reset it named is waited for.
        """
        self._advance(now)
        if self.algorithm is Algorithm.UNKNOWN and window is not None and window.reset_after is not None:
            self._held_until = now + window.reset_after
        self.refusals += 1
        self.charge(-mark.cost)
        drift = max(self._account - mark.account, 0.0)
        self._deviation = min(self._deviation + mark.cost, self.limit * RESERVE_SHARE)  # too close to the edge
        left = mark.cost - 1
        if window is not None and window.remaining is not None:
            left = min(left, window.remaining)
        self._level = min(self._level, left + drift)

    # -- private

    def _advance(self, now: float) -> None:
        passed = now - self._at
        if passed <= 0:
            return
        self._at = now
        if self.algorithm is Algorithm.WINDOW:
            if self._ends_at is not None and now >= self._ends_at + GUARD:
                self._roll()
            return
        refill = passed * self.rate
        self._account += refill
        self._level = min(self._level + refill, self.capacity)
        self._deviation *= 0.5 ** (passed / self.period)

    def _roll(self) -> None:
        """A new window: all of the limit is there. The first time this is only presumed, so one request goes ahead."""
        assert self._ends_at is not None
        self._ended_at, self._ends_at = self._ends_at, None  # when the new one ends, its first reply will tell
        self._epoch += 1
        self._level = self.capacity
        self.probing = not self._trusted

    def _set_limit(self, limit: float) -> None:
        if limit == self.limit:
            return
        if self.replies == 1:  # the very first word on it: what we had was a guess
            self._level += limit - self.limit
        self.limit = limit
        self._level = min(self._level, self.capacity)

    def _project(self, remaining: float, mark: Mark) -> None:
        then = remaining + self._account - mark.account  # were the header written as the request was sent
        low = min(remaining + self._account - mark.before, remaining)
        high = min(max(then, remaining), max(self.capacity, remaining))
        if not self._anchored:  # the first word, or the first under a new verdict
            self._level, self._anchored = low, True
        elif self._level > high:
            self._correct(high - self._level, GAIN_DOWN)
        elif self._level < low:
            self._correct(low - self._level, GAIN_UP)

    def _correct(self, error: float, gain: float) -> None:
        self._level += error * gain
        self._deviation += (abs(error) - self._deviation) / 32

    def _decide(self, window: Window, sent_at: float, received_at: float) -> None:
        """Bucket or window? Only a reply that can tell them apart decides."""
        if window.reset_after is None or window.remaining is None:
            return
        if window.reset_after != floor(window.reset_after):
            self._resolution = 0.002
        used = self.limit - window.remaining
        if used < 2 or window.reset_after <= 3 * self._resolution:  # noqa: PLR2004  (of one, every length fits)
            return
        fits = [period for period in PERIODS if self._fits_bucket(used, window.reset_after, period)]
        if self._agrees(fits, window.reset_after, sent_at, received_at):
            self._contradictions = 0
            return
        self._contradictions += 1
        if self.algorithm is not Algorithm.UNKNOWN and self._contradictions < CONTRADICTIONS:
            return
        self._contradictions = 0
        self._ends_at, self._ended_at = None, -inf
        self._anchored = False
        self.algorithm = Algorithm.BUCKET if fits else Algorithm.WINDOW
        if not fits and not self._timed:  # as long as its rest, at the least
            self.period = next((p for p in PERIODS if p >= window.reset_after - self._resolution), PERIODS[-1])
        elif fits and self.period not in fits:
            self.period = fits[0]

    def _fits_bucket(self, used: float, reset: float, period: float) -> bool:
        full = used / self.limit * period
        slack = self._resolution + 0.01 * full
        return full - period / self.limit - slack <= reset <= full + slack

    def _agrees(self, fits: list[float], reset: float, sent_at: float, received_at: float) -> bool:
        """Whether a reply is what the present verdict foretold."""
        if self.algorithm is Algorithm.BUCKET:
            return self.period in fits
        if self.algorithm is Algorithm.UNKNOWN:
            return False
        if self._ends_at is None:
            return True
        moved = sent_at + reset - self._resolution > self._ends_at + self._slack
        return not (moved and received_at < self._ends_at)  # a window's end does not move while it lasts

    @property
    def _slack(self) -> float:
        return max(self._resolution, 0.01 * self.period)

    def _same_window(self, window: Window, mark: Mark, sent_at: float, received_at: float) -> bool:
        """Whether the reply speaks of the window we are in; narrows down when that one ends."""
        if window.reset_after is None:
            return mark.epoch == self._epoch
        earliest = sent_at + window.reset_after - self._resolution
        latest = received_at + window.reset_after + self._margin
        if self._ends_at is None:
            return self._begin(window, mark, latest)
        if latest < self._ends_at - self._slack:
            return False  # the last one's
        if earliest > self._ends_at + self._slack:  # it has rolled over before we thought
            self._ended_at = self._ends_at
            self._epoch += 1
            self._level = min(self.capacity, float(window.remaining or 0))
            self._begin(window, Mark(0.0, 0.0, self._epoch, 0.0), latest)
            return False
        self._ends_at = min(max(self._ends_at, earliest), latest)
        return True

    def _begin(self, window: Window, mark: Mark, latest: float) -> bool:
        """The first word on a new window, or a late one on the old."""
        if latest <= self._ended_at + self._slack:
            if mark.epoch == self._epoch:  # sent after the rollover we presumed: the server had not rolled over yet
                self._early(window, latest)
            return False
        self._ends_at = latest
        if self._ended_at > -inf:
            self._learn_period(latest - self._ended_at)
            self._trusted = self._trusted or mark.epoch == self._epoch
        return True

    def _learn_period(self, seen: float) -> None:
        """A window's length from two ends; after a quiet time there may be several windows between them."""
        near = [period for period in PERIODS if abs(period - seen) <= self._slack + 0.1 * period]
        length = near[0] if near else seen
        if not self._timed or length < self.period:
            self.period, self._timed = length, True

    def _early(self, window: Window, latest: float) -> None:
        """We presumed the window over too soon: this server rounds its resets down, so wait one unit longer."""
        self._margin = self._resolution
        self._ends_at = latest + self._margin
        self._level = float(window.remaining or 0)
        self.probing = False
