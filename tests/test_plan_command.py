"""plan and check as a user runs them: nothing is sent, no key is asked for, and what is wrong is told by its line."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from terminal import Terminal, batch

import batchrunner as br

PRICES = '[prices."m"]\ninput = 1\noutput = 2\ncurrency = "CNY"\n'
LANES = """
[[lane]]
name = "a"
provider = "zhipu"
key_env = "KEY_A"

[[lane]]
name = "b"
provider = "zhipu"
key_cmd = "echo asked >> asked.txt"
"""


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    with br.Simulator() as server:
        made = Terminal(tmp_path, server)
        made.write("job.jsonl", batch(*"abcdefghij"))
        made.write("batchrunner.toml", PRICES)
        yield made
        assert server.score().sends == 0


def test_a_plan_needs_no_key(terminal: Terminal) -> None:
    planned = terminal("plan", "job.jsonl", "-p", "zhipu", "--json")
    assert planned.returncode == 0, planned.stderr
    assert json.loads(planned.stdout)["requests"] == 10
    assert terminal("check", "job.jsonl", "-p", "zhipu").returncode == 0
    assert terminal("run", "job.jsonl", "-p", "zhipu").returncode == br.ExitCode.CANNOT_START


def test_nor_do_its_lanes(terminal: Terminal) -> None:
    terminal.write("lanes.toml", LANES)
    planned = terminal("plan", "job.jsonl", "--lanes", "lanes.toml")
    assert planned.returncode == 0, planned.stderr
    assert "10 requests would be sent" in planned.stdout
    assert not (terminal.folder / "asked.txt").exists()


def test_a_dry_run_is_a_plan(terminal: Terminal) -> None:
    words = ("job.jsonl", "-p", "zhipu", "--rpm", "60", "--json")
    dry, planned = (json.loads(terminal(*each).stdout) for each in (("run", "--dry-run", *words), ("plan", *words)))
    assert (dry["requests"], dry["seconds"], dry["bound_by"]) == (10, 10, "RPM")
    assert {**dry, "done_at": ""} == {**planned, "done_at": ""}
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", dry["done_at"])


def test_lines_that_a_run_would_not_load_are_told(terminal: Terminal) -> None:
    terminal.write("job.jsonl", batch("a", "b") + batch("c") + "{no json\n")
    checked = terminal("check", "job.jsonl", "-p", "zhipu")
    assert checked.returncode == br.ExitCode.SOME_FAILED
    assert re.search(
        r"error +no request \(custom_id 't0' stands .*: 2 lines, the first is line 3$", checked.stdout, re.MULTILINE
    )


@pytest.mark.parametrize(
    ("options", "note"),
    [
        (("--max-time", "1h"), r"done about [-\d]+ [:\d]+, before --max-time 1h$"),
        (("--max-time", "1s"), r"it will not be done by --max-time 1s; a later run goes on$"),
        (("--window", "00:00-12:00"), r"done about [-\d]+ [:\d]+ in the hours of --window 00:00-12:00$"),
    ],
)
def test_a_plan_says_whether_it_fits(terminal: Terminal, options: tuple[str, ...], note: str) -> None:
    planned = terminal("plan", "job.jsonl", "-p", "zhipu", "--rpm", "60", *options)
    assert re.search(note, planned.stdout, re.MULTILINE), planned.stdout


def test_a_plan_says_what_max_tokens_would_change(terminal: Terminal) -> None:
    """Nothing bounds an answer here; with a cap something does, and nothing is said of it."""
    note = "10 of the requests do not say max_tokens, so nothing bounds what they may cost; --param max_tokens=1000"
    assert note in terminal("plan", "job.jsonl", "-p", "generic", "--base-url", "http://127.0.0.1:9/v1").stdout
    words = ("job.jsonl", "--base-url", "http://127.0.0.1:9/v1", "--param", "max_tokens=1000")
    capped = terminal("plan", *words)
    assert "max_tokens" not in capped.stdout
    assert json.loads(terminal("plan", *words, "--json").stdout)["uncapped"] == 0


def test_a_plan_without_a_price_says_how_to_give_one(terminal: Terminal) -> None:
    planned = terminal("plan", "job.jsonl", "-p", "zhipu", "-m", "glm-x")
    assert 'no price for zhipu/glm-x; [prices."glm-x"] in batchrunner.toml gives one' in planned.stdout
