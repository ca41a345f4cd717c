"""One task's word against a provider that misreports."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchrunner.confirm import SUSPECT, TIMES, Confirm, Finding
from batchrunner.task import Failure, FailureClass

MODEL = FailureClass.MODEL_NOT_FOUND
NO_MODEL = Failure(kind=MODEL, message="no such model", status=404)


def test_a_class_that_is_reported_right_is_believed_at_once() -> None:
    assert Confirm(()).find(1, NO_MODEL, left=9) is Finding.EVERYBODY
    assert Confirm([FailureClass.AUTH]).find(1, NO_MODEL, left=9) is Finding.EVERYBODY


@pytest.mark.parametrize("status", [400, 403, 422])
def test_a_status_that_may_blame_the_request_has_to_be_confirmed_everywhere(status: int) -> None:
    """One prompt that a filter in front of the server took for an attack stops nothing."""
    confirm, refused = Confirm(()), Failure(kind=FailureClass.PERMISSION, message="<html>Forbidden", status=status)
    confirm.answered()
    assert confirm.find(1, refused, left=9) is Finding.UNSURE
    confirm.answered()
    assert confirm.find(1, refused, left=9) is Finding.THIS_ONE


def test_a_second_task_confirms_it() -> None:
    confirm = Confirm([MODEL])
    assert confirm.find(1, NO_MODEL, left=9) is Finding.UNSURE
    assert confirm.find(2, NO_MODEL, left=9) is Finding.EVERYBODY


def test_the_only_task_confirms_it_by_itself() -> None:
    confirm = Confirm([MODEL])
    assert confirm.find(1, NO_MODEL, left=1) is Finding.UNSURE
    assert confirm.find(1, NO_MODEL, left=1) is Finding.EVERYBODY


def test_the_last_task_of_a_run_that_was_answered_fails_alone() -> None:
    """Nobody is left who could say the same, and stopping for it would stop every later run as well."""
    confirm = Confirm([MODEL])
    confirm.answered()
    assert confirm.find(1, NO_MODEL, left=1) is Finding.UNSURE
    assert confirm.find(1, NO_MODEL, left=1) is Finding.THIS_ONE


def test_one_that_is_asked_again_before_others_are_answered_waits_on() -> None:
    """Longer each time; and if they say nothing for minutes, it is believed."""
    confirm = Confirm([MODEL])
    waits = []
    while confirm.find(1, NO_MODEL, left=9) is Finding.UNSURE:
        waits.append(confirm.wait(1, MODEL))
    assert waits == [SUSPECT, 4 * SUSPECT, 16 * SUSPECT, 64 * SUSPECT, 256 * SUSPECT]
    assert len(waits) == TIMES - 1


def test_where_others_are_answered_meanwhile_it_is_the_task() -> None:
    confirm = Confirm([MODEL])
    assert confirm.find(1, NO_MODEL, left=9) is Finding.UNSURE
    confirm.answered()
    assert confirm.find(1, NO_MODEL, left=9) is Finding.THIS_ONE


def test_another_task_after_an_answer_is_a_new_suspect() -> None:
    confirm = Confirm([MODEL])
    assert confirm.find(1, NO_MODEL, left=9) is Finding.UNSURE
    confirm.answered()
    assert confirm.find(2, NO_MODEL, left=9) is Finding.UNSURE
    assert confirm.find(3, NO_MODEL, left=9) is Finding.UNSURE
    assert confirm.find(4, NO_MODEL, left=9) is Finding.EVERYBODY


def test_several_tasks_that_are_at_fault_themselves_stop_nothing() -> None:
    """Nor do they go again for ever, each in the other's shadow."""
    confirm = Confirm([MODEL])
    confirm.answered()
    assert [confirm.find(1, NO_MODEL, left=9), confirm.find(2, NO_MODEL, left=9)] == [Finding.UNSURE, Finding.UNSURE]
    confirm.answered()
    assert [confirm.find(2, NO_MODEL, left=9), confirm.find(1, NO_MODEL, left=9)] == [
        Finding.THIS_ONE,
        Finding.THIS_ONE,
    ]


@given(st.lists(st.integers(1, 5) | st.none(), max_size=60), st.integers(1, 9))
def test_a_task_is_doubted_a_few_times_at_most(events: list[int | None], left: int) -> None:
    """Whatever is answered (None) meanwhile: so every run comes to its end."""
    confirm, doubted = Confirm([MODEL]), Counter[int]()
    for task in events:
        if task is None:
            confirm.answered()
        elif confirm.find(task, NO_MODEL, left=left) is Finding.UNSURE:
            doubted[task] += 1
            assert doubted[task] < TIMES


def test_classes_are_kept_apart() -> None:
    confirm = Confirm([MODEL, FailureClass.AUTH])
    assert confirm.find(1, NO_MODEL, left=9) is Finding.UNSURE
    assert confirm.find(2, Failure(kind=FailureClass.AUTH, message="no", status=401), left=9) is Finding.UNSURE
