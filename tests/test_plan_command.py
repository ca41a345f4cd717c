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
    planned = terminal.here("plan", "job.jsonl", "-p", "zhipu", "--json")
    assert planned.returncode == 0, planned.stderr
    assert json.loads(planned.stdout)["requests"] == 10
    assert terminal.here("check", "job.jsonl", "-p", "zhipu").returncode == 0
    assert terminal("run", "job.jsonl", "-p", "zhipu").returncode == br.ExitCode.CANNOT_START


def test_nor_do_its_lanes(terminal: Terminal) -> None:
    terminal.write("lanes.toml", LANES)
    planned = terminal.here("plan", "job.jsonl", "--lanes", "lanes.toml")
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
    checked = terminal.here("check", "job.jsonl", "-p", "zhipu")
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
    planned = terminal.here("plan", "job.jsonl", "-p", "zhipu", "--rpm", "60", *options)
    assert re.search(note, planned.stdout, re.MULTILINE), planned.stdout


def test_a_plan_says_what_max_tokens_would_change(terminal: Terminal) -> None:
    """Nothing bounds an answer here; with a cap something does, and nothing is said of it."""
    note = "10 of the requests do not say max_tokens, so nothing bounds what they may cost; --param max_tokens=1000"
    assert note in terminal.here("plan", "job.jsonl", "-p", "generic", "--base-url", "http://127.0.0.1:9/v1").stdout
    words = ("job.jsonl", "--base-url", "http://127.0.0.1:9/v1", "--param", "max_tokens=1000")
    capped = terminal.here("plan", *words)
    assert "max_tokens" not in capped.stdout
    assert json.loads(terminal.here("plan", *words, "--json").stdout)["uncapped"] == 0


def test_a_plan_without_a_price_says_how_to_give_one(terminal: Terminal) -> None:
    planned = terminal.here("plan", "job.jsonl", "-p", "zhipu", "-m", "glm-x")
    assert 'no price for zhipu/glm-x; [prices."glm-x"] in batchrunner.toml gives one' in planned.stdout


def test_a_plan_says_whether_what_is_left_of_the_budget_will_do(tmp_path: Path) -> None:
    """The budget is the job's, so what earlier runs spent is gone."""
    with br.Simulator() as server:
        terminal = Terminal(tmp_path, server)
        terminal.write("job.jsonl", batch(*"abcdefghijklmnopqrst"))
        terminal.write("batchrunner.toml", PRICES)
        words = ("job.jsonl", "--param", "max_tokens=100")
        assert terminal.run(*words, "--limit", "10").returncode == 0
        first = json.loads(terminal.here("status", "job.jsonl", "--json").stdout)["cost"]["spent"]
        planned = json.loads(terminal.here("plan", *words, "--budget", "1", "--json").stdout)
        assert planned["budget_left"] == pytest.approx(1 - first)
        most, about = planned["cost_most"], planned["cost"]
        for left, said in (
            (most + 1e-6, "within the budget"),
            (most - 1e-6, "may not be within the budget"),
            (about - 1e-6, "not within the budget"),
        ):
            told = terminal.here("plan", *words, "--budget", f"{first + left:.9f}").stdout
            assert f"note     {said} of ¥" in told
            assert "is left" in told


def test_a_plan_says_that_a_budget_cannot_be_kept(terminal: Terminal) -> None:
    """A run would stop at the first request of which nothing bounds what it costs."""
    words = ("job.jsonl", "--base-url", "http://127.0.0.1:9/v1", "--budget", "5CNY")
    planned = terminal.here("plan", *words)
    assert "the budget of ¥5.00 can't be kept: nothing bounds what 10 of the requests may cost" in planned.stdout
    assert json.loads(terminal.here("plan", *words, "--json").stdout)["unbounded"] == 10
    assert "can't be kept" not in terminal.here("plan", *words, "--unpriced-ok").stdout
    assert "can't be kept" not in terminal.here("plan", *words, "--param", "max_tokens=9").stdout


def test_a_plan_knows_the_answers_of_lines_that_are_edited_back(tmp_path: Path) -> None:
    """Or taken out and put back: a run sends none of them. With --changed keep, no edited line either."""
    with br.Simulator() as server:
        terminal = Terminal(tmp_path, server)

        def write(*texts: str) -> None:
            terminal.write("job.jsonl", batch(*texts))

        def planned(*words: str) -> tuple[int, int, int]:
            plan = json.loads(terminal.here("plan", "job.jsonl", *words, "--json").stdout)
            return plan["requests"], plan["edited"], plan["done"]

        write("a", "b", "c")
        assert terminal.run("job.jsonl").returncode == 0
        write("A", "b")
        assert (planned(), planned("--changed", "keep")) == ((1, 1, 1), (0, 0, 2))
        assert "1 edited (--changed redo asks them, keep does not)" in terminal.here("plan", "job.jsonl").stdout
        assert terminal.run("job.jsonl", "--changed", "redo").returncode == 0
        write("a", "b", "c")
        assert planned() == (0, 0, 3)
        sends = server.score().sends
        assert terminal.run("job.jsonl", "--changed", "redo").returncode == 0
        assert server.score().sends == sends == 4
