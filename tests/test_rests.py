"""Allowances of which nobody says when they are renewed: the lane rests, one request asks now and then, then all go.

The server is Mistral's: its answers tell what is left of a month, and never until when; its refusals tell the same, or
nothing.
"""

import json
import math
from itertools import pairwise
from random import Random

import pytest
from test_coordination import ANSWER, Bench, bench, failure

from batchrunner.api.reply import read_reply
from batchrunner.config import LimitSettings
from batchrunner.limits.limiter import Limiter
from batchrunner.provider import load_provider
from batchrunner.quota import Dimension, Quota, Window
from batchrunner.rest import MOST, TOLD, UNTOLD, Rest
from batchrunner.retry import Stop
from batchrunner.task import Failure, FailureClass, Outcome, TaskState

MISTRAL = load_provider("mistral")
LIMIT, COSTS = 8000, 505
HOUR = 3600.0
REFUSAL = b'{"object":"error","message":"Rate limit exceeded","type":"rate_limited","param":null,"code":"1300"}'
REPLY = json.dumps(
    {
        "choices": [{"message": {"content": "yes"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 5, "completion_tokens": COSTS - 5},
    }
).encode()


class Month:
    """A month's tokens; ``tells``: whether a refusal has the headers of an answer."""

    def __init__(self, *, tells: bool, left: int = LIMIT) -> None:
        self.left, self.tells = left, tells
        self.sends: list[float] = []

    def reply(self, now: float) -> Outcome:
        self.sends.append(now)
        is_answered = self.left > 0
        if is_answered:
            self.left -= COSTS
        headers = [
            ("x-ratelimit-limit-req-minute", "600"),
            ("x-ratelimit-remaining-req-minute", "550"),
            ("x-ratelimit-limit-tokens-month", str(LIMIT)),
            ("x-ratelimit-remaining-tokens-month", str(max(self.left, 0))),
        ]
        status, body = (200, REPLY) if is_answered else (429, REFUSAL)
        return read_reply(status, headers if is_answered or self.tells else [], body, now=now, provider=MISTRAL)


def run(b: Bench, server: Month, *, until: float) -> list[str]:
    """Answer all that goes, to the end of the job or to *until*. Returns the notices."""
    said: list[str] = []
    flying = list(b.exchange(want=8).leases)
    while flying or b.now < until:
        grant = b.exchange(*[b.report(lease, server.reply(b.now)) for lease in flying], want=8)
        said += grant.notices
        flying = list(grant.leases)
        if grant.finished or grant.stop is not None:
            break
        if not flying:
            assert grant.wait < math.inf
            b.now += grant.wait
    return said


def written(b: Bench) -> list[str]:
    """What stands in the database of the lane's rests."""
    with b.store.transaction() as connection:
        return [row[0] for row in connection.exec_driver_sql("SELECT new FROM event WHERE what = 'lane' ORDER BY id")]


@pytest.mark.parametrize("tells", [True, False], ids=["told", "silent"])
def test_a_month_that_is_used_up_is_asked_after_once_an_hour_and_then_all_go(tells: bool) -> None:
    """The user hears of it, no task fails, and when the month begins one request finds it out."""
    with bench(60, patience=math.inf) as b:
        server, begin = Month(tells=tells), b.now
        said = run(b, server, until=begin + 10 * HOUR)
        late = [at for at in server.sends if at > begin + HOUR]
        assert 5 <= len(late) <= 10
        assert all(after - before > HOUR - 1 for before, after in pairwise(late))
        assert 1 <= len(said) <= 2
        assert "tokens a month are left" in said[0]
        assert "nothing says when there will be more, so one request asks after 15m00s" in said[0]
        assert b.coordinator.standing(b.now - 60).limiter.limiting == "allowance"
        *_, rests = written(b)
        assert rests.startswith("rests until 20")
        server.left, sends = 100 * LIMIT, len(server.sends)
        run(b, server, until=b.now + 2 * HOUR)
        assert b.count(TaskState.SUCCEEDED) == 60
        assert server.sends[sends + 1] - server.sends[sends] < 1.0
        assert written(b)[-2:] == [rests, "open"]


def test_a_month_that_was_used_up_before_is_found_by_one_request() -> None:
    with bench(9, patience=math.inf) as b:
        server = Month(tells=True, left=0)
        run(b, server, until=b.now + HOUR)
        assert len(server.sends) == 3  # at once, after a quarter and after three quarters


def test_without_patience_it_stops_the_run_until_later() -> None:
    with bench(9) as b:
        server = Month(tells=True, left=0)
        b.exchange(b.report(b.exchange().leases[0], server.reply(b.now)), want=0)
        stop = b.exchange().stop
        assert isinstance(stop, Stop)
        assert stop.later
        assert b.count(TaskState.PENDING) == 9


def test_without_patience_what_answers_told_is_enough_to_stop() -> None:
    """Nothing more is sent only to be refused, and the run does not wait for days without a word."""
    with bench(60) as b:
        server = Month(tells=True)
        run(b, server, until=b.now + HOUR)
        stop = b.exchange().stop
        assert isinstance(stop, Stop)
        assert "tokens a month are left" in stop.message
        assert len(server.sends) <= LIMIT / COSTS + 8


def test_a_later_run_asks_at_once_what_is_left() -> None:
    """What an earlier one learned of the month says nothing of today: it waited for all of it, without a word."""
    with bench(60) as b:
        server = Month(tells=True)
        run(b, server, until=b.now + HOUR)
        (lane,) = b.lanes
        later = Limiter(LimitSettings(), now=b.now + 60)
        later.believe(lane.limiter.beliefs(), now=b.now + 60)
        for _ in range(20):
            later.remember(b.now + 30, COSTS, b.now + 60)
        assert later.wait(COSTS, b.now + 60) < 1.0


def test_a_wait_of_hours_is_an_allowance_whatever_it_is_called() -> None:
    """A plain 429 that asks for more than an hour: said, and with --no-wait it stops the run."""
    too_long = failure(FailureClass.RATE_LIMIT, status=429, retry_after=9000.0)
    with bench(3, patience=math.inf) as b:
        assert "waiting for 2h30m, until " in b.after(too_long).notices[0]
    with bench(3) as b:
        assert isinstance(b.after(too_long).stop, Stop)


def test_the_reset_of_what_is_used_up_counts_where_no_wait_is_named() -> None:
    """OpenRouter's day: the instant stands in its body's headers."""
    day = Window(dimension=Dimension.REQUESTS, limit=50, remaining=0, reset_after=7200.0)
    with bench(3, patience=math.inf) as b:
        grant = b.after(failure(FailureClass.QUOTA_WINDOW, status=429, quota=Quota((day,))))
        assert "waiting for 2h00m, until " in grant.notices[0]


def test_after_a_rest_one_request_goes_alone() -> None:
    """The hour that was named may be wrong, and eight requests tell no more than one."""
    with bench(20, patience=math.inf) as b:
        leases = b.exchange(b.report(b.exchange().leases[0], ANSWER), want=8).leases
        assert len(leases) == 8
        used_up = failure(FailureClass.QUOTA_WINDOW, status=429, retry_after=600.0)
        b.exchange(*[b.report(lease, used_up) for lease in leases], want=8)
        b.now += 600
        (one,) = b.exchange(want=8).leases
        grant = b.exchange(b.report(one, used_up), want=8)
        assert (grant.leases, grant.notices) == ((), ())
        b.now += 600
        (one,) = b.exchange(want=8).leases
        assert len(b.exchange(b.report(one, ANSWER), want=8).leases) == 8


def test_a_rest_grows_to_an_hour_and_an_answer_ends_that() -> None:
    rest = Rest()
    assert [rest.seconds(None) for _ in range(4)] == [UNTOLD, 2 * UNTOLD, MOST, MOST]
    rest.answered()
    assert [rest.seconds(0.0) for _ in range(3)] == [TOLD, 2 * TOLD, 4 * TOLD]
    assert rest.seconds(9000.0) == 9000.0
    for _ in range(5000):
        assert Random(1).random() < rest.seconds(13.0) <= MOST


def test_a_refusal_for_a_minute_is_no_allowance() -> None:
    """A month is told beside it, and there is enough of that."""
    headers = [
        ("x-ratelimit-limit-req-minute", "60"),
        ("x-ratelimit-remaining-req-minute", "0"),
        ("x-ratelimit-limit-tokens-month", "8000"),
        ("x-ratelimit-remaining-tokens-month", "7000"),
    ]
    read = read_reply(429, headers, REFUSAL, now=0.0, provider=MISTRAL)
    assert isinstance(read, Failure)
    assert read.kind is FailureClass.RATE_LIMIT
    gone = [*headers[:3], ("x-ratelimit-remaining-tokens-month", "0")]
    read = read_reply(429, gone, REFUSAL, now=0.0, provider=MISTRAL)
    assert isinstance(read, Failure)
    assert (read.kind, read.message) == (
        FailureClass.QUOTA_WINDOW,
        "0 of 8,000 tokens a month are left: Rate limit exceeded",
    )
    read = read_reply(429, [*gone, ("retry-after", "9")], REFUSAL, now=0.0, provider=MISTRAL)
    assert isinstance(read, Failure)
    assert read.kind is FailureClass.RATE_LIMIT
