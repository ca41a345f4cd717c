"""When a server writes its headers, and answers that take long: told by what two pictures of a window say."""

from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from laboratory import START, play

from batchrunner.config import LimitSettings
from batchrunner.limits.algorithm import Algorithm
from batchrunner.limits.limiter import Limiter
from batchrunner.limits.written import Picture, Written
from batchrunner.simulator.config import Rules


def seen(*, late: bool, seed: int, count: int = 60, others: int = 0) -> Written:
    """A window that is used once every 0.3 s, with answers after 1 to 30 s; *others* use it so many times as often."""
    rng, written = Random(seed), Written()
    sent = [number * 0.3 for number in range(count)]
    replies = sorted((at + rng.uniform(1, 30), number) for number, at in enumerate(sent))
    for received, number in replies:
        by_then = sum(at <= received for at in sent)
        used = by_then if late else number + 1
        written.add(Picture(used=used * (1 + others), sent=number + 1, by_then=by_then, sent_at=sent[number], epoch=0))
    return written


@given(seed=st.integers(0, 10_000), late=st.booleans())
def test_it_is_told_by_what_was_sent_between_two_pictures(seed: int, late: bool) -> None:
    """Or by what was sent between their receipts."""
    assert seen(late=late, seed=seed).early is not late


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("others", [1, 2])
def test_where_others_use_it_too_hardly_ever_is_anything_wrong_told(others: int, *, late: bool) -> None:
    """Better not known than wrong: twice as much is used as was sent, and that is the other picture by chance only."""
    told = [seen(late=late, seed=seed, others=others).early for seed in range(400)]
    assert sum(early is late for early in told) <= 4


def test_short_answers_tell_nothing() -> None:
    """Both pictures are the same."""
    written = Written()
    for number in range(100):
        written.add(Picture(used=number, sent=number, by_then=number, sent_at=float(number), epoch=0))
    assert written.early is None


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("algorithm", ["bucket", "fixed", "sliding"])
@pytest.mark.parametrize(
    ("dialect", "seconds"), [("openai", 8.0), ("openai", 20.0), ("zhipu", 20.0), ("anthropic", 20.0)]
)
def test_answers_of_many_seconds_cost_no_refusals(dialect: Any, algorithm: Any, seconds: float, late: bool) -> None:
    """What is told is half a minute old, and old replies mislead about where a window ends; none is waited for."""
    rules = Rules(rpm=600, algorithm=algorithm, dialect=dialect)
    played = play(rules, 6000, late=late, latency=lambda rng: seconds * rng.lognormvariate(0, 0.4))
    assert played.refused_share <= 0.01
    assert played.efficiency >= (0.8 if seconds < 10 else 0.6)


def test_a_log_with_tight_bursts_stays_one() -> None:
    """Two of its replies may be those of a bucket of two seconds, by chance: believed, that cost a window of 429s."""
    limiter = Limiter(LimitSettings(), now=START + 41.1)
    rules = Rules(rpm=60, algorithm="sliding")
    world: dict[str, Any] = {"latency": lambda rng: 2 * rng.lognormvariate(0, 0.4), "start": START + 41.1}
    played = play(rules, 1200, limiter=limiter, seed=3, **world)
    assert played.refused == 0
    (meter,) = limiter.beliefs()["meters"]
    assert meter["algorithm"] == Algorithm.SLIDING


@pytest.mark.parametrize(("algorithm", "least"), [("bucket", 0.75), ("fixed", 0.55), ("sliding", 0.55)])
@pytest.mark.parametrize("rpm", [60, 600])
def test_silent_servers_with_answers_of_many_seconds(algorithm: Any, rpm: int, least: float) -> None:
    """What is not refused has passed, so that asking does not wait for answers."""
    rules = Rules(rpm=rpm, algorithm=algorithm, dialect="none")
    played = play(rules, 15 * rpm, latency=lambda rng: 20 * rng.lognormvariate(0, 0.4))
    assert played.efficiency >= least
    assert played.refused_share <= 0.04
