"""Short runs against each provider as the simulator plays it: all tasks are done, none fails, little is refused."""

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from laboratory import play

import batchrunner as br
from batchrunner.simulator.config import Rules
from batchrunner.simulator.voices import voice_names

NAMES = voice_names()
NOW = 1_790_000_000.0  # a time of today: what is told as an instant is read as one
TELLING = {  # each answer of theirs tells how much is left
    "anthropic", "azure", "cerebras", "github-models", "litellm", "mistral", "nebius", "openai", "together", "xai",
}  # fmt: skip
UNNAMED = {"litellm", "xai"}  # they say neither when a window ends nor how long it is: once that is asked, at a cost
TASKS = 330
ALGORITHMS = ("bucket", "fixed", "sliding")


def refused_most(name: str) -> float:
    """The share of the sends: what is in flight when a limit is met that nothing told of, and looking for it."""
    return 0.01 if name in TELLING else 0.1


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("name", NAMES)
def test_a_limit_of_requests_is_used_and_kept(name: str, algorithm: Any) -> None:
    """60 a minute, with nothing configured; six windows of them, or a full bucket and what comes back."""
    played = play(Rules(rpm=60, algorithm=algorithm, voice=name), TASKS, start=NOW)
    assert played.efficiency > (0.93 if name in UNNAMED else 0.97)
    assert played.refused_share < refused_most(name)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("name", NAMES)
def test_a_limit_of_tokens_is_used_and_kept(name: str, algorithm: Any) -> None:
    """6,000 a minute; each request takes a hundred."""
    played = play(Rules(tpm=6000, algorithm=algorithm, voice=name), TASKS, start=NOW)
    assert played.efficiency > (0.93 if name in UNNAMED else 0.97)
    assert played.refused_share < refused_most(name)


@pytest.mark.parametrize("name", NAMES)
def test_a_limit_of_requests_in_flight_is_kept(name: str) -> None:
    """At LiteLLM each refusal asks for a minute; what none tells apart from a rate is a rate."""
    played = play(Rules(concurrency=3, voice=name), 300, start=NOW)
    assert played.elapsed < (240 if name == "litellm" else 80)
    assert played.refused_share < 0.2


def test_a_job_at_all_of_them_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over HTTP, each a lane with a tight limit of its own: every task has its answer, every lane gave some."""
    monkeypatch.setenv("PLAYED_KEY", "k")
    rows = [{"id": f"r{n}", "text": f"question {n}"} for n in range(10 * len(NAMES))]
    with ExitStack() as servers:
        played = {
            name: servers.enter_context(br.Simulator(voice=name, rpm=4, window=0.5, concurrency=2, key="k"))
            for name in NAMES
        }
        lanes: list[dict[str, Any]] = [
            {"name": name, "provider": name, "base_url": server.base_url, "key_env": "PLAYED_KEY"}
            for name, server in played.items()
        ]
        job = br.run(rows, db=tmp_path / "job.db", prompt="{{ text }}", model="x", lanes=lanes, learned=False)
        answered = {name: server.score().answered for name, server in played.items()}
    assert job.counts[br.TaskState.SUCCEEDED] == len(rows) == sum(answered.values())
    assert all(answered.values()), answered
