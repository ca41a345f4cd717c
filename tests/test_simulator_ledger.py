"""The scoreboard counts what happened, and knows how fast it could have been."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchrunner.simulator.config import Algorithm, Limits, Rules
from batchrunner.simulator.gate import Admission, Gate
from batchrunner.simulator.ledger import Ledger, Tally, key_of
from batchrunner.simulator.rules import Bound
from batchrunner.simulator.score import Stretch, Work, shortest_time

A, B = key_of(b"a"), key_of(b"b")


def ledger(**options: int) -> Ledger:
    rules = Rules(**options)  # type: ignore[arg-type]
    return Ledger(rules, rules.limits)


def answer(book: Ledger, key: bytes, *, sent: float, answered: float) -> None:
    book.sent(key, sent)
    book.admitted(key)
    book.replied(200)
    book.answered(key, answered, tokens=10, latency=answered - sent)


def work(answers: int, *, tokens: float = 0, latencies: float = 0, least_latency: float = 0) -> Work:
    return Work(answers=answers, tokens=tokens, latencies=latencies, least_latency=least_latency)


def shortest(
    done: Work, *, algorithm: Algorithm = "bucket", changes: Sequence[tuple[float, int]] = (), **limits: int
) -> float:
    first = Limits(**limits)
    stretches = [Stretch(0.0, first), *(Stretch(at, Limits(rpm=rpm)) for at, rpm in changes)]
    return shortest_time(done, Rules(algorithm=algorithm), stretches)


def test_answered_task_asked_again_is_counted() -> None:
    book = ledger()
    answer(book, A, sent=1.0, answered=2.0)
    answer(book, A, sent=3.0, answered=4.0)
    answer(book, B, sent=3.0, answered=4.0)

    score = book.score()

    assert (score.sends, score.keys, score.answered, score.answers) == (3, 2, 2, 3)
    assert score.repeats_after_answer == 1
    assert dict(book.tallies()) == {A: Tally(2, 2, 2), B: Tally(1, 1, 1)}


def test_send_that_was_not_answered_may_be_repeated() -> None:
    book = ledger()
    book.sent(A, 1.0)
    book.refused(Bound.REQUESTS, 1.0)
    book.replied(429)
    book.sent(A, 2.0)
    book.left()

    score = book.score()

    assert score.repeats_after_answer == 0
    assert score.statuses == {"429": 1}
    assert score.refusals == {"requests": 1}
    assert score.refused_share == 0.5
    assert score.gone == 1


def test_refusals_after_the_first_window_are_told_apart() -> None:
    """Within it, nobody could know the limit."""
    book = ledger()
    for at in (1.0, 60.0, 61.0, 62.0):
        book.sent(A, at)
    book.refused(Bound.REQUESTS, 60.0)
    book.refused(Bound.REQUESTS, 61.0)

    score = book.score()

    assert (score.refusals, score.late_refusals, score.late_sends) == ({"requests": 2}, 1, 2)


def test_most_in_flight_is_remembered() -> None:
    book = ledger()
    for _ in range(3):
        book.sent(A, 1.0)
    book.replied(500)
    book.broken()
    book.sent(B, 2.0)

    assert (book.score().max_in_flight, book.score().in_flight) == (3, 2)


def test_reset_forgets_all_but_what_is_in_flight() -> None:
    book = ledger(rpm=1)
    answer(book, A, sent=1.0, answered=2.0)
    book.sent(B, 2.0)

    book.reset()

    score = book.score()
    assert (score.sends, score.keys, score.answers, score.in_flight) == (0, 0, 0, 1)


def test_efficiency_compares_with_the_shortest_possible_time() -> None:
    """Two a minute: the third can come 30 s after the first at best; here it took 60 s."""
    book = ledger(rpm=2)
    for at in (100.0, 130.0, 160.0):
        answer(book, A, sent=at, answered=at)

    score = book.score()

    assert score.shortest == pytest.approx(30)
    assert score.elapsed == pytest.approx(60)
    assert score.efficiency == pytest.approx(0.5)


def test_no_limits_have_no_shortest_time() -> None:
    assert ledger().score().efficiency is None
    assert shortest(work(1000)) == 0


def test_bucket_gives_its_capacity_at_once() -> None:
    assert shortest(work(160), rpm=100) == pytest.approx(36)
    assert shortest(work(100), rpm=100) == 0


@pytest.mark.parametrize(("answers", "seconds"), [(100, 0), (101, 60), (200, 60), (201, 120)])
def test_windows_give_their_limit_each(answers: int, seconds: float) -> None:
    assert shortest(work(answers), algorithm="fixed", rpm=100) == seconds
    assert shortest(work(answers), algorithm="sliding", rpm=100) == seconds


def test_slowest_dimension_counts() -> None:
    done = work(100, tokens=2000, latencies=300, least_latency=2)

    assert shortest(done, rpm=90, tpm=1000, concurrency=10) == pytest.approx(62)
    assert shortest(done, rpm=90, tpm=1000, concurrency=2) == pytest.approx(150)


def test_aligned_window_under_way_ends_sooner() -> None:
    rules = Rules(algorithm="fixed", aligned=True)

    assert shortest_time(work(101), rules, [Stretch(0.0, Limits(rpm=100))], phase=45.0) == 15


def test_changed_limit_counts_from_its_time() -> None:
    """60 at once, 30 more in 30 s, then twice as fast."""
    assert shortest(work(150), rpm=60, changes=[(30.0, 120)]) == pytest.approx(60)
    assert shortest(work(180), algorithm="fixed", rpm=60, changes=[(60.0, 120)]) == 60


def test_window_that_may_be_overdrawn_gives_no_shortest_time() -> None:
    """Whatever was sent before the first of it was charged for got in."""
    done, limits = work(100, tokens=5000), Limits(tpm=100)

    assert shortest_time(done, Rules(algorithm="fixed", charging="actual"), [Stretch(0.0, limits)]) == 0
    assert shortest_time(done, Rules(algorithm="bucket", charging="actual"), [Stretch(0.0, limits)]) == 2940


@given(
    st.sampled_from(["bucket", "fixed", "sliding"]),
    st.integers(1, 30),
    st.integers(20, 400),
    st.lists(st.integers(1, 20), min_size=1, max_size=60),
)
def test_nobody_beats_the_shortest_time(algorithm: Algorithm, rpm: int, tpm: int, costs: list[int]) -> None:
    """A client that knows everything and waits exactly as told comes no sooner."""
    rules = Rules(algorithm=algorithm, rpm=rpm, tpm=tpm)
    gate, now = Gate(rules, now=0.0), 0.0
    for cost in costs:
        while not isinstance(refusal := gate.admit(cost, now), Admission):
            assert refusal.wait is not None
            now += refusal.wait

    best = shortest_time(work(len(costs), tokens=sum(costs)), rules, [Stretch(0.0, rules.limits)])

    assert best <= now + 1e-3
