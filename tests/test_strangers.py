"""The limiter at rate limiters of others, in virtual time, each with the ways of its own that misled us once."""

from math import ceil, floor
from random import Random
from typing import Any

import pytest
from laboratory import play
from strange_servers import (
    START,
    BusyPlaces,
    ChargedLater,
    Counter,
    Gcra,
    HiddenRate,
    LimitOnly,
    Nginx,
    Places,
    RoundedFixed,
    SameWait,
    SlowapiCounter,
    SlowapiFixed,
    SlowapiMistaken,
    SlowapiMoving,
    SpringGateway,
    SteppedBucket,
    ThrottledCounter,
    UpstashCounter,
    visit,
)

from batchrunner.config import LimitSettings
from batchrunner.limits.algorithm import Algorithm
from batchrunner.limits.limiter import Limiter
from batchrunner.simulator.config import Limits, Rules

LIMIT, WINDOW = 300, 10.0
STARTS = [START + seconds for seconds in (1.37, 2.74, 4.11, 5.48, 8.22)]  # on the clock's grid of windows


@pytest.mark.parametrize("start", STARTS)
def test_a_second_more_than_the_window_is_a_window_all_the_same(start: float) -> None:
    """SlowAPI adds a second to its resets: what says 11 is not a minute's window but one of ten seconds."""
    limiter = Limiter(LimitSettings(), now=start)
    played = visit(SlowapiFixed(LIMIT, WINDOW), 4 * LIMIT, start=start, limiter=limiter)
    assert played.refused == 0
    assert played.efficiency >= 0.97
    (meter,) = limiter.beliefs()["meters"]
    assert (meter["algorithm"], meter["period"]) == (Algorithm.WINDOW, WINDOW)


@pytest.mark.parametrize("epoch", [True, False])
@pytest.mark.parametrize("start", [START + 13.7 * seed + 0.37 for seed in (1, 2, 3)])
@pytest.mark.parametrize("rounded", [floor, round, ceil])
def test_resets_may_be_rounded_in_any_way(rounded: Any, start: float, *, epoch: bool) -> None:
    """Flask-Limiter, ulule/limiter and many others cut the decimals off: their windows end up to a second later."""
    for aligned in (True, False):
        server = RoundedFixed(600, 60.0, rounded, epoch=epoch, aligned=aligned)
        played = visit(server, 2300, start=start)
        assert played.refused_share <= 0.005
        assert played.efficiency >= 0.97


@pytest.mark.parametrize("start", STARTS)
def test_a_hidden_rate_under_a_told_minute_is_found(start: float) -> None:
    """The minute has plenty left at each refusal, and too many in flight it is not."""
    played = visit(HiddenRate(10.0), 2300, start=start, latency=0.3)
    assert played.refused_share <= 0.025
    assert played.efficiency >= 0.93


@pytest.mark.parametrize("latency", [0.1, 2.0])
@pytest.mark.parametrize("start", STARTS)
def test_a_limit_without_what_is_left_of_it_is_kept_by_our_own_log(start: float, latency: float) -> None:
    played = visit(LimitOnly(600, 60.0, ceil), 2300, start=start, latency=latency)
    assert played.refused_share <= 0.005
    assert played.efficiency >= 0.9


@pytest.mark.parametrize("start", STARTS)
def test_a_clock_that_is_behind_is_noticed(start: float) -> None:
    played = visit(RoundedFixed(600, 60.0, ceil, slow=2.0), 2300, start=start)
    assert played.refused_share <= 0.005
    assert played.efficiency >= 0.97


@pytest.mark.parametrize("start", [START + 27.77, START + 55.2])
def test_the_rest_of_a_window_on_the_grid_is_no_window_that_creeps(start: float) -> None:
    """Answers of some seconds come when the moment that they name is over: that is not a new end."""
    limiter = Limiter(LimitSettings(), now=start)
    played = visit(RoundedFixed(600, 60.0, ceil, aligned=True), 2300, start=start, limiter=limiter, latency=2.0)
    assert played.refused_share <= 0.005
    (meter,) = limiter.beliefs()["meters"]
    assert (meter["algorithm"], meter["period"]) == (Algorithm.WINDOW, 60.0)


@pytest.mark.parametrize("start", STARTS)
def test_what_a_late_header_told_does_not_come_back_twice(start: float) -> None:
    """SlowAPI writes its headers with the answer: what came back meanwhile is in them, and in our own log later."""
    limiter = Limiter(LimitSettings(), now=start)
    played = visit(SlowapiMoving(LIMIT, WINDOW), 4 * LIMIT, start=start, limiter=limiter)
    assert played.refused == 0
    assert played.efficiency >= 0.965
    (meter,) = limiter.beliefs()["meters"]
    assert (meter["algorithm"], meter["period"]) == (Algorithm.SLIDING, WINDOW)


@pytest.mark.parametrize("again", [1, 40])
@pytest.mark.parametrize("mistake", [20, 107, 200])
def test_two_replies_that_are_mistaken_cost_next_to_nothing(mistake: int, again: int) -> None:
    """In one moment, or after others had told again what was so: of the second one it was believed."""
    limiter = Limiter(LimitSettings(), now=STARTS[0])
    server = SlowapiMistaken(LIMIT, WINDOW, mistake, empty=True, again=again)
    played = visit(server, 4 * LIMIT, start=STARTS[0], limiter=limiter)
    assert played.refused_share <= 0.005
    assert played.efficiency >= 0.95
    (meter,) = limiter.beliefs()["meters"]
    assert (meter["algorithm"], meter["period"]) == (Algorithm.SLIDING, WINDOW)


@pytest.mark.parametrize("mistake", [20, 299, 300, 450])
@pytest.mark.parametrize("start", STARTS[:2])
@pytest.mark.parametrize("empty", [True, False])
def test_one_reply_that_is_mistaken_costs_next_to_nothing(start: float, mistake: int, *, empty: bool) -> None:
    """It told of a whole new window where there was none: what was a sliding one became a counter of a minute."""
    played = visit(SlowapiMistaken(LIMIT, WINDOW, mistake, empty=empty), 4 * LIMIT, start=start)
    assert played.refused_share <= 0.01
    assert played.efficiency >= 0.93


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("server", [SlowapiCounter, ThrottledCounter])
def test_a_count_that_is_weighed_by_time_is_no_log(
    server: type[SlowapiCounter | ThrottledCounter], start: float
) -> None:
    """What was sent at one moment does not come back at one moment there, and no burst leaves to find that out."""
    limiter = Limiter(LimitSettings(), now=start)
    played = visit(server(LIMIT, WINDOW), 4 * LIMIT, start=start, limiter=limiter)
    assert played.refused_share <= 0.005
    assert played.efficiency >= 0.97
    (meter,) = limiter.beliefs()["meters"]
    assert (meter["algorithm"], meter["period"]) == (Algorithm.COUNTER, WINDOW)


@pytest.mark.parametrize("window", [10.0, 60.0])
@pytest.mark.parametrize("start", STARTS)
def test_a_count_that_tells_when_its_window_ends_is_no_window(start: float, window: float) -> None:
    """The new one begins with what the last one's count leaves: one asks a little later, and finds more than before."""
    limiter = Limiter(LimitSettings(), now=start)
    played = visit(UpstashCounter(LIMIT, window), 6 * LIMIT, start=start, limiter=limiter)
    assert played.refused_share <= 0.005
    assert played.efficiency >= 0.95
    (meter,) = limiter.beliefs()["meters"]
    assert (meter["algorithm"], meter["period"]) == (Algorithm.COUNTER, window)


@pytest.mark.parametrize("seed", range(1, 9))
def test_a_log_whose_burst_arrives_in_any_order_stays_a_log(seed: int) -> None:
    """The first of a burst may arrive last, and find little left: that is no sign of a mere count."""
    limiter = Limiter(LimitSettings(), now=START)
    world: dict[str, Any] = {"latency": lambda rng: rng.uniform(1, 3), "way": lambda rng: 0.01 + rng.expovariate(100)}
    rules = Rules(rpm=20, window=60, algorithm="sliding", dialect="openai")
    played = play(rules, 200, limiter=limiter, seed=seed, start=START, **world)
    assert played.refused_share <= 0.01
    (meter,) = limiter.beliefs()["meters"]
    assert meter["algorithm"] == Algorithm.SLIDING


def test_a_length_that_was_measured_where_no_window_ended_is_none() -> None:
    """A count on the clock's grid seems to end 1.4 s after our first request: that is no window of 1.4 s."""
    start = START + 9.59
    limiter = Limiter(LimitSettings(), now=start)
    played = visit(SlowapiCounter(LIMIT, WINDOW), 4 * LIMIT, start=start, limiter=limiter)
    assert played.refused_share <= 0.03
    (meter,) = limiter.beliefs()["meters"]
    assert (meter["algorithm"], meter["period"]) == (Algorithm.COUNTER, WINDOW)


@pytest.mark.parametrize("start", STARTS)
def test_a_bucket_that_is_filled_once_a_second_is_believed_after_some_refusals(start: float) -> None:
    """What came back by our clock may not be there before the server's next full second."""
    played = visit(SteppedBucket(LIMIT, WINDOW), 4 * LIMIT, start=start)
    assert played.refused_share <= 0.005
    assert played.efficiency >= 0.95


@pytest.mark.parametrize("to_next", [False, True])
@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize(("burst", "rate"), [(20, 10.0), (30, 30.0), (600, 10.0)])
def test_resets_that_are_short_however_much_is_used_are_no_windows_of_a_second(
    burst: int, rate: float, seed: int, *, to_next: bool
) -> None:
    """redis-cell tells how soon a small bucket is full, gubernator how soon one more comes back."""
    played = visit(Gcra(burst, rate, to_next=to_next), 1500, seed=seed, latency=0.1)
    assert played.refused_share <= 0.005
    assert played.efficiency >= 0.85


@pytest.mark.parametrize("start", STARTS)
def test_what_a_bucket_holds_and_its_rate_are_its_limit_and_period(start: float) -> None:
    """Spring Cloud Gateway tells of nothing else but what is left: twenty, ten a second."""
    played = visit(SpringGateway(20, 2.0), 1500, start=start)
    assert played.refused_share <= 0.005
    assert played.efficiency >= 0.95


@pytest.mark.parametrize("start", STARTS)
def test_a_silent_count_is_asked_again_soon_after_a_window_and_used_at_its_rate(start: float) -> None:
    """HAProxy's stick-table counts refused requests too, so every question makes it worse, and nothing is told."""
    played = visit(Counter(LIMIT, WINDOW, aligned=False, counts_refused=True), 8 * LIMIT, start=start)
    assert played.refused_share <= 0.02
    assert played.efficiency >= 0.93


@pytest.mark.parametrize("latency", [0.3, 2.0, 8.0])
@pytest.mark.parametrize("limit", [6000, 24_000, 60_000])
def test_tokens_that_are_charged_with_the_answer_are_not_in_its_headers(limit: int, latency: float) -> None:
    """Nor are those of all that is in flight; but what each answer took it says itself."""
    played = visit(ChargedLater(limit), limit // 20, latency=latency)
    assert played.refused_share <= 0.005
    assert played.efficiency >= 0.9


def quick(_: Random) -> float:
    return 0.05


def steady(_: Random) -> float:
    return 1.0


def slow(rng: Random) -> float:
    """Long answers of a model."""
    return min(max(rng.lognormvariate(1.2, 0.8), 1.0), 20.0)


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize(("work", "tasks"), [(quick, 600), (steady, 120), (slow, 120)])
@pytest.mark.parametrize("places", [1, 2, 5, 20])
def test_a_silent_limit_in_flight_is_not_taken_for_a_rate(places: int, work: Any, tasks: int, seed: int) -> None:
    """nginx's limit_conn: a 429 as HTML and nothing else; whatever leaves while a place is free passes."""
    limiter = Limiter(LimitSettings(), now=START)
    server = Places(places, work, seed=seed)
    played = visit(server, tasks * places, limiter=limiter, seed=seed, latency=0.0)
    assert limiter.slots.limit in (places, places + 1)  # one more is tried now and then
    assert played.refused <= 20
    assert played.efficiency >= 0.9


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("places", [1, 4])
def test_so_many_that_are_overload_again_and_again_are_asked_for_ever_more_seldom(places: int, seed: int) -> None:
    """A 503 is the platform's state, which passes; with one at a time every second send was refused, for ever."""
    played = visit(BusyPlaces(places, steady, seed=seed), 600 * places, seed=seed, latency=0.0)
    assert played.refused_share <= 0.025
    assert played.efficiency >= 0.85


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("wait", [5, 10])
@pytest.mark.parametrize("places", [1, 4, 20])
def test_a_wait_is_paid_once_a_lesson_where_too_many_were_in_flight(places: int, wait: int, seed: int) -> None:
    """The wait it asks for is as long as one for a window, and the next refusal asks for the same: that is none."""
    limiter = Limiter(LimitSettings(), now=START)
    played = visit(Places(places, steady, seed=seed, wait=wait), 300 * places, limiter=limiter, seed=seed, latency=0.0)
    assert limiter.slots.limit in (places, places + 1)
    assert played.refused_share <= 0.02
    assert played.efficiency >= 0.75


def test_a_wait_that_differs_is_that_for_a_window() -> None:
    """Ten seconds of 100: the first refusal came for one of many, and the next ones ask for other waits."""
    limiter = Limiter(LimitSettings(), now=START)
    rules = Rules(rpm=100, window=10, algorithm="fixed", aligned=True, dialect="retry-after")
    played = play(rules, 1000, limiter=limiter, start=START + 3)
    assert limiter.slots.refused_at is None
    assert played.refused_share <= 0.03


@pytest.mark.parametrize(("wait", "least"), [(10, 0.9), (60, 0.75)])
def test_a_wait_that_is_the_same_whatever_comes_back_says_nothing_of_one_request(wait: int, least: float) -> None:
    """600 passed in it: it is not what one of a slow bucket waits for."""
    for start in STARTS:
        played = visit(SameWait(600, 60.0, wait), 9000, start=start)
        assert played.refused_share <= 0.02
        assert played.efficiency >= least


def test_a_silent_limit_in_flight_that_is_raised_or_lowered_is_found_again() -> None:
    """One more is tried now and then; and what is refused among fewer than were let in is looked into anew."""
    limiter, server = Limiter(LimitSettings(), now=START), Places(5, steady)
    visit(server, 300, limiter=limiter, latency=0.0)
    server.places = 3
    visit(server, 300, limiter=limiter, latency=0.0, start=START + 100)
    assert limiter.slots.limit == 3
    server.places = 10
    visit(server, 3000, limiter=limiter, latency=0.0, start=START + 300)
    assert limiter.slots.limit == 10


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("burst", [0, 60])
def test_a_small_bucket_is_not_taken_for_a_limit_in_flight(burst: int, seed: int) -> None:
    """nginx's limit_req: what was refused in a burst passes with as many in flight, a moment later."""
    limiter = Limiter(LimitSettings(), now=START)
    visit(Nginx(30, burst), 1200, limiter=limiter, seed=seed)
    assert limiter.slots.refused_at is None
    (belief,) = limiter.beliefs()["meters"]
    assert belief["algorithm"] == Algorithm.BUCKET


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_where_each_must_keep_its_distance_refusals_tell_how_near_is_too_near(seed: int) -> None:
    """nginx's limit_req without a burst, and a millisecond of jitter: one in a hundred refused leaves 0.89 of it."""
    limiter = Limiter(LimitSettings(), now=START)
    played = visit(Nginx(30), 2400, limiter=limiter, seed=seed)
    assert played.efficiency >= 0.84
    assert played.refused_share <= 0.02
    (belief,) = limiter.beliefs()["meters"]
    assert belief["at_once"] == 1
    again = Limiter(LimitSettings(), now=START + 3600)
    again.believe(limiter.beliefs(), now=START + 3600)
    assert visit(Nginx(30), 2400, limiter=again, seed=seed, start=START + 3600).efficiency >= 0.86


@pytest.mark.parametrize("dialect", ["none", "retry-after"])
@pytest.mark.parametrize("algorithm", ["fixed", "sliding"])
def test_a_silent_window_that_doubles_is_used_after_some_windows_and_not_asked_for_ever_more(
    algorithm: Any, dialect: Any
) -> None:
    """One more, two, four, …: once that was refused, the next question is for one more again."""
    rules = Rules(rpm=300, window=10, algorithm=algorithm, dialect=dialect)
    played = play(rules, 25_000, start=START, changes=[(60.0, Limits(rpm=600))])
    assert played.refused_share <= 0.015
    assert sum(200 <= at - START < 210 for at in played.arrivals) >= 540


@pytest.mark.parametrize("seed", [1, 2, 3, 4])
def test_a_question_that_had_to_wait_for_long_answers_tells_of_no_window(seed: int) -> None:
    """One asks alone, so after answers of five seconds it passes late: the server would have let it in at once."""
    played = visit(Nginx(5), 600, seed=seed, latency=5.0)
    assert played.elapsed <= 260


def test_a_rate_measured_by_a_handful_of_answers_grows_until_it_is_known() -> None:
    """A silent log of sixty a minute, and answers of up to 20 s: three a minute were believed for hours."""
    rules = Rules(rpm=60, algorithm="sliding", dialect="none")
    played = play(rules, 480, seed=5, latency=lambda rng: rng.uniform(1, 20))
    assert played.elapsed <= 40 * 60
