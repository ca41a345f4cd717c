"""Which clock a server runs, from what its replies say of resets: unusual lengths, short windows, slow answers."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from laboratory import play

from batchrunner.limits.algorithm import Algorithm
from batchrunner.limits.clock import Clock
from batchrunner.limits.filling import Filling
from batchrunner.limits.told import Reading, Told
from batchrunner.simulator.config import Rules

NOW = 1_790_000_000.3


@given(
    period=st.floats(2.0, 50_000.0),
    limit=st.integers(20, 10_000),
    shares=st.lists(st.floats(0.05, 1.0), min_size=2, max_size=8),
    resolution=st.sampled_from([0.002, 1.0]),
)
def test_a_buckets_period_is_found_or_nothing(
    period: float, limit: int, shares: list[float], resolution: float
) -> None:
    """Never another one: what each reply allows holds the truth."""
    filling = Filling()
    for share in shares:
        used = max(2.0, share * limit)
        filling.add(used=used, limit=limit, reset=period * used / limit, resolution=resolution)
    assert filling.period is None or filling.period == pytest.approx(period, rel=0.12)


@given(
    period=st.floats(10.0, 50_000.0),
    limit=st.integers(20, 10_000),
    shares=st.lists(st.floats(0.05, 1.0), min_size=2, max_size=8, unique=True),
)
def test_a_window_is_never_taken_for_a_bucket(period: float, limit: int, shares: list[float]) -> None:
    """While more of it is used, its end does not move away."""
    filling = Filling()
    for place, share in enumerate(sorted(shares)):
        filling.add(used=max(2.0, share * limit), limit=limit, reset=period - place * 0.1, resolution=0.002)
        assert filling.period is None


def test_what_goes_on_being_told_is_no_mistake() -> None:
    """A server that was restarted begins a window anew, and there is no pause in which nothing of ours leaves."""
    clock = Clock(period=10.0, algorithm=Algorithm.WINDOW)

    def tell(at: float, end: float) -> Reading:
        told = Told(limit=300, used=at * 100, reset=end - at, epoch=clock.epoch, sent_at=at, received_at=at + 0.005)
        return clock.read(told)

    assert {tell(0.01 * sent, 10.0001) for sent in range(1, 101)} == {Reading.CURRENT}
    assert tell(1.01, 11.0101) is Reading.OLD
    assert {tell(1.01 + 0.01 * sent, 11.0101) for sent in range(1, 30)} != {Reading.OLD}


@pytest.mark.parametrize("seconds", [20, 30, 120, 600])
@pytest.mark.parametrize("dialect", ["openai", "zhipu", "anthropic"])
def test_a_bucket_of_an_unusual_length_is_one(dialect: Any, seconds: float) -> None:
    """It was taken for a sliding window, and asked one by one."""
    played = play(Rules(rpm=60, window=seconds, dialect=dialect), 710, start=NOW)
    assert played.efficiency > 0.95
    assert played.refused == 0


@pytest.mark.parametrize("aligned", [False, True])
@pytest.mark.parametrize("dialect", ["openai", "zhipu", "anthropic", "ietf"])
def test_windows_of_ten_seconds_and_answers_of_three(dialect: Any, aligned: bool) -> None:
    """Late replies of a window that is over say nothing of when the next began."""
    rules = Rules(rpm=100, window=10, algorithm="fixed", dialect=dialect, aligned=aligned)
    played = play(rules, 1190, start=NOW, latency=lambda rng: rng.uniform(1, 3))
    assert played.efficiency > 0.94
    assert played.refused == 0


@pytest.mark.parametrize("dialect", ["openai", "zhipu", "anthropic", "ietf"])
def test_a_log_of_ten_seconds_and_answers_of_three(dialect: Any) -> None:
    """The one that asks at the end of what seems a window finds that it is none."""
    rules = Rules(rpm=100, window=10, algorithm="sliding", dialect=dialect)
    played = play(rules, 1190, start=NOW, latency=lambda rng: rng.uniform(1, 3))
    assert played.efficiency > 0.8
    assert played.refused_share < 0.01


@pytest.mark.parametrize(("seconds", "limit"), [(1, 20), (2, 200)])
@pytest.mark.parametrize("busy", [0.0, 0.0007])
def test_windows_as_short_as_a_few_answers(seconds: float, limit: int, busy: float) -> None:
    """Two seconds are no ten that creep, and an answer may take a third of one."""
    rules = Rules(rpm=limit, window=seconds, algorithm="fixed")
    played = play(rules, 12 * limit - 10, start=NOW, busy=busy)
    assert played.efficiency > 0.85
    assert played.refused == 0


@pytest.mark.parametrize("algorithm", ["bucket", "fixed", "sliding"])
def test_a_quota_of_a_second_that_is_told_in_whole_seconds(algorithm: Any) -> None:
    """No reset of "1" tells anything of it."""
    played = play(Rules(rpm=20, window=1, algorithm=algorithm, dialect="zhipu"), 600, start=NOW)
    assert played.efficiency > 0.85
    assert played.refused == 0


@pytest.mark.parametrize("rest", [0.3, 0.7, 0.9, 1.0, 1.1, 2.5])
@pytest.mark.parametrize("dialect", ["openai", "zhipu", "anthropic"])
def test_a_window_on_the_clocks_grid_that_is_met_at_its_end_is_no_quota_of_a_second(dialect: Any, rest: float) -> None:
    """Of the first one only *rest* seconds are left, so that its replies all tell a second."""
    rules = Rules(rpm=300, window=10, algorithm="fixed", aligned=True, dialect=dialect)
    played = play(rules, 1190, start=1.79e9 - rest, latency=lambda rng: 0.1 + 0.02 * rng.random(), busy=0.0007)
    assert played.elapsed < 32  # in less than a second nobody could send all of the first one
    assert played.refused_share < 0.005  # as it ends, those that are on their way may fall into either one


@pytest.mark.parametrize(("seed", "phase"), [(262, 8.02), (76, 7.01)])
def test_a_window_that_ends_later_than_was_presumed_is_not_shared(seed: int, phase: float) -> None:
    """Whole seconds are told, and a window of the clock's grid ended in the second half of its last one: who asked too
    soon was refused, and took all that it had sent before for somebody else's.
    """
    played = play(
        Rules(rpm=300, window=10, algorithm="fixed", dialect="zhipu", aligned=True),
        1200,
        seed=seed,
        start=1.79e9 + phase,
        latency=lambda rng: rng.uniform(0.1, 0.12),
        way=lambda rng: rng.uniform(0.0005, 0.05),
    )
    assert played.refused <= 2
    assert played.efficiency > 0.94
