"""A limit at a server that tells nothing: each way to find it, step by step and told the time."""

from math import inf

import pytest

from batchrunner.limits.algorithm import Algorithm
from batchrunner.limits.asking import PASSED
from batchrunner.limits.found import SLOWEST, Found, Mode

NOW = 1_000_030.0  # ten seconds before a minute of the clock begins: 1,000,020 + 60 = 1,000,080 is the next but one


def send(found: Found, at: float, *, count: int = 1) -> None:
    for _ in range(count):
        found.take(1.0, at)


def test_nothing_is_held_back_before_the_first_refusal() -> None:
    """As fast as the slots allow."""
    found = Found(now=NOW)
    send(found, NOW, count=500)
    assert found.wait(1.0, NOW) == 0.0
    assert (found.mode, found.limit, found.algorithm) == (Mode.OPEN, inf, Algorithm.UNKNOWN)


def test_after_the_first_refusal_one_asks_at_a_time() -> None:
    """And those that were refused with it tell nothing new."""
    found = Found(now=NOW)
    send(found, NOW, count=21)
    for _ in range(3):
        found.refused(1.0, NOW, NOW + 0.1, retry_after=None)
    assert found.mode is Mode.ASKING
    assert 0 < found.wait(1.0, NOW + 0.1) < 1
    send(found, NOW + 0.5)
    assert found.wait(1.0, NOW + 0.5) > 0, "for the answer"


def test_a_question_that_is_not_refused_has_passed() -> None:
    """However long its answer takes: a refusal would have been here."""
    found = Found(now=NOW)
    send(found, NOW, count=101)
    found.refused(1.0, NOW, NOW + 0.1, retry_after=None)
    send(found, NOW + 0.5)
    assert found.wait(1.0, NOW + 0.5) <= PASSED
    assert found.wait(1.0, NOW + 0.5 + PASSED) < 1
    assert found.mode is Mode.RATE
    assert found.log.total == 101


def test_a_question_that_never_left_is_asked_again() -> None:
    """Its connection broke, so nobody heard it."""
    found = Found(now=NOW)
    send(found, NOW, count=101)
    found.refused(1.0, NOW, NOW + 0.1, retry_after=None)
    send(found, NOW + 0.5)
    found.refund(1.0)
    assert found.wait(1.0, NOW + 0.6) == 0.0
    assert found.wait(1.0, NOW + 0.6 + PASSED) == 0.0
    assert found.mode is Mode.ASKING


def test_a_wait_that_the_server_asks_for_is_kept() -> None:
    """Exactly, and not by our own steps."""
    found = Found(now=NOW)
    send(found, NOW)
    found.refused(1.0, NOW, NOW + 0.1, retry_after=7.0)
    assert found.wait(1.0, NOW + 0.1) == pytest.approx(7.0)


def test_what_soon_passes_again_is_a_rate() -> None:
    """Measured exactly between two refusals: 40 accepted in 4 seconds are ten a second."""
    found = Found(now=NOW)
    send(found, NOW, count=101)
    found.refused(1.0, NOW, NOW + 0.01, retry_after=None)
    send(found, NOW + 1)
    found.accepted(1.0, NOW + 1, NOW + 1.1)
    assert found.mode is Mode.RATE
    for tick in range(1, 40):
        send(found, NOW + 1 + tick * 0.075)
    send(found, NOW + 4)
    found.refused(1.0, NOW + 4, NOW + 4.01, retry_after=None)
    assert found.rate == pytest.approx(10, rel=0.02)
    assert found.wait(1.0, NOW + 4.2) > 0


def test_what_passes_at_the_end_of_a_window_only_is_a_window() -> None:
    """Its limit is what was accepted, its length the usual one; our own sends come back when it has forgotten them."""
    found = Found(now=NOW)
    send(found, NOW, count=31)
    found.refused(1.0, NOW, NOW + 0.01, retry_after=10.0)
    send(found, NOW + 10.05)
    found.accepted(1.0, NOW + 10.05, NOW + 10.1)
    assert (found.mode, found.limit, found.period) == (Mode.WINDOW, 30, 10)
    send(found, NOW + 10.2, count=29)
    assert found.wait(1.0, NOW + 10.2) == pytest.approx(9.9, abs=0.1)


@pytest.mark.parametrize("algorithm", [Algorithm.SLIDING, Algorithm.BUCKET])
def test_a_belief_of_an_earlier_run_bears_a_refusal(algorithm: Algorithm) -> None:
    """It is corrected, and stays a limit that something passes."""
    found = Found(now=NOW)
    found.believe(60.0, 60.0, algorithm, now=NOW)
    for second in range(30):
        at = NOW + 10 * second
        if found.wait(1.0, at) == 0.0:
            send(found, at)
            found.refused(1.0, at, at + 0.1, retry_after=None)
    assert 0 < found.limit <= 60
    assert found.wait(1.0, NOW + 4000) == 0.0


def grows_by_a_step(found: Found, *, most: float) -> None:
    """With the first answer after a day without a send."""
    before = found.rate
    send(found, NOW + 86_400)
    found.accepted(1.0, NOW + 86_400, NOW + 86_401)
    assert found.mode is Mode.RATE
    assert before < found.rate <= most * before


def test_a_rate_that_is_only_a_guess_bears_a_day_without_a_send() -> None:
    """A night's pause of a run, and the first answer after it: it grows by one step, and is a number."""
    found = Found(now=NOW)
    send(found, NOW, count=31)
    found.refused(1.0, NOW, NOW + 0.01, retry_after=None)
    send(found, NOW + 1)
    found.accepted(1.0, NOW + 1, NOW + 1.1)
    grows_by_a_step(found, most=1.2)


def test_a_rate_that_was_lowered_bears_a_day_without_a_send() -> None:
    """The same of one that a second refusal lowered without a measure."""
    found = Found(now=NOW)
    found.believe(600.0, 60.0, Algorithm.BUCKET, now=NOW)
    for second in (0.5, 1.0):
        send(found, NOW + second)
        found.refused(1.0, NOW + second, NOW + second + 0.1, retry_after=None)
    grows_by_a_step(found, most=1.03)


def test_questions_may_be_refused_for_days() -> None:
    """Every one of 4,000, a minute apart: their number is no reason to stop."""
    found = Found(now=NOW)
    send(found, NOW)
    at = NOW
    found.refused(1.0, at, at, retry_after=None)
    for _ in range(4000):
        at += found.wait(1.0, at)
        send(found, at)
        found.refused(1.0, at, at, retry_after=None)
    assert 30 < found.wait(1.0, at) <= 61


def test_one_is_asked_for_whatever_is_refused() -> None:
    """A request that never passes teaches nothing of the others: no rate falls so far that nobody is sent any more."""
    found, now = Found(now=0.0), 0.0
    for number in range(3000):
        wait = found.wait(1.0, now)
        assert wait <= 2 * SLOWEST + 1.0
        now += wait
        found.take(1.0, now)
        if number % 7 == 3:
            found.accepted(1.0, now, now + 0.1)
        else:
            found.refused(1.0, now, now + 0.1, retry_after=None)
        now += 0.1
