"""The canary: how few requests it takes to find out that every task would fail, and that a good start is not slowed."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import batchrunner as br
from batchrunner.canary import OF_ONE_TASK, Canary
from batchrunner.db.reader import Reader
from batchrunner.task import Failure, FailureClass, Lease, Success, Usage

TASKS = 40
ANSWER = Success(status=200, body=b"{}", usage=Usage(prompt_tokens=9, completion_tokens=2))
LEASE = Lease(
    attempt_id=1,
    task_id=1,
    custom_id="t",
    endpoint="chat/completions",
    body="{}",
    attempt=1,
    failures=0,
    cost=1.0,
    send_at=0.0,
    permit=None,
)


def failure(kind: FailureClass, **more: Any) -> Failure:
    return Failure(kind=kind, message="no", **more)


def send_and_fail(canary: Canary, number: int, kind: FailureClass, **more: Any) -> None:
    canary.sent()
    canary.came_back()
    canary.failed(replace(LEASE, task_id=number), failure(kind, **more))


def test_no_more_than_its_size_goes_before_the_first_answer() -> None:
    canary = Canary(2)
    canary.sent()
    assert not canary.is_waiting
    canary.sent()
    assert canary.is_waiting
    canary.came_back()
    canary.answered(ANSWER)
    assert not canary.is_waiting


def test_it_dies_of_failures_of_one_class() -> None:
    """Those that were answered and paid for all the same are not among those to be asked again."""
    canary = Canary(3)
    for number in range(2):
        send_and_fail(canary, number, FailureClass.BAD_REQUEST)
        assert not canary.is_dead
    send_and_fail(canary, 2, FailureClass.BAD_REQUEST, usage=Usage(prompt_tokens=1))
    assert canary.is_dead
    assert [lease.task_id for lease in canary.unpaid] == [0, 1]


@given(st.lists(st.sampled_from([*OF_ONE_TASK, FailureClass.BAD_REQUEST, FailureClass.SERVER_ERROR]), max_size=30))
def test_it_always_either_dies_or_lets_the_next_one_go(kinds: list[FailureClass]) -> None:
    """Failures of several classes, or of what one task asks, never leave it waiting for nothing."""
    canary = Canary(3)
    for number, kind in enumerate(kinds):
        send_and_fail(canary, number, kind)
        assert canary.is_waiting == canary.is_dead
        if canary.is_dead:
            counted = [kind for kind in kinds[: number + 1] if kind not in OF_ONE_TASK]
            assert set(counted[-3:]) == {kind}
            break


def test_its_word_is_said_once_when_all_are_back() -> None:
    canary = Canary(2)
    canary.sent()
    canary.sent()
    canary.came_back()
    canary.answered(ANSWER)
    assert canary.word() is None
    send_and_fail(canary, 2, FailureClass.BAD_REQUEST)
    assert canary.word() == "1 of 2 good (2 tokens out)"
    assert canary.word() is None


def test_of_size_0_there_is_none() -> None:
    canary = Canary(0)
    for number in range(5):
        send_and_fail(canary, number, FailureClass.BAD_REQUEST)
    assert not canary.is_waiting
    assert not canary.is_dead
    assert canary.word() is None


# -- whole runs


def job_file(folder: Path, tasks: int = TASKS, **body: Any) -> Path:
    path = folder / "job.jsonl"
    lines = [
        {"body": {"model": "m", "messages": [{"role": "user", "content": f"question {n}"}], **body}}
        for n in range(tasks)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("server", "options", "most", "says"),
    [
        ({"key": "right"}, {"key": "wrong"}, 1, ""),
        ({"models": ("other",)}, {}, 1, "model"),
        ({}, {"path": "/_nowhere"}, 1, "Unknown request URL"),
        ({"faults": "400:1"}, {}, 3, "so it was with each of 3 tasks"),
        ({"faults": "html:1"}, {}, 3, ""),
    ],
    ids=["key", "model", "endpoint", "every request", "no answers"],
)
def test_what_fails_every_task_costs_a_few_requests(
    tmp_path: Path, server: dict[str, Any], options: dict[str, Any], most: int, says: str
) -> None:
    """The run stops with the reason; every task is pending, so that the same command goes on once it is mended."""
    job = job_file(tmp_path)
    with br.Simulator(latency=0.0, **server) as simulator:
        url = simulator.base_url.removesuffix("/v1") + options.get("path", "/v1")
        with pytest.raises(br.Stopped) as stopped:
            br.run(job, base_url=url, concurrency=16, key=options.get("key"))
        assert simulator.score().sends <= most
    assert says in str(stopped.value)
    with Reader(tmp_path / "job.db") as reader:
        assert 1 <= reader.totals(1).sends <= most
    assert stopped.value.job.counts[br.TaskState.PENDING] == TASKS
    assert stopped.value.exit_code == 4
    with br.Simulator(latency=0.0) as simulator:
        assert br.run(job, base_url=simulator.base_url).counts[br.TaskState.SUCCEEDED] == TASKS


def test_bad_tasks_at_the_front_fail_alone(tmp_path: Path) -> None:
    """Two bad ones and then a good one: the two have failed, the others are answered."""
    job = job_file(tmp_path, 10)
    lines = job.read_text(encoding="utf-8").splitlines()
    bad = '{"body": {"model": "m", "messages": "nothing", "n": %d}}'
    job.write_text("\n".join([bad % 1, bad % 2, *lines]), encoding="utf-8")
    with br.Simulator(latency=0.0) as simulator:
        counts = br.run(job, base_url=simulator.base_url).counts
    assert (counts[br.TaskState.FAILED], counts[br.TaskState.SUCCEEDED]) == (2, 10)


def test_fewer_tasks_than_the_canary_just_fail(tmp_path: Path) -> None:
    with br.Simulator(latency=0.0, faults="400:1") as simulator:
        counts = br.run(job_file(tmp_path, 2), base_url=simulator.base_url).counts
    assert counts[br.TaskState.FAILED] == 2


def test_without_one_everything_is_sent(tmp_path: Path) -> None:
    with br.Simulator(latency=0.0, faults="400:1") as simulator:
        counts = br.run(job_file(tmp_path), base_url=simulator.base_url, canary=0).counts
        assert (simulator.score().sends, counts[br.TaskState.FAILED]) == (TASKS, TASKS)
