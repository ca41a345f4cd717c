"""batchrunner from Python, against the simulator."""

from collections.abc import Iterator
from pathlib import Path

import pytest

import batchrunner as br

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
