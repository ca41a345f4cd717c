"""Short runs against each provider as the simulator plays it: all tasks are done, none fails, little is refused."""

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from laboratory import COST, World, _Game

import batchrunner as br
from batchrunner.api.reply import read_reply
from batchrunner.config import LimitSettings
from batchrunner.limits.limiter import Limiter, Permit
from batchrunner.provider import load_provider
from batchrunner.retry import SNOOZE
from batchrunner.simulator.config import Rules
from batchrunner.simulator.rules import Refusal
from batchrunner.simulator.voices import voice_names, voice_of
from batchrunner.task import Failure

NAMES = voice_names()
# Who tells what is left of the tokens, and no reset, is asked too often: in time, but with many refusals.
REFUSED = {"cerebras": 0.4, "github-models": 0.5, "mistral": 0.9, "xai": 0.9}
START = 1_790_000_000.0  # a time of today: what is told as an instant is read as one


class _Spoken(_Game):
    """The laboratory's game in virtual time, with a server that speaks as a provider, and a client that knows it."""

    def __init__(self, name: str, rules: Rules, tasks: int) -> None:
        super().__init__(rules, tasks, World(), Limiter(LimitSettings(), now=START), START, seed=1)
        self.dialect = voice_of(name).dialect
        self.provider = load_provider(name)

    def _arrive(self, permit: Permit) -> None:
        admitted = self.gate.admit(COST, self.now)
        levels = self.gate.levels(self.now)
        if isinstance(admitted, Refusal):
            more, body = self.dialect.refuse(admitted, levels)
            headers, status = self.dialect.refusal_headers(levels) | more, self.dialect.refused_as(admitted).status
            self.post(self.now + self.world.way(self.rng), self._answer, permit, status, headers, body)
            return
        took = self.world.latency(self.rng)
        self.post(self.now + took, self._done, permit, admitted, self.dialect.headers(levels))

    def _answer(self, permit: Permit, status: int, headers: dict[str, str], body: bytes) -> None:
        outcome = read_reply(status, list(headers.items()), body, now=self.now, provider=self.provider)
        self._settle(permit, outcome)
        if isinstance(outcome, Failure):
            assert outcome.kind in SNOOZE, outcome
            self.played.refused += 1
            self.left += 1
        else:
            self.last = self.now


def play(name: str, rules: Rules, tasks: int) -> tuple[float, float]:
    """Seconds until all tasks are done, and the share of the sends that was refused."""
    game = _Spoken(name, rules, tasks)
    game.play()
    return game.last - START, game.played.refused / game.played.sends


@pytest.mark.parametrize("name", NAMES)
def test_a_limit_of_requests_is_used_and_kept(name: str) -> None:
    """300 tasks at 60 a minute, the bucket full at first, take four minutes."""
    elapsed, refused = play(name, Rules(rpm=60), 300)
    assert elapsed < 1.3 * 240
    assert refused < 0.4


@pytest.mark.parametrize("name", NAMES)
def test_a_limit_of_tokens_is_used_and_kept(name: str) -> None:
    elapsed, refused = play(name, Rules(tpm=6000), 300)
    assert elapsed < 1.3 * 240
    assert refused < REFUSED.get(name, 0.2)


@pytest.mark.parametrize("name", NAMES)
def test_a_limit_of_requests_in_flight_is_kept(name: str) -> None:
    """At LiteLLM each refusal asks for a minute; what none tells apart from a rate is a rate."""
    elapsed, refused = play(name, Rules(concurrency=3), 300)
    assert elapsed < (240 if name == "litellm" else 80)
    assert refused < 0.2


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
