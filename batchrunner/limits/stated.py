"""A limit that the user stated, or only refusals name: kept by our own log, and asked one question.

No stretch of one period ever holds more than the limit: that is right at every kind of server, and as fast as any where
a whole number of windows is sent. A bucket gives capacity back all the time, so when the limit is used up, and a bucket
would surely have something again, one request asks. If more than the limit is accepted in one period's time, it is a
bucket; if the request is refused, it is none, and nothing is asked again.
"""

from math import inf

from batchrunner.limits.account import EPSILON
from batchrunner.limits.algorithm import Algorithm
from batchrunner.limits.burst import Sums
from batchrunner.limits.clock import GUARD
from batchrunner.limits.mark import Mark
from batchrunner.limits.meter import LAG_MOST
from batchrunner.limits.others import Others
from batchrunner.limits.refill import AFTER, COSTS
from batchrunner.limits.spent import Spent
from batchrunner.limits.uncertain import Uncertain
from batchrunner.quota import Dimension, Window

OVER = 1.5  # times what a question costs has to be over the limit
SOON = 1.0  # seconds after something was forgotten
USED_UP = 0.95  # of the limit: then a refusal is a matter of moments
SPARE = 0.01  # of the limit stays unused in a bucket, for no reply will ever correct us


class Stated:
    """A limit of *limit* permits in *period* seconds."""

    replies = 0
    undecided = False

    def __init__(
        self, dimension: Dimension, limit: float, *, now: float, period: float, log: Spent | None = None
    ) -> None:
        self.dimension = dimension
        self.limit, self.period = limit, period
        self.algorithm = Algorithm.SLIDING
        self.refusals = 0
        self._at = now
        self.log = Spent() if log is None else log  # what was sent already
        self._sent = self._outstanding = 0.0  # cost of all sends, and of those in flight
        self._others = Others()
        self._freed_at = -inf  # when something was last forgotten
        self._uncertain = Uncertain()
        self._usual = 0.0
        self._level = max(limit - self.log.total, 0.0)  # of a bucket
        self._lag = 0.0  # seconds that the server forgets later than we do
        self._sends = 0
        self._may_ask = True
        self._question: int | None = None  # the number of the send that asks
        self._used_up_at: float | None = None

    @property
    def rate(self) -> float:
        """Permits a second, on average."""
        return self.limit / self.period

    @property
    def _ours(self) -> float:
        """The same, without what others take."""
        return self._others.leave(self.rate)

    @property
    def _room(self) -> float:
        """What may be ours in any stretch of a period; of a bucket, what it holds."""
        return self.limit if self.algorithm is Algorithm.BUCKET else self._ours * self.period

    @property
    def remaining(self) -> float:
        if self.algorithm is Algorithm.BUCKET:
            return self._level
        return self._room - self.log.total

    @property
    def reserve(self) -> float:
        """Permits that are held back."""
        return self._uncertain.reserve(self.dimension, self._outstanding, self._usual, most=self.limit / 4)

    @property
    def used(self) -> float:
        """Share of the limit that our sends of the last period took; near 1, a refusal is a matter of moments."""
        return self.log.total / self.limit

    def wait(self, cost: float, now: float, *, alone: bool = False) -> float:
        """Seconds until *cost* may be sent; more than there ever is for us counts as all of it."""
        self._advance(now)
        reserve = 0.0 if alone else self.reserve
        missing = min(cost, self._room - reserve) + reserve - self.remaining
        if missing <= EPSILON:
            self._used_up_at = None
            return max(self._at - now, 0.0)
        if self.algorithm is Algorithm.BUCKET:
            return max(self._at - now, 0.0) + missing / self._ours
        forgotten = self.log.sent_when(missing) + self.period + GUARD + self._lag
        return min(max(forgotten - now, EPSILON), self._question_in(cost, now))

    def take(self, cost: float, at: float) -> Mark:
        """Charge a send that leaves at *at* (which may lie a little ahead)."""
        self._advance(at)
        self._sends += 1
        if self._may_ask and self._used_up_at is not None and self.remaining + EPSILON < cost:
            self._may_ask, self._question = False, self._sends
        self.charge(cost)
        self._outstanding += cost
        self._usual = cost
        return Mark(0.0, 0.0, 0, cost, sums=Sums(self._sends), at=at)

    def release(self, mark: Mark) -> None:
        """A send has ended, however it did."""
        self._outstanding = max(self._outstanding - mark.cost, 0.0)

    def charge(self, extra: float) -> None:
        """Correct an earlier charge: positive is a debt, negative a refund."""
        self._sent += extra
        self._level = min(self._level - extra, self.limit)
        self.log.correct(extra, self._at, period=self.period)

    def restore(self, cost: float, sent: float) -> None:
        """At a start, oldest first: what an earlier run sent still counts."""
        self._at = min(self._at, sent) if not self._sends else self._at
        self._advance(sent)
        self._level -= cost
        self.log.add(cost, sent, period=self.period)

    def arrived(self, sent: float, by: float | None) -> None:
        """What was to leave at *sent* was at the server at *by*; None = nobody knows."""
        self.log.arrived(sent, by)

    def passed(self, mark: Mark, now: float) -> None:
        """A send was answered. If it was a question, and more than the limit was accepted, this is a bucket."""
        if mark.reckoned != self._question:
            return
        self._question, self._used_up_at = None, now
        self._may_ask = self.log.total < self.limit + OVER * mark.cost  # room that was left after all
        if self._may_ask:
            return
        self._advance(now)
        self.algorithm = Algorithm.BUCKET
        self._level -= max(2 * mark.cost, SPARE * self.limit)

    def refused(self, mark: Mark, now: float, window: Window | None = None, retry_after: float | None = None) -> None:
        """A send was refused, and so not charged: a moment too early, or it was the question."""
        del retry_after  # everybody keeps to that
        self._advance(now)
        if window is not None and window.limit:
            self.limit = window.limit
        self.charge(-mark.cost)
        if mark.reckoned == self._question:
            self._question = None
            return
        self.refusals += 1
        self._level = min(self._level, mark.cost - 1)
        if self.used >= USED_UP and (mark.at or now) <= self._freed_at + SOON:  # a moment too early
            self._lag = min(self._lag + GUARD, LAG_MOST)
            return
        if self.used < USED_UP:
            self._others.took(1.0, now, sent=self._sent, whole=self.rate, period=self.period)
        self.log.hold(self.log.total + max(self.remaining, 0.0), now)  # others have it

    # -- private

    def _question_in(self, cost: float, now: float) -> float:
        if not self._may_ask:
            return inf
        if self._used_up_at is None:
            self._used_up_at = now
        return max(self._used_up_at + max(AFTER, COSTS * cost / self.rate) - now, 0.0)

    def _advance(self, now: float) -> None:
        passed = now - self._at
        if passed <= 0:
            return
        self._at = now
        if self.log.forget(now - self.period - GUARD - self._lag):
            self._freed_at = now
        self._level = min(self._level + passed * self._ours, self.limit)
        self._others.fade(passed, self.period)
