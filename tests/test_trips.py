"""A network or a processor that stalls for a moment: what arrived late is remembered longer, and sent again later."""

from collections.abc import Callable
from functools import partial
from itertools import count
from math import inf
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from laboratory import START, play

from batchrunner.config import LimitSettings
from batchrunner.limits.limiter import Limiter
from batchrunner.limits.spent import STEPS, Spent
from batchrunner.limits.trips import FEW, MOST, NEAR, Trips
from batchrunner.simulator.config import Rules

STALLED = 150  # messages on their way


def steady(rng: Random) -> float:
    """A latency."""
    del rng
    return 0.1


def stalls(first: int, seconds: float) -> Callable[[Random], float]:
    """From the *first* message on, some take so much longer, in either direction."""
    number = count()

    def way(rng: Random) -> float:
        return rng.uniform(0.001, 0.003) + (seconds if first <= next(number) < first + STALLED else 0.0)

    return way


@pytest.mark.parametrize(
    ("dialect", "settings"),
    [("openai", LimitSettings()), ("zhipu", LimitSettings()), ("retry-after", LimitSettings(rpm=300))],
)
@pytest.mark.parametrize("seconds", [0.06, 0.1, 0.2])
@pytest.mark.parametrize("first", [600, 700, 900])
def test_what_was_held_up_on_its_way_is_waited_for_in_the_next_window(
    dialect: str, settings: LimitSettings, seconds: float, first: int
) -> None:
    """One in ten was refused in the next window, and then the sliding window taken for a counter."""
    window = 60 if settings.rpm else 10
    rules = Rules(rpm=300, window=window, algorithm="sliding", dialect=dialect)  # type: ignore[arg-type]
    way = stalls(first, seconds)
    played = play(rules, 1_200, settings=settings, seed=3, latency=steady, way=way)
    assert played.refused <= 0.005 * played.sends
    assert played.efficiency >= 0.94


@pytest.mark.parametrize("seed", range(4))
def test_refusals_of_one_moment_are_one_contradiction(seed: int) -> None:
    """A stall that nobody could see: answers take as long as they like. What it was thought to be, it is still."""
    limiter = Limiter(LimitSettings(), now=START)
    rules = Rules(rpm=300, window=10, algorithm="sliding", dialect="zhipu")
    play(rules, 1_200, seed=seed, limiter=limiter, latency=lambda rng: rng.uniform(0.1, 0.3), way=stalls(800, 0.25))
    (meter,) = limiter.beliefs()["meters"]
    assert meter["algorithm"] == "sliding window"


@pytest.mark.parametrize("first", [650, 750, 900])
def test_short_resets_while_nothing_is_left_make_no_bucket(first: int) -> None:
    """Refused together, five told the milliseconds to the next one: a bucket that is full again in them."""
    limiter = Limiter(LimitSettings(), now=START)
    rules = Rules(rpm=300, window=10, algorithm="sliding", dialect="openai")
    latency, way = partial(Random.uniform, a=0.1, b=0.3), stalls(first, 0.06)
    played = play(rules, 1_200, seed=3, limiter=limiter, latency=latency, way=way)
    (meter,) = limiter.beliefs()["meters"]
    assert (meter["algorithm"], meter["period"]) == ("sliding window", 10)
    assert played.refused <= 0.05 * played.sends  # what was held up together


def test_what_is_forgotten_last_can_be_recalled_for_a_moment() -> None:
    spent = Spent()
    for at in (0.0, 1.0, 1.3):
        spent.add(10.0, at, period=60)
    assert spent.forget(1.2) == 20
    assert spent.recall(5.0) == (10.0, 1.0)  # whole sends of one moment
    assert spent.total == 20
    assert spent.sent_when(10.0) == 1.0
    assert spent.recall(5.0) == (0.0, inf)  # the first was sent too long ago


def test_of_an_hour_each_moment_is_remembered() -> None:
    """A burst of two seconds was one step of it, and what came back in the middle of it seemed too much."""
    spent = Spent()
    for at in (0.0, 0.5, 1.0, 1.5):
        spent.add(1.0, at, period=3600)
    assert (spent.forget(0.6), spent.since(1.2)) == (2.0, 1.0)
    for send in range(100_000):
        spent.add(1.0, 2.0 + send * 0.036, period=3600)
    assert spent.steps <= 2 * STEPS


@given(st.floats(0.01, 20), st.floats(NEAR * 1.1, MOST * 0.9), st.integers(FEW * 2, 500))
def test_a_late_one_is_told_where_answers_take_the_same_time(usual: float, late: float, replies: int) -> None:
    trips = Trips()
    assert all((trips.late(usual) or 0.0) <= NEAR for _ in range(replies))
    assert trips.late(usual + late) == pytest.approx(late)


@given(st.floats(0.01, 20), st.floats(MOST * 1.1, 30), st.integers(FEW * 2, 500), st.integers(1, 100))
def test_of_one_that_was_held_up_for_long_nobody_knows(usual: float, late: float, replies: int, held_up: int) -> None:
    """Not even of the last of many: they are not what is usual."""
    trips = Trips()
    assert all(trips.late(usual) == 0 for _ in range(replies))
    assert {trips.late(usual + late) for _ in range(min(held_up, replies))} == {None}


@given(st.randoms(use_true_random=False))
def test_where_answers_take_as_long_as_they_like_nothing_is_told(rng: Random) -> None:
    trips = Trips()
    assert not any(trips.late(rng.uniform(0.1, 0.4)) for _ in range(300))


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 2)), min_size=1, max_size=50))
def test_who_arrived_late_is_forgotten_late_and_in_order(sends: list[tuple[float, float]]) -> None:
    """*sends*: seconds to the next, and seconds late."""
    spent, at, latest = Spent(), 0.0, 0.0
    for gap, late in sends:
        at += gap
        latest = max(latest, at + late)
        spent.add(1.0, at, period=60)
        spent.arrived(at, at + late)
        assert spent.sent_when(spent.total) == pytest.approx(latest)
    spent.forget(latest)
    assert spent.total == 0


@pytest.mark.parametrize("dialect", ["openai", "zhipu"])
@pytest.mark.parametrize(("first", "seconds"), [(10, 1.0), (50, 1.5), (500, 0.5)])
def test_held_up_answers_are_charged_once(first: int, seconds: float, dialect: str) -> None:
    """Tokens are charged with the answer: what answers still on their way had taken was taken from the level again,
    once for each of a hundred replies, and nothing was sent for half a minute.
    """
    rules = Rules(rpm=600, tpm=54_000, charging="actual", dialect=dialect)  # type: ignore[arg-type]
    played = play(rules, 1_000, seed=3, latency=steady, way=stalls(first, seconds), reckoned=125.0)
    assert played.refused == 0
    assert played.efficiency >= 0.95


@pytest.mark.parametrize("dialect", ["zhipu", "anthropic"])
@pytest.mark.parametrize("first", [600, 1800])
@pytest.mark.parametrize("seconds", [0.1, 0.3, 0.55, 1.5])
def test_a_window_whose_first_send_was_held_up_ends_later(seconds: float, first: int, dialect: str) -> None:
    """Where resets are whole seconds, it is taken to have begun with that; half of the next window was refused.

    Held up for longer than can be told which way, one goes ahead into the next; and that it was so once is no rule.
    """
    rules = Rules(rpm=300, window=10, algorithm="fixed", dialect=dialect)  # type: ignore[arg-type]
    played = play(rules, 2_000, seed=3, latency=steady, way=stalls(first, seconds))
    assert played.refused == 0
    assert played.efficiency >= 0.96
