"""The limiter against the simulator's limits in virtual time: all of the quota, hardly a request more."""

from functools import partial
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from laboratory import LOST, START, play

from batchrunner.config import LimitSettings
from batchrunner.limits.algorithm import Algorithm
from batchrunner.limits.limiter import Limiter
from batchrunner.simulator.config import Limits, Rules


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("dialect", ["openai", "zhipu"])
@pytest.mark.parametrize("rpm", [60, 600, 1200])
def test_a_bucket_is_used_up_with_nothing_configured(rpm: int, dialect: str, seed: int) -> None:
    """Efficiency at least 0.95, at most 0.5 % of the sends refused."""
    rules = Rules(rpm=rpm, dialect=dialect)  # type: ignore[arg-type]
    played = play(rules, 2 * rpm, seed=seed)
    assert played.efficiency >= 0.95
    assert played.refused_share <= 0.005


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("dialect", ["openai", "zhipu"])
@pytest.mark.parametrize("window", [10, 60])
def test_a_fixed_window_is_told_from_a_bucket(window: int, dialect: str, seed: int) -> None:
    """Its length is measured, its end found, and the next window is used from its start."""
    rules = Rules(rpm=600, window=window, algorithm="fixed", dialect=dialect)  # type: ignore[arg-type]
    played = play(rules, 2401, seed=seed)
    assert played.efficiency >= 0.93
    assert played.refused_share <= 0.01


@pytest.mark.parametrize("charging", ["estimate", "max_tokens", "actual"])
def test_tokens_bind_whenever_they_are_charged(charging: str) -> None:
    """TPM alone, charged before or after the answer."""
    played = play(Rules(tpm=60_000, charging=charging), 1500)  # type: ignore[arg-type]
    assert played.efficiency >= 0.95
    assert played.refused_share <= 0.005


@pytest.mark.parametrize("limit", [1, 2, 5, 20])
def test_the_places_in_flight_are_found_by_asking(limit: int) -> None:
    """GLM tells nothing but 1302; a limit of 1 is reachable, and the search costs a handful of refusals."""
    played = play(Rules(concurrency=limit, dialect="glm"), 150 * limit, way=lambda rng: rng.uniform(0.001, 0.003))
    assert played.efficiency >= 0.9
    assert played.refused <= 6
    assert played.most_in_flight <= 2 * limit


def test_a_stated_limit_that_nobody_enforces_is_kept_as_a_bucket() -> None:
    """One limit's worth at once, and then no more than comes back."""
    played = play(Rules(dialect="none"), 1200, settings=LimitSettings(rpm=600))
    for number, at in enumerate(sorted(played.arrivals), start=1):
        assert number <= 600 + 10 * (at - START) + 1


@pytest.mark.parametrize("algorithm", ["bucket", "fixed", "sliding"])
def test_a_stated_limit_is_used_whatever_the_server_keeps(algorithm: Any) -> None:
    """A bucket is found out by one question; elsewhere that is the only refusal, and no minute holds more."""
    rules = Rules(rpm=600, algorithm=algorithm, dialect="none")
    played = play(rules, 1500, settings=LimitSettings(rpm=600))
    assert played.refused == (0 if algorithm == "bucket" else 1)
    assert played.efficiency >= 0.98
    if algorithm != "bucket":
        assert played.busiest(60.0) <= 600


def test_stating_the_right_limit_makes_nothing_slower() -> None:
    """Where replies confirm it, the whole of a full bucket is used, as without it."""
    played = play(Rules(rpm=600), 1200, settings=LimitSettings(rpm=600))
    assert played.efficiency >= 0.95
    assert played.refused_share <= 0.005


def test_both_windows_hold_at_once() -> None:
    """Where requests and tokens both bind, neither is passed and the slower one is used up."""
    played = play(Rules(rpm=600, tpm=50_000), 1200)
    assert played.efficiency >= 0.95
    assert played.refused_share <= 0.005


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("dialect", ["openai", "zhipu"])
@pytest.mark.parametrize("window", [10, 60])
def test_a_sliding_window_is_told_at_its_first_rollover(window: int, dialect: str, seed: int) -> None:
    """It looks like a fixed one until then; afterwards our own sends tell what comes back when."""
    rules = Rules(rpm=20 * window, window=window, algorithm="sliding", dialect=dialect)  # type: ignore[arg-type]
    limiter = Limiter(LimitSettings(concurrency=256), now=START)
    played = play(rules, 80 * window, limiter=limiter, seed=seed)
    assert played.efficiency >= 0.88
    assert played.refused_share <= 0.005
    (meter,) = limiter.beliefs()["meters"]
    assert (meter["algorithm"], meter["period"]) == ("sliding window", window)


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("algorithm", ["bucket", "fixed", "sliding"])
@pytest.mark.parametrize("dialect", ["none", "retry-after"])
def test_a_server_that_tells_nothing_is_found_out(dialect: str, algorithm: str, seed: int) -> None:
    """By what it accepts and when it refuses: no deadlock, no storm, and most of what there is."""
    rules = Rules(rpm=1200, dialect=dialect, algorithm=algorithm)  # type: ignore[arg-type]
    played = play(rules, 4800, settings=LimitSettings(concurrency=256), seed=seed)
    assert played.efficiency >= 0.9
    assert played.refused_share <= 0.03


@pytest.mark.parametrize("algorithm", ["bucket", "fixed", "sliding"])
@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_a_limit_that_changes_is_followed(algorithm: str, factor: float) -> None:
    """In the middle of a run, told by headers only."""
    rules = Rules(rpm=1200, algorithm=algorithm)  # type: ignore[arg-type]
    changes = [(100.0, Limits(rpm=round(1200 * factor)))]
    limiter = Limiter(LimitSettings(concurrency=256), now=START)
    played = play(rules, 4800, limiter=limiter, changes=changes)
    assert played.efficiency >= 0.8
    assert played.refused_share <= 0.01
    assert [meter["limit"] for meter in limiter.beliefs()["meters"]] == [1200 * factor]


@pytest.mark.parametrize("algorithm", ["bucket", "fixed", "sliding"])
def test_what_others_take_is_left_to_them(algorithm: str) -> None:
    """Another client takes up to half of the quota; nearly all of the rest is ours."""
    rules = Rules(rpm=1200, algorithm=algorithm)  # type: ignore[arg-type]
    played = play(rules, 2400, settings=LimitSettings(concurrency=256), others=10.0)
    assert played.efficiency >= 0.9
    assert played.refused_share <= 0.03


@pytest.mark.parametrize("algorithm", ["bucket", "fixed", "sliding"])
def test_lost_replies_take_nothing_for_ever(algorithm: str) -> None:
    """One reply in a hundred never comes: its slot and its share come back."""
    rules = Rules(rpm=600, algorithm=algorithm)  # type: ignore[arg-type]
    limiter = Limiter(LimitSettings(), now=START)
    played = play(rules, 1800, limiter=limiter, lost=0.01)
    assert played.lost > 5
    assert played.refused_share <= 0.01
    assert limiter.slots.in_flight == 0


@given(
    st.sampled_from(["bucket", "fixed", "sliding"]),
    st.sampled_from(["openai", "zhipu", "none", "retry-after"]),
    st.integers(10, 120),
    st.sampled_from([1, 10, 60, 300]),
    st.integers(0, 10**6),
    st.sampled_from([0.0, 0.01]),
)
@settings(max_examples=60, deadline=None)
def test_no_server_brings_it_to_a_stop(
    algorithm: str, dialect: str, limit: int, window: int, seed: int, lost: float
) -> None:
    """Whatever it is, every task is answered in a bounded time, and what is in flight comes back."""
    rules = Rules(rpm=limit, window=window, algorithm=algorithm, dialect=dialect)  # type: ignore[arg-type]
    limiter = Limiter(LimitSettings(), now=START)
    played = play(rules, 4 * limit, limiter=limiter, seed=seed, lost=lost)
    assert played.elapsed <= 12 * window + 10 * LOST + 300
    assert limiter.slots.in_flight == 0


def test_a_restart_does_not_get_a_second_burst() -> None:
    """What was sent in the last minute by an earlier run still counts, also before the first reply."""
    again = Limiter(LimitSettings(), now=START + 10)
    again.believe(played_out(Rules(rpm=600)), now=START + 10)
    for number in range(600):
        again.remember(START + number / 60, 100.0, START + 10)
    (meter,) = again.beliefs()["meters"]
    assert meter["remaining"] == pytest.approx(100, abs=2)


def test_a_run_that_goes_on_starts_with_as_many_in_flight_as_were_let_in() -> None:
    """Where answers take long and nothing was ever refused, feeling the way from one again would cost minutes."""
    took = []
    limiter = Limiter(LimitSettings(), now=START)
    for night in range(2):
        start = START + 86_400 * night
        again = Limiter(LimitSettings(), now=start)
        again.believe(limiter.beliefs(), now=start)
        limiter = again
        took.append(play(Rules(), 300, limiter=limiter, start=start, latency=lambda _: 20.0).elapsed)
    assert took[0] > 140
    assert took[1] < 100
    assert limiter.slots.refused_at is None


def test_a_window_that_nobody_tells_of_any_more_is_forgotten() -> None:
    """Tokens were limited at this address yesterday; today replies tell of requests only."""
    yesterday, limiter = Limiter(LimitSettings(), now=START), Limiter(LimitSettings(), now=START + 86_400)
    play(Rules(rpm=600, tpm=20_000), 300, limiter=yesterday)
    limiter.believe(yesterday.beliefs(), now=START + 86_400)
    played = play(Rules(rpm=600), 1300, limiter=limiter, start=START + 86_400)
    assert played.efficiency >= 0.95
    assert played.refused_share <= 0.005
    assert [meter["dimension"] for meter in limiter.beliefs()["meters"]] == ["requests"]


@pytest.mark.parametrize("seed", range(3))
def test_windows_that_end_one_soon_after_another_are_none(seed: int) -> None:
    """A log that others use too, and answers of two seconds: 90 % was refused, as each end seemed to bring it all."""
    rules = Rules(rpm=600, algorithm="sliding", dialect="openai")
    world: dict[str, Any] = {"latency": lambda rng: rng.uniform(1.5, 2.5), "others": 5.0}
    assert play(rules, 2400, seed=seed, start=START + 13.7 * seed, **world).refused_share <= 0.05


@pytest.mark.parametrize("seed", range(1, 7))
def test_a_wait_that_is_over_at_a_moment_of_the_clock_makes_no_window(seed: int) -> None:
    """One comes back in six seconds, at times just as ten seconds of the clock begin; a quarter was refused then."""
    rules = Rules(rpm=10, algorithm="bucket", dialect="retry-after")
    assert play(rules, 300, seed=seed, start=START + 13.7 * seed).refused_share <= 0.08


def played_out(rules: Rules) -> dict[str, Any]:
    """What a limiter believes after a window's worth of requests and more."""
    limiter = Limiter(LimitSettings(), now=START)
    play(rules, 700, limiter=limiter)
    return limiter.beliefs()


@pytest.mark.parametrize("reckoned", [100.0, 50.0, 25.0])
@pytest.mark.parametrize("algorithm", ["bucket", "fixed", "sliding"])
def test_what_a_request_is_charged_is_seen_by_the_first(algorithm: Any, reckoned: float) -> None:
    """Before hundreds leave, by an estimate that is a half or a quarter of what the server takes."""
    way, latency = (lambda rng: rng.uniform(0.001, 0.004)), (lambda _: 0.1)
    rules = Rules(tpm=30_000, window=10, algorithm=algorithm)
    played = play(rules, 1200, reckoned=reckoned, way=way, latency=latency)
    assert played.refused_share <= 0.005
    assert played.efficiency >= 0.95


@pytest.mark.parametrize("learned", [80.0, 50.0, 25.0])
@pytest.mark.parametrize("algorithm", ["bucket", "fixed"])
def test_a_charge_by_max_tokens_is_seen_though_answers_are_short(algorithm: Any, learned: float) -> None:
    """What we reckon falls with the first answers; what the server takes at admission does not."""
    way, latency = (lambda rng: rng.uniform(0.001, 0.004)), (lambda _: 0.1)
    rules = Rules(tpm=30_000, window=10, algorithm=algorithm)
    played = play(rules, 1200, learned=learned, way=way, latency=latency)
    assert played.refused_share <= 0.005
    assert played.efficiency >= 0.95


@pytest.mark.parametrize("start", [START + tenth / 10 + 0.03 for tenth in range(10)])
@pytest.mark.parametrize("dialect", ["anthropic", "ietf", "zhipu", "openai"])
def test_a_window_is_used_whatever_the_fraction_of_a_second(dialect: Any, start: float) -> None:
    """Resets without decimals, as seconds or as instants: nothing is sent a moment too soon, and no second is lost."""
    way, latency = (lambda rng: rng.uniform(0.001, 0.004)), (lambda _: 0.1)
    rules = Rules(rpm=300, window=10, algorithm="fixed", dialect=dialect)
    played = play(rules, 1200, start=start, seed=int(start * 10) % 10, way=way, latency=latency)
    assert played.refused == 0
    assert played.efficiency >= 0.97


def test_a_limit_that_halves_between_two_windows_costs_nothing() -> None:
    """Half of a fresh window goes before the first reply of it, and that tells."""
    rules = Rules(rpm=200, window=10, algorithm="fixed")
    played = play(rules, 800, changes=[(17.0, Limits(rpm=100))])
    assert played.refused == 0
    assert played.efficiency >= 0.97


@pytest.mark.parametrize("algorithm", ["bucket", "fixed"])
def test_another_client_with_half_of_the_quota_is_left_its_share(algorithm: Any) -> None:
    rules = Rules(rpm=1200, algorithm=algorithm, dialect="openai", foreign=0.5)
    played = play(rules, 2700)
    assert played.refused_share <= 0.01
    assert played.efficiency >= 0.9


@pytest.mark.parametrize(
    ("algorithm", "limit", "window", "latency", "refused"),
    [
        ("bucket", 300, 10.0, 0.1, 0.004),
        ("fixed", 300, 10.0, 0.1, 0.008),
        ("bucket", 1200, 60.0, 2.0, 0.025),
        ("fixed", 1200, 60.0, 2.0, 0.008),
    ],
)
def test_how_much_another_client_takes_is_known_after_a_few_refusals(
    algorithm: Any, limit: int, window: float, latency: float, refused: float
) -> None:
    """Its share is insisted on: what we take of it, it takes of ours."""
    way = lambda rng: rng.uniform(0.001, 0.004)  # noqa: E731
    rules = Rules(rpm=limit, window=window, algorithm=algorithm, foreign=0.5)
    played = play(rules, round(2.8 * limit), way=way, latency=lambda _: latency)
    assert played.refused_share <= refused
    assert played.elapsed <= 4.2 * window


@pytest.mark.parametrize("busy", [0.0, 0.002, 0.004])
def test_others_that_take_their_share_while_our_burst_leaves_are_noticed_before_it_is_all_sent(busy: float) -> None:
    """Six hundred milliseconds of a slow processor: what they took meanwhile was refused, at each window's end.

    A new window that others have half used at once was taken for none, as the one that was to ask had been held up.
    """
    limiter = Limiter(LimitSettings(), now=START)
    way = lambda rng: rng.uniform(0.001, 0.004)  # noqa: E731
    rules = Rules(rpm=300, window=10, algorithm="fixed", dialect="zhipu", foreign=0.5)
    played = play(rules, 840, limiter=limiter, way=way, latency=lambda rng: rng.uniform(0.1, 0.115), busy=busy)
    assert played.refused <= 0.008 * played.sends
    assert played.elapsed <= 42
    (meter,) = limiter.beliefs()["meters"]
    assert meter["algorithm"] == "fixed window"


def test_a_wait_till_a_windows_end_is_not_taken_for_one_requests() -> None:
    """With lost replies the window is misjudged, and Retry-After tells of fifty seconds: it grew for half an hour."""
    rules = Rules(rpm=106, algorithm="fixed", dialect="retry-after")
    played = play(rules, 424, settings=LimitSettings(), seed=6, lost=0.01)
    assert played.elapsed <= 700


@pytest.mark.parametrize("algorithm", ["bucket", "fixed", "sliding"])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_limit_that_halves_while_another_client_insists_stops_nobody(algorithm: Any, seed: int) -> None:
    """What it took of the whole limit would be all of a half; and a debt of another kind of limit is none.

    Our half of it is 600, 600, 300 and 300: three windows, and the way there. A sliding log is in debt until what was
    sent before is forgotten, and then all of it is there at once.
    """
    rules = Rules(rpm=1200, algorithm=algorithm, foreign=0.5)
    played = play(rules, 1800, seed=seed, changes=[(70.0, Limits(rpm=600))])
    assert played.elapsed <= (140 if algorithm == "sliding" else 190)
    assert played.refused_share <= 0.02


@pytest.mark.parametrize("reckoned", [100.0, 130.0])
@pytest.mark.parametrize("algorithm", ["bucket", "fixed"])
def test_tokens_reckoned_a_little_wrong_are_seen_to_be(algorithm: Any, reckoned: float) -> None:
    """No refusals, and none of the limit is kept back for ever."""
    way, latency = (lambda rng: rng.uniform(0.001, 0.004)), (lambda _: 0.1)
    played = play(Rules(rpm=600, tpm=54_000, algorithm=algorithm), 1200, reckoned=reckoned, way=way, latency=latency)
    assert played.refused_share <= 0.005
    assert played.elapsed <= {"bucket": 74.2, "fixed": 121.0}[algorithm]


def test_a_small_silent_limit_is_not_asked_for_more_every_third_window() -> None:
    """One comes back a minute: a question in three windows would be a quarter of all sends."""
    played = play(Rules(rpm=60, window=3600, dialect="none"), 1000)
    assert played.refused_share <= 0.15  # most of them in the first burst
    assert sum(at > 3600 for at in played.refused_at) <= 50


def test_what_a_window_let_through_once_is_not_believed_for_ever() -> None:
    """At the edge of the clock's windows more than ten got in, once; the eleventh was refused ever after."""
    rules = Rules(rpm=10, window=10, algorithm="fixed", aligned=True, dialect="retry-after")
    played = play(
        rules, 8000, seed=42, latency=lambda rng: rng.uniform(0.1, 0.3), way=lambda rng: 0.01 + rng.expovariate(100)
    )
    assert played.refused_share <= 0.03


def test_a_hidden_limit_in_flight_is_told_by_one_burst() -> None:
    """The headers promise 20,000 a minute and two get through at once."""
    played = play(Rules(rpm=20_000, concurrency=2), 200)
    assert played.refused <= 32


@pytest.mark.parametrize("seed", [11, 19, 23, 34, 51, 53])
def test_a_silent_window_is_found_even_if_a_question_came_a_moment_before_its_end(seed: int) -> None:
    """One refused half a second before the end was followed by the next five seconds later, and that told nothing."""
    rng = Random(seed)
    busy, way, start = rng.choice([0, 0.0007, 0.002, 0.004]), rng.choice([0.001, 0.005, 0.02]), 60 * rng.random()
    played = play(
        Rules(rpm=300, window=10, algorithm="fixed", dialect="none"),
        2390,
        start=1.79e9 + start,
        seed=seed,
        latency=lambda rng: 0.1 + 0.02 * rng.random(),
        way=lambda rng: way * rng.random() + 0.0005,
        busy=busy,
    )
    assert played.efficiency > 0.95
    assert played.refused_share < 0.02


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize(
    ("window", "charging", "reserved", "reckoned", "learned", "slow", "least"),
    [
        (60, "estimate", 100.0, 80.0, 150.0, 5.0, 0.65),
        (300, "max_tokens", 150.0, 277.0, 95.0, 0.1, 0.8),
        (3600, "max_tokens", 150.0, 277.0, 150.0, 0.1, 0.8),
        (3600, "max_tokens", 150.0, 80.0, 150.0, 0.1, 0.8),
        (3600, "estimate", 100.0, 277.0, 111.0, 1.0, 0.8),
        (3600, "actual", 100.0, 110.0, 95.0, 1.0, 0.5),
    ],
)
def test_tokens_of_a_sliding_window_are_a_log_as_well(
    window: int, charging: Any, reserved: float, reckoned: float, learned: float, slow: float, least: float, seed: int
) -> None:
    """What was charged before that was known made our log another than the server's: it was taken for a counter."""
    limiter = Limiter(LimitSettings(), now=START)
    rules = Rules(rpm=60, tpm=3600, window=window, algorithm="sliding", dialect="openai", charging=charging)
    world: dict[str, Any] = {"reserved": reserved, "reckoned": reckoned, "learned": learned}
    latency = partial(Random.uniform, a=slow, b=3 * slow)
    played = play(rules, 350, seed=seed, limiter=limiter, latency=latency, **world)
    assert played.refused_share <= 0.01
    assert played.efficiency >= least
    assert {(m["algorithm"], m["period"]) for m in limiter.beliefs()["meters"]} == {(Algorithm.SLIDING, window)}
