"""A plan: what is counted, what is assumed, and that a run comes to what it said."""

import json
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

import batchrunner as br
from batchrunner.check import Level
from batchrunner.config import Endpoint, LimitSettings, Route, RunSettings
from batchrunner.db.history import Took
from batchrunner.errors import ConfigError
from batchrunner.logbook import Standing
from batchrunner.money import Money
from batchrunner.planmaker import first_look, make_plan
from batchrunner.planner import Planner
from batchrunner.plans import Speed
from batchrunner.prices import OwnPrice, Prices
from batchrunner.provider import Model, Provider, Tier
from batchrunner.report.plan import plan_text
from batchrunner.runner import Runner, RunOptions
from batchrunner.size import by_bytes
from batchrunner.spending import SpendSettings
from batchrunner.task import RejectedLine, Request, TaskState

PRICES = Prices(own={"m": OwnPrice(input=Decimal(1), output=Decimal(2), currency="USD")})
HERE = Endpoint(base_url="http://127.0.0.1:9/v1")
ROUTE = Route(name="here", endpoint=HERE)
BAD = RejectedLine(line=7, offset=99, reason="no JSON")


def request(custom_id: str = "task-1", *, fingerprint: bytes = b"f", **body: Any) -> Request:
    body = {"model": "m", "messages": [{"role": "user", "content": "hello"}], **body}
    return Request(
        custom_id=custom_id,
        endpoint="chat/completions",
        body=json.dumps(body),
        model="m",
        row=None,
        line=1,
        offset=0,
        fingerprint=fingerprint,
    )


def nanos(money: Money | None) -> int:
    assert money is not None
    return money.nanos


def test_lines_are_counted_by_how_they_stand() -> None:
    planner = Planner([ROUTE], Prices())
    planner.see(request("a"), None)
    planner.see(request("b"), (b"other", TaskState.SUCCEEDED))
    planner.see(request("c"), (b"f", TaskState.PENDING))
    planner.see(request("d"), (b"f", TaskState.SUCCEEDED))
    planner.see(request("e"), (b"f", TaskState.FAILED))
    planner.reject(BAD)
    plan = planner.plan(Speed())
    assert (plan.new, plan.edited, plan.pending, plan.done, plan.failed, plan.rejected) == (1, 1, 1, 1, 1, 1)
    assert plan.requests == 3


def test_lines_that_are_no_requests_are_told_with_the_first_of_them() -> None:
    """A repeated custom_id is one of them: a run would not load it."""
    planner = Planner([ROUTE], Prices())
    planner.see(request("a"), None)
    planner.see_again(request("a"))
    planner.reject(BAD)
    plan = planner.plan(Speed())
    assert (plan.new, plan.rejected, plan.requests) == (1, 2, 1)
    (finding,) = plan.findings
    assert (finding.level, finding.count, finding.line) == (Level.ERROR, 2, 1)
    assert "custom_id 'a' stands in a line before" in finding.what


def test_of_several_lanes_the_dearest_is_the_most_it_can_cost() -> None:
    """Nobody knows which of them takes a task; the estimate is in equal parts."""
    dear = OwnPrice(input=Decimal(1000), output=Decimal(2000), currency="USD")
    prices = Prices(own={"m": PRICES.own["m"], "k": dear})
    bounds = []
    for models in ({"m": "m"}, {"m": "k"}):
        planner = Planner([Route(name="one", endpoint=HERE, models=models)], prices)
        planner.see(request(max_tokens=100), None)
        bounds.append(planner.plan(Speed()))
    both = Planner([ROUTE, Route(name="there", endpoint=HERE, models={"m": "k"})], prices)
    both.see(request(max_tokens=100), None)
    plan = both.plan(Speed())
    assert plan.cost_most == bounds[1].cost_most
    assert nanos(plan.cost) == pytest.approx((nanos(bounds[0].cost) + nanos(bounds[1].cost)) / 2, rel=0.01)
    assert plan.output_tokens == 100


def test_without_answers_the_longest_are_assumed() -> None:
    planner = Planner([ROUTE], PRICES)
    planner.see(request(max_tokens=100), None)
    plan = planner.plan(Speed())
    assert (plan.output_tokens, plan.output_most, plan.learned) == (100, 100, 0)
    assert 0 < nanos(plan.cost) <= nanos(plan.cost_most)


def test_lengths_are_learned_from_answers() -> None:
    size = by_bytes(request(max_tokens=100).body)
    planner = Planner([ROUTE], PRICES, [Took("m", size, 10, 20 + n % 3) for n in range(30)])
    planner.see(request(max_tokens=100), None)
    plan = planner.plan(Speed())
    assert (plan.prompt_tokens, plan.output_tokens, plan.learned) == (10, 21, 30)
    assert plan.cost == Money(nanos=10 * 1000 + 21 * 2000, currency="USD")


def test_what_came_from_a_cache_comes_from_it_again() -> None:
    own = OwnPrice(input=Decimal(1), cached=Decimal("0.1"), output=Decimal(2), currency="USD")
    size = by_bytes(request(max_tokens=100).body)
    planner = Planner([ROUTE], Prices(own={"m": own}), [Took("m", size, 100, 20, 80)] * 30)
    planner.see(request(max_tokens=100), None)
    plan = planner.plan(Speed())
    assert (plan.prompt_tokens, plan.cached_tokens) == (100, 80)
    assert plan.cost == Money(nanos=20 * 1000 + 80 * 100 + 20 * 2000, currency="USD")
    assert "about 100 in, 80 of them cached, 20 out" in plan_text(plan, job="job.jsonl")


def test_several_answers_of_a_request_count_together() -> None:
    """Their cap is one answer's: four of fifteen tokens each are no answer of twenty."""
    asked = request(max_tokens=20, n=4)
    size = by_bytes(asked.body)
    for took, expected in (((), 80), ([Took("m", size, 10, 60, 0, 80)] * 10, 60)):
        planner = Planner([ROUTE], PRICES, took)
        planner.see(asked, None)
        plan = planner.plan(Speed())
        assert (plan.output_tokens, plan.output_most) == (expected, 80)


def test_where_answers_were_longer_than_max_tokens_the_next_are_too() -> None:
    """Reasoning that it does not bound; a provider that does not know it."""
    size = by_bytes(request(max_tokens=50).body)
    planner = Planner([ROUTE], PRICES, [Took("m", size, 10, 200, 0, 50)] * 10)
    planner.see(request(max_tokens=50), None)
    plan = planner.plan(Speed())
    assert plan.output_tokens == 200
    assert "more than it should ($0.00025): answers were longer than max_tokens" in plan_text(plan, job="job.jsonl")


def test_what_is_assumed_is_said() -> None:
    """Of few answers nothing is learned either."""
    size = by_bytes(request(max_tokens=100).body)
    planner = Planner([ROUTE], PRICES, [Took("m", size, 10, 20)] * 3)
    planner.see(request(max_tokens=100), None)
    text = plan_text(planner.plan(Speed()), job="job.jsonl")
    assert "100 out, at most 100 (assumed: as long as each may be, else 512, for too few" in text
    assert "if all answers are that long, at most $" in text


def test_requests_whose_worst_case_is_large_for_want_of_max_tokens_are_counted() -> None:
    """And those that nothing bounds; a lane where it is so is enough."""
    long = Provider(title="Long", models={"m": Model(max_output=100_000)})
    there = Route(name="there", endpoint=Endpoint(base_url="http://127.0.0.1:8/v1", provider=long))
    for routes, is_known in (([ROUTE], False), ([there], True), ([there, ROUTE], False)):
        planner = Planner(routes, PRICES)
        for number in range(3):
            planner.see(request(str(number), max_tokens=50 if number else None), None)
        plan = planner.plan(Speed())
        assert (plan.uncapped, plan.cost_most is not None) == (1, is_known)


def test_each_request_is_priced_by_the_tier_of_its_own_lengths() -> None:
    """Not by that of the job's sums, which are longer than any request."""
    tier = Tier(up_to=1_000, input=Decimal(1), output=Decimal(2))
    own = OwnPrice(input=Decimal(10), output=Decimal(20), currency="USD", tiers=(tier,))
    size = by_bytes(request(max_tokens=100).body)
    took = [Took("m", size, 10, 20)] * 30
    planner = Planner([ROUTE], Prices(own={"m": own}), took)
    for number in range(500):
        planner.see(request(str(number), max_tokens=100), None)
    assert nanos(planner.plan(Speed()).cost) == pytest.approx(500 * (10 * 1000 + 20 * 2000), rel=0.01)
    planner.see(request("long", max_tokens=100, messages="x" * 100_000), None)
    assert nanos(planner.plan(Speed()).cost) > 500 * (10 * 1000 + 20 * 2000) + 1_001 * 10 * 1000


def test_a_price_that_is_not_known_is_not_0() -> None:
    planner = Planner([ROUTE], Prices())
    planner.see(request(), None)
    plan = planner.plan(Speed())
    assert (plan.cost, plan.cost_most, plan.unpriced) == (None, None, ("here/m",))


@pytest.mark.parametrize(
    ("speed", "seconds", "bound_by"),
    [
        (Speed(rpm=60), 10, "RPM"),
        (Speed(rpm=60, in_flight=2, latency=4), 20, "requests in flight"),
        (Speed(rpm=60, tpm=600), 100, "TPM"),
        (Speed(), None, ""),
    ],
)
def test_the_limit_that_binds_says_how_long(speed: Speed, seconds: float | None, bound_by: str) -> None:
    planner = Planner([ROUTE], Prices(), [Took("m", by_bytes(request().body), 50, 50)] * 10)
    for n in range(10):
        planner.see(request(f"task-{n}"), None)
    plan = planner.plan(speed)
    assert plan.seconds == (None if seconds is None else pytest.approx(seconds, rel=0.01))
    assert plan.bound_by == bound_by


def job(folder: Path, tasks: int, **body: Any) -> str:
    path = folder / "job.jsonl"
    with path.open("w", encoding="utf-8") as stream:
        for n in range(tasks):
            content = f"Question {n}: " + "word " * (n % 40)
            messages = [{"role": "user", "content": content}]
            line = {
                "custom_id": f"task-{n:04}",
                "body": {"model": "m", "messages": messages, "max_tokens": 300, **body},
            }
            stream.write(json.dumps(line) + "\n")
    return str(path)


def options(folder: Path, base_url: str, limit: int | None = None) -> RunOptions:
    return RunOptions(
        job=str(folder / "job.jsonl"),
        database=folder / "job.db",
        endpoint=Endpoint(base_url=base_url),
        limits=LimitSettings(rpm=6000),
        run=RunSettings(max_tasks=limit),
        spend=SpendSettings(prices=PRICES),
    )


def run(asked: RunOptions) -> Standing:
    with Runner(asked) as runner:
        runner.prepare()
        return runner.run().standing


def test_a_limit_counts_tasks_as_a_run_does(tmp_path: Path) -> None:
    """Not the lines that are none of them, or the same again."""
    path = Path(job(tmp_path, 5))
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    path.write_text("".join(["no JSON\n", lines[0], lines[0], *lines[1:]]), encoding="utf-8")
    for limit, rejected in ((1, 1), (3, 2), (5, 2), (9, 2)):
        plan = make_plan(options(tmp_path, "http://127.0.0.1:9/v1", limit=limit))
        assert (plan.new, plan.rejected) == (min(limit, 5), rejected)


def test_what_another_run_was_told_is_no_limit_of_this_one(tmp_path: Path) -> None:
    """Nor is what was learned of another model; what the server told holds, also where more is stated."""
    (tmp_path / "learned").mkdir()
    told = replace(options(tmp_path, "http://127.0.0.1:9/v1", limit=5), learned=tmp_path / "learned" / "limits.json")

    def planned(rpm: float | None, base_url: str, model: str = "m") -> tuple[float | None, str]:
        job(tmp_path, 20, model=model)
        here = replace(told, database=tmp_path / "new.db", endpoint=Endpoint(base_url=base_url))
        plan = make_plan(replace(here, limits=LimitSettings(rpm=rpm), run=RunSettings()))
        return plan.seconds, plan.bound_by

    with br.Simulator(dialect="none") as server:
        job(tmp_path, 20)
        run(replace(told, endpoint=Endpoint(base_url=server.base_url)))
        assert planned(None, server.base_url) == (None, "")
        assert planned(60, server.base_url) == (20, "RPM")
    with br.Simulator(rpm=600) as server:
        job(tmp_path, 20)
        run(replace(told, database=tmp_path / "other.db", endpoint=Endpoint(base_url=server.base_url)))
        assert planned(None, server.base_url) == (2, "RPM")
        assert planned(6000, server.base_url) == (2, "RPM")
        assert planned(None, server.base_url, "k") == (None, "")


def test_a_run_comes_to_what_the_plan_said(tmp_path: Path) -> None:
    """After a first slice: requests exactly, tokens and cost within a tenth."""
    job(tmp_path, 300)
    with br.Simulator() as server:
        run(options(tmp_path, server.base_url, limit=50))
        plan = make_plan(options(tmp_path, server.base_url))
        done = run(options(tmp_path, server.base_url))
    assert plan.requests == 250 == done.answered
    assert (plan.done, plan.learned, plan.bound_by) == (50, 50, "RPM")
    assert plan.prompt_tokens + plan.output_tokens == pytest.approx(done.usage.total, rel=0.1)
    spent = done.usage.prompt_tokens * 1000 + done.usage.completion_tokens * 2000
    assert nanos(plan.cost) == pytest.approx(spent, rel=0.1)
    assert spent <= nanos(plan.cost_most)


NICE = Provider(title="Nice", models={"m": Model(temperature=(0.0, 1.0))})


def test_a_job_that_would_be_refused_line_by_line_is_not_sent(tmp_path: Path) -> None:
    job(tmp_path, 3, temperature=2.0)
    asked = options(tmp_path, "http://127.0.0.1:9/v1")
    refusing = RunOptions(
        job=asked.job, database=asked.database, endpoint=Endpoint(base_url="http://127.0.0.1:9/v1", provider=NICE)
    )
    with pytest.raises(ConfigError, match="Nice would refuse every line: temperature 2 is not from 0 to 1"):
        first_look(refusing)
    assert first_look(asked) == []  # of whom nothing is known
