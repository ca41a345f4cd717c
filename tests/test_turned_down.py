"""Tasks that are refused for a rate again and again."""

from hypothesis import given
from hypothesis import strategies as st

from batchrunner.turned_down import CALM, EARLY, GIVE_UP, LARGE_WAITS, LATEST, SELDOM, TurnedDown


def refuse(
    tasks: TurnedDown, now: float, *, task_id: int = 1, cost: float = 10.0, alone: bool = False, silent: bool = True
) -> float | str:
    return tasks.refused(task_id, cost, now, alone=alone, silent=silent)


def test_one_that_others_pass_by_is_given_up() -> None:
    """They were answered between its refusals, each time."""
    tasks = TurnedDown()
    for number in range(GIVE_UP):
        assert isinstance(refuse(tasks, 60.0 * number), float)
        tasks.answered(2, 10.0)
    assert refuse(tasks, 720.0) == (
        "refused 13 times in 12 minutes while 12 others passed: it may need more than the limit holds"
    )


def test_where_nobody_is_answered_nobody_is_given_up() -> None:
    """A day's quota is used up, perhaps. But no task keeps the others from being asked for."""
    tasks = TurnedDown()
    waits = [refuse(tasks, 60.0 * minute) for minute in range(2000)]
    assert waits[:EARLY] == [0.0] * EARLY
    assert waits[-1] == LATEST


def test_the_last_one_is_given_up_after_half_an_hour() -> None:
    """And nothing is said of others where there were none."""
    tasks = TurnedDown()
    waits = [refuse(tasks, CALM * number, alone=True) for number in range(GIVE_UP + 1)]
    assert waits[:-1] == [0.0] * GIVE_UP
    assert waits[-1] == "refused 13 times in 36 minutes: it may need more than the limit holds"


def test_one_that_was_passed_by_before_is_given_up_when_the_others_are_done() -> None:
    """Several of that kind are left, and none of them passes; sooner where it is sure."""
    for times, least, most in ((EARLY + 1, CALM, SELDOM), (1, SELDOM, 2 * SELDOM)):
        tasks, now = TurnedDown(), 0.0
        for _ in range(times):
            refuse(tasks, now)
            tasks.answered(9, 10.0)
        while not isinstance(wait := refuse(tasks, now), str):
            now += max(wait, 1.0)
        left = GIVE_UP - times
        assert left * least <= now <= left * most


def test_one_that_is_told_how_long_to_wait_is_given_up_after_hours_only() -> None:
    """Asked a thousand times a day it may just be unlucky, however many others pass; in the end it fails as well."""
    for alone in (False, True):
        tasks, now = TurnedDown(), 0.0
        while not isinstance(wait := refuse(tasks, now, alone=alone, silent=False), str):
            tasks.answered(2, 10.0)
            now += max(wait, 5.0)
        assert GIVE_UP * SELDOM <= now < 2 * GIVE_UP * SELDOM


def test_one_that_is_far_larger_than_what_passes_waits_at_once() -> None:
    """So that the others are asked for; alone, it need not, nor where the server says how long."""
    tasks = TurnedDown()
    tasks.answered(1, 100.0)
    assert refuse(tasks, 0.0, task_id=2, cost=399.0) == 0.0
    assert [refuse(tasks, 0.0, task_id=3, cost=401.0) for _ in range(3)] == [LARGE_WAITS * n for n in (1, 2, 4)]
    assert refuse(tasks, 0.0, task_id=3, cost=401.0, alone=True) == 0.0
    assert [refuse(tasks, 0.0, task_id=4, cost=401.0, silent=False) for _ in range(5)] == [0.0, 0.0, 0.0, 2.0, 4.0]


def test_an_answer_forgets_it() -> None:
    tasks = TurnedDown()
    for _ in range(10):
        refuse(tasks, 0.0)
    tasks.answered(1, 10.0)
    assert refuse(tasks, 0.0) == 0.0


@given(st.lists(st.tuples(st.integers(1, 3), st.floats(0, 1e4), *[st.booleans()] * 3), max_size=200))
def test_it_is_given_up_for_good_reason_only(steps: list[tuple[int, float, bool, bool, bool]]) -> None:
    """Never before it was refused so often; until then, it waits some seconds."""
    tasks, now, refusals = TurnedDown(), 0.0, dict.fromkeys((1, 2, 3), 0)
    for task_id, passed, is_answer, alone, silent in steps:
        now += passed
        if is_answer:
            tasks.answered(task_id, 10.0)
            refusals[task_id] = 0
            continue
        refusals[task_id] += 1
        wait = refuse(tasks, now, task_id=task_id, alone=alone, silent=silent)
        if isinstance(wait, str):
            assert refusals[task_id] > GIVE_UP - 1
            refusals[task_id] = 0
        else:
            assert 0.0 <= wait <= LATEST
