"""Which limit refused? Told by what is left, what was asked for, and what is charged for it."""

import pytest

from batchrunner.config import LimitSettings
from batchrunner.limits.limiter import Limiter
from batchrunner.limits.meter import Meter
from batchrunner.quota import Dimension, Quota, Window
from batchrunner.task import Failure, FailureClass, Outcome, Success

NOW = 1_790_000_000.0
LIMIT, RECKONED, CHARGED = 87_600.0, 324.0, 736.0


def test_with_less_left_than_is_charged_it_is_that_window() -> None:
    """552 tokens were left, which was enough for what we reckon: a hidden limit of requests was looked for."""
    limiter = Limiter(LimitSettings(), now=NOW)
    now, left = NOW, LIMIT
    for refused in (False, *[True] * 8):
        permit = limiter.admit(RECKONED, now)
        assert permit is not None
        left = 552.0 if refused else left - CHARGED
        tokens = Window(dimension=Dimension.TOKENS, limit=LIMIT, remaining=left, reset_after=9.9)
        requests = Window(dimension=Dimension.REQUESTS, limit=600, remaining=500, reset_after=1.66)
        quota = Quota((requests, tokens))
        outcome: Outcome = Success(status=200, body=b"{}", quota=quota)
        if refused:
            outcome = Failure(kind=FailureClass.RATE_LIMIT, message="too many", status=429, quota=quota)
        limiter.settle(permit, outcome, sent_at=now, received_at=now + 0.1)
        now += 70
    told = {(meter["dimension"], meter["kind"]): meter["refusals"] for meter in limiter.beliefs()["meters"]}
    assert told == {("requests", "told"): 0, ("tokens", "told"): 8}


def test_what_was_requested_of_a_whole_burst_is_learned_once() -> None:
    """Each refusal of a burst that left before it was known made the charge larger once more, up to fifty times."""
    meter = Meter(Dimension.TOKENS, LIMIT, now=NOW)
    burst = [meter.take(RECKONED, NOW) for _ in range(20)]
    for mark in burst:
        window = Window(dimension=Dimension.TOKENS, limit=LIMIT, remaining=552, reset_after=9.9, requested=CHARGED)
        meter.observe(window, mark, sent_at=NOW, received_at=NOW + 0.1, refused=True)
        meter.fell_short(window, mark)
    assert meter.factor == pytest.approx(CHARGED / RECKONED)
