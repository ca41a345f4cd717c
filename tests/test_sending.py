"""The worker between a scripted coordinator and a scripted wire; and whole runs stopped by signals."""

import json
import math
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Sequence
from contextlib import nullcontext
from pathlib import Path

import anyio
import pytest

import batchrunner as br
from batchrunner.coordinator import Grant
from batchrunner.db.reader import Reader
from batchrunner.quota import Dimension, Quota, Window
from batchrunner.retry import Stop
from batchrunner.task import (
    Abandoned,
    Failure,
    FailureClass,
    Lease,
    Outcome,
    Released,
    Report,
    Sighting,
    Success,
    TaskState,
)
from batchrunner.worker import Worker

ANSWER = Success(status=200, body=b"{}")


def lease(number: int, *, send_at: float = 0.0) -> Lease:
    return Lease(
        attempt_id=number,
        task_id=number,
        custom_id=f"t{number}",
        endpoint="chat/completions",
        body="{}",
        attempt=1,
        failures=0,
        cost=1.0,
        send_at=send_at,
        permit=None,
    )


class Script:
    """Gives *tasks* leases, as many as are wanted, and remembers what was asked and reported."""

    def __init__(self, tasks: int, *, stop_after: int | None = None) -> None:
        self.left, self.given, self.stop_after = tasks, 0, stop_after
        self.wants: list[int] = []
        self.reports: list[Report] = []
        self.sightings: list[Sighting] = []
        self.batches: list[int] = []

    async def exchange(self, reports: Sequence[Report], /, *, want: int, sightings: Sequence[Sighting] = ()) -> Grant:
        await anyio.lowlevel.checkpoint()
        self.reports += reports
        self.sightings += sightings
        self.wants.append(want)
        self.batches.append(len(reports))
        stop = None
        if self.stop_after is not None and len(self.reports) >= self.stop_after:
            stop = Stop(Failure(kind=FailureClass.AUTH, message="no"))
        count = 0 if stop else min(want, self.left)
        leases = tuple(lease(self.given + number) for number in range(count))
        self.given += count
        self.left -= count
        finished = not self.left and len(self.reports) == self.given
        return Grant(leases=leases, wait=math.inf, finished=finished, stop=stop)


def worker(script: Script, send: Callable[..., Awaitable[Outcome]], *, concurrency: int = 4) -> Worker:
    return Worker(script.exchange, send, clock=lambda: 1000.0, concurrency=concurrency)


async def test_no_more_than_the_concurrency_is_in_flight() -> None:
    """A slot is asked for again only when its report was handed over."""
    script, flying, most = Script(50), 0, 0

    async def send(_: Lease, /, *, now: float, **__: object) -> Outcome:
        nonlocal flying, most
        assert now == 1000.0
        flying += 1
        most = max(most, flying)
        await anyio.lowlevel.checkpoint()
        flying -= 1
        return ANSWER

    await worker(script, send).run()
    assert (most, len(script.reports)) == (4, 50)
    assert all(want <= 4 for want in script.wants)


async def test_what_ends_during_an_exchange_goes_into_the_next() -> None:
    """A group commit without a timer: far fewer exchanges than answers, and none that is asked for nothing."""
    script = Script(640)

    async def send(_: Lease, /, *, now: float, **__: object) -> Outcome:  # noqa: ARG001
        return ANSWER

    await worker(script, send, concurrency=64).run()
    assert len(script.reports) == 640
    assert len(script.batches) < 640 / 16
    assert all(batch or number == 0 for number, batch in enumerate(script.batches))


async def test_draining_finishes_what_is_in_flight_and_takes_nothing_new() -> None:
    """What was sent is reported with its answer, and want is 0 from then on."""
    script, started = Script(50), anyio.Event()
    go_on = anyio.Event()

    async def send(_: Lease, /, *, now: float, **__: object) -> Outcome:  # noqa: ARG001
        started.set()
        await go_on.wait()
        return ANSWER

    it = worker(script, send)
    async with anyio.create_task_group() as group:
        group.start_soon(it.run)
        await started.wait()
        it.drain()
        go_on.set()
    assert [type(report.outcome) for report in script.reports] == [Success] * 4
    assert script.wants[1:] == [0] * (len(script.wants) - 1)


async def test_abandoning_cuts_off_and_reports_it() -> None:
    """What was on the wire is Abandoned, and every report still reaches the coordinator."""
    script, started = Script(50), anyio.Event()

    async def send(_: Lease, /, *, now: float, **__: object) -> Outcome:  # noqa: ARG001
        started.set()
        await anyio.sleep_forever()
        return ANSWER

    it = worker(script, send)
    async with anyio.create_task_group() as group:
        group.start_soon(it.run)
        await started.wait()
        it.abandon()
    assert len(script.reports) == script.given
    assert {type(report.outcome) for report in script.reports} <= {Abandoned, Released}


async def test_a_reason_to_stop_drains() -> None:
    """Once the coordinator says stop, nothing more is sent."""
    script = Script(50, stop_after=1)

    async def send(_: Lease, /, *, now: float, **__: object) -> Outcome:  # noqa: ARG001
        await anyio.lowlevel.checkpoint()
        return ANSWER

    it = worker(script, send)
    await it.run()
    assert it.stop is not None
    assert len(script.reports) == script.given <= 8


async def test_the_head_of_a_stream_is_handed_on_before_its_end() -> None:
    """With the lease and the times it belongs to, in the next exchange, which does not wait for the answer."""
    script, quota = Script(1), Quota((Window(dimension=Dimension.REQUESTS, limit=9),))

    async def send(_: Lease, /, *, now: float, on_head: Callable[[Quota], None]) -> Outcome:  # noqa: ARG001
        on_head(quota)
        while not script.sightings:
            await anyio.lowlevel.checkpoint()
        assert not script.reports
        return ANSWER

    await worker(script, send).run()
    (seen,) = script.sightings
    assert (seen.lease.task_id, seen.quota, seen.sent_at) == (0, quota, 1000.0)
    assert len(script.reports) == 1


async def test_a_bug_in_sending_ends_the_run_and_loses_no_report() -> None:
    """It is raised, after what is known was handed over."""
    script = Script(50)

    async def send(one: Lease, /, *, now: float, **__: object) -> Outcome:  # noqa: ARG001
        if one.task_id == 2:
            raise ZeroDivisionError
        return ANSWER

    with pytest.raises(ExceptionGroup) as caught:
        await worker(script, send).run()
    assert caught.group_contains(ZeroDivisionError)
    assert len(script.reports) == script.given


class Slow(Script):
    """Takes its time over an exchange, as a disk does, so that much ends meanwhile."""

    async def exchange(self, reports: Sequence[Report], /, *, want: int, sightings: Sequence[Sighting] = ()) -> Grant:
        for _ in range(5):
            await anyio.lowlevel.checkpoint()
        return await super().exchange(reports, want=want, sightings=sightings)


@pytest.mark.parametrize("bug", [True, False])
async def test_what_is_cut_off_by_a_bug_claims_nothing_new(bug: bool) -> None:
    """In sending, or beside it. What is claimed then is cut off too, comes back pending and is claimed again, for ever.

    Each time as if it had been sent and may have to be paid for.
    """
    script = Slow(500)

    async def send(one: Lease, /, *, now: float, **__: object) -> Outcome:  # noqa: ARG001
        if one.task_id == 0:
            return ANSWER
        for _ in range(3 if one.task_id == 2 else 500):
            await anyio.lowlevel.checkpoint()
        if bug:
            raise ZeroDivisionError
        group.cancel_scope.cancel()
        await anyio.sleep_forever()
        return ANSWER

    with nullcontext() if not bug else pytest.raises(ExceptionGroup):
        async with anyio.create_task_group() as group:
            await worker(script, send).run()
    assert script.given <= 5
    assert len(script.reports) == script.given


def start(job: Path, server: br.Simulator, *options: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "batchrunner", "run", str(job), "--base-url", server.base_url, "--json", *options]
    return subprocess.Popen(command, cwd=job.parent, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def write(job: Path, tasks: int) -> Path:
    lines = [
        {"custom_id": f"t{n}", "body": {"model": "m", "messages": [{"role": "user", "content": str(n)}]}}
        for n in range(tasks)
    ]
    job.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return job


def signal_at_work(process: "subprocess.Popen[str]", *numbers: int) -> tuple[int, str, str]:
    """Send signals once the run has said that it began, and wait for its end."""
    assert process.stdout is not None
    first = process.stdout.readline()
    assert json.loads(first)["event"] == "start"
    for number in numbers:
        process.send_signal(number)
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


def test_the_first_signal_drains_and_the_same_command_goes_on(tmp_path: Path) -> None:
    """Exit 130, nothing in flight left open, nothing asked twice after the resume."""
    job = write(tmp_path / "job.jsonl", 200)
    with br.Simulator(latency=0.3) as server:
        code, _, err = signal_at_work(start(job, server, "-c", "8"), signal.SIGINT)
        assert code == 130, err
        assert "resume   batchrunner run" in err
        with Reader(tmp_path / "job.db") as reader:
            counts = reader.counts(1)
            assert counts[TaskState.RUNNING] == 0
            assert counts.total == 200
            assert counts[TaskState.PENDING] > 0
        server.set_limits(concurrency=None)
        again = start(job, server, "-c", "64")
        again.communicate(timeout=60)
        assert again.returncode == 0
        assert server.score().sends == 200


def test_a_second_signal_stops_at_once(tmp_path: Path) -> None:
    """What was in flight is unknown and counted; the grace period is not waited for."""
    job = write(tmp_path / "job.jsonl", 20)
    with br.Simulator(latency=30.0) as server:
        process = start(job, server, "-c", "4", "--grace", "50")
        code, _, err = signal_at_work(process, signal.SIGTERM, signal.SIGTERM)
        assert code in (143, 130), err
    with Reader(tmp_path / "job.db") as reader:
        assert reader.counts(1)[TaskState.PENDING] == 20


def test_a_second_runner_leaves_at_once_and_names_the_first(tmp_path: Path) -> None:
    """Exit 6; the first goes on undisturbed."""
    job = write(tmp_path / "job.jsonl", 30)
    with br.Simulator(latency=0.5) as server:
        first = start(job, server, "-c", "4")
        assert first.stdout is not None
        first.stdout.readline()
        second = start(job, server)
        _, err = second.communicate(timeout=60)
        assert second.returncode == 6
        assert f"process {first.pid}" in err
        first.communicate(timeout=60)
        assert first.returncode == 0
