"""When a run may claim tasks: hours of the day, and an end. Pure: told the time, and the zone where it is not here.

Times of day are those on the wall, summer time and all: a window is open while the clock shows a time in it. So
00:00-07:00 is eight hours long in the night in which the clocks go back, and 02:00-02:30 is open twice in it, and never
in the night that has no such time. A window that ends before it begins goes over midnight.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, time, timedelta, tzinfo
from itertools import product
from math import floor, inf

from batchrunner.errors import ConfigError

_TIME = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)|24:00")
_DASH = re.compile(r"\s*[-\N{EN DASH}\N{EM DASH}]\s*")
MIDNIGHT = time(0)
EXAMPLE = "22:00-06:00"
DAY = 86400.0  # seconds
AHEAD = 4  # days in which every time of day comes; once a zone left out a whole one
_DURATION = re.compile(r"(\d+(?:\.\d+)?)([smhd])")
OPENINGS = 4000  # looked ahead; ten years of nights
_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


@dataclass(frozen=True, slots=True)
class Hours:
    """From *start* to *end* on the wall, every day; all of it from midnight to midnight."""

    start: time
    end: time

    def __str__(self) -> str:
        return f"{self.start:%H:%M}-{'24:00' if self.end == MIDNIGHT else f'{self.end:%H:%M}'}"

    def hold(self, at: time) -> bool:
        if self.start < self.end:
            return self.start <= at < self.end
        return at >= self.start or at < self.end


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """``hours``: open in any of them, always if there are none. ``ends_at``: UTC seconds; ``why`` says so in words."""

    hours: tuple[Hours, ...] = ()
    ends_at: float = inf
    why: str = ""
    zone: tzinfo | None = None

    def opens_in(self, now: float) -> float:
        """Seconds until tasks may be claimed: 0 if they may now, infinite if never again."""
        if now >= self.ends_at:
            return inf
        if self._is_within_hours(now):
            return 0.0
        opens = self._turn(now)
        return inf if opens >= self.ends_at else opens - now

    def closes_in(self, now: float) -> float:
        """Seconds for which tasks may be claimed from now on without a break; infinite if there is no end."""
        if self.opens_in(now) > 0:
            return 0.0
        return min(self._turn(now), self.ends_at) - now

    def done_at(self, seconds: float, now: float) -> float:
        """When tasks could be claimed for so many seconds in all; infinite if the end comes before that."""
        at = now
        for _ in range(OPENINGS):
            at += self.opens_in(at)
            lasts = self.closes_in(at) if at < inf else inf
            if seconds <= lasts:
                return at + seconds
            at, seconds = at + lasts, seconds - lasts
        return inf

    def next(self, at: time, now: float) -> float:
        """The first moment after *now* at which the clock on the wall shows *at*, or is put forward past it."""
        return min([*self._shows(at, now), *(change for change in self._changes(now) if self._skips(at, change))])

    def _turn(self, now: float) -> float:
        """When it opens, or closes, the next time; infinite if never."""
        edges = {edge for hours in self.hours for edge in (hours.start, hours.end)}
        moments = {moment for edge in edges for moment in self._shows(edge, now)} | {*self._changes(now)}
        is_open = self._is_within_hours(now)
        return next((moment for moment in sorted(moments) if self._is_within_hours(moment) != is_open), inf)

    def _is_within_hours(self, now: float) -> bool:
        return not self.hours or any(hours.hold(self._local(now).time()) for hours in self.hours)

    def _shows(self, at: time, now: float) -> Iterator[float]:
        """The moments of the next days at which the clock on the wall shows *at*; twice a day where it is put back."""
        today = self._local(now).date()
        for days, fold in product(range(AHEAD), (0, 1)):
            wall = datetime.combine(today + timedelta(days=days), at.replace(fold=fold), tzinfo=self.zone)
            moment = wall.timestamp()
            if moment > now and self._local(moment).time() == at:  # else it is left out that day
                yield moment

    def _changes(self, now: float) -> Iterator[float]:
        """When the clocks are put forward or back in the next days; whole seconds."""
        for day in range(AHEAD):
            before, after = floor(now + day * DAY), floor(now + (day + 1) * DAY)
            if self._offset(before) == self._offset(after):
                continue
            while after - before > 1:
                middle = (before + after) // 2
                is_before = self._offset(middle) == self._offset(before)
                before, after = (middle, after) if is_before else (before, middle)
            if after > now:
                yield float(after)

    def _skips(self, at: time, change: float) -> bool:
        """Whether the clock does not show *at*, but is put forward past it."""
        before, after = (self._local(moment).replace(tzinfo=None) for moment in (change - 1, change))
        days = (before.date(), before.date() + timedelta(days=1))
        return any(before < datetime.combine(day, at) < after for day in days)

    def _offset(self, now: float) -> timedelta | None:
        local = self._local(now)
        return (local if self.zone else local.astimezone()).utcoffset()

    def _local(self, now: float) -> datetime:
        return datetime.fromtimestamp(now, self.zone)


ALWAYS = Schedule()


class Door:
    """A schedule as a run meets it: shut, nothing more is claimed; each time it shuts or opens is worth a word."""

    def __init__(self, schedule: Schedule) -> None:
        self._schedule = schedule
        self._was_open = True
        self.word: str | None = None  # what there is to say since ``wait`` was last asked

    def wait(self, now: float) -> float:
        """Seconds until tasks may be claimed; 0 if they may now."""
        wait = self._schedule.opens_in(now)
        self.word = None
        if self._was_open != (wait == 0):
            self._was_open = wait == 0
            self.word = "the window is open: going on" if self._was_open else self._shut(now + wait)
        return wait

    def _shut(self, opens_at: float) -> str:
        if opens_at == inf:
            return f"{self._schedule.why} is reached: nothing more is sent"
        hours = ", ".join(map(str, self._schedule.hours))
        when = datetime.fromtimestamp(opens_at, self._schedule.zone)
        return f"outside of --window {hours}: going on at {when:%Y-%m-%d %H:%M}"


def make_schedule(
    *,
    windows: Sequence[str] = (),
    finish_by: str | None = None,
    max_time: str | None = None,
    now: float,
    zone: tzinfo | None = None,
) -> Schedule:
    """Out of what the options say: ``00:00-07:00``, ``06:00`` or an ISO time, ``6h``. Raises ConfigError."""
    ends = []
    if finish_by is not None:
        ends.append((_instant(finish_by, now, zone), f"--finish-by {finish_by}"))
    if max_time is not None:
        ends.append((now + read_duration(max_time, option="--max-time"), f"--max-time {max_time}"))
    ends_at, why = min(ends, default=(inf, ""))
    return Schedule(hours=tuple(map(_hours, windows)), ends_at=ends_at, why=why, zone=zone)


def read_duration(text: str, *, option: str) -> float:
    """Seconds of ``90s``, ``15m``, ``6h``, ``2d`` or ``1h30m``. Raises ConfigError."""
    text = text.strip()
    parts = _DURATION.findall(text)
    seconds = sum(float(amount) * _SECONDS[unit] for amount, unit in parts)
    if not parts or "".join(amount + unit for amount, unit in parts) != text or not seconds:
        raise ConfigError(f"{option} {text!r}: should look like 90s, 15m, 6h or 2d")
    return seconds


def _hours(text: str) -> Hours:
    edges = _DASH.split(text.strip())
    if len(edges) != 2:  # noqa: PLR2004
        raise ConfigError(f"--window {text!r}: it needs a beginning and an end, such as {EXAMPLE}")
    for edge in edges:
        if not _TIME.fullmatch(edge):
            raise ConfigError(f"--window {text!r}: {edge!r} is no time of day; write it as {EXAMPLE}")
    start, end = edges
    if start == "24:00":
        raise ConfigError(f"--window {text!r}: 24:00 is an end; begin at 00:00")
    if _clock(start) == _clock(end) and end != "24:00":
        raise ConfigError(f"--window {text!r}: it ends as it begins; without --window the run goes at any hour")
    return Hours(_clock(start), _clock(end))


def _instant(text: str, now: float, zone: tzinfo | None) -> float:
    text = text.strip()
    if _TIME.fullmatch(text):
        return Schedule(zone=zone).next(_clock(text), now)
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError(f"--finish-by {text!r}: should look like 06:00 or 2026-11-24T06:00") from None
    at = (when if when.tzinfo else when.replace(tzinfo=zone)).timestamp()
    if at <= now:
        raise ConfigError(f"--finish-by {text}: that is over")
    return at


def _clock(text: str) -> time:
    hour, minute = map(int, text.split(":"))
    return time(hour % 24, minute)
