"""The example jobs run, each against the simulator, and so does ``batchrunner demo``."""

import subprocess
import sys
from pathlib import Path

import pytest

import batchrunner as br
from batchrunner.cli.demo import jobs

LABELS = {"animal", "plant", "food", "person", "artifact"}


@pytest.mark.parametrize(
    ("name", "tasks", "template"),
    [
        ("glosses.jsonl", 300, None),
        ("reviews-zh.jsonl", 20, None),
        ("embeddings.jsonl", 12, None),
        ("tickets.csv", 25, "tickets.j2"),
    ],
)
def test_an_example_job_is_answered_whole(name: str, tasks: int, template: str | None, tmp_path: Path) -> None:
    """Every task succeeds, once, and is marked as simulated."""
    prompt = None if template is None else (jobs() / template).read_text(encoding="utf-8")
    model = None if template is None else "glm-4.5-air"
    with br.Simulator() as server:
        job = br.run(jobs() / name, db=tmp_path / "x.db", prompt=prompt, model=model, base_url=server.base_url)
        assert job.counts[br.TaskState.SUCCEEDED] == server.score().sends == tasks
    assert all(result.simulated for result in job.results())


def test_glosses_are_answered_with_one_of_the_labels(tmp_path: Path) -> None:
    """The quick-start asks for one of five classes, and gets one; the gold label comes along."""
    with br.Simulator() as server:
        job = br.run(jobs() / "glosses.jsonl", db=tmp_path / "x.db", base_url=server.base_url)
    results = list(job.succeeded())
    assert {result.text for result in results} == LABELS
    assert all(result.row is not None and result.row["metadata"]["label"] in LABELS for result in results)


def test_the_demo_command(tmp_path: Path) -> None:
    """It ends like a real run, with a summary, the results and the referee's word; exit code 0."""
    command = [sys.executable, "-m", "batchrunner", "demo", "--job", str(jobs() / "embeddings.jsonl")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "Nothing leaves this machine" in done.stderr
    assert "succeeded         12" in done.stderr
    assert "of the quota used" in done.stderr
    assert len((tmp_path / "demo.results.jsonl").read_text(encoding="utf-8").splitlines()) == 12
