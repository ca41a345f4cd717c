"""One task's word against a provider that misreports."""

from hypothesis import given
from hypothesis import strategies as st

from batchrunner.confirm import Confirm, Finding
from batchrunner.task import FailureClass

MODEL = FailureClass.MODEL_NOT_FOUND


def test_a_class_that_is_reported_right_is_believed_at_once() -> None:
    assert Confirm(()).find(1, MODEL) is Finding.EVERYBODY
    assert Confirm([FailureClass.AUTH]).find(1, MODEL) is Finding.EVERYBODY


def test_a_second_task_confirms_it() -> None:
    confirm = Confirm([MODEL])
    assert confirm.find(1, MODEL) is Finding.UNSURE
    assert confirm.find(2, MODEL) is Finding.EVERYBODY


def test_the_only_task_confirms_it_by_itself() -> None:
    confirm = Confirm([MODEL])
    assert confirm.find(1, MODEL) is Finding.UNSURE
    assert confirm.find(1, MODEL) is Finding.EVERYBODY


def test_where_others_are_answered_meanwhile_it_is_the_task() -> None:
    confirm = Confirm([MODEL])
    assert confirm.find(1, MODEL) is Finding.UNSURE
    confirm.answered()
    assert confirm.find(1, MODEL) is Finding.THIS_ONE


def test_another_task_after_an_answer_is_a_new_suspect() -> None:
    confirm = Confirm([MODEL])
    assert confirm.find(1, MODEL) is Finding.UNSURE
    confirm.answered()
    assert confirm.find(2, MODEL) is Finding.UNSURE
    assert confirm.find(3, MODEL) is Finding.UNSURE
    assert confirm.find(4, MODEL) is Finding.EVERYBODY


def test_several_tasks_that_are_at_fault_themselves_stop_nothing() -> None:
    """Nor do they go again for ever, each in the other's shadow."""
    confirm = Confirm([MODEL])
    confirm.answered()
    assert [confirm.find(1, MODEL), confirm.find(2, MODEL)] == [Finding.UNSURE, Finding.UNSURE]
    confirm.answered()
    assert [confirm.find(2, MODEL), confirm.find(1, MODEL)] == [Finding.THIS_ONE, Finding.THIS_ONE]


@given(st.lists(st.integers(1, 5) | st.none(), max_size=60))
def test_a_task_is_doubted_once_at_most(events: list[int | None]) -> None:
    """Whatever is answered (None) meanwhile: so every run comes to its end."""
    confirm, doubted = Confirm([MODEL]), set[int]()
    for task in events:
        if task is None:
            confirm.answered()
        elif confirm.find(task, MODEL) is Finding.UNSURE:
            assert task not in doubted
            doubted.add(task)


def test_classes_are_kept_apart() -> None:
    confirm = Confirm([MODEL, FailureClass.AUTH])
    assert confirm.find(1, MODEL) is Finding.UNSURE
    assert confirm.find(2, FailureClass.AUTH) is Finding.UNSURE
