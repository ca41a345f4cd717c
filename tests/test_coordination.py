"""The coordinator on a real database: what each outcome makes of its task, and that the accounts hold at every step."""

import json
import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchrunner.config import Endpoint, LimitSettings, RetrySettings, Route
from batchrunner.coordinator import BITE, Coordinator, Grant
from batchrunner.db.store import NO_LAST, Store
from batchrunner.jobfile.options import ReadOptions
from batchrunner.judge import WORTH_WAITING
from batchrunner.lane import Lane
from batchrunner.lanes import Lanes
from batchrunner.limits.limiter import Limiter
from batchrunner.loader import load
from batchrunner.quota import Dimension, Quota, Window
from batchrunner.retry import Stop
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
ANSWER = Success(status=200, body=b'{"choices": []}', usage=Usage(prompt_tokens=9, completion_tokens=1))


def make_lane(route: Route, model: str, siblings: list[Lane], now: float) -> Lane:
    """Knows nothing of earlier runs, and takes no time to find out how many may be in flight."""
    return Lane(route, model, Limiter(route.limits, now=now, start=8), siblings=siblings)


class Bench:
    """A store with *tasks* tasks, a coordinator over it, and a clock moved by hand."""

    def __init__(
        self,
        folder: Path,
        tasks: int,
        *,
        hold: bool = False,
        limit: int | None = None,
        patience: float = WORTH_WAITING,
        length: int = 1,
    ) -> None:
        job = folder / "job.jsonl"
        lines = [
            {"custom_id": f"t{n}", "body": {"model": "m", "messages": [{"role": "user", "content": f"{n:{length}}"}]}}
            for n in range(tasks)
        ]
        job.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
        self.store = Store(folder / "job.db")
        self.job_id = load(self.store, str(job), ReadOptions(), now=NOW).job_id
        run = self.store.begin_run(
            self.job_id, started_at=NOW, pid=1, host="here", version="0", endpoint="http://x", settings="{}"
        )
        limits = LimitSettings(concurrency=8)
        route = Route(name="here", endpoint=Endpoint(base_url="http://x"), limits=limits)
        self.lanes = Lanes([route], make_lane)
        self.coordinator = Coordinator(
            self.store,
            self.lanes,
            job_id=self.job_id,
            run_id=run,
            policy=RetrySettings(attempts=3),
            rng=Random(1),
            hold=hold,
            last=NO_LAST if limit is None else self.store.position_of(self.job_id, limit),
            patience=patience,
        )
        self.now = NOW

    def exchange(self, *reports: Report, want: int = 1) -> Grant:
        self.now += 0.01
        return self.coordinator.exchange(reports, want=want, now=self.now)

    def report(self, lease: Lease, outcome: Outcome) -> Report:
        return Report(lease=lease, outcome=outcome, sent_at=self.now, received_at=self.now + 0.005)

    def after(self, outcome: Outcome) -> Grant:
        """Lease one task, and hand back *outcome*."""
        (lease,) = self.exchange().leases
        return self.exchange(self.report(lease, outcome), want=0)

    def count(self, state: TaskState) -> int:
        return self.store.counts(self.job_id)[state]

    def row(self, query: str) -> tuple[object, ...]:
        with self.store.transaction() as connection:
            return tuple(connection.exec_driver_sql(query).one())


@contextmanager
def bench(tasks: int, **options: Any) -> Iterator[Bench]:
    with TemporaryDirectory() as folder:
        made = Bench(Path(folder), tasks, **options)
        try:
            yield made
        finally:
            made.store.close()


def failure(kind: FailureClass, **more: object) -> Failure:
    return Failure(kind=kind, message="as the provider says", **more)  # type: ignore[arg-type]


def test_an_attempt_is_on_disk_before_its_lease_is_given() -> None:
    """The row is open and the task is running when the worker gets to know of it."""
    with bench(1) as b:
        (lease,) = b.exchange().leases
        assert b.row("SELECT task_id, outcome FROM attempt") == (lease.task_id, None)
        assert b.count(TaskState.RUNNING) == 1


def test_large_bodies_are_leased_in_bites() -> None:
    """Who counts their tokens takes seconds over 512 of them; the first need not wait for the last."""
    with bench(9, length=BITE * 2 // 5) as b:
        grant = b.exchange(b.report(b.exchange().leases[0], ANSWER), want=8)
        assert (len(grant.leases), grant.wait) == (3, 0.0)
        assert len(b.exchange(want=5).leases) == 3


def test_an_answer_ends_its_task() -> None:
    """Result, attempt and state in one transaction; then nothing is left."""
    with bench(1) as b:
        grant = b.after(ANSWER)
        assert b.row("SELECT body, status FROM result") == ('{"choices": []}', 200)
        assert b.row("SELECT outcome, prompt_tokens FROM attempt") == ("success", 9)
        assert (b.count(TaskState.SUCCEEDED), grant.finished) == (1, True)


def test_rate_limits_use_up_no_try() -> None:
    """Where all are refused, and be it fifty times, each task is still there with all its tries."""
    with bench(2) as b:
        for _ in range(50):
            b.after(failure(FailureClass.RATE_LIMIT, status=429))
            b.now += 1300
        assert b.row("SELECT sum(state = 'pending'), sum(failures), sum(attempts) FROM task") == (2, 0, 50)


@pytest.mark.parametrize("large", [1, 3, 20])
def test_what_is_refused_while_all_others_pass_fails_in_the_end(large: int) -> None:
    """They need more than the window holds, and nobody tells: at the head of the file they hold nobody up for ever, are
    not asked for often, and fail with the reason.
    """
    with bench(200) as b:
        sends = 0
        while not (grant := b.exchange()).finished:
            for lease in grant.leases:
                is_large = lease.task_id <= large
                sends += is_large
                outcome = failure(FailureClass.RATE_LIMIT, status=429) if is_large else ANSWER
                b.exchange(b.report(lease, outcome), want=0)
            b.now += 1.0 if grant.leases else grant.wait
        assert (b.count(TaskState.SUCCEEDED), b.count(TaskState.FAILED)) == (200 - large, large)
        assert b.row("SELECT error_class FROM task WHERE id = 1") == ("rate_limit",)
        (message,) = b.row("SELECT message FROM attempt WHERE task_id = 1 ORDER BY id DESC LIMIT 1")
        assert re.search(r"refused \d+ times in \d+ minutes while \d+ others passed: it may need more", str(message))
        assert sends <= 50 * large
        assert b.now - NOW < large * 2 * 3600


@pytest.mark.parametrize("limit", [None, 1])
def test_the_last_one_that_is_refused_for_ever_fails_alone(limit: int | None) -> None:
    """Of the job, or of those that --limit lets go; nobody is said to have passed it by."""
    with bench(1 if limit is None else 3, limit=limit) as b:
        while not (grant := b.exchange()).finished:
            for lease in grant.leases:
                b.exchange(b.report(lease, failure(FailureClass.RATE_LIMIT, status=429)), want=0)
            b.now += 1.0 if grant.leases else grant.wait
        assert (b.count(TaskState.FAILED), b.count(TaskState.PENDING)) == (1, 0 if limit is None else 2)
        (message,) = b.row("SELECT message FROM attempt ORDER BY id DESC LIMIT 1")
        assert re.search(r"refused \d+ times in \d+ minutes: it may need more than the limit holds", str(message))
        assert b.now - NOW < 3600


@pytest.mark.parametrize(
    "told", [{"retry_after": 300.0}, {"quota": Quota((Window(dimension=Dimension.REQUESTS, limit=60, remaining=0),))}]
)
def test_what_is_told_to_wait_for_ever_fails_after_hours(told: dict[str, Any]) -> None:
    """A server that always names a wait, or a window that is used up: no task waits for ever, but none is given up in
    an hour because others were luckier.
    """
    with bench(2) as b:
        while not (grant := b.exchange()).finished:
            for lease in grant.leases:
                refused = failure(FailureClass.RATE_LIMIT, status=429, **told)
                b.exchange(b.report(lease, refused if lease.task_id == 1 else ANSWER), want=0)
            b.now += 1.0 if grant.leases else grant.wait
        assert (b.count(TaskState.SUCCEEDED), b.count(TaskState.FAILED)) == (1, 1)
        assert 3 * 3600 < b.now - NOW < 24 * 3600


def test_what_only_passes_when_the_others_are_done_has_its_answer_then() -> None:
    """Among many small ones there is never enough left for it."""
    with bench(200) as b:
        while not (grant := b.exchange()).finished:
            for lease in grant.leases:
                others = b.count(TaskState.PENDING)
                refused = failure(FailureClass.RATE_LIMIT, status=429)
                b.exchange(b.report(lease, refused if lease.task_id == 1 and others else ANSWER), want=0)
            b.now += 1.0 if grant.leases else grant.wait
        assert b.count(TaskState.SUCCEEDED) == 200


def test_server_errors_use_up_the_tries_and_then_fail_the_task() -> None:
    """Three tries with a wait between them, then failed with the provider's words."""
    with bench(1) as b:
        for _ in range(3):
            b.after(failure(FailureClass.SERVER_ERROR, status=500, body=b"oops"))
            b.now += 120
        assert b.row("SELECT state, failures, error_class FROM task") == ("failed", 3, "server_error")
        assert b.row("SELECT count(*), max(number) FROM attempt") == (3, 3)
        assert b.row("SELECT body FROM reply ORDER BY attempt_id DESC LIMIT 1") == ("oops",)


def test_the_servers_retry_after_is_obeyed() -> None:
    """Nothing is leased before the time it named, and the grant says how long to wait."""
    with bench(2) as b:
        grant = b.after(failure(FailureClass.RATE_LIMIT, status=429, retry_after=600.0))
        assert b.exchange().leases == ()
        assert 590 < b.exchange().wait <= 600
        b.now += 601
        assert b.exchange().leases
        assert not grant.finished


def test_what_the_request_is_at_fault_for_fails_it_at_once() -> None:
    """A 400 fails the task with code and message; the others go on."""
    with bench(2) as b:
        b.after(failure(FailureClass.BAD_REQUEST, status=400, code="1210"))
        assert b.row("SELECT error_code, message FROM attempt") == ("1210", "as the provider says")
        assert (b.count(TaskState.FAILED), b.count(TaskState.PENDING)) == (1, 1)


def test_a_bad_key_stops_the_run_and_fails_nothing() -> None:
    """The grant says stop, nothing more is leased, every task is pending."""
    with bench(3) as b:
        grant = b.after(failure(FailureClass.AUTH, status=401))
        assert grant.stop is not None
        assert b.exchange(want=8).leases == ()
        assert (b.count(TaskState.PENDING), b.count(TaskState.FAILED)) == (3, 0)


def test_what_came_to_nothing_is_asked_once_more() -> None:
    """It was charged each time, so not as often as a server error."""
    with bench(1) as b:
        b.after(failure(FailureClass.NO_VALID_RESPONSE, status=422))
        assert b.count(TaskState.PENDING) == 1
        b.now += 60
        b.after(failure(FailureClass.NO_VALID_RESPONSE, status=422))
        assert b.count(TaskState.FAILED) == 1


def test_an_allowance_of_hours_is_waited_for() -> None:
    """Nothing is sent before it is renewed, the user hears until when, and then the same task goes again."""
    used_up = failure(FailureClass.QUOTA_WINDOW, status=429, retry_after=9000.0)
    with bench(3, patience=math.inf) as b:
        grant = b.after(used_up)
        assert grant.stop is None
        assert "waiting for 2h30m, until " in grant.notices[0]
        waiting = b.exchange(want=8)
        assert (waiting.leases, waiting.stop) == ((), None)
        assert 8990 < waiting.wait <= 9000
        b.now += waiting.wait
        assert b.after(ANSWER).stop is None
        assert (b.count(TaskState.SUCCEEDED), b.count(TaskState.FAILED)) == (1, 0)


@pytest.mark.parametrize("asked", [9000.0, None])
def test_an_allowance_that_is_not_waited_for_stops_the_run_until_later(asked: float | None) -> None:
    """--no-wait, whether somebody says until when or not."""
    with bench(3) as b:
        stop = b.after(failure(FailureClass.QUOTA_WINDOW, status=429, retry_after=asked)).stop
        assert isinstance(stop, Stop)
        assert stop.later
        assert b.count(TaskState.PENDING) == 3


def test_a_reset_that_is_over_by_our_clock_is_no_reason_to_ask_without_a_pause() -> None:
    with bench(3, patience=math.inf) as b:
        b.after(failure(FailureClass.QUOTA_WINDOW, status=429, retry_after=0.0))
        assert b.exchange(want=8).leases == ()


def test_a_page_that_is_no_answer_stops_only_before_the_first_success() -> None:
    """Before: the wrong place, most likely. After: this one answer is broken, and is never asked for again."""
    with bench(3) as b:
        b.after(ANSWER)
        assert b.after(failure(FailureClass.MALFORMED_SUCCESS, status=200, maybe_charged=True)).stop is None
        assert b.count(TaskState.FAILED) == 1
    with bench(3) as b:
        assert b.after(failure(FailureClass.MALFORMED_SUCCESS, status=200, maybe_charged=True)).stop is not None
        assert b.count(TaskState.PENDING) == 3


PAGE = failure(FailureClass.MALFORMED_SUCCESS, status=200, maybe_charged=True, body=b"\n<html>Please log in</html>")


@pytest.mark.parametrize("body", [b"\n<html>Please log in</html>", b""])
def test_a_page_where_answers_came_before_is_tried_again_as_an_error_of_the_server(body: bytes) -> None:
    """A proxy's, or a login that ran out: three tries, and only then the task has failed. What is no page is an answer,
    however broken, and never asked for again.
    """
    with bench(2) as b:
        b.after(ANSWER)
        for left in (1, 1, 0):
            assert b.after(replace(PAGE, body=body)).stop is None
            assert b.count(TaskState.PENDING) == left
            b.now += 120
        assert b.row("SELECT error_class FROM task WHERE state = 'failed'") == ("malformed_success",)
    with bench(2) as b:
        b.after(ANSWER)
        b.after(replace(PAGE, body=b'{"choices": "none"}'))
        assert b.count(TaskState.FAILED) == 1


def test_a_page_for_all_is_an_outage_and_fails_no_task() -> None:
    """For an hour every request gets the proxy's page: few are sent meanwhile, and afterwards all are answered."""
    with bench(40) as b:
        b.after(ANSWER)
        sends, begin = 0, b.now
        flying: list[Lease] = []
        while True:
            outcome = PAGE if b.now < begin + 3600 else ANSWER
            grant = b.exchange(*[b.report(lease, outcome) for lease in flying], want=8)
            if grant.finished:
                break
            flying = list(grant.leases)
            sends += len(flying) if b.now < begin + 3600 else 0
            b.now += 0.0 if flying else grant.wait
        assert (b.count(TaskState.SUCCEEDED), b.count(TaskState.FAILED)) == (40, 0)
        assert sends < 400


@pytest.mark.parametrize("bad", [{1}, {3}, {6}, {5, 6}, {1, 2, 3, 4, 5, 6}, {3, 4, 5, 6}])
def test_a_refusal_that_is_quicker_than_the_answers_stops_no_run(bad: set[int]) -> None:
    """A filter refuses some tasks with a 403 at once; the others' answers take five seconds. Those that are at fault
    fail, be they the last ones; that all would fail, two say where none was answered, three where some were.
    """
    with bench(6) as b:
        grant, asked = b.exchange(want=8), 0
        flying: list[tuple[float, Lease]] = []
        while not (grant.finished or grant.stop):
            flying += [(b.now + (0.05 if lease.task_id in bad else 5.0), lease) for lease in grant.leases]
            asked += sum(lease.task_id in bad for lease in grant.leases)
            if not flying or (grant.wait < math.inf and b.now + grant.wait < min(at for at, _ in flying)):
                b.now += grant.wait
                grant = b.exchange(want=8 - len(flying))
                continue
            at, lease = min(flying, key=lambda each: each[0])
            flying.remove((at, lease))
            b.now = at
            outcome = failure(FailureClass.PERMISSION, status=403) if lease.task_id in bad else ANSWER
            grant = b.exchange(b.report(lease, outcome), want=8 - len(flying))
        everybody = len(bad) > 3
        assert (grant.stop is not None) == everybody
        assert b.count(TaskState.FAILED) == (0 if everybody else len(bad))
        assert everybody or b.count(TaskState.SUCCEEDED) == 6 - len(bad)
        assert asked <= 4 * len(bad)


def test_what_waited_goes_before_what_was_never_sent() -> None:
    """A task that comes back is not overtaken by the rest of the file."""
    with bench(5) as b:
        (first,) = b.exchange().leases
        b.exchange(b.report(first, Released()), want=0)
        (again,) = b.exchange().leases
        assert again.task_id == first.task_id


def test_what_was_cut_off_is_unknown_and_sent_again_or_held() -> None:
    """It may have been paid for: counted so, and with --in-flight hold left for a person."""
    for hold, state in ((False, TaskState.PENDING), (True, TaskState.HELD)):
        with bench(1, hold=hold) as b:
            b.after(Abandoned())
            assert b.row("SELECT outcome, possibly_charged FROM attempt") == ("unknown", 1)
            assert b.count(state) == 1


def test_a_request_larger_than_the_whole_limit_is_never_sent() -> None:
    """It fails at once, with both numbers in the message."""
    with bench(2) as b:
        window = Window(dimension=Dimension.TOKENS, limit=5, remaining=5, reset_after=1.0)
        (lease,) = b.exchange().leases
        b.exchange(b.report(lease, Success(status=200, body=b"{}", quota=Quota((window,)))), want=0)
        b.now += 60
        assert b.exchange().leases == ()
        b.exchange()
        state, message = b.row("SELECT error_class, message FROM errors")
        assert state == "request_too_large"
        assert "the limit is 5" in str(message)


def test_limit_takes_the_first_tasks_of_the_file() -> None:
    """Only those are leased, and then the run is finished."""
    with bench(5, limit=2) as b:
        leases = b.exchange(want=8).leases
        assert [lease.custom_id for lease in leases] == ["t0"]
        leases = b.exchange(b.report(leases[0], ANSWER), want=8).leases
        assert [lease.custom_id for lease in leases] == ["t1"]
        assert b.exchange(b.report(leases[0], ANSWER), want=8).finished


def test_a_row_a_second_for_the_screens() -> None:
    """However often it is asked, at most one sample a second."""
    with bench(1) as b:
        for _ in range(250):
            b.exchange(want=0)
        assert b.row("SELECT count(*) <= 3, count(*) > 0 FROM sample") == (1, 1)


_OUTCOMES = st.sampled_from(
    [
        ANSWER,
        ANSWER,
        Released(),
        Abandoned(),
        *(failure(kind) for kind in FailureClass if kind not in (FailureClass.AUTH, FailureClass.QUOTA_WINDOW)),
        failure(FailureClass.UNREACHABLE, sent=False),
    ]
)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.lists(_OUTCOMES, max_size=4), st.floats(0, 100)), max_size=40))
def test_the_accounts_hold_whatever_comes(steps: list[tuple[int, list[Outcome], float]]) -> None:
    """In memory, in the tally and in the tasks the same numbers, whose sum is the job; no attempt is left over."""
    with bench(12) as b:
        flying: list[Lease] = []
        for want, outcomes, passed in steps:
            b.now += passed
            reports = [b.report(flying.pop(0), outcome) for outcome in outcomes[: len(flying)]]
            flying += b.exchange(*reports, want=want).leases
            b.store.check_accounts(b.job_id)
            held = b.coordinator.standing(b.now).counts
            assert {s: held[s] for s in TaskState} == {s: b.store.counts(b.job_id)[s] for s in TaskState}
            assert held.total == 12
            assert len({lease.task_id for lease in flying}) == len(flying)
        b.exchange(*[b.report(lease, ANSWER) for lease in flying], want=0)
        open_attempts = b.row("SELECT count(*) FROM attempt WHERE outcome IS NULL")[0]
        unsendable = b.count(TaskState.RUNNING)
        assert open_attempts == unsendable
        results, succeeded = b.row(
            "SELECT (SELECT count(*) FROM result), (SELECT count(*) FROM task WHERE state = 'succeeded')"
        )
        assert results == succeeded


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32))
def test_every_job_comes_to_its_end(seed: int) -> None:
    """Under random trouble that ends some day, no task is lost and the coordinator never waits for nothing."""
    rng = Random(seed)
    trouble = [FailureClass.SERVER_ERROR, FailureClass.RATE_LIMIT, FailureClass.CONCURRENCY, FailureClass.UNREACHABLE]
    with bench(8) as b:
        flying: list[Lease] = []
        for _ in range(2000):
            reports = []
            for lease in flying:
                bad = rng.random() < 0.4
                reports.append(b.report(lease, failure(rng.choice(trouble)) if bad else ANSWER))
            grant = b.exchange(*reports, want=8)
            flying = list(grant.leases)
            if grant.finished:
                break
            if not flying:
                assert grant.wait < math.inf
                b.now += grant.wait
        assert b.count(TaskState.SUCCEEDED) + b.count(TaskState.FAILED) == 8
        assert b.exchange().finished
