"""Whole runs with a budget, against a real server: where they end, how they go on, and what the server's book says."""

import json
import re
import sqlite3
from pathlib import Path
from random import Random
from typing import Any

import pytest
from killed import run_and_kill
from terminal import Terminal

import batchrunner as br
from batchrunner.cost import FRAME
from batchrunner.logbook import Standing
from batchrunner.money import BILLION

PRICES = {"m": {"input": 1, "output": 1, "currency": "CNY"}}  # a thousand billionths a token
PRICE_FILE = '[prices."m"]\ninput = 1\noutput = 1\ncurrency = "CNY"\n'
A_TOKEN = 1_000


def job_file(folder: Path, tasks: int, text: str = "question") -> Path:
    path = folder / "job.jsonl"
    lines = [
        {"body": {"model": "m", "max_tokens": 100, "messages": [{"role": "user", "content": f"{text} {n}"}]}}
        for n in range(tasks)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


def booked(folder: Path) -> tuple[int, int]:
    """What the database says was spent, and was perhaps charged."""
    query = "SELECT coalesce(sum(spent), 0), coalesce(sum(reserved) FILTER (WHERE spent IS NULL), 0) FROM attempt"
    with sqlite3.connect(folder / "job.db") as connection:
        spent, unsettled = connection.execute(query).fetchone()
    return int(spent), int(unsettled)


def test_a_run_ends_at_its_budget_and_a_larger_one_goes_on(tmp_path: Path) -> None:
    """The server's own count is what we booked, to the token, and within the budget."""
    job = job_file(tmp_path, 200)
    with br.Simulator(latency=0.01, charging="actual") as server:
        with pytest.raises(br.Stopped, match=r"budget of ¥0\.0050 leaves too little") as caught:
            br.run(job, base_url=server.base_url, prices=PRICES, budget="0.005 CNY")
        assert caught.value.exit_code is br.ExitCode.STOPPED_LIMIT
        assert 0 < caught.value.job.counts[br.TaskState.SUCCEEDED] < 200
        assert caught.value.job.counts[br.TaskState.FAILED] == 0
        assert booked(tmp_path) == (server.score().tokens * A_TOKEN, 0)
        assert 4_500_000 < booked(tmp_path)[0] <= 5_000_000
        done = br.run(job, base_url=server.base_url, prices=PRICES, budget=1)
        assert done.counts[br.TaskState.SUCCEEDED] == 200
        assert server.score().sends == 200
    assert sum(result.cost or 0.0 for result in done.results()) == pytest.approx(booked(tmp_path)[0] / BILLION)
    assert {result.currency for result in done.results()} == {"CNY"}


def test_what_a_request_may_cost_for_want_of_max_tokens_is_told_before_the_first_goes(tmp_path: Path) -> None:
    (tmp_path / "long.toml").write_text('extends = "generic"\n[models.m]\nmax_output = 100_000\n', encoding="utf-8")
    (tmp_path / "batchrunner.toml").write_text(PRICE_FILE, encoding="utf-8")
    line = {"body": {"model": "m", "messages": [{"role": "user", "content": "hello"}]}}
    (tmp_path / "job.jsonl").write_text(json.dumps(line) + "\n", encoding="utf-8")
    with br.Simulator() as server:
        terminal = Terminal(tmp_path, server)
        words = ("--provider-file", "long.toml", "--budget", "5CNY")
        done = terminal.run("job.jsonl", *words)
        assert done.returncode == 0, done.stderr
        assert "may cost ¥0.10 of the ¥5.00 that are left, for it does not say max_tokens" in done.stderr
        (tmp_path / "other.jsonl").write_text(json.dumps(line) + "\n", encoding="utf-8")
        assert "max_tokens" not in terminal.run("other.jsonl", *words, "--param", "max_tokens=50").stderr


def test_a_budget_that_is_nearly_gone_lets_fewer_go_at_once(tmp_path: Path) -> None:
    """Each may cost far more than it does, so near the end they go one after another, and the screen says why."""
    short: list[bool] = []

    def look(standing: Standing) -> None:
        short.append(standing.spending.is_short)

    job = job_file(tmp_path, 60)
    with br.Simulator(latency=0.1, charging="actual") as server, pytest.raises(br.Stopped):
        br.run(job, base_url=server.base_url, prices=PRICES, budget="0.0015", concurrency=32, on_progress=look)
    assert any(short)
    assert sum(booked(tmp_path)) <= 1_500_000


def test_replies_that_never_come_stay_counted(tmp_path: Path) -> None:
    """The server computes and drops the connection: nobody knows what it cost, so the worst case is gone."""
    job = job_file(tmp_path, 3, text="[[fault:reset_mid]]")
    with br.Simulator(latency=0.0) as server:
        with pytest.raises(br.Stopped, match=r"¥0\.00 spent, .* possibly charged") as caught:
            br.run(job, base_url=server.base_url, prices=PRICES, budget="0.0004", attempts=9)
        assert caught.value.exit_code is br.ExitCode.STOPPED_LIMIT
    spent, unsettled = booked(tmp_path)
    assert spent == 0
    assert 0 < unsettled <= 400_000


def test_killed_again_and_again_the_budget_holds(tmp_path: Path) -> None:
    """What the server delivered is never more than what is booked, and that never more than the budget."""
    job = job_file(tmp_path, 3_000)
    (tmp_path / "batchrunner.toml").write_text(PRICE_FILE, encoding="utf-8")
    with br.Simulator(latency=0.02, charging="actual") as server:
        told = run_and_kill(
            job, server.base_url, "--budget", "0.05 CNY", "-c", "16", kills=4, longest=0.4, least=0.1, rng=Random(5)
        )
        delivered = server.score().tokens * A_TOKEN
    assert told.kills
    assert told.exit_code == br.ExitCode.STOPPED_LIMIT
    assert delivered <= sum(booked(tmp_path)) <= 50_000_000


def test_what_was_in_flight_at_a_kill_is_possibly_charged_at_once(tmp_path: Path) -> None:
    """Not from the next run on: status and plan reckon with it, as that run will."""
    job = job_file(tmp_path, 3)
    with br.Simulator() as server:
        terminal = Terminal(tmp_path, server)
        terminal.write("batchrunner.toml", PRICE_FILE)
        assert terminal.run(job.name, "--budget", "1 CNY").returncode == 0
    with sqlite3.connect(tmp_path / "job.db") as connection:  # as a kill leaves it
        connection.execute("UPDATE attempt SET outcome = NULL, finished_at = NULL, spent = NULL WHERE id = 3")
        connection.execute("UPDATE run SET ended_at = NULL, exit_code = NULL")
    spent, unsettled = (amount / BILLION for amount in booked(tmp_path))
    assert unsettled > 0
    cost = json.loads(terminal.here("status", "--json").stdout)["cost"]
    assert (cost["spent"], cost["possibly_charged"]) == pytest.approx((spent, unsettled))
    plan = json.loads(terminal.here("plan", job.name, "--json").stdout)
    assert plan["budget_left"] == pytest.approx(1 - spent - unsettled)


def test_the_command_line_tells_the_budget_the_alert_and_the_end(tmp_path: Path) -> None:
    with br.Simulator() as server:
        terminal = Terminal(tmp_path, server)
        job_file(tmp_path, 60)
        terminal.write("batchrunner.toml", PRICE_FILE)
        done = terminal.run("job.jsonl", "--budget", "¥0.0015", "--alert", "0.5")
        assert done.returncode == br.ExitCode.STOPPED_LIMIT
        assert "budget ¥0.0015" in done.stderr
        assert done.stderr.count("of the budget is gone: ¥") == 1
        assert "cost     ¥0.00" in done.stderr
        assert "stay pending; nothing is lost" in done.stderr
        sends = server.score().sends
        for option, sentence in (
            ("5 USD", "bills in CNY"),
            ("much", "no amount of money"),
        ):
            refused = terminal.run("job.jsonl", "--budget", option)
            assert (refused.returncode, sentence in refused.stderr) == (1, True), refused.stderr
        assert server.score().sends == sends


def test_an_unpriced_model_needs_a_word_where_there_is_a_budget(tmp_path: Path) -> None:
    job = job_file(tmp_path, 5)
    with br.Simulator() as server:
        with pytest.raises(br.ConfigError, match="--unpriced-ok"):
            br.run(job, base_url=server.base_url, budget=5)
        assert server.score().sends == 0
        done = br.run(job, base_url=server.base_url, budget=5, unpriced_ok=True)
    assert {result.cost for result in done.succeeded()} == {None}


def test_what_earlier_runs_sent_uncounted_is_told(tmp_path: Path) -> None:
    """A budget is the job's, so who sets one later has to know what is not in it."""
    job_file(tmp_path, 6)
    dollars = {"m": {"input": 1, "output": 1, "currency": "USD"}}
    with br.Simulator() as server:
        br.run(tmp_path / "job.jsonl", base_url=server.base_url, limit=2)
        br.run(tmp_path / "job.jsonl", base_url=server.base_url, limit=3, prices=dollars)
        terminal = Terminal(tmp_path, server)
        terminal.write("batchrunner.toml", PRICE_FILE)
        done = terminal.run("job.jsonl", "--budget", "5")
        assert done.returncode == br.ExitCode.OK, done.stderr
        (word,) = [line for line in done.stderr.splitlines() if "not all in the budget" in line]
        assert re.search(r": \$0\.0\d+, 2 sends of unknown cost$", word), word
        for _ in range(2):  # and where all is done, nothing is left to warn of
            assert "not all in the budget" not in terminal.run("job.jsonl", "--db", "new.db", "--budget", "5").stderr


def test_what_nothing_bounds_is_told_before_anything_is_sent(tmp_path: Path) -> None:
    """A model of which only the price is known, and lines without max_tokens."""
    (tmp_path / "job.jsonl").write_text('{"model": "m", "messages": [{"role": "user", "content": "x"}]}\n')
    with br.Simulator() as server:
        with pytest.raises(br.ConfigError, match="max_tokens"):
            br.run(tmp_path / "job.jsonl", base_url=server.base_url, prices=PRICES, budget=5)
        assert server.score().sends == 0


def test_a_lane_that_bills_in_another_currency_is_told_before_anything_is_sent(tmp_path: Path) -> None:
    """By run and by plan, in the same words; with a price in the budget's currency it takes part, and is counted."""
    job_file(tmp_path, 40)
    text = 'title = "{}"\ncurrency = "{}"\n[models.{}]\nmax_output = 100\nprice = {{ input = 1, output = 1 }}\n'
    (tmp_path / "yuan.toml").write_text(text.format("Yuan", "CNY", "m"), encoding="utf-8")
    (tmp_path / "dollar.toml").write_text(text.format("Dollar", "USD", "m-large"), encoding="utf-8")
    server: dict[str, Any] = {"latency": 0.05, "concurrency": 2, "charging": "actual"}
    with br.Simulator(**server) as one, br.Simulator(**server) as other:
        lanes = (
            f'[[lane]]\nname = "a"\nprovider = "./yuan.toml"\nbase_url = "{one.base_url}"\n'
            f'[[lane]]\nname = "b"\nprovider = "./dollar.toml"\nbase_url = "{other.base_url}"\n'
            'models = { m = "m-large" }\n'
        )
        (tmp_path / "lanes.toml").write_text(lanes, encoding="utf-8")
        terminal = Terminal(tmp_path, one)
        words = ("job.jsonl", "--lanes", "lanes.toml", "--budget", "5 CNY")
        refusals = [terminal(command, *words) for command in ("plan", "run")]
        assert {each.returncode for each in refusals} == {br.ExitCode.CANNOT_START}
        (said,) = {each.stderr.strip() for each in refusals}
        assert "--budget ¥5.00: a/m bills in CNY, b/m-large bills in USD, and nothing is converted." in said
        assert 'Leave out what is not in CNY, or give it a price in that: [prices."m-large"]' in said
        assert one.score().sends == other.score().sends == 0
        terminal.write("batchrunner.toml", '[prices."m-large"]\ninput = 7\noutput = 7\ncurrency = "CNY"\n')
        assert terminal.here("plan", *words).returncode == 0
        done = terminal("run", *words)
        assert done.returncode == 0, done.stderr
        assert min(one.score().answered, other.score().answered) > 0
        assert booked(tmp_path) == ((one.score().tokens + 7 * other.score().tokens) * A_TOKEN, 0)


TIERED = """
title = "Tiered"
currency = "CNY"
[models.m]
context = 4_000
max_output = 100
[models.m.price]
input = 9
output = 30
[[models.m.price.tiers]]
up_to = 60
answer_up_to = 20
input = 2
output = 5
[[models.m.price.tiers]]
up_to = 60
input = 3
output = 50
"""


def by_hand(prompt: int, answer: int) -> int:
    """Billionths at the rates of TIERED; an answer is dearest after a short prompt."""
    if prompt <= 60:
        return (prompt * 2 + answer * 5 if answer <= 20 else prompt * 3 + answer * 50) * 1000
    return (prompt * 9 + answer * 30) * 1000


def test_tiered_prices_are_charged_by_the_lengths_of_each_request(tmp_path: Path) -> None:
    """Short and long prompts and answers: the sum is that by hand, on every screen; and what is kept back for each is
    the most that any tier could make of it.
    """
    lines: list[dict[str, Any]] = [
        {"model": "m", "max_tokens": cap, "messages": [{"role": "user", "content": f"{n} " + "word " * words}]}
        for n, (cap, words) in enumerate((cap, words) for cap in (10, 90) for words in (2, 200) for _ in range(6))
    ]
    (tmp_path / "job.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    (tmp_path / "tiered.toml").write_text(TIERED, encoding="utf-8")
    with br.Simulator(latency=0.01) as server:
        terminal = Terminal(tmp_path, server)
        done = terminal.run("job.jsonl", "--provider-file", "tiered.toml", "--budget", "5 CNY", "--json")
        assert done.returncode == 0, done.stderr
        cost = json.loads(done.stdout.splitlines()[-1])["cost"]
        with sqlite3.connect(tmp_path / "job.db") as connection:
            query = "SELECT prompt_tokens, completion_tokens, spent, reserved FROM attempt ORDER BY task_id"
            rows = connection.execute(query).fetchall()
        assert len(rows) == 24
        expected = [by_hand(prompt, answer) for prompt, answer, _, _ in rows]
        assert len({(prompt > 60, answer > 20) for prompt, answer, _, _ in rows}) == 4  # each rate was charged
        assert [spent for _, _, spent, _ in rows] == expected
        assert round(cost["spent"] * BILLION) == sum(expected)
        status = json.loads(terminal.here("status", "job.jsonl", "--json").stdout)
        assert status["cost"]["spent"] == cost["spent"]
    for line, (_, _, _, reserved) in zip(lines, rows, strict=True):
        prompt, answer = len(json.dumps(line)) + FRAME, line["max_tokens"]
        reachable = [by_hand(p, a) for p in (60, prompt) for a in (20, answer) if p <= prompt and a <= answer]
        assert reserved == max(reachable)


def test_a_budget_reckons_with_the_dearest_tier(tmp_path: Path) -> None:
    """It would be enough for what the requests cost, but not for the most that the first of them may: none is sent."""
    job_file(tmp_path, 3)
    (tmp_path / "tiered.toml").write_text(TIERED, encoding="utf-8")
    with br.Simulator() as server:
        terminal = Terminal(tmp_path, server)
        done = terminal.run("job.jsonl", "--provider-file", "tiered.toml", "--budget", "0.005 CNY")
        assert done.returncode == br.ExitCode.STOPPED_LIMIT
        assert "¥0.0050 leaves too little" in done.stderr
        assert "may cost ¥0.0052" in done.stderr
        assert server.score().sends == 0
        enough = terminal.run("job.jsonl", "--provider-file", "tiered.toml", "--budget", "0.0065 CNY")
        assert server.score().sends > 0, enough.stderr
