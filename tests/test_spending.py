"""The purse in the coordinator: what is reserved, what is booked, who waits, and when a run ends for want of money."""

import json
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchrunner.config import Endpoint, LimitSettings, RetrySettings, Route
from batchrunner.coordinator import Coordinator, Grant
from batchrunner.cost import most
from batchrunner.db.store import Store
from batchrunner.db.sums import spending
from batchrunner.errors import ConfigError
from batchrunner.jobfile.options import ReadOptions
from batchrunner.lane import Lane
from batchrunner.lanes import Lanes
from batchrunner.limits.limiter import Limiter
from batchrunner.loader import load
from batchrunner.money import Money, parse_money
from batchrunner.prices import Prices, read_prices
from batchrunner.provider import Model, Price, Provider
from batchrunner.record import Spending
from batchrunner.retry import Limit, Stop
from batchrunner.spending import Purse, SpendSettings, tariff_of
from batchrunner.task import (
    Abandoned,
    Failure,
    FailureClass,
    Lease,
    Outcome,
    Released,
    Report,
    Success,
    TaskState,
    Usage,
)

NOW = 1_790_000_000.0
MODEL = Model(context=100_000, max_output=1_000, price=Price(input=Decimal(1), output=Decimal(1)))  # 1,000 a token
PROVIDER = Provider(name="p", title="p", currency="CNY", models={"m": MODEL, "k": MODEL})
USAGE = Usage(prompt_tokens=10, completion_tokens=5)
ANSWER = Success(status=200, body=b"{}", usage=USAGE)
PAID = 15_000


def route(name: str = "p", provider: Provider = PROVIDER) -> Route:
    endpoint = Endpoint(base_url=f"http://{name}", provider=provider)
    return Route(name=name, endpoint=endpoint, limits=LimitSettings(concurrency=8))


def make_lane(route: Route, model: str, siblings: list[Lane], now: float) -> Lane:
    return Lane(route, model, Limiter(route.limits, now=now, start=8), siblings=siblings)


def line(number: int, tokens: int | None, model: str = "m") -> dict[str, object]:
    body = {"model": model, "messages": [{"role": "user", "content": "hi"}]}
    return {"custom_id": f"t{number}", "body": body if tokens is None else {**body, "max_tokens": tokens}}


def worst(tokens: int) -> int:
    """Of a line's request."""
    bound = most(MODEL, "chat/completions", json.dumps(line(0, tokens)["body"]))
    assert bound is not None
    return bound


class Bench:
    """A job of one task for each of *tokens* (their max_tokens), of *models* by turns; ``begin`` is a new run of it."""

    def __init__(
        self, folder: Path, tokens: Sequence[int | None], budget: int | None, models: str, routes: Sequence[Route]
    ) -> None:
        self.routes = routes
        job = folder / "job.jsonl"
        lines = [line(number, cap, models[number % len(models)]) for number, cap in enumerate(tokens)]
        job.write_text("".join(json.dumps(each) + "\n" for each in lines), encoding="utf-8")
        self.store = Store(folder / "job.db")
        self.job_id = load(self.store, str(job), ReadOptions(), now=NOW).job_id
        self.now = NOW
        self.settings = SpendSettings(budget=None if budget is None else Money(nanos=budget, currency="CNY"))
        self.coordinator = self.begin()

    def begin(self) -> Coordinator:
        tariff = tariff_of(self.routes, ["m", "k"], self.settings)
        self.store.recover(self.job_id, at=self.now, hold=False)
        run = self.store.begin_run(
            self.job_id,
            started_at=self.now,
            pid=1,
            host="",
            version="0",
            endpoint="",
            settings="{}",
            currency=tariff.currency,
        )
        self.coordinator = Coordinator(
            self.store,
            Lanes(self.routes, make_lane),
            job_id=self.job_id,
            run_id=run,
            policy=RetrySettings(attempts=2),
            rng=Random(1),
            purse=Purse(tariff, settings=self.settings, before=self.spent()),
        )
        return self.coordinator

    def spent(self) -> Spending:
        with self.store.transaction() as connection:
            return next(iter(spending(connection, self.job_id)), Spending())

    def exchange(self, *reports: Report, want: int = 8) -> Grant:
        self.now += 0.01
        return self.coordinator.exchange(reports, want=want, now=self.now)

    def over(self, lease: Lease, outcome: Outcome = ANSWER) -> Report:
        return Report(lease=lease, outcome=outcome, sent_at=self.now, received_at=self.now + 0.005)

    @property
    def state(self) -> Spending:
        return self.coordinator.standing(self.now).spending

    def row(self, query: str) -> tuple[object, ...]:
        with self.store.transaction() as connection:
            return tuple(connection.exec_driver_sql(query).one())


@contextmanager
def bench(
    tokens: Sequence[int | None], budget: int | None = None, models: str = "m", routes: Sequence[Route] | None = None
) -> Iterator[Bench]:
    with TemporaryDirectory() as folder:
        made = Bench(Path(folder), tokens, budget, models, routes or [route()])
        try:
            yield made
        finally:
            made.store.close()


def test_what_a_request_may_cost_is_on_disk_before_it_leaves_and_what_it_did_cost_after() -> None:
    with bench([100]) as b:
        (lease,) = b.exchange().leases
        assert b.row("SELECT reserved, spent FROM attempt") == (worst(100), None)
        b.exchange(b.over(lease))
        assert b.row("SELECT reserved, spent FROM attempt") == (worst(100), PAID)
        assert (b.state.spent, b.state.currency) == (PAID, "CNY")


def failed(kind: FailureClass, **more: object) -> Failure:
    return Failure(kind=kind, message="x", **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("outcome", "spent"),
    [
        (ANSWER, PAID),
        (Success(status=200, body=b"{}"), None),  # no usage: nobody knows
        (Success(status=200, body=b"{}", usage=Usage()), None),
        (Success(status=200, body=b"{}", usage=Usage(prompt_tokens=10, is_whole=False)), None),  # and the answer?
        (failed(FailureClass.BAD_REQUEST, status=400), 0),
        (failed(FailureClass.RATE_LIMIT, status=429), 0),
        (failed(FailureClass.OVERLOADED, status=503), 0),
        (failed(FailureClass.OVERLOADED, status=200, maybe_charged=True), None),  # in the middle of a stream
        (failed(FailureClass.UNREACHABLE, sent=False), 0),
        (failed(FailureClass.EMPTY_REASONING, status=200, usage=USAGE, maybe_charged=True), PAID),
        (failed(FailureClass.TIMEOUT, maybe_charged=True), None),
        (failed(FailureClass.SERVER_ERROR, status=500, maybe_charged=True), None),
        (failed(FailureClass.TRUNCATED, status=200, usage=USAGE, maybe_charged=True), None),  # perhaps not all of it
        (Abandoned(), None),
        (Released(), 0),
    ],
)
def test_each_outcome_is_booked(outcome: Outcome, spent: int | None) -> None:
    with bench([100]) as b:
        (lease,) = b.exchange(want=1).leases
        b.exchange(b.over(lease, outcome), want=0)
        assert b.row("SELECT spent FROM attempt") == (spent,)
        assert b.state.spent == (spent or 0)
        assert b.state.unsettled == (worst(100) if spent is None else 0)
        again = b.spent()
        assert (again.spent or 0, again.unsettled) == (b.state.spent, b.state.unsettled)


def test_a_request_waits_while_headroom_is_short_and_something_is_in_flight() -> None:
    """Two fit; the third goes when an answer turns out to be cheaper than it might have been."""
    with bench([100] * 4, budget=2 * worst(100) + 2 * PAID) as b:
        (alone,) = b.exchange().leases
        grant = b.exchange(b.over(alone))
        assert len(grant.leases) == 2
        assert (grant.wait, grant.stop, b.state.is_short) == (math.inf, None, True)
        grant = b.exchange(b.over(grant.leases[0]))
        assert [lease.custom_id for lease in grant.leases] == ["t3"]
        assert not b.state.is_short


def test_the_run_ends_when_the_next_does_not_fit_and_nothing_is_in_flight() -> None:
    with bench([100] * 3, budget=worst(100)) as b:
        (lease,) = b.exchange().leases
        grant = b.exchange(b.over(lease))
        assert isinstance(grant.stop, Limit)
        assert grant.stop.message == (
            "the budget of ¥0.00025 leaves too little: ¥0.000015 spent, ¥0.00023 left, "
            "and the next request (t1) may cost ¥0.00025"
        )
        assert b.store.counts(b.job_id)[TaskState.PENDING] == 2


DEAR = Model(context=100_000, max_output=1_000, price=Price(input=Decimal(1_000), output=Decimal(1_000)))


def test_a_run_ends_where_the_lane_it_can_pay_is_closed_and_the_open_one_is_too_dear() -> None:
    """It waited for ever: a lane that could be paid would never open, and no other reason to stop was seen."""
    dear = Provider(name="d", title="d", currency="CNY", models={"m": DEAR, "k": DEAR})
    with bench([100] * 3, budget=10 * worst(100), routes=[route(), route("d", dear)]) as b:
        (lease,) = b.exchange(want=1).leases
        assert lease.lane == "p/m"
        grant = b.exchange(b.over(lease, failed(FailureClass.AUTH, status=401)))
        assert grant.leases == ()
        assert isinstance(grant.stop, Stop)
        assert grant.stop.reason.kind is FailureClass.AUTH
        assert b.store.counts(b.job_id)[TaskState.PENDING] == 3


def test_a_run_that_wants_nothing_now_is_not_at_its_end() -> None:
    """As outside of its hours, with a lane closed."""
    dear = Provider(name="d", title="d", currency="CNY", models={"m": DEAR, "k": DEAR})
    with bench([100] * 3, budget=10 * worst(100), routes=[route(), route("d", dear)]) as b:
        (lease,) = b.exchange(want=1).leases
        assert b.exchange(b.over(lease, failed(FailureClass.AUTH, status=401)), want=0).stop is None


def test_a_request_without_max_tokens_is_told_what_would_help() -> None:
    with bench([None], budget=worst(100)) as b:
        stop = b.exchange().stop
        assert isinstance(stop, Limit)
        assert stop.message.endswith("may cost ¥0.0011, for it does not say max_tokens (--param max_tokens=1000)")


@pytest.mark.parametrize("models", ["m", "mk", "mmk"])
def test_a_smaller_request_is_not_let_past_a_larger_one(models: str) -> None:
    """Not even where it is of another model, with limits of its own."""
    with bench([100, 900, 1, 1], budget=worst(900), models=models) as b:
        grant = b.exchange()
        assert [lease.custom_id for lease in grant.leases] == ["t0"]
        grant = b.exchange(b.over(grant.leases[0]))
        assert grant.leases == ()
        assert grant.stop is not None


def test_an_answer_nobody_can_bound_stops_a_run_with_a_budget() -> None:
    unbounded = Provider(name="p", title="p", models={"m": Model(price=MODEL.price)})
    tariff = tariff_of([route(provider=unbounded)], ["m"], SpendSettings(budget=parse_money("5")))
    purse = Purse(tariff, settings=SpendSettings(budget=parse_money("5")))
    assert not purse.affords("p/m", "chat/completions", "{}")
    assert "max_tokens" in purse.too_little(["p/m"], "chat/completions", "{}", "t0").message
    lenient = Purse(tariff, settings=SpendSettings(budget=parse_money("5"), unpriced_ok=True))
    assert lenient.affords("p/m", "chat/completions", "{}")


LONG = Provider(name="p", title="p", models={"m": Model(max_output=100_000, price=MODEL.price)})


@pytest.mark.parametrize(
    ("budget", "asked", "said"),
    [
        ("5", "{}", "the request t0 may cost 0.10 of the 5.00 that are left, for it does not say max_tokens"),
        ("5", '{"max_tokens": 5000}', None),
        ("500", "{}", None),  # not worth a word
    ],
)
def test_a_reservation_that_max_tokens_would_make_small_is_told_first(
    budget: str, asked: str, said: str | None
) -> None:
    settings = SpendSettings(budget=parse_money(budget))
    purse = Purse(tariff_of([route(provider=LONG)], ["m"], settings), settings=settings)
    word = purse.first_word(["p/m"], "chat/completions", asked, "t0")
    assert word is None if said is None else (word or "").startswith(said)


def test_what_max_tokens_would_not_help_is_not_said_to() -> None:
    settings = SpendSettings(budget=parse_money("5"))
    purse = Purse(tariff_of([route(provider=LONG)], ["m"], settings), settings=settings)
    assert "max_tokens" not in purse.too_little(["p/m"], "rerank", "{}", "t0").message


def test_the_alert_comes_once() -> None:
    dear = Success(status=200, body=b"{}", usage=Usage(prompt_tokens=100, completion_tokens=100))
    with bench([100] * 12, budget=10 * worst(100)) as b:
        grant, notices = b.exchange(want=1), list[str]()
        while grant.leases:
            grant = b.exchange(*(b.over(lease, dear) for lease in grant.leases), want=1)
            notices += grant.notices
        assert notices == ["81% of the budget is gone: ¥0.0020 of ¥0.0025"]


def test_a_provider_that_charges_more_than_it_could_is_told_of_once() -> None:
    """Nothing can be done about what is charged already, but the user must not believe in the bound."""
    greedy = Success(status=200, body=b"{}", usage=Usage(prompt_tokens=10, completion_tokens=500))
    with bench([100] * 4, budget=20 * worst(100)) as b:
        grant, notices = b.exchange(want=1), list[str]()
        while grant.leases:
            grant = b.exchange(*(b.over(lease, greedy) for lease in grant.leases), want=1)
            notices += grant.notices
        (word,) = notices
        assert "t0 cost ¥0.00051, more than the ¥0.00025 it could" in word
        assert b.state.spent == 4 * 510_000


def test_a_budget_is_the_jobs_and_not_the_runs() -> None:
    """Killed with one in flight, the next run counts what was paid and what was perhaps charged."""
    with bench([100] * 5, budget=2 * worst(100)) as b:
        (first,) = b.exchange(want=1).leases
        assert len(b.exchange(b.over(first), want=1).leases) == 1
        b.begin()
        assert (b.state.spent, b.state.unsettled) == (PAID, worst(100))
        assert isinstance(b.exchange().stop, Limit)


OUTCOMES = st.sampled_from(
    [ANSWER, Success(status=200, body=b"{}"), Abandoned(), Released(), failed(FailureClass.TIMEOUT, maybe_charged=True)]
)


@settings(max_examples=60, deadline=None)
@given(
    tokens=st.lists(st.integers(1, 1_000), min_size=1, max_size=12),
    budget=st.integers(1, 6_000_000),
    steps=st.lists(st.tuples(OUTCOMES, st.integers(0, 7), st.integers(0, 4), st.booleans()), max_size=25),
)
def test_the_budget_is_never_passed(
    tokens: list[int], budget: int, steps: list[tuple[Outcome, int, int, bool]]
) -> None:
    """As the database tells it, whatever comes back in whatever order, through any number of kills."""
    with bench(tokens, budget) as b:
        in_flight: list[Lease] = []
        for outcome, which, want, killed in steps:
            if killed:
                in_flight = []
                b.begin()
            report = [b.over(in_flight.pop(which % len(in_flight)), outcome)] if in_flight else []
            in_flight += b.exchange(*report, want=want).leases
            known = b.spent()
            (held,) = b.row("SELECT coalesce(sum(reserved), 0) FROM attempt WHERE outcome IS NULL")
            assert isinstance(held, int)
            assert held == sum(lease.reserved or 0 for lease in in_flight)
            assert (known.spent or 0) + known.unsettled + held <= budget


def test_an_unpriced_model_with_a_budget_is_told_before_anything_is_sent() -> None:
    budget = SpendSettings(budget=parse_money("5"))
    with pytest.raises(ConfigError, match=r'p/n.*\[prices\."n"\].*--unpriced-ok'):
        tariff_of([route()], ["m", "n"], budget)
    tariff = tariff_of([route()], ["m", "n"], SpendSettings(budget=parse_money("5"), unpriced_ok=True))
    assert (set(tariff.models), tariff.others) == ({"p/m"}, ("p/n",))


def test_a_budget_in_another_currency_is_refused() -> None:
    with pytest.raises(ConfigError, match="p/m bills in CNY; give the budget in that"):
        tariff_of([route()], ["m"], SpendSettings(budget=parse_money("5 USD")))


def test_lanes_that_bill_in_two_currencies_can_have_no_budget() -> None:
    dollars = Provider(name="q", title="q", currency="USD", models={"m": MODEL})
    routes = [route(), route("q", dollars)]
    with pytest.raises(
        ConfigError, match=r"p/m bills in CNY, q/m bills in USD, and nothing is converted.*in one currency"
    ):
        tariff_of(routes, ["m"], SpendSettings(budget=parse_money("5")))
    with pytest.raises(ConfigError, match=r'Leave out what is not in CNY, .*\[prices\."m"\] in batchrunner.toml'):
        tariff_of(routes, ["m"], SpendSettings(budget=parse_money("5 CNY")))
    tariff = tariff_of(routes, ["m"], SpendSettings())
    assert (tariff.currency, tariff.others) == ("CNY", ("q/m",))


def test_nothing_is_said_of_money_where_no_price_is_known() -> None:
    purse = Purse(tariff_of([route(provider=Provider(title="x"))], ["m"], SpendSettings()))
    assert purse.state.spent is None


def test_the_users_own_price_makes_a_budget_possible() -> None:
    own = Prices(own=read_prices({"n": {"input": 1, "output": 2}}).own)
    tariff = tariff_of([route()], ["n"], SpendSettings(budget=parse_money("5CNY"), prices=own))
    assert set(tariff.models) == {"p/n"}


@pytest.mark.parametrize("alert", [0.0, -1.0, 1.5])
def test_an_alert_is_a_share(alert: float) -> None:
    with pytest.raises(ConfigError, match="--alert"):
        SpendSettings(alert=alert)
