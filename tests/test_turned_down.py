"""Tasks that are refused for a rate again and again."""

from hypothesis import given
from hypothesis import strategies as st

from batchrunner.turned_down import CALM, EARLY, GIVE_UP, LARGE_WAITS, LATEST, TurnedDown


def test_one_that_others_pass_by_is_given_up() -> None:
    """They were answered between its refusals, each time."""
    tasks = TurnedDown()
    for _ in range(GIVE_UP):
        assert tasks.refused(1, 10.0, 0.0, alone=False) is not None
        tasks.answered(2, 10.0)
    assert tasks.refused(1, 10.0, 0.0, alone=False) is None


def test_where_nobody_is_answered_nobody_is_given_up() -> None:
    """A day's quota is used up, perhaps. But no task keeps the others from being asked for."""
    tasks = TurnedDown()
    waits = [tasks.refused(1, 10.0, 60.0 * minute, alone=False) for minute in range(2000)]
    assert waits[:EARLY] == [0.0] * EARLY
    assert waits[-1] == LATEST


def test_the_last_one_is_given_up_after_half_an_hour() -> None:
    tasks = TurnedDown()
    waits = [tasks.refused(1, 10.0, CALM * number, alone=True) for number in range(GIVE_UP + 1)]
    assert None not in waits[:-1]
    assert waits[-1] is None


def test_one_that_was_passed_by_before_is_given_up_when_the_others_are_done() -> None:
    """Several of that kind are left, and none of them passes."""
    tasks = TurnedDown()
    for _ in range(EARLY + 1):
        tasks.refused(1, 10.0, 0.0, alone=False)
        tasks.answered(9, 10.0)
    waits = [tasks.refused(1, 10.0, CALM * number, alone=False) for number in range(1, GIVE_UP)]
    assert waits[-1] is None
    assert all(wait is None or wait <= LATEST for wait in waits)


def test_one_that_is_far_larger_than_what_passes_waits_at_once() -> None:
    """So that the others are asked for; alone, it need not."""
    tasks = TurnedDown()
    tasks.answered(1, 100.0)
    assert tasks.refused(2, 399.0, 0.0, alone=False) == 0.0
    assert [tasks.refused(3, 401.0, 0.0, alone=False) for _ in range(3)] == [LARGE_WAITS * n for n in (1, 2, 4)]
    assert tasks.refused(3, 401.0, 0.0, alone=True) == 0.0


def test_an_answer_forgets_it() -> None:
    tasks = TurnedDown()
    for _ in range(10):
        tasks.refused(1, 10.0, 0.0, alone=False)
    tasks.answered(1, 10.0)
    assert tasks.refused(1, 10.0, 0.0, alone=False) == 0.0


@given(st.lists(st.tuples(st.integers(1, 3), st.floats(0, 1e4), st.booleans(), st.booleans()), max_size=200))
def test_it_is_given_up_for_good_reason_only(steps: list[tuple[int, float, bool, bool]]) -> None:
    """Never before it was refused so often; until then, it waits some seconds."""
    tasks, now, refusals = TurnedDown(), 0.0, dict.fromkeys((1, 2, 3), 0)
    for task_id, passed, is_answer, alone in steps:
        now += passed
        if is_answer:
            tasks.answered(task_id, 10.0)
            refusals[task_id] = 0
            continue
        refusals[task_id] += 1
        wait = tasks.refused(task_id, 10.0, now, alone=alone)
        assert refusals[task_id] > GIVE_UP if wait is None else 0.0 <= wait <= LATEST
