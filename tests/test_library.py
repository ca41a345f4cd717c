"""batchrunner from Python, against the simulator."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import batchrunner as br
from batchrunner.learned import learned_path, read_learned

ROWS = [{"id": f"row-{number}", "text": f"text {number}"} for number in range(12)]
PROMPT = "Answer with one of: good, bad. {{ text }}"


@pytest.fixture
def server() -> Iterator[br.Simulator]:
    with br.Simulator() as simulator:
        yield simulator


def test_rows_are_answered_and_joined_back(server: br.Simulator, tmp_path: Path) -> None:
    """Given rows and a prompt, every row comes back with its answer, in order."""
    job = br.run(ROWS, db=tmp_path / "x.db", prompt=PROMPT, model="m", base_url=server.base_url)
    results = list(job.succeeded())
    assert [result.custom_id for result in results] == [row["id"] for row in ROWS]
    assert [result.row for result in results] == ROWS
    assert {result.text for result in results} <= {"good", "bad"}
    assert all(result.simulated and result.usage for result in results)
    assert repr(job) == "Job x.rows.jsonl: 12 succeeded"


def test_running_again_asks_nothing_again(server: br.Simulator, tmp_path: Path) -> None:
    """Given a finished job, when one row is added, only that one is sent."""
    db = tmp_path / "x.db"
    br.run(ROWS[:-1], db=db, prompt=PROMPT, model="m", base_url=server.base_url)
    br.run(ROWS, db=db, prompt=PROMPT, model="m", base_url=server.base_url)
    br.run(ROWS, db=db, prompt=PROMPT, model="m", base_url=server.base_url)
    assert server.score().sends == len(ROWS)


async def test_inside_a_running_loop(server: br.Simulator, tmp_path: Path) -> None:
    """``run_async`` runs in the loop, ``run`` beside it, as a notebook needs."""
    first = await br.run_async(ROWS, db=tmp_path / "a.db", prompt=PROMPT, model="m", base_url=server.base_url)
    second = br.run(ROWS, db=tmp_path / "b.db", prompt=PROMPT, model="m", base_url=server.base_url)
    assert first.counts[br.TaskState.SUCCEEDED] == second.counts[br.TaskState.SUCCEEDED] == len(ROWS)


def test_a_failed_task_does_not_raise_unless_asked(server: br.Simulator, tmp_path: Path) -> None:
    """A refusal is a result with its error; ``check=True`` turns it into an exception that holds the job."""
    rows = [*ROWS, {"id": "bad", "text": "[[fault:400]]"}]
    job = br.run(rows, db=tmp_path / "x.db", prompt=PROMPT, model="m", base_url=server.base_url)
    (failed,) = job.failed()
    assert failed.custom_id == "bad"
    assert failed.error is not None
    assert (failed.error.kind, failed.error.status) == ("bad_request", 400)
    with pytest.raises(br.SomeFailed) as caught:
        br.run(rows, db=tmp_path / "x.db", prompt=PROMPT, model="m", base_url=server.base_url, check=True)
    assert caught.value.job.counts[br.TaskState.FAILED] == 1
    assert caught.value.exit_code == br.ExitCode.SOME_FAILED


def test_a_wrong_key_stops_and_fails_nothing(tmp_path: Path) -> None:
    """The run stops with the provider's words; every task is still pending."""
    with br.Simulator(key="right") as server, pytest.raises(br.Stopped) as caught:
        br.run(ROWS, db=tmp_path / "x.db", prompt=PROMPT, model="m", base_url=server.base_url, key="wrong")
    assert caught.value.job.counts[br.TaskState.PENDING] == len(ROWS)
    assert caught.value.exit_code == br.ExitCode.STOPPED_PROVIDER


def test_a_plan_sends_nothing_and_a_run_comes_to_it(server: br.Simulator, tmp_path: Path) -> None:
    """With the same options, but no key; after some answers it knows how long they are."""
    told = br.plan(ROWS, db=tmp_path / "a.db", prompt=PROMPT, model="glm-4.5-air", provider="zhipu", rpm=60)
    assert (told.requests, told.bound_by, told.seconds, told.currency) == (12, "RPM", 12, "CNY")
    assert told.cost_most is not None
    assert str(told.cost_most).startswith("¥")
    with pytest.raises(br.ConfigError, match="no key"):
        br.run(ROWS, db=tmp_path / "a.db", prompt=PROMPT, model="glm-4.5-air", provider="zhipu", rpm=60)
    at: dict[str, Any] = {"db": tmp_path / "b.db", "prompt": PROMPT, "model": "m", "base_url": server.base_url}
    br.run(ROWS, limit=10, **at)
    rest = br.plan(ROWS, prices={"m": {"input": 1, "output": 2}}, **at)
    assert (rest.requests, rest.done, rest.learned) == (2, 10, 10)
    assert server.score().sends == 10
    job = br.run(ROWS, prices={"m": {"input": 1, "output": 2}}, **at)
    cost = sum(result.cost or 0 for result in job.succeeded())
    assert rest.cost is not None
    assert float(rest.cost.amount) == pytest.approx(cost, rel=0.1)


def test_what_is_no_option_is_no_option_of_a_plan(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"plan\(\) got an unexpected keyword argument 'modle'"):
        br.plan(ROWS, db=tmp_path / "x.db", prompt=PROMPT, modle="m")  # type: ignore[call-arg]


def test_jobs_learn_from_one_another_unless_told_not_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    path = learned_path({"XDG_STATE_HOME": str(tmp_path)})
    evidence = []
    with br.Simulator(rpm=600) as server:
        for name, learned in (("a", False), ("b", True), ("c", True), ("d", False)):
            db = tmp_path / f"{name}.db"
            br.run(ROWS, db=db, prompt=PROMPT, model="m", base_url=server.base_url, learned=learned)
            rows = sqlite3.connect(db).execute("SELECT evidence FROM events ORDER BY id").fetchall()
            evidence.append("an earlier run" in rows[0][0])
            assert len(read_learned(path)) == (0 if name == "a" else 1)
    assert evidence == [False, False, True, False]


def test_a_job_that_goes_on_may_start_without_what_it_learned_itself(tmp_path: Path) -> None:
    db = tmp_path / "x.db"
    earlier = []
    with br.Simulator(rpm=600) as server:
        for count, learned in ((10, True), (11, False), (12, True)):
            br.run(ROWS[:count], db=db, prompt=PROMPT, model="m", base_url=server.base_url, learned=learned)
            rows = sqlite3.connect(db).execute("SELECT count(*) FROM events WHERE evidence LIKE '%an earlier run%'")
            earlier.append(rows.fetchone()[0] > 0)
    assert earlier == [False, False, True]


def test_results_are_written_by_suffix(server: br.Simulator, tmp_path: Path) -> None:
    """A job can be written out at any time, in the form its suffix says."""
    job = br.run(ROWS, db=tmp_path / "x.db", prompt=PROMPT, model="m", base_url=server.base_url)
    (output,) = job.write(tmp_path / "x.csv")
    assert output.rows == len(ROWS)
    assert (tmp_path / "x.csv").read_text(encoding="utf-8").startswith("id,text,answer,br_status")


def test_what_cannot_start_says_why(tmp_path: Path) -> None:
    """Nothing is simulated in place of a provider that was not named; an unknown option is a TypeError."""
    with pytest.raises(br.ConfigError, match="no provider"):
        br.run(ROWS, db=tmp_path / "x.db", prompt=PROMPT, model="m")
    with pytest.raises(br.ConfigError, match="need a database"):
        br.run(ROWS, prompt=PROMPT, model="m", base_url="http://127.0.0.1:9/v1")
    with pytest.raises(TypeError, match="rmp"):
        br.run(ROWS, rmp=60)  # type: ignore[call-arg]
