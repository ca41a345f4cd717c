"""When a run may claim tasks: hours on the wall, ends, and the nights in which the clocks change."""

from datetime import UTC, datetime, timedelta
from math import inf
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchrunner.errors import ConfigError
from batchrunner.schedule import ALWAYS, Schedule, make_schedule, read_duration

BERLIN = ZoneInfo("Europe/Berlin")
SHANGHAI = ZoneInfo("Asia/Shanghai")
NOON = datetime(2026, 11, 23, 12, 0, tzinfo=SHANGHAI).timestamp()


def nightly(*windows: str, zone: ZoneInfo = SHANGHAI, now: float = NOON, **more: str) -> Schedule:
    return make_schedule(windows=windows, now=now, zone=zone, **more)


def test_without_a_schedule_it_is_always_open() -> None:
    assert ALWAYS.opens_in(NOON) == 0
    assert ALWAYS.closes_in(NOON) == inf


def test_a_window_opens_and_closes() -> None:
    schedule = nightly("00:00-07:00")
    assert schedule.opens_in(NOON) == 12 * 3600
    midnight = NOON + 12 * 3600
    assert schedule.opens_in(midnight) == 0
    assert schedule.closes_in(midnight + 60) == 7 * 3600 - 60
    assert schedule.opens_in(midnight + 7 * 3600) == 17 * 3600


def test_a_window_may_go_over_midnight() -> None:
    schedule = nightly("22:30-06:00")
    assert schedule.opens_in(NOON) == 10.5 * 3600
    assert schedule.closes_in(NOON + 11 * 3600) == 7 * 3600


def test_windows_may_follow_upon_each_other() -> None:
    schedule = nightly("22:00-24:00", "00:00-02:00")
    assert schedule.closes_in(NOON + 10 * 3600) == 4 * 3600
    assert nightly("00:00-12:00", "12:00-00:00").closes_in(NOON) == inf


def test_the_night_in_which_the_clocks_go_back_is_longer() -> None:
    begin = datetime(2026, 10, 25, 0, 0, tzinfo=BERLIN).timestamp()
    assert nightly("00:00-07:00", zone=BERLIN, now=begin).closes_in(begin) == 8 * 3600


def test_an_end_closes_for_good() -> None:
    schedule = nightly(finish_by="18:00")
    assert schedule.closes_in(NOON) == 6 * 3600
    assert schedule.opens_in(NOON + 6 * 3600) == inf
    assert schedule.why == "--finish-by 18:00"


def test_the_earlier_end_counts() -> None:
    schedule = nightly(finish_by="18:00", max_time="90m")
    assert (schedule.ends_at - NOON, schedule.why) == (5400, "--max-time 90m")


def test_a_window_that_opens_after_the_end_never_opens() -> None:
    assert nightly("20:00-22:00", finish_by="18:00").opens_in(NOON) == inf


def test_a_time_that_is_over_today_is_tomorrows() -> None:
    assert nightly(finish_by="06:00").ends_at - NOON == 18 * 3600


def test_an_iso_time_means_what_it_says() -> None:
    assert nightly(finish_by="2026-11-23T13:00").ends_at - NOON == 3600
    utc = datetime.fromtimestamp(NOON, UTC) + timedelta(hours=2)
    assert nightly(finish_by=utc.isoformat()).ends_at - NOON == 7200


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"windows": ["7-9"]}, "--window '7-9': '7' is no time of day; write it as 22:00-06:00"),
        ({"windows": ["06:00"]}, "--window '06:00': it needs a beginning and an end, such as 22:00-06:00"),
        ({"windows": ["06:00-"]}, "--window '06:00-': '' is no time of day"),
        (
            {"windows": ["07:00-07:00"]},
            "--window '07:00-07:00': it ends as it begins; without --window the run goes at any",
        ),
        ({"windows": ["25:00-06:00"]}, "--window '25:00-06:00': '25:00' is no time of day"),
        ({"windows": ["22:00-24:30"]}, "--window '22:00-24:30': '24:30' is no time of day"),
        ({"windows": ["24:00-06:00"]}, "--window '24:00-06:00': 24:00 is an end; begin at 00:00"),
        ({"finish_by": "soon"}, "--finish-by 'soon': should look like 06:00"),
        ({"finish_by": "2020-01-01T00:00"}, "that is over"),
        ({"max_time": "6"}, "--max-time '6': should look like 90s, 15m, 6h or 2d"),
        ({"max_time": "0s"}, "should look like"),
    ],
)
def test_what_makes_no_sense_is_told(options: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said.replace("(", r"\(")):
        make_schedule(now=NOON, zone=SHANGHAI, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("15m", 900), ("1h30m", 5400), ("2d", 172800), ("0.5h", 1800)]
)
def test_durations(text: str, seconds: float) -> None:
    assert read_duration(text, option="--max-time") == seconds


MINUTES = st.integers(0, 1439)


ZONES = [  # with an hour of summer time at several hours of the night, half an hour, a whole day left out, and none
    *("Europe/Berlin", "America/New_York", "America/Santiago", "Africa/Cairo", "Asia/Beirut", "America/Havana"),
    *("Australia/Lord_Howe", "Pacific/Apia", "Asia/Shanghai", "Asia/Kathmandu", "UTC"),
]
CHANGES = [  # a day before the clocks change, in one zone each
    *((2026, 3, 28, "Europe/Berlin"), (2026, 10, 24, "Europe/Berlin"), (2026, 3, 7, "America/New_York")),
    *((2026, 10, 31, "America/New_York"), (2026, 4, 4, "Australia/Lord_Howe"), (2026, 10, 3, "Australia/Lord_Howe")),
    *((2026, 4, 4, "America/Santiago"), (2026, 9, 5, "America/Santiago"), (2026, 3, 28, "Asia/Beirut")),
    *((2026, 10, 24, "Asia/Beirut"), (2026, 4, 23, "Africa/Cairo"), (2026, 10, 29, "Africa/Cairo")),
    *((2026, 3, 7, "America/Havana"), (2026, 10, 31, "America/Havana"), (2011, 12, 29, "Pacific/Apia")),
]


def shown(zone: ZoneInfo, at: float) -> int:
    """Minutes after midnight on the wall, rounded down."""
    wall = datetime.fromtimestamp(at, zone)
    return wall.hour * 60 + wall.minute


def is_within(start: int, end: int, minute: int) -> bool:
    return start <= minute < end if start < end else minute >= start or minute < end


@given(
    start=MINUTES,
    end=MINUTES,
    minutes=st.integers(0, 3 * 1440),
    change=st.sampled_from(CHANGES),
)
def test_no_edge_is_missed_when_the_clocks_change(
    start: int, end: int, minutes: int, change: tuple[int, int, int, str]
) -> None:
    """It is open whenever the clock on the wall shows an hour of its, be that twice a night or never; and it opens and
    closes at the minute at which a clock that is looked at every minute says so.
    """
    if start == end:
        return
    zone = ZoneInfo(change[3])
    at = datetime(*change[:3], tzinfo=zone).timestamp() + 60 * minutes
    schedule = nightly(f"{start // 60:02}:{start % 60:02}-{end // 60:02}:{end % 60:02}", zone=zone, now=at)
    is_open = is_within(start, end, shown(zone, at))
    flips = next(n for n in range(1, 4 * 1440) if is_within(start, end, shown(zone, at + 60 * n)) != is_open)
    assert schedule.opens_in(at) == (0 if is_open else 60 * flips)
    assert schedule.closes_in(at) == (60 * flips if is_open else 0)


@given(start=MINUTES, end=MINUTES, at=st.floats(NOON, NOON + 400 * 86400), zone=st.sampled_from(ZONES).map(ZoneInfo))
def test_it_is_open_when_it_said_it_would_be(start: int, end: int, at: float, zone: ZoneInfo) -> None:
    """And closed just before, on any day of a year; it closes when it said, and was open until then."""
    if start == end:
        return
    schedule = nightly(f"{start // 60:02}:{start % 60:02}-{end // 60:02}:{end % 60:02}", zone=zone, now=at)
    wait = schedule.opens_in(at)
    assert 0 <= wait <= 2 * 86400 + 3600
    assert schedule.opens_in(at + wait + 0.01) == 0
    if wait > 1:
        assert schedule.opens_in(at + wait - 1) > 0
    lasts = schedule.closes_in(at + wait + 0.01)
    assert 0 < lasts <= 2 * 86400
    assert schedule.opens_in(at + wait + 0.01 + lasts + 0.01) > 0


@given(
    time=MINUTES,
    minutes=st.integers(0, 2 * 1440),
    change=st.sampled_from(CHANGES),
)
def test_an_end_is_the_next_moment_at_which_the_clock_shows_it_or_passes_it(
    time: int, minutes: int, change: tuple[int, int, int, str]
) -> None:
    """A time that is left out that night ends the run when the clocks are put forward, and not an hour later."""
    zone = ZoneInfo(change[3])
    at = datetime(*change[:3], tzinfo=zone).timestamp() + 60 * minutes
    ends = nightly(finish_by=f"{time // 60:02}:{time % 60:02}", zone=zone, now=at).ends_at
    walls = [datetime.fromtimestamp(at + 60 * n, zone).replace(tzinfo=None) for n in range(3 * 1440)]

    def passes(before: datetime, after: datetime) -> bool:
        aim = datetime(after.year, after.month, after.day, time // 60, time % 60)  # noqa: DTZ001  (the wall's)
        return after == aim or before < aim <= after or before < aim - timedelta(days=1) <= after

    assert ends - at == 60 * next(n for n in range(1, 3 * 1440) if passes(walls[n - 1], walls[n]))


def test_the_whole_day_may_be_said() -> None:
    """24:00 is what people write for the midnight that ends a day."""
    schedule = nightly("00:00-24:00")
    assert (schedule.opens_in(NOON), schedule.closes_in(NOON)) == (0, inf)
    assert nightly("18:00-24:00").closes_in(NOON + 6 * 3600) == 6 * 3600
    assert str(nightly("18:00-24:00").hours[0]) == "18:00-24:00"
    assert nightly(finish_by="24:00").ends_at == NOON + 12 * 3600


def test_a_window_may_be_written_as_people_write_it() -> None:
    assert nightly(" 22:00 – 6:00 ").hours == nightly("22:00-06:00").hours


def test_work_that_takes_more_than_a_night_is_done_in_a_later_one() -> None:
    schedule = nightly("00:00-07:00")
    midnight = NOON + 12 * 3600
    assert schedule.done_at(3600, NOON) == midnight + 3600
    assert schedule.done_at(8 * 3600, NOON) == midnight + 25 * 3600
    assert ALWAYS.done_at(60, NOON) == NOON + 60


def test_work_that_an_end_cuts_short_is_never_done() -> None:
    assert nightly(finish_by="18:00").done_at(6 * 3600, NOON) == NOON + 6 * 3600
    assert nightly(finish_by="18:00").done_at(6 * 3600 + 1, NOON) == inf
    assert nightly("00:00-07:00", finish_by="2026-11-24T08:00").done_at(8 * 3600, NOON) == inf
    assert nightly("20:00-22:00", finish_by="18:00").done_at(1, NOON) == inf


@given(start=MINUTES, end=MINUTES, at=st.floats(NOON, NOON + 400 * 86400), hours=st.floats(0.01, 60))
def test_work_is_done_within_the_nights_it_fills(start: int, end: int, at: float, hours: float) -> None:
    """Never sooner than the work takes, nor later than the nights it fills; and it ends while the window is open."""
    if start == end:
        return
    window = f"{start // 60:02}:{start % 60:02}-{end // 60:02}:{end % 60:02}"
    schedule = nightly(window, now=at)
    done = schedule.done_at(hours * 3600, at)
    days, length = divmod(hours * 3600, (end - start) % 1440 * 60)
    assert done - at >= hours * 3600 - 1e-3
    assert done - at <= (days + 2) * 86400 + length
    assert schedule.opens_in(done - 1e-3) == 0
