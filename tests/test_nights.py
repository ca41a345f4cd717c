"""A run that has hours: it ends in time, resumably, and outside of a window it sends nothing."""

import json
from datetime import datetime, timedelta
from pathlib import Path

from terminal import Terminal

import batchrunner as br
from batchrunner.config import Endpoint
from batchrunner.exits import ExitCode
from batchrunner.runner import Ended, Runner, RunOptions
from batchrunner.schedule import ALWAYS, Door, Hours, Schedule
from batchrunner.task import TaskState


def job(folder: Path, tasks: int) -> str:
    path = folder / "job.jsonl"
    lines = (
        {"custom_id": f"task-{n}", "body": {"model": "m", "messages": [{"role": "user", "content": "hello"}]}}
        for n in range(tasks)
    )
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return str(path)


def run(folder: Path, server: br.Simulator, schedule: Schedule, said: list[str]) -> Ended:
    options = RunOptions(
        job=str(folder / "job.jsonl"),
        database=folder / "job.db",
        endpoint=Endpoint(base_url=server.base_url),
        schedule=schedule,
    )
    with Runner(options, on_warning=said.append) as runner:
        runner.prepare()
        return runner.run()


def test_an_end_stops_the_run_and_the_next_goes_on(tmp_path: Path) -> None:
    """What was in flight at the end is answered and kept; nothing is asked twice."""
    job(tmp_path, 30)
    said: list[str] = []
    with br.Simulator(rpm=600, window=1.0, latency=0.3, concurrency=2) as server:
        ends_at = datetime.now().timestamp() + 1.0  # noqa: DTZ005
        ended = run(tmp_path, server, Schedule(ends_at=ends_at, why="--max-time 1s"), said)
        assert ended.exit_code is ExitCode.STOPPED_LIMIT
        assert 0 < ended.counts[TaskState.SUCCEEDED] < 30
        assert ended.counts[TaskState.RUNNING] == 0
        assert "--max-time 1s is reached: nothing more is sent" in said
        again = run(tmp_path, server, ALWAYS, said)
        assert again.exit_code is ExitCode.OK
        assert server.score().statuses["200"] == 30


def test_outside_of_its_hours_a_run_waits(tmp_path: Path) -> None:
    """Here until its end comes: no request was sent, and it said until when it waits."""
    job(tmp_path, 3)
    now = datetime.now()  # noqa: DTZ005
    later = Hours((now + timedelta(hours=2)).time(), (now + timedelta(hours=3)).time())
    schedule = Schedule(hours=(later,), ends_at=now.timestamp() + 0.5, why="x")
    said: list[str] = []
    with br.Simulator() as server:
        ended = run(tmp_path, server, schedule, said)
        assert ended.exit_code is ExitCode.STOPPED_LIMIT
        assert server.score().sends == 0
    assert len(said) == 1


def test_with_nothing_left_a_run_ends_in_any_hour(tmp_path: Path) -> None:
    job(tmp_path, 3)
    now = datetime.now()  # noqa: DTZ005
    later = Hours((now + timedelta(hours=2)).time(), (now + timedelta(hours=3)).time())
    with br.Simulator() as server:
        run(tmp_path, server, ALWAYS, [])
        assert run(tmp_path, server, Schedule(hours=(later,)), []).exit_code is ExitCode.OK


def test_the_door_says_when_it_shuts_and_opens() -> None:
    night = datetime(2026, 11, 23, 23, 0).timestamp()  # noqa: DTZ001
    hours = Hours(datetime(2026, 1, 1, 23, 30).time(), datetime(2026, 1, 1, 6, 0).time())  # noqa: DTZ001
    door = Door(Schedule(hours=(hours,)))
    assert door.wait(night) == 1800
    assert door.word == "outside of --window 23:30-06:00: going on at 2026-11-23 23:30"
    assert door.wait(night + 60) == 1740
    assert door.word is None
    assert door.wait(night + 1800) == 0
    assert door.word == "the window is open: going on"


def test_the_command_that_goes_on_keeps_the_hours(tmp_path: Path) -> None:
    """They are not remembered with the job, and without them it would send at once."""
    job(tmp_path, 3)
    now = datetime.now()  # noqa: DTZ005
    hours = f"{now + timedelta(hours=2):%H:%M}-{now + timedelta(hours=3):%H:%M}"
    with br.Simulator() as server:
        done = Terminal(tmp_path, server).run("job.jsonl", "--window", hours, "--max-time", "1s", "--json")
        assert done.returncode == ExitCode.STOPPED_LIMIT, done.stderr
        assert server.score().sends == 0
    assert json.loads(done.stdout.splitlines()[-1])["resume"] == f"batchrunner run job.jsonl --window {hours}"
