"""One task's word against a provider that misreports."""

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
    assert confirm.find(3, MODEL) is Finding.EVERYBODY


def test_classes_are_kept_apart() -> None:
    confirm = Confirm([MODEL, FailureClass.AUTH])
    assert confirm.find(1, MODEL) is Finding.UNSURE
    assert confirm.find(2, FailureClass.AUTH) is Finding.UNSURE
