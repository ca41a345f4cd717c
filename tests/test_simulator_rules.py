"""The simulator's limiters keep their law to the request."""

from collections.abc import Callable, Sequence
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchrunner.errors import ConfigError
from batchrunner.simulator.config import Limits, Rules
from batchrunner.simulator.gate import Admission, Gate
from batchrunner.simulator.rules import (
    Bound,
    FixedWindow,
    Limiter,
    Refusal,
    SlidingLog,
    TokenBucket,
    admit,
    check,
)

NOISE = 1e-5

Maker = Callable[[int, float], Limiter]
Steps = Sequence[tuple[float, int]]


def bucket(limit: int, window: float) -> Limiter:
    return TokenBucket(Bound.REQUESTS, limit=limit, window=window, now=0.0)


def fixed(limit: int, window: float) -> Limiter:
    return FixedWindow(Bound.REQUESTS, limit=limit, window=window)


def aligned(limit: int, window: float) -> Limiter:
    return FixedWindow(Bound.REQUESTS, limit=limit, window=window, origin=-7.25)


def sliding(limit: int, window: float) -> Limiter:
    return SlidingLog(Bound.REQUESTS, limit=limit, window=window)


ALL = pytest.mark.parametrize("make", [bucket, fixed, aligned, sliding])

limits = st.integers(1, 50)
windows = st.floats(0.5, 100)
steps = st.lists(st.tuples(st.floats(0, 30), st.integers(1, 20)), min_size=1, max_size=60)


def play(limiter: Limiter, course: Steps) -> list[tuple[float, int]]:
    """What got in, and when: each step waits a while, then asks for a cost."""
    now, admitted = 0.0, []
    for pause, cost in course:
        now += pause
        if admit(limiter, cost, now) is None:
            admitted.append((now, cost))
    return admitted


@given(limits, windows, steps)
def test_bucket_admits_no_more_than_its_capacity_and_refill(limit: int, window: float, course: Steps) -> None:
    admitted = play(bucket(limit, window), course)

    for first, (start, _) in enumerate(admitted):
        total = 0
        for at, cost in admitted[first:]:
            total += cost
            assert total <= limit + (at - start) * limit / window + NOISE


@given(limits, windows, steps)
def test_fixed_window_admits_no_more_than_its_limit_a_window(limit: int, window: float, course: Steps) -> None:
    used: dict[int, int] = {}
    for at, cost in play(aligned(limit, window), course):
        turn = int((at + 7.25 + NOISE) // window)
        used[turn] = used.get(turn, 0) + cost

    assert all(total <= limit for total in used.values())


@given(limits, windows, steps)
def test_sliding_log_admits_no_more_than_its_limit_in_any_window(limit: int, window: float, course: Steps) -> None:
    admitted = play(sliding(limit, window), course)

    for start, _ in admitted:
        assert sum(cost for at, cost in admitted if start <= at < start + window - NOISE) <= limit


@given(limits, windows, st.lists(st.tuples(st.floats(0, 30), st.floats(0, 60)), max_size=40))
def test_bucket_tells_the_law_that_real_headers_obey(
    limit: int, window: float, course: Sequence[tuple[float, float]]
) -> None:
    """(L-m-1)/L*W <= reset <= (L-m)/L*W, in debt as well."""
    limiter, now = bucket(limit, window), 0.0
    for pause, cost in course:
        now += pause
        limiter.charge(cost, now)
        state = limiter.state(now)
        missing = limit - state.remaining
        assert (missing - 1) / limit * window - NOISE <= state.reset <= missing / limit * window + NOISE


@ALL
@given(limits, windows, steps)
def test_who_waits_as_told_gets_in(make: Maker, limit: int, window: float, course: Steps) -> None:
    limiter, now = make(limit, window), 0.0
    for pause, cost in course:
        now += pause
        refusal = admit(limiter, cost, now)
        if cost > limit:
            assert refusal is not None
            assert refusal.wait == inf
        elif refusal is not None:
            assert refusal.wait is not None
            now += refusal.wait
            assert admit(limiter, cost, now) is None


@ALL
@given(limits, windows, steps)
def test_same_course_has_the_same_end(make: Maker, limit: int, window: float, course: Steps) -> None:
    assert play(make(limit, window), course) == play(make(limit, window), course)


@ALL
@given(limits, windows, steps)
def test_remaining_is_between_nothing_and_the_limit(make: Maker, limit: int, window: float, course: Steps) -> None:
    limiter, now = make(limit, window), 0.0
    for pause, cost in course:
        now += pause
        admit(limiter, cost, now)
        state = limiter.state(now)
        assert 0 <= state.remaining <= limit == state.limit
        assert 0 <= state.reset <= window + NOISE


@ALL
def test_refusal_charges_nothing(make: Maker) -> None:
    limiter = make(10, 60.0)
    admit(limiter, 8, 1.0)

    refusal = admit(limiter, 5, 1.0)

    assert refusal is not None
    assert (refusal.limit, refusal.used, refusal.requested) == (10, 8, 5)
    assert admit(limiter, 2, 1.0) is None


def test_bucket_tells_a_wait_in_whole_permits_as_recorded_servers_do() -> None:
    """Used + Requested - Limit, over the rate: 154 of 30,000 a minute are 308 ms."""
    limiter = TokenBucket(Bound.TOKENS, limit=30_000, window=60.0, now=0.0)
    limiter.charge(30_000, 0.0)

    assert limiter.wait(154, 0.0) == pytest.approx(0.308)
    assert limiter.wait(154, 0.0015) == pytest.approx(0.308)


def test_fixed_window_begins_with_the_first_request() -> None:
    limiter = fixed(2, 60.0)

    assert [admit(limiter, 1, at) is None for at in (5.0, 6.0, 64.9, 65.0)] == [True, True, False, True]


def test_aligned_window_ends_with_the_clocks() -> None:
    limiter = FixedWindow(Bound.REQUESTS, limit=1, window=60.0, origin=0.0)

    assert [admit(limiter, 1, at) is None for at in (59.0, 59.5, 60.0)] == [True, False, True]
    assert limiter.state(61.0).reset == pytest.approx(59.0)


def test_sliding_log_gives_back_each_send_exactly_a_window_later() -> None:
    limiter = sliding(2, 60.0)

    passed = [admit(limiter, 1, at) is None for at in (0.0, 10.0, 59.9, 60.0, 60.1, 70.0)]

    assert passed == [True, True, False, True, False, True]


def test_sliding_log_tells_when_its_oldest_entry_ages_out() -> None:
    limiter = sliding(5, 60.0)
    admit(limiter, 1, 0.0)
    admit(limiter, 1, 10.0)

    assert limiter.state(15.0).reset == pytest.approx(45.0)


def test_float_noise_is_no_debt() -> None:
    """A cost let in although the level is short by next to nothing leaves 0, not -1."""
    limiter = bucket(1, 1.0)
    admit(limiter, 1, 0.0)

    assert admit(limiter, 1, 1.0 - 1e-8) is None
    assert limiter.state(1.0 - 1e-8).remaining == 0


@ALL
def test_refund_is_there_at_once(make: Maker) -> None:
    limiter = make(10, 60.0)
    charge = limiter.charge(10, 1.0)

    limiter.settle(charge, 4, 1.0)

    assert limiter.state(1.0).remaining == 6


@ALL
def test_debt_shows_as_a_negative_remaining_and_refuses(make: Maker) -> None:
    limiter = make(10, 60.0)
    charge = limiter.charge(2, 1.0)

    limiter.settle(charge, 15, 1.0)

    assert limiter.state(1.0).remaining == -5
    assert check(limiter, 1, 1.0) is not None


@ALL
def test_refund_never_overfills(make: Maker) -> None:
    limiter = make(10, 60.0)
    charge = limiter.charge(10, 1.0)

    limiter.settle(charge, 0, 500.0)

    assert limiter.state(500.0).remaining == 10


@pytest.mark.parametrize("make", [aligned, sliding])
def test_refund_of_what_the_window_forgot_is_no_gift(make: Maker) -> None:
    limiter = make(10, 60.0)
    forgotten = limiter.charge(6, 1.0)
    limiter.charge(5, 55.0)

    limiter.settle(forgotten, 0, 70.0)

    assert limiter.state(70.0).remaining == 5


@ALL
def test_limit_changes_at_once(make: Maker) -> None:
    limiter = make(4, 60.0)
    admit(limiter, 2, 1.0)

    limiter.set_limit(2, 1.0)

    assert limiter.state(1.0).limit == 2
    assert check(limiter, 3, 1.0) is not None


def test_requests_tokens_and_places_are_one_decision() -> None:
    """What tokens refuse, requests are not charged for."""
    gate = Gate(Rules(rpm=2, tpm=100, concurrency=5), now=0.0)
    assert isinstance(gate.admit(90, 0.0), Admission)

    refusal = gate.admit(50, 0.0)

    assert isinstance(refusal, Refusal)
    assert refusal.bound is Bound.TOKENS
    levels = gate.levels(0.0)
    assert levels.requests is not None
    assert levels.requests.remaining == 1


def test_refused_request_is_charged_where_the_rules_say_so() -> None:
    gate = Gate(Rules(rpm=5, tpm=100, charge_refused=True), now=0.0)

    assert isinstance(gate.admit(101, 0.0), Refusal)

    levels = gate.levels(0.0)
    assert levels.requests is not None
    assert levels.requests.remaining == 4


def test_place_is_free_again_after_the_reply() -> None:
    gate = Gate(Rules(concurrency=1), now=0.0)
    first = gate.admit(1, 0.0)
    assert isinstance(first, Admission)
    second = gate.admit(1, 0.0)
    assert isinstance(second, Refusal)
    assert (second.bound, second.wait) == (Bound.CONCURRENCY, None)

    gate.finish(first, 1, 1.0)

    assert isinstance(gate.admit(1, 1.0), Admission)


def test_tokens_charged_afterwards_make_debt() -> None:
    gate = Gate(Rules(tpm=100, charging="actual"), now=0.0)
    first, second = gate.admit(0, 0.0), gate.admit(0, 0.0)
    assert isinstance(first, Admission)
    assert isinstance(second, Admission)

    gate.finish(first, 90, 0.0)
    gate.finish(second, 60, 0.0)

    levels = gate.levels(0.0)
    assert levels.tokens is not None
    assert levels.tokens.remaining == -50
    assert isinstance(gate.admit(0, 0.0), Refusal)
    assert isinstance(gate.admit(0, 31.0), Admission)


def test_tokens_charged_afterwards_still_ask_for_one_to_be_left() -> None:
    gate = Gate(Rules(tpm=100, charging="actual", algorithm="fixed"), now=0.0)
    first = gate.admit(0, 0.0)
    assert isinstance(first, Admission)

    gate.finish(first, 100, 0.0)

    assert isinstance(gate.admit(0, 0.0), Refusal)


def test_limits_appear_and_vanish_while_running() -> None:
    gate = Gate(Rules(rpm=1), now=0.0)
    gate.admit(1, 0.0)

    gate.set_limits(Limits(concurrency=2), 0.0)

    assert isinstance(gate.admit(1, 0.0), Admission)
    refusal = gate.admit(1, 0.0)
    assert isinstance(refusal, Refusal)
    assert refusal.bound is Bound.CONCURRENCY


@pytest.mark.parametrize(
    "options",
    [
        {"rpm": 0},
        {"tpm": 1.5},
        {"concurrency": True},
        {"algorithm": "leaky"},
        {"dialect": "klingon"},
        {"charging": "never"},
        {"window": 0.0},
        {"latency": "soon"},
        {"latency": "uniform:3:1"},
        {"faults": "500"},
        {"aligned": True},
        {"max_body": 0},
    ],
)
def test_rules_that_make_no_sense_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        Rules(**options)  # type: ignore[arg-type]


def test_key_does_not_show() -> None:
    assert "sk-canary" not in repr(Rules(key="sk-canary"))
