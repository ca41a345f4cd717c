"""Several lanes at the coordinator: who takes what, who rests, what is said when none is left; on a real database."""

import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchrunner.backlog import PAGE
from batchrunner.config import Endpoint, LimitSettings, RetrySettings, Route
from batchrunner.coordinator import Coordinator, Grant
from batchrunner.db.store import Store
from batchrunner.jobfile.options import ReadOptions
from batchrunner.lane import Lane
from batchrunner.lanemaker import LaneMaker
from batchrunner.lanes import Lanes
from batchrunner.limits.limiter import Limiter
from batchrunner.loader import load
from batchrunner.quota import Dimension, Quota, Window
from batchrunner.retry import Stop
from batchrunner.size import Measure, Size, by_bytes
from batchrunner.task import Failure, FailureClass, Lease, Outcome, Report, Success, TaskState, Usage

NOW = 1_790_000_000.0
ANSWER = Success(status=200, body=b"{}", usage=Usage(prompt_tokens=9, completion_tokens=1))


def route(name: str, *, models: Mapping[str, str] | None = None, concurrency: int = 8) -> Route:
    limits = LimitSettings(concurrency=concurrency)
    return Route(name=name, endpoint=Endpoint(base_url=f"http://{name}"), limits=limits, models=models)


def failure(kind: FailureClass, **more: object) -> Failure:
    return Failure(kind=kind, message="as the provider says", **more)  # type: ignore[arg-type]


class Bench:
    """A job whose lines name *models*, in this order; a coordinator over *routes*; a clock moved by hand."""

    def __init__(self, folder: Path, models: Sequence[str], routes: Sequence[Route], canary: int) -> None:
        job = folder / "job.jsonl"
        lines = [
            {"custom_id": f"t{n}", "body": {"model": model, "max_tokens": 900 if model == "large" else 10}}
            for n, model in enumerate(models)
        ]
        job.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
        self.store = Store(folder / "job.db")
        self.job_id = load(self.store, str(job), ReadOptions(), now=NOW).job_id
        run = self.store.begin_run(
            self.job_id, started_at=NOW, pid=1, host="here", version="0", endpoint="http://x", settings="{}"
        )

        def make(route: Route, model: str, siblings: list[Lane], now: float) -> Lane:
            limiter = Limiter(route.limits, now=now, start=route.limits.concurrency)
            return Lane(route, model, limiter, siblings=siblings, canary=canary)

        self.lanes = Lanes(routes, make)
        self.coordinator = Coordinator(
            self.store, self.lanes, job_id=self.job_id, run_id=run, policy=RetrySettings(), rng=Random(1)
        )
        self.now = NOW

    def exchange(self, *reports: Report, want: int = 8) -> Grant:
        self.now += 0.01
        return self.coordinator.exchange(reports, want=want, now=self.now)

    def report(self, lease: Lease, outcome: Outcome) -> Report:
        return Report(lease=lease, outcome=outcome, sent_at=self.now, received_at=self.now + 0.005)

    def answer(self, *leases: Lease, want: int = 8) -> Grant:
        return self.exchange(*[self.report(lease, ANSWER) for lease in leases], want=want)

    def fail(self, lease: Lease, kind: FailureClass, *, want: int = 8, **more: object) -> Grant:
        return self.exchange(self.report(lease, failure(kind, **more)), want=want)

    def open_up(self) -> list[Lease]:
        """Past the first request of each lane, which goes alone."""
        return list(self.answer(*self.exchange().leases).leases)

    def count(self, state: TaskState) -> int:
        return self.store.counts(self.job_id)[state]

    def failed(self) -> list[str]:
        with self.store.transaction() as connection:
            rows = connection.exec_driver_sql("SELECT custom_id FROM task WHERE state = 'failed' ORDER BY id")
            return [row[0] for row in rows]


def maker_of(b: Bench, *, canary: int = 0, measure: Measure = by_bytes) -> LaneMaker:
    """What a run that starts now makes its lanes with."""
    return LaneMaker(b.store, b.job_id, canary=canary, believe=True, learned=None, measure=measure, warn=pytest.fail)


@contextmanager
def bench(models: Sequence[str], *routes: Route, canary: int = 0) -> Iterator[Bench]:
    with TemporaryDirectory() as folder:
        made = Bench(Path(folder), models, routes or [route("a")], canary)
        try:
            yield made
        finally:
            made.store.close()


def names(grant: Grant) -> list[tuple[str, str]]:
    return [(lease.custom_id, lease.lane) for lease in grant.leases]


# -- who takes what


def test_each_model_has_limits_of_its_own() -> None:
    """One that is refused for ten minutes holds up no other, and its own tasks keep their order."""
    with bench(["m", "n"] * 4) as b:
        first, second = b.exchange().leases
        assert (first.lane, second.lane) == ("a/m", "a/n")
        b.fail(first, FailureClass.RATE_LIMIT, status=429, retry_after=600.0)
        grant = b.answer(second)
        assert {lane for _, lane in names(grant)} == {"a/n"}
        b.answer(*grant.leases)
        assert b.exchange().leases == ()
        assert 500 < b.exchange().wait < 600
        b.now += 600
        assert names(b.exchange(want=1)) == [("t0", "a/m")]


def test_a_task_goes_where_it_may_be_sent_first() -> None:
    """While one lane is refused the other takes all; when both may send, the one with more room does."""
    with bench(["m"] * 40, route("a"), route("b", concurrency=16)) as b:
        first, second = b.exchange().leases
        assert [first.lane, second.lane] == ["b/m", "a/m"]
        grant = b.fail(second, FailureClass.RATE_LIMIT, status=429, retry_after=60.0)
        assert grant.leases == ()
        grant = b.answer(first)
        assert {lane for _, lane in names(grant)} == {"b/m"}
        b.now += 60
        assert {lane for _, lane in names(b.answer(*grant.leases, want=24))} == {"a/m", "b/m"}


def test_each_lane_names_the_model_its_own_way() -> None:
    """The lease carries the other name, and none where the line's own will do."""
    with bench(["m"] * 4, route("a"), route("b", models={"m": "z-ai/m"})) as b:
        sent = {lease.lane: lease.model for lease in b.exchange().leases}
    assert sent == {"a/m": None, "b/z-ai/m": "z-ai/m"}


def test_a_lane_takes_only_the_models_it_names() -> None:
    with bench(["m", "n"] * 6, route("a", models={"m": "m"}), route("b", models={"n": "n"})) as b:
        leases = [*b.exchange().leases]
        assert sorted(lease.lane for lease in leases + b.open_up()) != []
        assert all((lease.line_model, lease.lane) in (("m", "a/m"), ("n", "b/n")) for lease in leases)


def test_what_may_be_in_flight_is_counted_over_all_models() -> None:
    """--concurrency is a promise for the route, however many models the job names."""
    with bench(["m", "n", "o"] * 8, route("a", concurrency=4)) as b:
        leases = b.open_up()
        assert len(leases) == 4
        assert b.exchange().leases == ()


def test_no_younger_task_takes_the_place_an_older_one_waits_for() -> None:
    """Two models that are one at the lane: the large first one goes before the small ones behind it."""
    both = route("a", models={"large": "x", "small": "x"})
    with bench(["small", "large", *["small"] * 6], both) as b:
        (lease,) = b.exchange().leases
        window = Window(dimension=Dimension.TOKENS, limit=1000, remaining=500, reset_after=30.0)
        b.exchange(b.report(lease, Success(status=200, body=b"{}", quota=Quota((window,)))))
        order = []
        for _ in range(400):
            b.now += 1
            for lease in b.exchange().leases:
                order.append(lease.custom_id)
                b.answer(lease, want=0)
        assert order == [f"t{n}" for n in range(1, 8)]


def test_read_ahead_stays_a_page_however_long_one_model_is_blocked() -> None:
    with bench(["m"] * 1000 + ["n"] * 3) as b:
        first, second = b.exchange().leases
        assert (first.custom_id, second.custom_id) == ("t0", "t1000")
        b.fail(first, FailureClass.RATE_LIMIT, status=429, retry_after=600.0)
        b.answer(*b.answer(second).leases)
        assert b.exchange().leases == ()
        queues = {queue.model: queue for queue in b.coordinator._backlog}
        assert len(queues["m"]._fresh) <= PAGE
        assert queues["n"].is_idle


def test_models_that_are_counted_together_get_one_limiter() -> None:
    """The windows of each have lost what the other sent; what is in flight then is settled where it came from."""
    with bench(["m", "n"] * 40) as b:
        flying = list(b.exchange().leases)
        sent = 0
        for _ in range(8):
            leases, flying = flying, []
            sent += len(leases)
            window = Window(dimension=Dimension.REQUESTS, limit=600, remaining=600 - sent, reset_after=60.0)
            answer = Success(status=200, body=b"{}", quota=Quota((window,)))
            flying += b.exchange(*[b.report(lease, answer) for lease in leases]).leases
        assert b.lanes["a/m"].limiter is b.lanes["a/n"].limiter
        b.answer(*flying, want=0)
        assert b.lanes["a/m"].limiter.slots.in_flight == 0
        assert b.coordinator.standing(b.now).limiter.in_flight == 0


def test_what_is_in_flight_counts_where_it_is_counted_from_now_on() -> None:
    with bench(["m", "n"] * 10) as b:
        b.open_up()
        one, other = b.lanes["a/m"], b.lanes["a/n"]
        before = one.limiter.state(b.now).sent_1m
        assert other.in_flight > 0
        one._adopt(other, b.now)
        assert one.limiter.state(b.now).sent_1m == before + other.in_flight


def test_models_that_are_counted_apart_keep_their_own() -> None:
    with bench(["m", "n"] * 40) as b:
        flying = list(b.exchange().leases)
        sent: Counter[str] = Counter()
        for _ in range(8):
            sent.update(lease.lane for lease in flying)
            reports = []
            for lease in flying:
                window = Window(dimension=Dimension.REQUESTS, limit=600, remaining=600 - sent[lease.lane])
                reports.append(b.report(lease, Success(status=200, body=b"{}", quota=Quota((window,)))))
            flying = list(b.exchange(*reports).leases)
        assert b.lanes["a/m"].limiter is not b.lanes["a/n"].limiter


# -- who rests, and who is closed


def test_a_lane_whose_allowance_is_used_up_rests_while_others_go_on() -> None:
    """Its task goes to another lane at once; after the rest it takes its share again."""
    with bench(["m"] * 60, route("a"), route("b")) as b:
        first, second = b.exchange().leases
        grant = b.fail(first, FailureClass.QUOTA_WINDOW, retry_after=3600.0)
        assert grant.notices == ("a/m rests for 1h00m: quota_window: as the provider says",)
        grant = b.answer(second)
        assert {lane for _, lane in names(grant)} == {"b/m"}
        assert first.custom_id in {lease.custom_id for lease in grant.leases}
        b.now += 3600
        assert {lane for _, lane in names(b.answer(*grant.leases, want=16))} == {"a/m", "b/m"}


def test_a_bad_key_closes_every_lane_of_its_route_and_no_other() -> None:
    with bench(["m", "n"] * 6, route("a"), route("b")) as b:
        leases = {lease.lane: lease for lease in b.exchange().leases}
        grant = b.fail(leases["a/m"], FailureClass.AUTH, status=401)
        assert len(grant.notices) == 2
        assert grant.stop is None
        grant = b.answer(leases["b/m"], leases["b/n"], leases["a/n"])
        assert {lane for _, lane in names(grant)} == {"b/m", "b/n"}


def test_an_unknown_model_is_no_reason_not_to_do_the_others() -> None:
    """They are done to the end, and then the run stops for the one."""
    with bench(["m", "n", "n"]) as b:
        first, second = b.exchange().leases
        assert b.fail(first, FailureClass.MODEL_NOT_FOUND, status=404).stop is None
        (last,) = b.answer(second).leases
        grant = b.answer(last)
        assert isinstance(grant.stop, Stop)
        assert grant.stop.reason.kind is FailureClass.MODEL_NOT_FOUND
        assert (b.count(TaskState.SUCCEEDED), b.count(TaskState.PENDING)) == (2, 1)


def test_the_run_does_not_stop_while_another_lane_is_at_work() -> None:
    """What is in flight there may want to go again."""
    with bench(["m", "n"]) as b:
        first, second = b.exchange().leases
        assert b.fail(first, FailureClass.MODEL_NOT_FOUND, status=404).stop is None
        assert b.fail(second, FailureClass.SERVER_ERROR, status=500).stop is None
        b.now += 60
        (again,) = b.exchange().leases
        assert b.answer(again).stop is not None


def test_the_run_stops_when_no_lane_is_left() -> None:
    """What passes by itself is the reason that counts, for then running again later helps."""
    with bench(["m"] * 6, route("a"), route("b")) as b:
        first, second = b.exchange().leases
        assert b.fail(first, FailureClass.AUTH, status=401).stop is None
        grant = b.fail(second, FailureClass.QUOTA_WINDOW, retry_after=3600.0)
        assert isinstance(grant.stop, Stop)
        assert grant.stop.later
        assert grant.leases == ()
        assert {state.name for state in b.coordinator.standing(b.now).lanes if state.stop} == {"a/m", "b/m"}
        assert b.count(TaskState.PENDING) == 6


def test_a_short_rest_is_waited_for() -> None:
    with bench(["m"] * 3) as b:
        (lease,) = b.exchange().leases
        grant = b.fail(lease, FailureClass.QUOTA_WINDOW, retry_after=20.0)
        assert (grant.stop, grant.leases) == (None, ())
        assert 0 < grant.wait <= 20
        b.now += 21
        assert names(b.exchange())[0] == ("t0", "a/m")


# -- the canary


def test_a_good_start_is_as_fast_with_a_canary_as_without() -> None:
    """One request, which goes alone in any case; then as many as there is room for."""
    given = []
    for canary in (0, 3):
        with bench(["m"] * 20, canary=canary) as b:
            first = b.exchange().leases
            given.append((len(first), len(b.answer(*first).leases)))
    assert given == [(1, 8), (1, 8)]


def test_a_lane_whose_canary_died_gives_its_tasks_to_another() -> None:
    """Three fail alike at one lane; they are answered by the other, and none of them has failed."""
    with bench(["m"] * 30, route("a"), route("b"), canary=3) as b:
        flying = list(b.exchange().leases)
        sent: Counter[str] = Counter()
        for _ in range(100):
            reports = [
                b.report(lease, failure(FailureClass.BAD_REQUEST, status=400) if lease.lane == "a/m" else ANSWER)
                for lease in flying
            ]
            sent.update(lease.lane for lease in flying)
            grant = b.exchange(*reports)
            flying = list(grant.leases)
            if grant.finished:
                break
            b.now += 0.0 if flying else min(grant.wait, 1.0)
        assert sent == {"a/m": 3, "b/m": 30}
        assert b.count(TaskState.SUCCEEDED) == 30


def test_what_was_answered_and_paid_for_has_failed_and_the_rest_is_not_sent() -> None:
    """Reasoning that used up max_tokens costs money, so it is not asked again by itself."""
    with bench(["m"] * 9, canary=3) as b:
        flying, sent = list(b.exchange().leases), 0
        usages = [None, Usage(prompt_tokens=9, completion_tokens=64), None]
        while flying:
            sent += 1
            grant = b.fail(flying.pop(0), FailureClass.EMPTY_REASONING, usage=usages[sent - 1])
            flying += grant.leases
        assert sent == 3
        assert b.exchange().stop is not None
        assert b.failed() == ["t1"]
        assert b.count(TaskState.PENDING) == 8
        b.store.check_accounts(b.job_id)


# -- what a lane remembers


def test_a_new_run_knows_what_each_lane_sent_and_whether_it_answered() -> None:
    """Lane by lane: the sends of the last minute count where they went; who answered before needs no canary."""
    with bench(["m"] * 9, route("a"), route("b")) as b:
        first, second = b.exchange().leases
        b.fail(first, FailureClass.BAD_REQUEST, want=0, status=400)
        leases = b.answer(second, want=3).leases
        maker, later = maker_of(b, canary=1), b.now + 59
        for name, answered in (("a", False), ("b", True)):
            lane = maker.make(route(name), "m", [], later)
            sends = 1 + sum(lease.lane == lane.name for lease in leases)
            assert lane.limiter.state(later).sent_1m == sends
            assert lane.answered == answered
        assert maker.make(route("a"), "other", [], later).limiter.state(later).sent_1m == 0
        assert maker.make(route("a"), "m", [], b.now + 61).limiter.state(b.now + 61).sent_1m == 0


def test_a_window_longer_than_a_minute_is_not_used_twice_by_starting_again() -> None:
    """Of an hour's limit that nobody tells of, only our own log of that hour knows what is left."""
    with bench(["m"] * 20) as b:
        more = b.open_up()
        b.answer(*more, want=0)
        hour = {"dimension": "requests", "kind": "found", "algorithm": "sliding window", "period": 3600.0}
        (lane,) = b.lanes
        lane.limiter.believe({"meters": [hour | {"limit": 1 + len(more)}]}, now=b.now)
        maker = maker_of(b)
        maker.keep(b.lanes, b.now)
        again = maker.make(route("a"), "m", [], b.now + 1800).limiter
        assert again.wait(10.0, b.now + 1800) == pytest.approx(1800, abs=5)


def test_what_prompts_take_is_remembered_for_who_measures_alike() -> None:
    """A factor that was learned of bytes says nothing of what a tokenizer counts."""
    with bench(["m"] * 20) as b:
        b.answer(*b.open_up(), want=0)
        (lane,) = b.lanes
        assert lane.estimate.beliefs() is not None
        maker_of(b).keep(b.lanes, b.now)
        alike = maker_of(b).make(route("a"), "m", [], b.now)
        assert alike.estimate.beliefs() == lane.estimate.beliefs()
        exact = maker_of(b, measure=lambda _: Size(10.0, counted=True)).make(route("a"), "m", [], b.now)
        assert exact.estimate.beliefs() is None


def test_what_is_stated_holds_for_all_models_together() -> None:
    """Sixty a minute are sixty a minute, however many models the job names; and those of the last minute count."""
    stated = Route(name="a", endpoint=Endpoint(base_url="http://a"), limits=LimitSettings(rpm=60))
    with bench(["m", "n"] * 4) as b:
        b.answer(*b.open_up(), want=0)
        maker = maker_of(b)
        siblings: list[Lane] = []
        lanes = [maker.make(stated, model, siblings, b.now) for model in ("m", "n")]
        assert lanes[0].limiter is lanes[1].limiter
        assert lanes[0].limiter.state(b.now).sent_1m == 8


# -- everything at once


@settings(max_examples=30)
@given(seed=st.integers(0, 2**32), canary=st.sampled_from([0, 3]))
def test_every_task_of_every_model_comes_to_its_end(seed: int, canary: int) -> None:
    """Under random trouble at two lanes of three models no task starves, none is in flight twice, the accounts hold."""
    rng = Random(seed)
    trouble = [
        *(FailureClass.RATE_LIMIT, FailureClass.CONCURRENCY, FailureClass.SERVER_ERROR, FailureClass.UNREACHABLE),
        *(FailureClass.BAD_REQUEST, FailureClass.QUOTA_WINDOW),
    ]
    models = [rng.choice("mno") for _ in range(24)]
    with bench(models, route("a", concurrency=3), route("b", models={"m": "x", "n": "x"}), canary=canary) as b:
        flying: list[Lease] = []
        for _ in range(3000):
            rng.shuffle(flying)
            back, flying = flying[:8], flying[8:]
            grant = b.exchange(*[b.report(lease, _outcome(rng, trouble)) for lease in back])
            flying += grant.leases
            assert len({lease.task_id for lease in flying}) == len(flying)
            if grant.finished or grant.stop is not None:
                break
            if not flying:
                assert grant.wait < math.inf
                b.now += grant.wait
        else:
            pytest.fail("it does not end")
        assert grant.finished or canary
        b.exchange(*[b.report(lease, ANSWER) for lease in flying], want=0)
        b.store.check_accounts(b.job_id)
        done = b.count(TaskState.SUCCEEDED) + b.count(TaskState.FAILED)
        assert done + b.count(TaskState.PENDING) == 24
        assert done == 24 or grant.stop is not None


def _outcome(rng: Random, trouble: Sequence[FailureClass]) -> Outcome:
    if rng.random() < 0.7:
        return ANSWER
    kind = rng.choice(trouble)
    return failure(kind, retry_after=rng.choice([5.0, 40.0] if kind is FailureClass.QUOTA_WINDOW else [None, 5.0]))
