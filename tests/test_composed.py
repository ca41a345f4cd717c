"""The servers of tests/bench/kinds.py: what each part does, and what a client needs who knows everything."""

import subprocess
import sys
from math import ceil
from pathlib import Path
from random import Random
from typing import Any

import pytest
from composed import (
    USUAL,
    Composed,
    Others,
    Quota,
    all_tokens,
    always,
    exact,
    shortest,
    usual,
    visit,
)
from cores import Bucket, Core, Fixed, Sliding, Weighted
from strange_servers import START
from telling import anthropic, draft6, draft8, github, openai, written

NOW = START + 10.0  # half a minute before one begins on the clock
FEW = (60, 60.0)


def counts(core: Core, **options: Any) -> Composed:
    return Composed(quotas=[Quota(core)], **options)


def needed(server: Composed, tasks: int = 180) -> float:
    """Seconds, with answers of one."""
    return shortest(server, tasks, NOW, Random(1), usual, lambda _: 1.0)


def passed(server: Composed, now: float, *, count: int = 100) -> int:
    return sum(server.admit(USUAL, now) is not None for _ in range(count))


@pytest.mark.parametrize(
    ("core", "seconds"),
    [
        (Bucket(*FEW), 120),
        (Bucket(*FEW, burst=10), 170),
        (Bucket(*FEW, burst=10, step=5.0), 170),
        (Fixed(*FEW), 90),
        (Fixed(*FEW, aligned=False), 120),
        (Sliding(*FEW), 120),
        (Weighted(*FEW), 151),
    ],
)
def test_three_limits_worth_takes_who_knows_everything(core: Core, seconds: float) -> None:
    """Each as its algorithm gives back."""
    assert needed(counts(core)) == pytest.approx(seconds + 1, abs=0.02)


def test_places_and_queues_and_others_and_changes_are_reckoned_with() -> None:
    """What a client needs where something else binds."""
    assert needed(Composed(quotas=[], places=4)) == pytest.approx(45)
    assert needed(counts(Bucket(1, 1, burst=1), queue=5.0)) == pytest.approx(180, abs=0.01)
    assert needed(counts(Fixed(*FEW), others=[Others(0.0, 30.0, 30)])) == pytest.approx(271, abs=0.01)
    assert needed(counts(Fixed(*FEW), changes=[(29.0, 2.0)])) == pytest.approx(31, abs=0.01)


def test_a_charge_that_comes_afterwards_is_no_gift() -> None:
    """All might leave before the first answer; the time that counts is that of the tokens."""
    server = Composed(quotas=[Quota(Bucket(6000, 60), all_tokens, afterwards=True)])
    assert needed(server) == pytest.approx(121, abs=0.01)


def test_a_limit_is_let_in_and_the_true_wait_is_said() -> None:
    """A moment before it is over it refuses, and after it one passes."""
    for core in (Bucket(*FEW), Fixed(*FEW), Sliding(*FEW)):
        server = counts(core)
        assert passed(server, NOW) == 60
        wait = core.wait(1.0, NOW)
        assert wait > 0
        assert server.admit(USUAL, NOW + wait - 0.001) is None
        assert server.admit(USUAL, NOW + wait + 0.001) == 0.0


def test_refusals_may_count_and_may_ban() -> None:
    """Whoever was refused has to wait longer."""
    assert passed(counts(Sliding(*FEW), counts_refused=True), NOW) == 60
    banned = counts(Bucket(*FEW), ban=10.0, asks=exact)
    assert passed(banned, NOW, count=61) == 60
    assert banned.refusal(USUAL, NOW) == {"Retry-After": "10"}
    assert (passed(banned, NOW + 9.9), passed(banned, NOW + 10.1)) == (0, 10)


def test_what_is_told() -> None:
    """By each dialect, of a bucket of which three were taken."""
    core = Bucket(60, 60, burst=10)
    core.take(3.0, NOW)
    assert openai(core, fields="rt")(NOW) == {
        "x-ratelimit-remaining-requests": "7",
        "x-ratelimit-reset-requests": "3s",
    }
    assert github(core, ceil, ahead=2.0)(NOW)["x-ratelimit-reset"] == str(int(NOW + 5))
    assert draft6(core, reset="next", burst=True)(NOW) == {
        "RateLimit-Limit": "10",
        "RateLimit-Remaining": "7",
        "RateLimit-Reset": "0",
    }
    assert draft8(core)(NOW)["RateLimit-Policy"] == '"default";q=60;w=60'
    assert anthropic(core, "requests")(NOW)["anthropic-ratelimit-requests-reset"] == "2023-11-14T22:13:33Z"
    assert written(core, {"left": "{remaining} in {full}"})(NOW) == {"left": "7 in 3"}


def test_headers_may_be_old_and_dated() -> None:
    """For so many seconds they are what they were; the clock that they tell may be ahead."""
    core = Bucket(*FEW)
    server = counts(core, tells=[openai(core, fields="r")], stale=1.0, dated=30.0)
    told = [server.headers(at) for at in (NOW, NOW + 0.9, NOW + 1.0) if server.admit(USUAL, at) is not None]
    assert [headers["x-ratelimit-remaining-requests"] for headers in told] == ["59", "59", "58"]
    assert server.date(NOW) == {"Date": "Tue, 14 Nov 2023 22:14:00 GMT"}


def told_bucket() -> Composed:
    core = Bucket(600, 60)
    return counts(core, tells=[openai(core)])


def told_tokens() -> Composed:
    core = Bucket(6000, 60)
    return Composed(quotas=[Quota(core, all_tokens, afterwards=True)], tells=[openai(core, "tokens")])


def silent_log() -> Composed:
    return counts(Sliding(60, 10), asks=exact)


def few_places() -> Composed:
    return Composed(quotas=[], places=4, asks_when_full=always(1))


@pytest.mark.parametrize(
    ("make", "tasks", "efficiency", "refused"),
    [
        (told_bucket, 1200, 0.95, 0.005),
        (told_tokens, 320, 0.95, 0.005),
        (silent_log, 600, 0.9, 0.03),
        (few_places, 400, 0.6, 0.02),
    ],
)
def test_our_limiter_plays_with_them(make: Any, tasks: int, efficiency: float, refused: float) -> None:
    """And never beats who knows everything."""
    played = visit(make, tasks, latency=lambda rng: rng.uniform(0.1, 0.4))
    assert efficiency <= played.efficiency <= 1.01
    assert played.refused_share <= refused


def test_the_benchmark_prints_a_row_for_each_kind_and_latency() -> None:
    """With its target and what became of it."""
    command = [sys.executable, str(Path(__file__).with_name("bench") / "kinds.py")]
    asked = ["--kind", "^tiny 2/60 (fixed told|bucket silent)$", "--latency", "short,2s"]
    done = subprocess.run(command + asked, capture_output=True, text=True, timeout=60, check=False)
    rows = done.stdout.splitlines()[1:-1]
    assert [row.split()[2:5] for row in rows][:2] == [["fixed", "told", "short"], ["fixed", "told", "2s"]], done.stderr
    assert [row.split()[-1] for row in rows][2:] == ["-", "-"]
    assert done.stdout.splitlines()[-1].startswith("4 rows, ")
