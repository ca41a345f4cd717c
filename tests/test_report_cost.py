"""Money on screens: what is known is told with its budget, what is not known is told so or left out, never as 0."""

import json
from dataclasses import replace
from datetime import UTC
from typing import Any

from moment import NOW, progress
from test_report_summary import DONE, TOTALS, attempt, status, story, summary

from batchrunner.exits import ExitCode
from batchrunner.jobfile.flat import OURS, flat_line
from batchrunner.jobfile.openai import result_line
from batchrunner.record import Record, Spending
from batchrunner.report.cost import cost_json, cost_text
from batchrunner.report.progress import event, lines, plain_line
from batchrunner.report.status import status_json, status_text
from batchrunner.report.story import show_text
from batchrunner.report.summary import summary_event, summary_text
from batchrunner.task import TaskState

SPENT = Spending(currency="CNY", spent=3_880_000_000, unsettled=2_000_000, limit=5_000_000_000)
ONE = {
    "currency": "CNY",
    "spent": 3.88,
    "possibly_charged": 0.002,
    "sends_of_unknown_cost": 0,
    "budget": 5.0,
}
JSON = {**ONE, "others": []}


def test_spent_budget_and_what_was_perhaps_charged() -> None:
    assert cost_text([SPENT]) == "¥3.88 of ¥5.00 (+ at most ¥0.0020 possibly charged)"
    assert cost_text([replace(SPENT, unsettled=0, limit=None, unknown=1)]) == "¥3.88 (+ 1 send of unknown cost)"


def test_several_currencies_are_not_added_up() -> None:
    dollars = Spending(currency="USD", spent=1_000_000_000)
    assert cost_text([replace(SPENT, unsettled=0, limit=None), dollars]) == "¥3.88 and $1.00"
    told = cost_json([SPENT, dollars])
    assert told is not None
    assert (told["currency"], told["spent"], told["budget"]) == ("USD", 1.0, None)
    assert told["others"] == [ONE]  # which have no others of their own


def test_what_is_not_known_is_not_shown_as_nothing() -> None:
    unknown = Spending(unknown=12)
    assert cost_text([unknown]) == ""
    told = cost_json([unknown])
    assert told is not None
    assert (told["spent"], told["sends_of_unknown_cost"]) == (None, 12)
    assert cost_json([Spending()]) is None
    assert "cost" not in summary_text(summary(DONE, ExitCode.OK))
    assert "cost" not in plain_line(progress(), NOW, zone=UTC)
    assert not any(line.startswith("cost") for line in lines(progress(), NOW, 110, zone=UTC))


def test_the_summary_tells_the_cost() -> None:
    told = summary(DONE, ExitCode.OK, totals=replace(TOTALS, spending=(SPENT,)))
    assert "      cost     ¥3.88 of ¥5.00 (+ at most ¥0.0020" in summary_text(told)
    assert "               possibly charged)" in summary_text(told)
    assert summary_event(told)["cost"] == JSON
    assert "CNY 3.88 of CNY 5.00" in summary_text(told, ascii_only=True)


def test_the_status_tells_the_cost() -> None:
    told = status(spending=(SPENT,))
    assert "\n  cost ¥3.88 of ¥5.00 (+" in status_text(told, NOW, 80, zone=UTC)
    assert status_json(told, NOW)["cost"] == JSON


def test_the_display_has_a_bar_for_the_budget() -> None:
    moment = progress(
        spending=Spending(currency="USD", spent=500_000_000, limit=2_000_000_000),
        cost_at_end=790_000_000,
        limiting="budget",
    )
    (bar,) = [line for line in lines(moment, NOW, 110, zone=UTC) if line.startswith("cost")]
    assert bar.startswith("cost   ████████░░")
    assert bar.endswith("░ $0.50 of $2.00 · at end ≈ $0.79  ◀ limiting")
    assert " limit=budget " in plain_line(moment, NOW, zone=UTC)
    assert " cost=0.50/2.00USD " in plain_line(moment, NOW, zone=UTC)
    told = event(moment, NOW)
    assert (told["cost"], told["budget"], told["currency"], told["cost_at_end"]) == (0.5, 2.0, "USD", 0.79)


def test_the_story_of_a_task_tells_what_each_attempt_cost() -> None:
    lost = attempt(1, "failure", reserved=4_000_000, currency="CNY", possibly_charged=True)
    paid = attempt(2, "success", reserved=4_000_000, spent=1_500_000, currency="CNY")
    text = show_text(story(TaskState.SUCCEEDED, lost, paid), zone=UTC)
    assert "cost at most ¥0.0040" in text
    assert "cost ¥0.0015" in text
    assert "cost" not in show_text(story(TaskState.FAILED, attempt(1, "failure")), zone=UTC)


def record(**changed: Any) -> Record:
    return replace(story(TaskState.SUCCEEDED).record, **changed)


def test_result_files_tell_what_a_task_cost() -> None:
    """Over all its attempts, so that the column adds up to what the screen says; nothing where it is not known."""
    assert OURS.index("br_currency") == OURS.index("br_cost") + 1
    known = json.loads(flat_line(record(cost=1_500_000, currency="CNY")))
    assert (known["br_cost"], known["br_currency"]) == (0.0015, "CNY")
    assert json.loads(flat_line(record()))["br_cost"] is None
    extras = json.loads(result_line(record(cost=1_500_000, currency="CNY"), extras=True))["batchrunner"]
    assert (extras["cost"], extras["currency"]) == (0.0015, "CNY")
