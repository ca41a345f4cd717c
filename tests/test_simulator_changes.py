"""Limits change by themselves, at their time, and the scoreboard knows."""

import pytest

from batchrunner.errors import ConfigError
from batchrunner.simulator.changes import Change, parse_changes
from batchrunner.simulator.config import Limits, Rules
from batchrunner.simulator.desk import Desk, Ending
from batchrunner.simulator.questions import Endpoint

BODY = b'{"model":"m","messages":[{"role":"user","content":"%d"}]}'


def ask(desk: Desk, number: int, at: float) -> int:
    """The status of one request that is answered at once."""
    visit = desk.receive(Endpoint.CHAT, BODY % number, at)
    desk.finish(visit, Ending.WRITTEN, at)
    return visit.reply.status


def test_spec_is_read_in_the_order_of_time() -> None:
    assert parse_changes("60:rpm=none, 20:tpm=600") == (Change(20.0, "tpm", 600), Change(60.0, "rpm", None))
    assert parse_changes("") == ()


@pytest.mark.parametrize(
    "spec", ["20", "20:rpm", "rpm=3", "20:rpm=x", "-1:rpm=3", "nan:rpm=3", "20:rpm=0", "20:speed=3"]
)
def test_spec_that_makes_no_sense_is_refused(spec: str) -> None:
    with pytest.raises(ConfigError):
        Rules(changes=spec)


def test_limit_changes_so_long_after_the_first_request() -> None:
    desk = Desk(Rules(rpm=2, window=10, algorithm="fixed", changes="5:rpm=3"), now=0.0)

    statuses = [ask(desk, number, at) for number, at in enumerate([100.0, 100.0, 104.9, 105.0, 105.0])]

    assert statuses == [200, 200, 429, 200, 429]
    assert desk.limits == Limits(rpm=3)


def test_change_counts_from_its_time_not_from_when_it_was_noticed() -> None:
    """60 a minute, and from 10 s on 120: after 60 at once, 10 by then, 20 in the 10 s after."""
    desk = Desk(Rules(rpm=60, changes="10:rpm=120"), now=0.0)
    for number in range(60):
        ask(desk, number, 0.0)
    late = [ask(desk, 60 + number, 20.0) for number in range(31)]

    assert late.count(200) == 30
    assert desk.ledger.score().shortest == pytest.approx(20)


def test_change_by_hand_comes_after_those_already_due() -> None:
    desk = Desk(Rules(rpm=60, changes="10:rpm=120"), now=0.0)
    ask(desk, 0, 0.0)

    desk.set_limits({"rpm": 5}, 20.0)
    ask(desk, 1, 30.0)

    assert desk.limits.rpm == 5
