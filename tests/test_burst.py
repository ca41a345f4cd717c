"""Sends of one moment: what they were told, in whatever order they arrived."""

from hypothesis import given
from hypothesis import strategies as st

from batchrunner.limits.burst import ENOUGH, Burst


def told(*remaining: float, count: int | None = None) -> Burst:
    burst = Burst(0.0, count=len(remaining) if count is None else count)
    for left in remaining:
        burst.tell(left)
    return burst


@given(st.integers(ENOUGH, 50), st.randoms(use_true_random=False), st.integers(0, 5))
def test_who_is_told_as_it_comes_in_is_told_another_number_each(count: int, rng: object, others: int) -> None:
    """Others may have taken some among them."""
    left = [float(100 + count - each - (others if each > count // 2 else 0)) for each in range(count)]
    rng.shuffle(left)  # type: ignore[attr-defined]
    assert told(*left).is_early


@given(st.lists(st.just(75.0) | st.just(74.0), min_size=ENOUGH, max_size=50))
def test_who_is_told_with_the_answer_is_told_the_same(left: list[float]) -> None:
    assert not told(*left).is_early


def test_of_a_few_or_before_all_are_told_nothing_is_known() -> None:
    assert not told(*range(ENOUGH - 1)).is_early
    assert not told(*range(ENOUGH), count=ENOUGH + 1).is_early
