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
        ({"windows": ["7-9"]}, "--window '7-9': should look like 00:00-07:00"),
        ({"windows": ["07:00-07:00"]}, "should look like"),
        ({"windows": ["25:00-26:00"]}, "should look like"),
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


@given(
    start=MINUTES,
    end=MINUTES,
    at=st.floats(NOON, NOON + 400 * 86400),
    zone=st.sampled_from([BERLIN, SHANGHAI, ZoneInfo("Australia/Lord_Howe")]),
)
def test_it_is_open_when_it_said_it_would_be(start: int, end: int, at: float, zone: ZoneInfo) -> None:
    """And closed just before, on any day of a year, in zones with every kind of summer time."""
    if start == end:
        return
    window = f"{start // 60:02}:{start % 60:02}-{end // 60:02}:{end % 60:02}"
    schedule = nightly(window, zone=zone, now=at)
    wait = schedule.opens_in(at)
    assert 0 <= wait <= 86400 + 3600
    if wait > 1:
        assert schedule.opens_in(at + wait) == 0 or schedule.opens_in(at + wait) <= 2 * 3600  # an hour that is left out
        assert schedule.opens_in(at + wait - 1) > 0
    lasts = schedule.closes_in(at)
    assert (lasts > 0) == (wait == 0)
    if 1 < lasts < inf:
        assert schedule.opens_in(at + lasts - 1) <= 3600


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
