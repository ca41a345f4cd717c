"""Servers that refuse nothing and queue everything (vLLM, llama.cpp): as many in flight as they need, hardly more."""

import heapq
from collections import deque
from dataclasses import dataclass
from random import Random

import pytest

from batchrunner.limits.slots import Slots


@dataclass(slots=True)
class Queued:
    """How a run went. Seconds; ``most``: allowed in flight at any time."""

    elapsed: float
    longest: float
    most: int
    last: int


def answered(count: int, *, workers: int, seconds: float, spread: float, seed: int = 1) -> Queued:
    """*count* answers of a server with so many workers, as fast as the slots allow."""
    rng, slots, now = Random(seed), Slots(most=500), 0.0
    waiting: deque[tuple[float, int]] = deque()
    worked_on: list[tuple[float, float, int]] = []
    most, longest = 0, 0.0
    for _ in range(count):
        while slots.free > 0:
            slots.take()
            waiting.append((now, slots.in_flight))
        while waiting and len(worked_on) < workers:
            took = seconds * rng.lognormvariate(-(spread**2) / 2, spread)
            heapq.heappush(worked_on, (now + took, *waiting.popleft()))
        now, sent_at, beside = heapq.heappop(worked_on)
        slots.succeeded(now, beside=beside, took=now - sent_at)
        slots.give()
        most, longest = max(most, slots.limit), max(longest, now - sent_at)
    return Queued(now, longest, most, slots.limit)


@pytest.mark.parametrize("spread", [0.0, 0.4])
@pytest.mark.parametrize(("workers", "seconds"), [(1, 1.0), (1, 20.0), (4, 1.0), (4, 20.0), (16, 1.0), (64, 1.0)])
def test_growth_ends_where_answers_come_no_faster(workers: int, seconds: float, spread: float) -> None:
    """And stays there for hours: each new try ends where the last one did."""
    run = answered(3000, workers=workers, seconds=seconds, spread=spread)
    assert run.most <= 10 * workers + 30
    assert run.elapsed <= 1.15 * 3000 * seconds / workers + 20 * seconds


@pytest.mark.parametrize("spread", [0.0, 0.4, 0.8])
def test_one_slow_worker_is_not_asked_for_more_than_it_can_answer_in_time(spread: float) -> None:
    """A model on one's own computer: behind too many, a request would time out, and its work would be lost."""
    run = answered(1000, workers=1, seconds=20.0, spread=spread)
    assert run.most <= 20


@pytest.mark.parametrize("seconds", [0.3, 20.0, 300.0])
@pytest.mark.parametrize("spread", [0.0, 0.4, 0.8])
def test_a_server_that_works_on_all_of_them_is_given_all_it_may_have(seconds: float, spread: float) -> None:
    """However long its answers are, and however much they differ."""
    run = answered(20_000, workers=1000, seconds=seconds, spread=spread)
    assert run.most == 500
