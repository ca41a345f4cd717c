"""Which clock does the server run, and when does its window end? Told apart by what replies say of ``reset``.

At a token bucket of capacity L over W seconds ``reset`` is the time until *full*: (L-m-1)/L*W <= reset <= (L-m)/L*W
(802 of 802 recorded replies). At a fixed window ``now + reset`` stands still while ``remaining`` falls. A sliding log
looks like a fixed window until that is over: then a fresh window would have all of its length before it, while the
log's reset is the short time until its next entry is forgotten. One reply that can tell decides; two that contradict
undo it.
"""

from math import ceil, floor, inf

from batchrunner.limits.algorithm import SETTLED, Algorithm
from batchrunner.limits.beginning import Beginning
from batchrunner.limits.burst import LENGTH
from batchrunner.limits.filling import Filling
from batchrunner.limits.periods import PERIODS, SNAP
from batchrunner.limits.told import Reading, Told

PERIOD = 60.0  # where neither a name nor a reset tells
CONTRADICTIONS = 2
SHORT, SHORT_ASKED = 0.5, 0.8  # of a window's length, for another one; where one asked at its beginning
OUTLASTED = 3
EXPECTED = 2  # ends of windows where they were expected, of resets without decimals; else one, and the rest is trusted
SHORT_MOST = 3.0  # seconds that such resets may fall short, as they were rounded down, or a clock is behind
CREEPS = 1.0  # seconds that windows may end one soon after another, where resets are not rounded; else SHORT_MOST more
AGREED = 8  # replies that told of one end
AGAIN = 0.25  # seconds to the next question whether such a window is over
GUARD = 0.05  # seconds past a window's end before the next one is used
LONGER = 1.15  # times a usual length, told by a server that adds a second
TICK = 1e-6  # seconds; less is float noise
FINE, COARSE = 0.002, 1.0  # seconds to which a reset is exact, where it has decimals and where it has none


class Clock:
    """The verdict on one window's algorithm and length, and the end of a fixed one."""

    def __init__(self, *, period: float = PERIOD, algorithm: Algorithm = Algorithm.UNKNOWN) -> None:
        self.period = period
        self.algorithm = algorithm
        self.epoch = 0
        self.probing = False  # one request goes ahead: into a window that is only presumed, or is not ours alone
        self.shared = False  # others use it too
        self.presumed = False  # to be a sliding window, as no reply told of a reset
        self.is_rest = False  # this window is only what was left of the one before: its end was presumed too soon
        self.is_timed = False  # whether the period was measured or named
        self.is_named = False  # the same, by the server
        self._ends: tuple[float, float] | None = None  # the earliest and the latest that the window can end
        self._ended_at = -inf  # the end of the window before
        self._ended_from = -inf  # the earliest that it can be
        self._whole_at = -inf  # the end of the last window that lasted for most of its length
        self._beginning = Beginning()
        self._before = Beginning()  # of the window before
        self._mistaken_at = -inf  # when the first left whose reply was left out, and no later one told otherwise
        self._agreed = 0  # replies in a row that told of the same end
        self._usual: float | None = None  # the usual length that is a little shorter than what is told
        self._plain = False  # what is told is what it is
        self._late = False  # this server's windows end late in what its replies allow, not early
        self._told_from = inf  # when a reset that tells nothing was first told
        self._soonest = inf, 0.0  # the shortest and the longest of those
        self._used = inf, 0.0  # the least and the most, by those
        self._expected = 0  # ends in a row that were where they should be
        self._rounded = 0.0  # seconds that resets fall short
        self._due = -inf  # when this window would have ended, had nothing been missing
        self._resolution = COARSE
        self._contradictions = self._doubts = 0
        self._doubted_at = self._crept_at = -inf
        self._creeps = 0
        self._filling = Filling()
        self._outlasted = 0  # times more often than not that the period was too short
        self._longest = 0.0  # of the resets that were told: no window is shorter

    def name_period(self, period: float) -> None:
        self.period, self.is_timed, self.is_named = period, True, True

    @property
    def is_brief(self) -> bool:
        """Whether that is presumed although resets are told: all of them short, however much is used."""
        return self.presumed and self._told_from < inf

    @property
    def is_coarse(self) -> bool:
        """Whether all resets so far were whole seconds."""
        return self._resolution == COARSE

    @property
    def ends_at(self) -> float | None:
        """When the fixed window will end, as well as we know.

        Some servers add a second to what they tell: where a usual length is a little shorter, that is tried, once.
        Most servers write ``reset`` as a request arrives, soon after it was sent: then the end is the earliest that the
        replies allow. Where resets have no decimals, a window is taken to have begun with its first request.
        """
        if self._ends is None:
            return None
        earliest, latest = self._ends
        if self._usual is not None:
            return min(self._beginning.at + self._usual, earliest)
        if self._late and not self._rounded:
            return latest
        if self._resolution == FINE:
            return earliest
        return min(max(self._beginning.at + self.period, earliest), latest)

    @property
    def begun_at(self) -> float | None:
        """When the fixed window began; None if it is none, or nobody told of it."""
        if self.algorithm is not Algorithm.WINDOW or (end := self.ends_at) is None:
            return None
        return end - self.period

    @property
    def _trusted(self) -> bool:
        return self._expected >= (EXPECTED if self.is_coarse else 1)

    def sent(self, at: float) -> None:
        """One of ours leaves at *at*."""
        self._beginning.leaves(at)

    def arrived(self, sent: float, by: float | None) -> None:
        """One of ours that left at *sent* was there at *by*; None: it was held up, on its way there or back."""
        self._beginning.arrived(sent, by)

    def roll(self, now: float) -> bool:
        """Whether the window's end has passed; all of the limit is there again, or so it is presumed the first time."""
        ends_at = self.ends_at
        if self.algorithm is not Algorithm.WINDOW or ends_at is None or now + TICK < ends_at + GUARD:
            return False
        self._turn(ends_at)  # when the new one ends, its first reply will tell
        if ends_at > self._whole_at + CREEPS + (SHORT_MOST if self.is_coarse else 0.0):
            self._slide()  # one soon after another: what ends there is the memory of single sends
            return False
        self.probing = self.shared or self._before.is_unsure or not self._trusted
        return True

    def wait(self, now: float) -> float | None:
        """Seconds until the window's end; None if there is nothing to wait for."""
        if self.algorithm is not Algorithm.WINDOW:
            return None
        end = self.ends_at if self.ends_at is not None else self._ended_at + self.period
        return end + GUARD - now if end + GUARD > now + TICK else None

    def unseen(self, now: float) -> float:
        """Seconds for which a window that has just begun, and that no reply told of, should not be used up."""
        if self.algorithm is not Algorithm.WINDOW or self._ends is not None:
            return 0.0
        return max(self._ended_at + self.period / 2 - now, 0.0)

    def doubt(self, sent: float, now: float) -> None:
        """A refusal where there should have been room: of a fresh window or, by our own log, of a sliding one.

        If that happens again within a window's time, to one that left when the first was known, the verdict goes: from
        a window to a sliding one, and from that to a mere counter.
        """
        self._expected = 0
        if sent <= self._doubted_at:
            return
        self._doubts = self._doubts + 1 if now < self._doubted_at + self.period else 1
        self._doubted_at = now
        if self._doubts >= CONTRADICTIONS:
            self._doubts = 0
            if self.algorithm is Algorithm.SLIDING:
                self.count()
            else:
                self.algorithm = Algorithm.SLIDING
            self._ends, self.probing = None, False

    def count(self) -> None:
        """It is no log of ours that this sliding window keeps, it is only counted; and no window ended where one seemed
        to, so a length that was measured there is none.
        """
        self.algorithm = Algorithm.COUNTER
        if self.period not in PERIODS:
            self.period = next((period for period in PERIODS if LONGER * period > self.period), PERIODS[-1])

    def read(self, told: Told) -> Reading:
        """Take in one reply."""
        if self._is_mistaken(told):
            if self._mistaken_at == -inf:
                self._mistaken_at = told.sent_at
            return Reading.OLD
        changed = self._presume(told) or self._decide(told)
        if self.algorithm is Algorithm.WINDOW:
            reading = self._place(told)
            return Reading.CHANGED if changed and reading is Reading.CURRENT else reading
        self.probing = False
        return Reading.CHANGED if changed else Reading.CURRENT

    def _is_mistaken(self, told: Told) -> bool:
        """Whether it is a single word against many: far too soon for another window, and no end that creeps moves so.

        SlowAPI's moving window says so now and then, while a thread of its own cleans up.
        """
        if self.algorithm is not Algorithm.WINDOW or self._ends is None or told.reset is None:
            return False
        another = -inf < self._mistaken_at < told.sent_at - LENGTH  # of the same burst, more may be
        if self._agreed < AGREED or self.is_coarse or another:
            return False
        return self._is_short(told.reset_from - self._ends[1], SHORT)

    # -- which algorithm

    def _presume(self, told: Told) -> bool:
        """No reset is told, or none that tells: then it is taken for a sliding window, which is right at any server."""
        tells = told.reset is not None and told.reset > 3 * self._resolution
        if self.presumed:
            if tells:
                self.algorithm, self.presumed, self.is_timed = Algorithm.UNKNOWN, False, self.is_named
            return False
        if self.algorithm is not Algorithm.UNKNOWN or told.used is None or tells:
            return False
        if told.reset is not None:  # much is used, and a little of it comes back soon, or all of it; now and before
            self._told_from = min(self._told_from, told.received_at)
            self._soonest = min(self._soonest[0], told.reset), max(self._soonest[1], told.reset)
            self._used = min(self._used[0], told.used), max(self._used[1], told.used)
            if self._used[1] < told.limit / 2 or self._longest > 3 * self._resolution:
                return False
            if told.sent_at < self._told_from + COARSE:  # or just the rest of a longer one
                return False
            whole = self._soonest[0] >= COARSE and self._soonest[1] == floor(self._soonest[1])  # seconds, no moment
            if not self.is_named and whole and self._used[0] < told.limit / 2:
                self.period, self.is_timed = self._soonest[1], True
        self.algorithm, self.presumed = Algorithm.SLIDING, True
        return True

    def time(self, period: float, *, drips: bool) -> None:
        """It was asked, and gives back its limit in so many seconds, at once or all the time."""
        self.period, self.is_timed = period, True
        if drips:
            self.algorithm, self.presumed = Algorithm.BUCKET, False

    def outlasts(self, *, early: bool, full: bool) -> bool:
        """What should be back is not: if that goes on, the period is believed to be longer, unless it was named."""
        self._outlasted = max(self._outlasted + early - full, 0)
        if self.is_timed or self._outlasted < OUTLASTED:
            return False
        self._outlasted = 0
        self.period = next((period for period in PERIODS if period > self.period), self.period)
        return True

    def _decide(self, told: Told) -> bool:
        """Bucket or window? Only a reply that can tell them apart decides. Returns whether the verdict changed."""
        if told.reset is None or told.used is None:
            return False
        self._longest = max(self._longest, told.reset - self._resolution)
        if told.reset != floor(told.reset) and not told.coarse:
            self._resolution = FINE
        if told.used < 2 or told.reset <= 3 * self._resolution:  # noqa: PLR2004
            return False  # of one, every length fits
        if self._fills(told):
            return True
        if self.algorithm in SETTLED:
            return False
        fits = [period for period in {self.period, *PERIODS} if self._fits_bucket(told, period)]
        if self._agrees(fits, told):
            self._contradictions = 0
            return False
        self._contradictions += 1
        if self.algorithm is not Algorithm.UNKNOWN and self._contradictions < CONTRADICTIONS:
            return False
        self._contradictions = 0
        self._ends, self._ended_at = None, -inf
        self.algorithm = Algorithm.BUCKET if fits else Algorithm.WINDOW
        if not fits and not self.is_timed:  # as long as its rest, at the least
            least = self._longest / (1.0 if told.coarse else LONGER)
            self.period = next((p for p in PERIODS if p >= least), PERIODS[-1])
        elif fits and self.period not in fits:
            self.period = min(fits)
        return True

    def _fills(self, told: Told) -> bool:
        """Whether several replies agree on a bucket that is not the verdict yet."""
        assert told.used is not None
        assert told.reset is not None
        self._filling.add(used=told.used, limit=told.limit, reset=told.reset, resolution=self._resolution)
        period = self._filling.period
        if period is None or (self.is_named and period != self.period):
            return False
        if (1 + SNAP) * period < self._longest:  # it took longer than that to fill
            return False
        if self.algorithm is Algorithm.BUCKET and abs(period - self.period) <= SNAP * period:
            return False
        self.algorithm, self.period, self.presumed = Algorithm.BUCKET, period, False
        self._ends, self.probing, self._contradictions = None, False, 0
        return True

    def _fits_bucket(self, told: Told, period: float) -> bool:
        assert told.used is not None
        assert told.reset is not None
        full = told.used / told.limit * period
        slack = self._resolution + 0.01 * full
        return full - period / told.limit - slack <= told.reset <= full + slack

    def _agrees(self, fits: list[float], told: Told) -> bool:
        """Whether a reply is what the present verdict foretold."""
        assert told.reset is not None
        if self.algorithm is Algorithm.BUCKET:
            return self.period in fits
        if self.algorithm is Algorithm.UNKNOWN:
            return False
        if self._ends is None:
            return True
        moved = told.reset_from - self._resolution > self._ends[1] + self._slack
        return not (moved and told.received_at < self._ends[0])  # a window's end does not move while it lasts

    # -- the end of a fixed window

    @property
    def _slack(self) -> float:
        return max(self._resolution, 0.01 * self.period)

    def _place(self, told: Told) -> Reading:
        """Whether the reply speaks of the window we are in; narrows down when that one ends."""
        if told.reset is None:
            return Reading.CURRENT if told.epoch == self.epoch else Reading.OLD
        earliest = told.reset_from + self._rounded - self._resolution
        latest = told.reset_by + self._rounded
        if self._ends is None:
            return self._begin(told, earliest, latest)
        before = told.epoch != self.epoch and earliest <= self._ended_at + self._slack
        if before or latest < self._ends[0] - self._slack:
            return Reading.OLD
        if earliest > self._ends[1] + self._slack:
            if self._crept(self._ends[1], latest):
                self._turn(self._ends[1])
                self._slide()
                return Reading.CHANGED
            self._turn(self._ends[1])
            self._beginning = Beginning(told.sent_at)
            self._begin(told, earliest, latest)
            return Reading.NEXT
        self._ends = self._narrowed(earliest, latest)
        self._agreed += 1
        if told.sent_at > self._mistaken_at:
            self._mistaken_at = -inf
        return Reading.CURRENT

    def _turn(self, ended_at: float) -> None:
        if not self.is_rest:
            self._due = ended_at - self._rounded
        if ended_at - self._ended_at >= SHORT * self._least_period:
            self._whole_at = ended_at
        self._ended_from = min(ended_at if self._ends is None else self._ends[0], ended_at)
        self._ended_at, self._ends = ended_at, None
        self._before, self._beginning = self._beginning, Beginning()
        self._agreed = 0
        self.is_rest = False
        self.epoch += 1

    def _narrowed(self, earliest: float, latest: float) -> tuple[float, float]:
        assert self._ends is not None
        low, high = max(self._ends[0], earliest), min(self._ends[1], latest)
        return (low, high) if low <= high else (high, high)

    def _begin(self, told: Told, earliest: float, latest: float) -> Reading:
        """The first word on a new window, or a late one on the old."""
        assert told.reset is not None
        ours = told.epoch == self.epoch  # sent after the rollover
        if not ours and earliest <= self._ended_at + self._slack:
            return Reading.OLD
        early = latest <= self._ended_at + self._slack
        asked = self.probing and ours
        if self._crept(self._ended_at, latest, asked=asked) and (asked or not early) and not told.refused:
            self._slide()
            return Reading.CHANGED
        if ours and (early or (asked and told.refused)):
            # we presumed the end too soon: this server means what it tells, or its windows end late
            again = AGAIN if self._late and self.is_coarse else GUARD
            if not self._before.is_unsure:
                self._ends_later(told.sent_at, latest)
            self.probing, self._expected = False, 0
            self.is_rest = True
            self._ends = (earliest, max(latest, told.received_at + again))
            self._beginning = Beginning()
            return Reading.NEXT
        if early or not ours:
            return Reading.OLD
        if not self._plain and not told.coarse:
            self._usual = next((p for p in PERIODS if p + 2 * GUARD < told.reset <= LONGER * p), None)
        self._ends = (earliest, latest)
        self.probing = False
        if self._ended_at > -inf:
            self._learn_period(earliest - self._ended_at, latest - self._ended_at)
            self._expected = 0 if told.refused else self._expected + ours
        return Reading.CURRENT

    def _ends_later(self, sent_at: float, latest: float) -> None:
        """The server's window had not ended, though by what it tells it had: its windows do so, as far as we know."""
        if not self._late:
            self._due = latest
        elif self.is_coarse:
            self._rounded = min(max(self._rounded, float(ceil(sent_at - self._due))), SHORT_MOST)
        self._late, self._plain, self._usual = self._usual is None, True, None

    def _crept(self, ended_at: float, latest: float, *, asked: bool = False) -> bool:
        """Whether what seems to be the next window would be far too short for one: an end that creeps is none."""
        if not self._is_short(latest - ended_at, SHORT_ASKED if asked else SHORT):
            return False
        self._creeps = self._creeps + 1 if latest < self._crept_at + self.period else 1
        self._crept_at = latest
        return self._creeps >= (CONTRADICTIONS if self._trusted else 1)

    def _is_short(self, seconds: float, share: float) -> bool:
        """Whether no window lasts for so long; less is no creeping, but a reset that was rounded."""
        length = self.period if self.is_timed else self._least_period
        return GUARD + max(GUARD, self._resolution) < seconds < length * share

    def _slide(self) -> None:
        """No fresh window began where the last seemed to end: what ended there was our first send's memory."""
        least = max(self._ended_from - self._before.sent, self._least_period)
        most = max(self._ended_at - self._before.sent, self._least_period)
        near = [p for p in PERIODS if least - self._slack - 0.03 * p <= p <= most + self._slack + 0.03 * p]
        self.period = near[0] if near else max(most, FINE)
        self.algorithm = Algorithm.SLIDING
        self._ends, self.probing, self.is_timed = None, False, True

    @property
    def _least_period(self) -> float:
        """No window is shorter than the longest reset told, but at a server that adds a second to it."""
        return self._longest if self._usual is None else min(self._longest, self._usual)

    def _learn_period(self, least: float, most: float) -> None:
        """A window's length from two ends, the second only known roughly; after a quiet time several may be between."""
        least, most = max(least, self._least_period), max(most, self._least_period)
        near = [p for p in PERIODS if least - self._slack - 0.1 * p <= p <= most + self._slack + 0.1 * p]
        length = near[0] if near else most
        if not self.is_timed or length < self.period:
            self.period, self.is_timed = length, True
