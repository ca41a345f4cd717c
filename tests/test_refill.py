"""Limits whose replies tell what is left, and not when more will be: what comes back is found by asking."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from laboratory import play

from batchrunner.config import LimitSettings
from batchrunner.limits.limiter import Limiter
from batchrunner.limits.refill import Refill
from batchrunner.limits.spent import Spent
from batchrunner.simulator.config import Rules

NOW = 1_790_000_000.0
ALGORITHMS = ("bucket", "fixed", "sliding")
TELLS_THE_UNIT, TELLS_NO_UNIT = "mistral", "xai"


def ask(refill: Refill, found: float, *, left: float = 1.0, limit: float = 60.0, now: float = 0.0) -> Any:
    """One question, when its time has come; returns when it was asked, and what is known by its answer."""
    period = 60.0
    wait = refill.wait(1.0, left=left, told_at=now, limit=limit, period=period, now=now)
    refill.sent(7, now + wait, first=False)
    assert refill.asked(7)
    return now + wait, refill.answer(found, 1.0, limit=limit, period=period)


def test_what_came_back_meanwhile_is_a_buckets() -> None:
    """Four seconds of a permit a second; the one that was left is found as well."""
    refill = Refill()
    refill.open(is_named=True)
    at, known = ask(refill, 5.0)
    assert (at, known) == (4.0, (60.0, True))
    assert not refill.is_open


def test_where_nothing_came_back_our_own_log_goes_on() -> None:
    """It is asked once."""
    refill = Refill()
    refill.open(is_named=True)
    assert ask(refill, 1.0)[1] is None
    assert not refill.is_open


def test_a_bold_question_that_was_held_up_is_none() -> None:
    """A refusal made all wait for the window's end: what is there then, no bucket gave back."""
    refill = Refill()
    refill.open(is_named=True, bold=True)
    state = {"left": 0.0, "told_at": 0.0, "limit": 60.0, "period": 60.0}
    assert refill.wait(1.0, now=0.0, **state) == 4.0
    assert refill.wait(1.0, now=4.0, **state) == 0.0
    assert refill.is_open
    refill.wait(1.0, now=59.0, **state)
    assert not refill.is_open


def test_a_windows_end_by_chance_is_no_bucket() -> None:
    """All is back where little should be: that says nothing, and is asked again."""
    refill = Refill()
    refill.open(is_named=True)
    assert ask(refill, 60.0)[1] is None
    assert refill.is_open


def test_a_period_that_is_not_named_is_asked_for_after_each_of_the_usual_ones() -> None:
    """Ten seconds: nothing after two, all after ten, and the same once more."""
    refill = Refill()
    refill.open(is_named=False)
    refill.sent(1, 0.0, first=True)
    assert ask(refill, 1.0) == (2.0, None)
    at, known = ask(refill, 60.0, now=2.1)
    assert (at, known) == (10.5, None)
    assert ask(refill, 1.0, now=20.0) == (22.0, None)
    assert ask(refill, 60.0, now=22.1) == (30.5, (10.0, False))


@given(
    costs=st.lists(st.floats(0.1, 100), max_size=20),
    held=st.floats(0, 2000),
    ages=st.lists(st.floats(0, 50), min_size=20),
)
def test_a_log_that_is_held_to_a_sum_has_that_sum(costs: list[float], held: float, ages: list[float]) -> None:
    """Whatever was in it; and nothing in it is older than it was."""
    log = Spent()
    for cost, at in zip(costs, sorted(ages), strict=False):
        log.add(cost, at, period=60.0)
    oldest = log.oldest
    log.hold(held, 50.0)
    assert log.total == pytest.approx(held, abs=1e-6)
    assert oldest is None or log.oldest is None or log.oldest >= oldest


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("seconds", [10, 60, 300])
def test_a_named_period_is_used_to_the_full_and_nothing_is_refused(seconds: float, algorithm: Any) -> None:
    """At every kind of server."""
    rules = Rules(rpm=100, window=seconds, algorithm=algorithm, voice=TELLS_THE_UNIT)
    played = play(rules, 2090, start=NOW)
    assert played.efficiency > 0.97
    assert played.refused == 0


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("seconds", [1, 10, 60, 300, 3600])
def test_a_period_that_nothing_names_is_found(seconds: float, algorithm: Any) -> None:
    """Shorter or longer than a minute; a window costs a latency more than it must, as one goes ahead."""
    rules = Rules(rpm=100, window=seconds, algorithm=algorithm, voice=TELLS_NO_UNIT)
    played = play(rules, 2090, start=NOW)
    assert played.efficiency > {1: 0.4, 10: 0.7}.get(round(seconds), 0.95)
    assert played.refused <= 10


@pytest.mark.parametrize("later", [0.4, 1.8, 3.2, 4.6, 6.0, 7.4, 8.8])
def test_a_window_on_the_clocks_grid_that_ends_soon_after_its_first_send_is_no_shorter_one(later: float) -> None:
    """Ten seconds, answers of two: all is back some seconds after it was used, twice in a row, and no second's limit
    is believed for it; seven in ten sends were refused.
    """
    rules = Rules(rpm=100, window=10, algorithm="fixed", aligned=True, voice=TELLS_NO_UNIT)
    played = play(rules, 990, start=NOW + later, latency=lambda rng: 2 * rng.lognormvariate(0, 0.3))
    assert played.efficiency > 0.7
    assert played.refused_share < 0.01


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("reckoned", [50.0, 80.0, 130.0, 300.0])
def test_tokens_that_are_reckoned_wrong_cost_no_refusals(reckoned: float, algorithm: Any) -> None:
    """What is left is told, so what a request took is known soon."""
    rules = Rules(tpm=6000, algorithm=algorithm, voice=TELLS_THE_UNIT)
    played = play(rules, 620, start=NOW, reckoned=reckoned)
    assert played.efficiency > 0.93
    assert played.refused_share < 0.01


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    seed=st.integers(1, 10_000),
    rpm=st.integers(5, 400),
    window=st.sampled_from([60.0, 300.0]),
    algorithm=st.sampled_from(ALGORITHMS),
    voice=st.sampled_from(["mistral", "cerebras", "github-models", "xai"]),
    slow=st.floats(0.05, 8.0),
)
def test_every_task_is_answered_and_little_refused(
    seed: int, rpm: int, window: float, algorithm: Any, voice: str, slow: float
) -> None:
    """Whatever the limit, its period, the kind of server, and answers of up to a third of a window."""
    tasks = min(6 * rpm + 30, 900)
    rules = Rules(rpm=rpm, window=window, algorithm=algorithm, voice=voice)
    played = play(rules, tasks, start=NOW, seed=seed, latency=lambda rng: rng.uniform(slow, 3 * slow))
    assert len(played.arrivals) == tasks
    named = voice != TELLS_NO_UNIT
    assert played.refused <= (8 + 0.02 * tasks if named else 30 + 0.03 * tasks)


def test_a_quota_of_a_day_does_not_replace_the_users_limit_of_a_minute() -> None:
    """Groq tells of requests a day, and by refusals only of those a minute."""
    limiter = Limiter(LimitSettings(rpm=60), now=NOW)
    played = play(Rules(rpm=60, voice="groq"), 330, start=NOW, limiter=limiter)
    assert played.refused == 0
    assert played.efficiency > 0.97


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("voice", ["groq", "moonshot"])
def test_others_take_a_part_of_a_limit_that_only_refusals_name(voice: str, algorithm: Any) -> None:
    """Three in ten of it; a third and more of the sends was refused."""
    played = play(Rules(rpm=60, algorithm=algorithm, voice=voice), 900, start=NOW, others=0.3)
    assert played.efficiency > 0.95
    assert played.refused_share < 0.06


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("voice", ["groq", "moonshot"])
@pytest.mark.parametrize("rpm", [2, 3, 5])
def test_a_small_limit_that_others_share_never_stops_a_run(rpm: int, voice: str, algorithm: Any, seed: int) -> None:
    """Less than one request a minute may be ours, and none be in our log: then one goes all the same."""
    played = play(Rules(rpm=rpm, algorithm=algorithm, voice=voice), 40, start=NOW, others=rpm / 150, seed=seed)
    assert len(played.arrivals) == 40
