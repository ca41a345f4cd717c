"""Runs over two real servers: both used, one that dies, a key that is no good, other names, going on after a kill."""

import json
import sqlite3
from base64 import b64encode
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from random import Random
from typing import Any

import pytest
from killed import run_and_kill
from terminal import Terminal

import batchrunner as br
from batchrunner.db.reader import Reader
from batchrunner.logbook import Standing
from batchrunner.simulator.config import DialectName


def job_file(folder: Path, tasks: int, models: Sequence[str] = ("m",)) -> Path:
    path = folder / "job.jsonl"
    lines = [
        {"body": {"model": models[n % len(models)], "messages": [{"role": "user", "content": f"question {n}"}]}}
        for n in range(tasks)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


def lane(name: str, server: br.Simulator, **more: Any) -> dict[str, Any]:
    return {"name": name, "base_url": server.base_url, **more}


def sent_models(folder: Path) -> set[tuple[str, str | None]]:
    with sqlite3.connect(folder / "job.db") as connection:
        return set(connection.execute("SELECT lane, model FROM attempts"))


def test_both_are_used_to_the_full(tmp_path: Path) -> None:
    """Windows of two seconds, one twice the other: each server was busy all the time, and hardly refused anything.

    Nearly three whole windows of both: of what a last, half used one holds, either may take most. One window more than
    is needed may be touched, on a machine that is busy with other things.
    """
    job = job_file(tmp_path, 880)
    with (
        br.Simulator(rpm=200, window=2.0, algorithm="fixed", latency=0.02) as one,
        br.Simulator(rpm=100, window=2.0, algorithm="fixed", latency=0.02) as other,
    ):
        done = br.run(job, lanes=[lane("one", one), lane("other", other)])
        scores = (one.score(), other.score())
    assert done.counts[br.TaskState.SUCCEEDED] == 880
    assert [score.answered for score in scores] == [pytest.approx(590, rel=0.1), pytest.approx(290, rel=0.1)]
    assert all(score.efficiency is not None and score.efficiency > 0.6 for score in scores), scores
    assert sum(score.refused_share for score in scores) < 0.08


def test_one_dies_and_the_other_goes_on(tmp_path: Path) -> None:
    """No task is lost or fails; those that were on their way are asked again at the other."""
    job = job_file(tmp_path, 300)
    with br.Simulator(latency=0.05) as other, ExitStack() as power:
        one = power.enter_context(br.Simulator(latency=0.05))

        def kill_one(standing: Standing) -> None:
            if standing.answered > 20:
                power.close()

        lanes = [lane("one", one, concurrency=4), lane("other", other, concurrency=4)]
        done = br.run(job, lanes=lanes, on_progress=kill_one)
        assert 0 < one.score().answered < 200
    assert done.counts[br.TaskState.SUCCEEDED] == 300


def test_a_key_that_is_no_good_closes_its_lane_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All is answered by the other; the wrong key is tried once, and never meets the other server."""
    job = job_file(tmp_path, 50)
    monkeypatch.setenv("KEY_A", "wrong-canary-key")
    monkeypatch.setenv("KEY_B", "right-canary-key")
    with br.Simulator(key="another", latency=0.0) as a, br.Simulator(key="right-canary-key", latency=0.0) as b:
        lanes = [lane("a", a, key_env="KEY_A"), lane("b", b, key_env="KEY_B")]
        assert br.run(job, lanes=lanes).counts[br.TaskState.SUCCEEDED] == 50
        assert b.score().answered == b.score().sends == 50
    with Reader(tmp_path / "job.db") as reader:
        totals = {each.lane: (each.sends, each.answered) for each in reader.lanes(1)}
    assert totals == {"a/m": (1, 0), "b/m": (50, 50)}
    assert not any(b"canary-key" in path.read_bytes() for path in tmp_path.iterdir())


def test_another_name_for_the_model_arrives(tmp_path: Path) -> None:
    """Each server knows only its own name for it."""
    job = job_file(tmp_path, 40)
    with br.Simulator(models=("m",), latency=0.02) as a, br.Simulator(models=("z-ai/m",), latency=0.02) as b:
        lanes = [lane("a", a, concurrency=2), lane("b", b, concurrency=2, models={"m": "z-ai/m"})]
        done = br.run(job, lanes=lanes)
        assert min(a.score().answered, b.score().answered) > 0
    assert done.counts[br.TaskState.SUCCEEDED] == 40
    assert sent_models(tmp_path) == {("a/m", None), ("b/z-ai/m", "z-ai/m")}


def test_a_model_that_no_lane_takes_is_told_before_anything_is_sent(tmp_path: Path) -> None:
    job = job_file(tmp_path, 4, models=("m", "n"))
    with br.Simulator() as a:
        with pytest.raises(br.ConfigError, match="no lane takes the model 'n'"):
            br.run(job, lanes=[lane("a", a, models=["m"])])
        assert a.score().sends == 0


def test_lanes_and_one_endpoint_are_not_mixed(tmp_path: Path) -> None:
    with pytest.raises(br.ConfigError, match="keep one of them"):
        br.run(job_file(tmp_path, 1), lanes=["openai"], provider="zhipu")


def test_killed_and_resumed_each_lane_keeps_its_limits(tmp_path: Path) -> None:
    """The new run honours what was sent a moment ago, lane by lane: hardly a refusal, and nothing asked twice."""
    job = job_file(tmp_path, 240)
    with br.Simulator(rpm=120, window=10.0, latency=0.02) as a, br.Simulator(rpm=60, window=10.0, latency=0.02) as b:
        text = '[[lane]]\nname = "{}"\nbase_url = "{}"\n'
        lanes = "".join(text.format(name, server.base_url) for name, server in (("a", a), ("b", b)))
        (tmp_path / "lanes.toml").write_text(lanes, encoding="utf-8")
        outcome = run_and_kill(job, None, "--lanes", "lanes.toml", kills=3, longest=0.6, rng=Random(3))
        refused = (a.score().refused_share, b.score().refused_share)
    assert (outcome.succeeded, outcome.asked_again, outcome.changed) == (240, 0, 0)
    assert max(refused) < 0.05, refused


def test_the_command_says_what_each_lane_did_and_remembers_them(tmp_path: Path) -> None:
    """In the summary, in status, in limits, in doctor; the second run needs no options."""
    job_file(tmp_path, 60)
    with br.Simulator(latency=0.02) as a, br.Simulator(latency=0.02) as b:
        terminal = Terminal(tmp_path, a)
        words = ("--lane", a.base_url, "--lane", b.base_url)
        names = [f"{server.base_url.split('/')[2]}/m" for server in (a, b)]
        done = terminal("run", "job.jsonl", *words, "--limit", "30", "-c", "2")
        assert done.returncode == 0, done.stderr
        assert all(f"canary at {name}: 3 of 3 good" in done.stderr for name in names)
        assert all(name in done.stderr.split("lane  ")[1] for name in names)
        again = terminal("run", "job.jsonl", "--json")
        assert again.returncode == 0, again.stderr
        assert "canary" not in again.stderr
        summary = json.loads(again.stdout.splitlines()[-1])
        assert [each["lane"] for each in summary["lanes"]] == sorted(names)
        assert sum(each["answered"] for each in summary["lanes"]) == 60
        status = json.loads(terminal.here("status", "job.jsonl", "--json").stdout)
        assert status["lanes"] == summary["lanes"]
        assert all(server.base_url in terminal.here("limits", "job.jsonl").stdout for server in (a, b))
        doctor = terminal("doctor", *words, "-m", "m").stdout
        assert doctor.count("m answered in") == 2
        mixed = terminal("run", "job.jsonl", *words, "-p", "openai")
        assert (mixed.returncode, "keep one of them" in mixed.stderr) == (1, True)


def test_when_no_lane_is_left_each_says_why(tmp_path: Path) -> None:
    job_file(tmp_path, 20)
    with br.Simulator(key="x", latency=0.0) as a, br.Simulator(models=("other",), latency=0.0) as b:
        done = Terminal(tmp_path, a)("run", "job.jsonl", "--lane", a.base_url, "--lane", b.base_url)
    assert done.returncode == 4
    assert "no lane is left" in done.stderr
    assert all(
        word in done.stderr for word in ("the key was not accepted", "does not know the model", "20 stay pending")
    )


@pytest.mark.parametrize("name", ["gemini", "mistral", "openrouter"])
def test_of_three_lanes_two_are_no_good(tmp_path: Path, name: str) -> None:
    """A wrong key and an unknown model, in the words of providers that tell them by a 400, a 401 or a 404.

    A few requests find it out, each is said once, and the third lane does it all; without that one the run stops, and
    nothing has failed.
    """
    job_file(tmp_path, 40)
    with (
        br.Simulator(voice=name, key="right-key", latency=0.01) as key,
        br.Simulator(voice=name, key="right-key", models=("other",), latency=0.01) as model,
        br.Simulator(key="right-key", latency=0.01) as good,
    ):
        terminal = Terminal(tmp_path, good)
        terminal.environment |= {"WRONG": "wrong-key", "RIGHT": "right-key"}
        text = '[[lane]]\nname = "{}"\nprovider = "{}"\nbase_url = "{}"\nkey_env = "{}"\n'
        broken = text.format("key", name, key.base_url, "WRONG") + text.format("model", name, model.base_url, "RIGHT")
        terminal.write("broken.toml", broken)
        terminal.write("lanes.toml", broken + text.format("good", "generic", good.base_url, "RIGHT"))
        none_left = terminal("run", "job.jsonl", "--lanes", "broken.toml", "--db", "broken.db", "--json")
        done = terminal("run", "job.jsonl", "--lanes", "lanes.toml", "--json")
    stopped, summary = (json.loads(each.stdout.splitlines()[-1]) for each in (none_left, done))
    assert (none_left.returncode, stopped["pending"], stopped["failed"]) == (br.ExitCode.STOPPED_PROVIDER, 40, 0)
    assert "no lane is left" in stopped["reason"]
    assert (done.returncode, summary["succeeded"], summary["failed"]) == (0, 40, 0), done.stderr
    sends = {each["lane"]: (each["sends"], each["answered"]) for each in summary["lanes"]}
    assert sends.pop("good/m") == (40, 40)
    assert all(1 <= count <= 3 and answered == 0 for count, answered in sends.values()), sends
    for lane_name, kind in (("key/m", "auth"), ("model/m", "model_not_found")):
        said = [line for line in done.stderr.splitlines() if f"{lane_name} takes nothing more: {kind}" in line]
        assert len(said) == 1, done.stderr


def test_images_are_no_text(tmp_path: Path) -> None:
    """Each is half a megabyte of base64, far over the tokens of a window: all are sent, paced by what images took."""
    image = b64encode(Random(1).randbytes(400_000)).decode()
    part = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{image}"}}
    lines = [
        {"model": "m", "messages": [{"role": "user", "content": [{"type": "text", "text": f"{n}: what is it?"}, part]}]}
        for n in range(40)
    ]
    job = tmp_path / "job.jsonl"
    job.write_text("".join(json.dumps({"body": line}) + "\n" for line in lines))
    with br.Simulator(rpm=600, tpm=20_000, window=2.0, latency=0.02) as server:
        done = br.run(job, base_url=server.base_url)
        score = server.score()
    assert done.counts[br.TaskState.SUCCEEDED] == 40
    assert score.refused_share < 0.1, score


@pytest.mark.parametrize("dialect", ["none", "ietf"])
def test_what_is_far_too_large_holds_up_nobody(tmp_path: Path, dialect: DialectName) -> None:
    """At a server that tells nothing, two rows larger than its window, at the head of the file; or that tells of a
    window with plenty left, and refuses for another.
    """
    texts = ["lorem ipsum " * 4000] * 2 + ["lorem ipsum"] * 100
    lines = [{"body": {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": t}]}} for t in texts]
    job = tmp_path / "job.jsonl"
    job.write_text("".join(json.dumps(line) + "\n" for line in lines))

    class EnoughError(Exception):
        pass

    def until_all_others_are_answered(standing: Standing) -> None:
        if standing.answered == 100:
            raise EnoughError

    with br.Simulator(tpm=5000, window=2.0, algorithm="fixed", dialect=dialect, latency=0.02) as server:
        with pytest.raises(EnoughError):
            br.run(job, base_url=server.base_url, on_progress=until_all_others_are_answered)
        assert server.score().sends < 130
