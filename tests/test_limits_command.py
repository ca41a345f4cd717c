"""``batchrunner limits``: what was believed and why, during a run and after it, for one job and for all of a user."""

import fcntl
import json
import math
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from subprocess import PIPE
from typing import Any

import pytest
from terminal import Terminal, batch

import batchrunner as br
from batchrunner.learned import find_learned, keep_learned, learned_path, read_learned
from batchrunner.record import Belief, Change
from batchrunner.report.limits import limits_json, limits_text

NOW = 1_790_000_000.0


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    with br.Simulator(rpm=600) as server:
        yield Terminal(tmp_path, server)


def belief(model: str = "m", *, at: float = NOW, limit: int = 600) -> Belief:
    meter = {"dimension": "requests", "kind": "told", "limit": limit, "period": 60.0, "algorithm": "bucket"}
    return Belief(endpoint="https://a/v1", key_label="k", model=model, value={"meters": [meter], "slots": 4}, at=at)


def test_a_finished_run_can_be_explained(terminal: Terminal) -> None:
    """The table names the limit, how it is known and its clock; the database holds each change as an event."""
    job = terminal.write("job.jsonl", batch(*(f"question {n}" for n in range(40))))
    assert terminal.run(job, "-m", "m").returncode == 0
    done = terminal.here("limits", "job.db")
    assert done.returncode == 0
    assert "requests  told  bucket  60s     600" in done.stdout
    assert "changes" in done.stdout
    told = json.loads(terminal.here("limits", "job.db", "--json").stdout)
    (limit,) = told["limits"]
    assert limit["model"] == "m"
    assert limit["meters"][0]["limit"] == 600
    assert limit["state"]["sent_1m"] == 40
    rows = sqlite3.connect(terminal.folder / "job.db").execute("SELECT what, new FROM events ORDER BY id").fetchall()
    assert ("requests told limit", "600") in rows


def test_another_job_starts_with_what_this_one_learned(terminal: Terminal) -> None:
    """The first requests of a new database already know the limit; --no-learned and a broken file start afresh."""
    environment: dict[str, Any] = {"XDG_STATE_HOME": str(terminal.folder / "state")}
    path = learned_path(environment)
    terminal.run(terminal.write("one.jsonl", batch(*(f"one {n}" for n in range(20)))), **environment)
    assert path.stat().st_mode & 0o777 == 0o600
    assert [known.value["meters"][0]["limit"] for known in read_learned(path)] == [600]
    assert "600" in terminal.here("limits", **environment).stdout
    for name, words, expected in (("two", (), "an earlier run"), ("three", ("--no-learned",), "1 replies")):
        job = terminal.write(f"{name}.jsonl", batch("a", "b"))
        assert terminal.run(job, *words, **environment).returncode == 0
        changes = json.loads(terminal.here("limits", f"{name}.db", "--json", **environment).stdout)["changes"]
        assert changes[0]["evidence"].startswith(expected)
    path.write_text("{ broken", encoding="utf-8")
    assert terminal.run(terminal.write("four.jsonl", batch("c")), **environment).returncode == 0
    assert len(read_learned(path)) == 1


def test_who_writes_last_wins_for_its_own_lane(tmp_path: Path) -> None:
    """Other endpoints, keys and models stay as they are."""
    path = tmp_path / "state" / "limits.json"
    assert read_learned(path) == []
    for kept in (belief("a"), belief("b"), belief("a", at=NOW + 1, limit=60)):
        keep_learned(path, kept)
    known = read_learned(path)
    assert [(each.model, each.at) for each in known] == [("a", NOW + 1), ("b", NOW)]
    assert find_learned(known, ("https://a/v1", "k", "a")) == belief("a", at=NOW + 1, limit=60)
    assert find_learned(known, ("https://a/v1", "other key", "a")) is None


ADD = """
import sys
from pathlib import Path
from batchrunner.learned import keep_learned
from batchrunner.record import Belief
path, name = Path(sys.argv[1]), sys.argv[2]
print(flush=True)
sys.stdin.read(1)
for number in range(40):
    keep_learned(path, Belief(endpoint=name, key_label="", model=str(number), value={}, at=number))
"""


def test_two_processes_that_write_at_once_lose_nothing_of_each_other(tmp_path: Path) -> None:
    path = tmp_path / "limits.json"
    command = [sys.executable, "-c", ADD, str(path)]
    both = [subprocess.Popen([*command, name], stdin=PIPE, stdout=PIPE, text=True) for name in ("a", "b")]
    for process in both:
        assert process.stdout is not None
        process.stdout.readline()  # it has imported what it needs
    for process in both:
        assert process.stdin is not None
        process.stdin.write("x")
        process.stdin.flush()
    for process in both:
        process.communicate()
    known = {(each.endpoint, each.model) for each in read_learned(path)}
    assert known == {(name, str(number)) for name in ("a", "b") for number in range(40)}


def test_who_holds_the_lock_for_ever_stops_nobody(tmp_path: Path) -> None:
    path = tmp_path / "limits.json"
    with path.with_name("limits.json.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        keep_learned(path, belief("a"), patience=0)
    assert read_learned(path) == [belief("a")]


@pytest.mark.parametrize(
    "value",
    [
        {"meters": 5},
        {"meters": [{}]},
        {"meters": [{"dimension": "requests", "kind": "told", "limit": 600, "period": 60, "algorithm": "sundial"}]},
        {"slots": 4, "slots_refused_at": "dawn"},
    ],
)
def test_beliefs_of_no_use_are_told_and_learned_anew(terminal: Terminal, value: dict[str, Any]) -> None:
    """Those of another version, or edited by hand: the run says so, starts as if there were none, and mends them."""
    environment: dict[str, Any] = {"XDG_STATE_HOME": str(terminal.folder / "state")}
    path, endpoint = learned_path(environment), terminal.server.base_url
    keep_learned(path, Belief(endpoint=endpoint, key_label="", model="m", value=value, at=NOW))
    assert terminal.here("limits", **environment).returncode == 0
    done = terminal.run(terminal.write("job.jsonl", batch("a")), **environment)
    assert done.returncode == 0, done.stderr
    assert "learned anew" in done.stderr
    assert "learned anew" not in terminal.run(terminal.write("next.jsonl", batch("a")), **environment).stderr
    (known,) = read_learned(path)
    assert known.value["meters"][0]["limit"] == 600


def test_what_is_not_ours_is_left_as_it_is(terminal: Terminal) -> None:
    """A file of a newer version, or of someone else, is neither read nor written; one sentence says so."""
    environment: dict[str, Any] = {"XDG_STATE_HOME": str(terminal.folder / "state")}
    path = learned_path(environment)
    path.parent.mkdir(parents=True)
    path.write_text('{"v": 2, "limits": {"precious": 1}}', encoding="utf-8")
    done = terminal.run(terminal.write("job.jsonl", batch("a")), **environment)
    assert (done.returncode, done.stderr.count("holds something else")) == (0, 1)
    assert "holds something else" in terminal.here("limits", **environment).stderr
    assert path.read_text(encoding="utf-8") == '{"v": 2, "limits": {"precious": 1}}'


def test_one_bad_entry_does_not_cost_the_others(tmp_path: Path) -> None:
    path = tmp_path / "limits.json"
    keep_learned(path, belief("a"))
    data = json.loads(path.read_text(encoding="utf-8"))
    bad = [1, {"at": 1}, {**data["limits"][0], "value": []}, {**data["limits"][0], "at": "noon"}]
    path.write_text(json.dumps({"v": 1, "limits": [*bad, *data["limits"]]}), encoding="utf-8")
    assert read_learned(path) == [belief("a")]


@pytest.mark.parametrize("text", ["", "null", "[]", '{"limits": [1]}', '{"limits": [{"at": 1}]}', '{"limits": 3}'])
def test_a_file_that_makes_no_sense_is_as_good_as_none(tmp_path: Path, text: str) -> None:
    """Whatever is in it, a run starts."""
    path = tmp_path / "limits.json"
    path.write_text(text, encoding="utf-8")
    assert read_learned(path) == []


def test_a_folder_that_can_not_be_written_stops_nothing(tmp_path: Path) -> None:
    """What was learned is lost then, no more."""
    (tmp_path / "file").write_text("", encoding="utf-8")
    told: list[str] = []
    keep_learned(tmp_path / "file" / "limits.json", belief(), warn=told.append)
    assert len(told) == 1
    assert "can't be kept" in told[0]


def test_a_write_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    """A folder stands where the file should be: told, and no half-written file beside it."""
    (tmp_path / "limits.json").mkdir()
    told: list[str] = []
    keep_learned(tmp_path / "limits.json", belief(), warn=told.append)
    assert len(told) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["limits.json", "limits.json.lock"]


def test_the_table_bears_with_beliefs_of_other_versions() -> None:
    """Fields that are missing or strange show as "-"; control characters from a server do not reach the terminal."""
    odd = Belief(endpoint="e", key_label="", model="m\x1b[31m", value={"meters": [{"limit": math.inf}, 3]}, at=NOW)
    change = Change(at=NOW, what="slots", old="", new="4", evidence="refused\x07")
    text = limits_text([odd], [change], NOW + 60, ascii_only=True)
    assert text.isascii()
    assert not set("\x1b\x07") & set(text)
    assert "- -> 4" in text
    assert limits_json([odd], [change])["changes"][0]["new"] == "4"
    tokens = {"dimension": "tokens", "replies": 2, "charge": 2.5}
    for charged, shown in (
        ("settled by the answer", "2.50 x reckoned, then as used"),
        ("tomorrow", "-        2 replies"),
    ):
        told = replace(odd, value={"meters": [{**tokens, "charged": charged}]})
        assert shown in limits_text([told], [], NOW)
    assert "nothing was learned" in limits_text([], [], NOW)
