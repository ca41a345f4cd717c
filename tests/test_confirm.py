"""One task's word against a provider that misreports."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchrunner.confirm import Confirm, Finding
from batchrunner.task import Failure, FailureClass

MODEL = FailureClass.MODEL_NOT_FOUND
NO_MODEL = Failure(kind=MODEL, message="no such model", status=404)


def test_a_class_that_is_reported_right_is_believed_at_once() -> None:
    assert Confirm(()).find(1, NO_MODEL) is Finding.EVERYBODY
    assert Confirm([FailureClass.AUTH]).find(1, NO_MODEL) is Finding.EVERYBODY


@pytest.mark.parametrize("status", [400, 403, 422])
def test_a_status_that_may_blame_the_request_has_to_be_confirmed_everywhere(status: int) -> None:
    """One prompt that a filter in front of the server took for an attack stops nothing."""
    confirm, refused = Confirm(()), Failure(kind=FailureClass.PERMISSION, message="<html>Forbidden", status=status)
    confirm.answered()
    assert confirm.find(1, refused) is Finding.UNSURE
    confirm.answered()
    assert confirm.find(1, refused) is Finding.THIS_ONE


def test_a_second_task_confirms_it() -> None:
    confirm = Confirm([MODEL])
    assert confirm.find(1, NO_MODEL) is Finding.UNSURE
    assert confirm.find(2, NO_MODEL) is Finding.EVERYBODY


def test_the_only_task_confirms_it_by_itself() -> None:
    confirm = Confirm([MODEL])
    assert confirm.find(1, NO_MODEL) is Finding.UNSURE
    assert confirm.find(1, NO_MODEL) is Finding.EVERYBODY


def test_where_others_are_answered_meanwhile_it_is_the_task() -> None:
    confirm = Confirm([MODEL])
    assert confirm.find(1, NO_MODEL) is Finding.UNSURE
    confirm.answered()
    assert confirm.find(1, NO_MODEL) is Finding.THIS_ONE


def test_another_task_after_an_answer_is_a_new_suspect() -> None:
    confirm = Confirm([MODEL])
    assert confirm.find(1, NO_MODEL) is Finding.UNSURE
    confirm.answered()
    assert confirm.find(2, NO_MODEL) is Finding.UNSURE
    assert confirm.find(3, NO_MODEL) is Finding.UNSURE
    assert confirm.find(4, NO_MODEL) is Finding.EVERYBODY


def test_several_tasks_that_are_at_fault_themselves_stop_nothing() -> None:
    """Nor do they go again for ever, each in the other's shadow."""
    confirm = Confirm([MODEL])
    confirm.answered()
    assert [confirm.find(1, NO_MODEL), confirm.find(2, NO_MODEL)] == [Finding.UNSURE, Finding.UNSURE]
    confirm.answered()
    assert [confirm.find(2, NO_MODEL), confirm.find(1, NO_MODEL)] == [Finding.THIS_ONE, Finding.THIS_ONE]


@given(st.lists(st.integers(1, 5) | st.none(), max_size=60))
def test_a_task_is_doubted_once_at_most(events: list[int | None]) -> None:
    """Whatever is answered (None) meanwhile: so every run comes to its end."""
    confirm, doubted = Confirm([MODEL]), set[int]()
    for task in events:
        if task is None:
            confirm.answered()
        elif confirm.find(task, NO_MODEL) is Finding.UNSURE:
            assert task not in doubted
            doubted.add(task)


def test_classes_are_kept_apart() -> None:
    confirm = Confirm([MODEL, FailureClass.AUTH])
    assert confirm.find(1, NO_MODEL) is Finding.UNSURE
    assert confirm.find(2, Failure(kind=FailureClass.AUTH, message="no", status=401)) is Finding.UNSURE
