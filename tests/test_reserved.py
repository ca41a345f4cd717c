"""Tokens that are reserved at admission and given back with the answer, as Azure and Nebius do."""

import json
from dataclasses import replace
from typing import Any

import pytest
from composed import Composed, Quota, all_tokens, exact, visit
from cores import Bucket, Core, Fixed, Sliding
from laboratory import START, play
from telling import openai

from batchrunner.config import LimitSettings
from batchrunner.limits.charging import When
from batchrunner.limits.limiter import Limiter
from batchrunner.quota import Dimension, Window
from batchrunner.quota import Quota as Told
from batchrunner.simulator.config import Rules
from batchrunner.task import Failure, FailureClass, Outcome, Success, Usage

NOW = 1_790_000_000.0
USED = 100.0  # tokens that a request takes in the end
ANSWERED = Usage(prompt_tokens=60, completion_tokens=40)


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("reserved", [150.0, 252.0, 600.0])
@pytest.mark.parametrize(("algorithm", "dialect"), [("bucket", "openai"), ("fixed", "zhipu"), ("fixed", "openai")])
def test_what_answers_give_back_is_used(algorithm: Any, dialect: Any, reserved: float, seed: int) -> None:
    """A request of 100 tokens is charged up to six times as much until its answer is there."""
    rules = Rules(rpm=600, tpm=30_000, window=10, algorithm=algorithm, dialect=dialect, charging="max_tokens")
    way: Any = lambda rng: rng.uniform(0.002, 0.006)  # noqa: E731
    latency: Any = lambda rng: 0.1 * rng.lognormvariate(0, 0.3)  # noqa: E731
    played = play(rules, 1100, seed=seed, reserved=reserved, reckoned=277.0, learned=111.0, way=way, latency=latency)
    assert played.efficiency >= 0.92
    assert played.refused_share <= 0.005


def reserving(core: Core, reserved: float) -> Composed:
    return Composed(
        quotas=[Quota(core, all_tokens, reserved=reserved)],
        tells=[openai(core, "tokens", reset="full")],
        asks=exact,
        body=b'{"error": {"message": "Rate limit reached", "type": "tokens", "code": "rate_limit_exceeded"}}',
    )


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize(
    ("core", "reserved", "least"),
    [
        (Bucket, 500.0, 0.9),
        (Bucket, 2000.0, 0.9),
        (Fixed, 500.0, 0.7),
        (Fixed, 2000.0, 0.35),
        (Sliding, 500.0, 0.7),
        (Sliding, 2000.0, 0.65),
    ],
)
def test_slow_answers_hold_what_is_reserved(core: Any, reserved: float, least: float, seed: int) -> None:
    """Of 60,000 a minute, where each request reserves 600 or 2,100 for two seconds and uses 100."""
    latency: Any = lambda rng: 2 * rng.lognormvariate(0, 0.3)  # noqa: E731
    played = visit(lambda: reserving(core(60_000, 60), reserved), 2300, seed=seed, latency=latency, reckoned=110.0)
    assert played.efficiency >= least
    assert played.refused_share <= 0.01


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("core", [Bucket, Fixed, Sliding])
@pytest.mark.parametrize("reckoned", [110.0, 150.0])
@pytest.mark.parametrize("times", [1.3, 2.0])
def test_what_is_kept_is_not_taken_for_given_back(core: Any, times: float, reckoned: float, seed: int) -> None:
    """Charged at admission are *times* what answers use, for good: one pause to ask, and hardly a refusal."""

    def make() -> Composed:
        server = reserving(core(60_000, 60), 0.0)
        return replace(server, quotas=[replace(server.quotas[0], cost=lambda tokens: times * all_tokens(tokens))])

    played = visit(make, round(2300 / times), seed=seed, latency=lambda rng: rng.uniform(0.3, 0.31), reckoned=reckoned)
    assert played.refused_share <= 0.005
    assert played.efficiency >= 0.9


def test_a_refusal_tells_nothing_of_a_window_that_has_plenty() -> None:
    """Input was used up; that 59,960 of output were left did not mean that a request takes more than that."""
    limiter = Limiter(LimitSettings(), now=NOW)
    now = NOW
    for left in (5000.0, 4940.0, 0.0, 4940.0):
        permit = limiter.admit(100.0, now)
        assert permit is not None
        inputs = Window(dimension=Dimension.INPUT_TOKENS, limit=5000, remaining=left, reset_after=20.0)
        outputs = Window(dimension=Dimension.OUTPUT_TOKENS, limit=60_000, remaining=59_960, reset_after=0.04)
        told = Told((inputs, outputs))
        outcome: Outcome = Success(status=200, body=b"{}", quota=told, usage=ANSWERED)
        if not left:
            outcome = Failure(kind=FailureClass.RATE_LIMIT, message="too many", status=429, quota=told)
        limiter.settle(permit, outcome, sent_at=now, received_at=now + 0.1)
        now += 70.0
    assert limiter.admit(100.0, now) is not None  # goes ahead into the new window
    assert all(limiter.admit(100.0, now + 1) for _ in range(20))


@pytest.mark.parametrize(
    ("charging", "reserved", "charged", "charge"),
    [
        ("actual", USED, "with the answer", None),
        ("max_tokens", USED, "at admission", 0.36),
        ("max_tokens", 252.0, "settled by the answer", 2.27),
    ],
)
def test_how_tokens_are_charged_is_told_and_remembered(
    charging: Any, reserved: float, charged: str, charge: float | None
) -> None:
    """Each change is an event. When it is charged is the server's way; how much, is that of what the job asks for."""
    limiter = Limiter(LimitSettings(), now=START)
    rules = Rules(rpm=600, tpm=30_000, window=10, dialect="openai", charging=charging)
    play(rules, 1100, limiter=limiter, reckoned=277.0, reserved=reserved, learned=277.0 if reserved == USED else 111.0)
    changes = {change.what: change.new for change in limiter.changes()}
    assert changes["tokens told charged"] == charged
    assert float(changes.get("tokens told charge", 0.0)) == pytest.approx(charge or 0.0, abs=0.02)
    tokens = _tokens(limiter)
    assert tokens["charged"] == charged
    again = Limiter(LimitSettings(), now=START + 86_400)
    again.believe(json.loads(json.dumps(limiter.beliefs())), now=START + 86_400)
    assert (_tokens(again)["charged"], _tokens(again)["charge"]) == (charged, 1.0)


def _tokens(limiter: Limiter) -> dict[str, Any]:
    (tokens,) = (meter for meter in limiter.beliefs()["meters"] if meter["dimension"] == "tokens")
    assert isinstance(tokens, dict)
    return tokens


@pytest.mark.parametrize("believed", list(When))
@pytest.mark.parametrize(
    ("charging", "reserved", "charged"),
    [
        ("actual", USED, {When.ANSWER}),
        ("max_tokens", USED, {When.ADMISSION, When.SETTLED}),  # nothing is left unused, so both are right
        ("max_tokens", 252.0, {When.SETTLED}),
    ],
)
def test_a_server_that_charges_otherwise_than_it_did_is_found_out(
    charging: Any, reserved: float, charged: set[When], believed: When
) -> None:
    """What an earlier run saw is a belief, no fact."""
    rules = Rules(rpm=600, tpm=30_000, window=10, dialect="openai", charging=charging)
    limiter = Limiter(LimitSettings(), now=START)
    tokens = {"dimension": "tokens", "kind": "told", "limit": 30_000, "period": 10.0, "algorithm": "bucket"}
    limiter.believe({"meters": [{**tokens, "charged": believed}]}, now=START)
    learned = 277.0 if reserved == USED else 111.0
    played = play(rules, 1100, limiter=limiter, reckoned=277.0, reserved=reserved, learned=learned)
    assert played.refused_share <= 0.01
    assert played.efficiency >= 0.9
    assert _tokens(limiter)["charged"] in charged


@pytest.mark.parametrize(("window", "slow", "refused"), [(300, 1.0, 0.02), (3600, 5.0, 0.03)])
@pytest.mark.parametrize("seed", [0, 1, 2, 3, 4, 6, 7])
def test_what_an_answer_took_that_got_lost_is_in_the_log(seed: int, window: float, slow: float, refused: float) -> None:
    """Charged with the answer, and nobody saw it: the server knew of more than our log, which was taken for none.

    Where requests go one by one, it is seen by the refusal of the next one that it is charged so (seed 1 of the hour).
    """
    limiter = Limiter(LimitSettings(), now=START)
    rules = Rules(rpm=10, window=window, tpm=600, algorithm="sliding", dialect="zhipu", charging="actual")
    played = play(rules, 400, seed=seed, limiter=limiter, lost=0.03, latency=lambda rng: rng.uniform(slow, 3 * slow))
    assert played.refused_share <= refused
    assert _tokens(limiter)["algorithm"] == "sliding window"


def test_what_an_answer_took_that_is_no_good_counts_as_well() -> None:
    """All of it went into reasoning: there is nothing to keep, and it was charged."""
    limiter = Limiter(LimitSettings(tpm=1000), now=NOW)
    permit = limiter.admit(100.0, NOW)
    assert permit is not None
    usage = Usage(prompt_tokens=100, completion_tokens=850)
    outcome = Failure(kind=FailureClass.EMPTY_REASONING, message="it only thought", usage=usage)
    limiter.settle(permit, outcome, sent_at=NOW, received_at=NOW + 1)
    assert limiter.wait(100.0, NOW + 2) > 10
