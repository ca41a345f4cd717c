"""What a run takes over from earlier ones."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from queued import NOW, Queue, failure, released, success

from batchrunner.db.earlier import Earlier
from batchrunner.record import Belief
from batchrunner.task import TaskState


@pytest.fixture
def queue(tmp_path: Path) -> Iterator[Queue]:
    queue = Queue(tmp_path / "q.db", 5)
    yield queue
    queue.store.close()


@pytest.fixture
def earlier(queue: Queue) -> Earlier:
    return Earlier(queue.store)


def test_sends_of_the_last_window_are_remembered_but_not_what_never_left(queue: Queue, earlier: Earlier) -> None:
    first, second, third = queue.lease(1, 2, 3)
    queue.end(success(first), released(second), failure(third, TaskState.PENDING, status=429))
    queue.lease(4, at=NOW + 1)
    queue.execute("UPDATE attempt SET lane = 'here/m'")
    queue.lease(5, at=NOW + 1)
    assert [(sent.at, sent.refused) for sent in earlier.recent_sends("here/m", since=NOW)] == [
        (NOW, False),
        (NOW, True),
        (NOW + 1, False),
    ]
    assert len(earlier.recent_sends("here/m", since=NOW + 0.5)) == 1
    assert not earlier.recent_sends("there/m", since=NOW)


def test_what_was_learned_of_limits_is_found_again(earlier: Earlier) -> None:
    assert earlier.belief("e", "k", "m") is None
    for rpm in (1, 2):
        earlier.believe(Belief(endpoint="e", key_label="k", model="m", value={"rpm": rpm}, at=NOW))
    believed = earlier.belief("e", "k", "m")
    assert believed is not None
    assert (believed.value, believed.at) == ({"rpm": 2}, NOW)
    assert earlier.belief("e", "other", "m") is None


def test_a_lane_that_answered_a_task_of_the_job_is_known(queue: Queue, earlier: Earlier) -> None:
    """Of this job and at this lane; a failure is no answer."""
    first, second = queue.lease(1, 2)
    queue.end(failure(first))
    queue.execute("UPDATE attempt SET lane = 'here/m'")
    assert not earlier.has_answered(queue.job, "here/m")
    queue.end(success(second))
    assert earlier.has_answered(queue.job, "here/m")
    assert not earlier.has_answered(queue.job, "there/m")
    assert not earlier.has_answered(queue.add_job("b.jsonl", 1), "here/m")
