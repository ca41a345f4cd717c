"""Where no reply tells of a reset: how does capacity come back? When it is used up, a request now and then asks.

Until then our own log decides, as at a sliding window, for that is right at every kind of server. The first that asks
was kept back for it, so it is not refused. If it finds what a bucket would have given back meanwhile, the server is
one. Where the period is not named either, others ask after each of the usual ones: the one that finds everything back,
twice, has found it. A window begins with its first request, or stands on the clock's grid: the longest that either
allows is believed.

The same is asked where a new window begins with much of what was used of the last one: others may have been quicker, or
it is no window, but a count of two, weighed by time. Then one asks though nothing is left, and is refused at a window.
"""

from math import floor, log

from batchrunner.limits.periods import PERIODS

AFTER = 2.0  # seconds of silence before the first asks
COSTS = 4.0  # times what it costs should have come back by then, if that is to be told from nothing
LEAST, MOST = 0.5, 2.0  # times what should have
SURELY = 2.0  # times what it costs, come back: more than an error in what was charged for it
FULL = 0.95  # of the limit
LATE = 0.5  # seconds after a usual period, or after one should have asked
REFUSALS = 4  # and it is not worth it
SPARE = 8  # times one asks though there is enough left, while the others wait for its answer
GRID = 10.0  # seconds; of longer windows no two end so soon one after another that they seem short
FITS = 2.0  # times as much came back as in a usual period would, or as little; else it is none of them
WORTH = 900.0  # seconds of silence; a longer one neither


class Refill:
    """``is_open``: whether there is something to ask."""

    def __init__(self) -> None:
        self.is_open = False
        self.is_bold = False  # asks though nothing is left: what is told there may be no window
        self._is_named = True  # the period
        self._begun = 0.0  # when the first left that found everything there
        self._since: float | None = None  # when nothing more was in flight
        self._left, self._told_at = 0.0, 0.0  # by then, and when that was told
        self._asked: tuple[float, float, float] | None = None  # the send's number, when it left, and after what silence
        self._times = 0  # that one asked since then
        self._refusals = 0
        self._in_flight = False  # the one that asks
        self._spare = SPARE
        self._guess: tuple[float, bool] | None = None  # what one answer seemed to say

    def open(self, *, is_named: bool, bold: bool = False) -> None:
        self.is_open, self._is_named, self.is_bold = self._refusals < REFUSALS, is_named, bold

    def close(self) -> None:
        self.is_open, self._asked = False, None

    @property
    def is_asking(self) -> bool:
        """Whether one is on its way; what leaves beside it would be in its answer."""
        return self.is_open and self._in_flight and not self.is_bold

    def ended(self, number: float) -> None:
        """A send has ended, whatever came of it."""
        if self.asked(number):
            self._in_flight = False

    def rest(self) -> None:
        """There is enough left."""
        self._since, self._times = None, 0

    def ask_now(self, *, left: float, told_at: float, now: float) -> None:
        """There is enough left, but the next goes alone, and finds what came back: it costs the others a round trip."""
        if self._is_named or self._spare <= 0:
            self.rest()
        else:
            self._since, self._left, self._told_at, self._times = now, left, told_at, -1

    def wait(self, cost: float, *, left: float, told_at: float, limit: float, period: float, now: float) -> float:
        """Seconds until the next send may ask; nothing is in flight, and *told_at* the server told of *left*."""
        if self._since is None:
            self._since, self._left, self._told_at, self._times = now, left, told_at, 0
        moments = [each for each in (AFTER, *(each + LATE for each in PERIODS if each > AFTER)) if each < period]
        if self._is_named:
            moments = [each for each in (max(AFTER, COSTS * cost * period / limit),) if each < min(period / 2, WORTH)]
        if self._times >= len(moments):
            self.close()
            return 0.0
        wait = self._since + moments[self._times] - now
        if self.is_bold and wait < -LATE:  # held up, perhaps until the window's end: then nothing of it is told
            self.close()
        return max(wait, 0.0)

    def sent(self, number: float, at: float, *, first: bool) -> None:
        """*first*: as far as we know, nothing was used before it."""
        if self.is_open and self._since is not None:
            self._asked = (number, at, at - self._since)
            self._times += 1
            self._spare -= self._times == 0
            self._in_flight = True
        if first:
            self._begun = at

    def refused(self) -> None:
        """The one that asks."""
        self._asked, self._in_flight = None, False
        self._refusals += 1
        if self._is_named or self._refusals >= REFUSALS:
            self.close()

    def asked(self, number: float) -> bool:
        return self._asked is not None and self._asked[0] == number

    def answer(self, found: float, cost: float, *, limit: float, period: float) -> tuple[float, bool] | None:
        """The one that asks found so much. Returns the period, and whether it comes back all the time, once known."""
        assert self._asked is not None
        _, at, silence = self._asked
        came, seconds, begun = found - self._left, at - self._told_at, self._begun
        least, most = LEAST * limit / period * silence, MOST * limit / period * seconds
        self._asked, self._left, self._in_flight = None, self._left - cost, False
        if found >= FULL * limit:
            self.rest()
            self._begun = at
            if self._is_named or most >= limit:
                return None  # a window's end was near, or so long ago that it would be full at any server
            return self._again((_longest(begun, self._told_at, at), False))
        if self.is_bold:
            self.close()
            return (period, True) if came >= SURELY * cost else None
        if self._is_named:
            self.close()
            return (period, True) if least <= came <= most else None
        if came < SURELY * cost:
            return None
        self.rest()
        off, guess = min((abs(log(limit / each * seconds / came)), each) for each in PERIODS)
        return self._again((guess, True)) if off <= log(FITS) else None

    def _again(self, guess: tuple[float, bool]) -> tuple[float, bool] | None:
        """What two answers in a row say."""
        if guess != self._guess:
            self._guess = guess
            return None
        self.close()
        return guess


def _longest(begun: float, used_at: float, over_at: float) -> float:
    """The longest usual window that began by *begun*, was still used at *used_at* and is over at *over_at*."""
    first = [each for each in PERIODS if each <= over_at - begun]
    on_grid = [GRID] if floor(over_at / GRID) > floor(used_at / GRID) else []
    return max(PERIODS[0], *first, *on_grid)
