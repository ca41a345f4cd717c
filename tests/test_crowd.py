"""Too many in flight, or a rate? What speaks for either, step by step and told the time."""

import pytest

from batchrunner.limits.crowd import AHEAD, CAREFUL, Crowd
from batchrunner.limits.slots import Slots

NOW = 1000.0


def crowd_of(count: int, *, let_in: int) -> tuple[Crowd, Slots]:
    """*count* left at once, and as many as were not *let_in* are refused."""
    crowd, slots = Crowd(), Slots(most=100, start=count)
    generation = slots.generation
    for _ in range(count):
        slots.take()
        crowd.sent(NOW)
    for _ in range(count - let_in):
        assert crowd.refused(count, NOW, NOW + 0.01, slots, known=False)
        slots.refused(generation, NOW + 0.01, exact=True)
        slots.give()
    return crowd, slots


def test_what_was_let_in_of_a_burst_is_the_first_guess() -> None:
    """Eight left, three were refused."""
    _, slots = crowd_of(8, let_in=5)
    assert (slots.limit, slots.refused_at) == (5, 6)


def test_one_goes_first_after_a_suspicion() -> None:
    """When those that were refused with it are back; the others wait for as long again."""
    crowd, slots = crowd_of(8, let_in=5)
    slots.give()
    rest = crowd.wait(slots, NOW + 0.01)
    assert rest == pytest.approx(0.04)
    crowd.sent(NOW + 0.01 + rest)
    assert crowd.wait(slots, NOW + 0.01) > AHEAD


def test_a_refusal_of_one_alone_is_none_of_a_crowd() -> None:
    """Nothing else was in flight."""
    crowd, slots = Crowd(), Slots(most=100, start=1)
    slots.take()
    assert not crowd.refused(1, NOW, NOW + 0.01, slots, known=False)


def test_a_refusal_among_as_many_as_passed_before_is_none_of_a_crowd() -> None:
    """Ten answers, each with seven others in flight."""
    crowd, slots = Crowd(), Slots(most=100, start=8)
    for _ in range(8):
        slots.take()
    for _ in range(10):
        crowd.passed(8, NOW, NOW, NOW + 0.1, slots)
    assert not crowd.refused(8, NOW + 1, NOW + 1.01, slots, known=False)


def test_a_refusal_among_fewer_than_were_let_in_ends_the_suspicion() -> None:
    """It was a rate or a window; the slots are free to grow again."""
    crowd, slots = crowd_of(8, let_in=5)
    for _ in range(4):
        slots.give()
    slots.take()
    assert not crowd.refused(2, NOW + 1, NOW + 1.01, slots, known=False)
    assert slots.refused_at is None


def test_more_than_were_let_in_pass_and_it_was_a_bucket() -> None:
    """One was let in of two; later two pass together, again and again, with no reply between."""
    crowd, slots = crowd_of(2, let_in=1)
    for number in range(1, CAREFUL + 1):
        at = NOW + number
        crowd.sent(at)
        crowd.passed(2, at, at, at + 0.5, slots)
    assert slots.refused_at is None
    assert not crowd.refused(2, NOW + 20, NOW + 20.01, slots, known=False)
