"""The limiter against the simulator's limits in virtual time: all of the quota, hardly a request more."""

from typing import Any

import pytest
from laboratory import START, play

from batchrunner.config import LimitSettings
from batchrunner.limits.limiter import Limiter
from batchrunner.simulator.config import Rules


@pytest.mark.parametrize("seed", [1, 2, 3])
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


def test_a_stated_limit_that_no_reply_confirms_is_paced() -> None:
    """No minute, wherever it begins, holds more than the limit and a second's worth."""
    played = play(Rules(dialect="none"), 1200, settings=LimitSettings(rpm=600))
    assert 600 <= played.busiest(60.0) <= 600 * 1.02


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


@pytest.mark.parametrize("dialect", ["none", "retry-after"])
def test_a_server_that_tells_nothing_is_found_out(dialect: str) -> None:
    """First form: what it accepted in a minute is believed; no deadlock, and not a storm."""
    played = play(Rules(rpm=600, dialect=dialect), 1800)  # type: ignore[arg-type]
    assert played.efficiency >= 0.8
    assert played.refused_share <= 0.05


def test_a_restart_does_not_get_a_second_burst() -> None:
    """What was sent in the last minute by an earlier run still counts, also before the first reply."""
    again = Limiter(LimitSettings(), now=START + 10)
    again.believe(played_out(Rules(rpm=600)), now=START + 10)
    for number in range(600):
        again.remember(START + number / 60, 100.0, START + 10)
    (meter,) = again.beliefs()["meters"]
    assert meter["remaining"] == pytest.approx(100, abs=2)


def played_out(rules: Rules) -> dict[str, Any]:
    """What a limiter believes after a window's worth of requests and more."""
    limiter = Limiter(LimitSettings(), now=START)
    play(rules, 700, limiter=limiter)
    return limiter.beliefs()
