"""The last word of a run, the status of a job, and the story of a task."""

import json
from dataclasses import replace
from datetime import UTC
from typing import Any

import pytest
from moment import NOW, progress

from batchrunner.exits import ExitCode
from batchrunner.record import Answer, Attempt, Change, ErrorGroup, Job, Output, Record, Run, Spending, Story, Totals
from batchrunner.report.hints import HINTS, hint
from batchrunner.report.status import Status, status_json, status_text
from batchrunner.report.story import show_text
from batchrunner.report.summary import Summary, summary_event, summary_text
from batchrunner.task import Counts, FailureClass, TaskState, Usage

DONE = {TaskState.SUCCEEDED: 9950, TaskState.FAILED: 50}
HALF = {TaskState.SUCCEEDED: 4112, TaskState.FAILED: 38, TaskState.PENDING: 5845, TaskState.RUNNING: 5}
FILTERED = ErrorGroup(error_class="content_filter", count=41, custom_id="row-000118", code="1301", message="unsafe")
TOTALS = Totals(
    sends=10_043,
    refused=12,
    possibly_charged=3,
    usage=Usage(prompt_tokens=4_120_000, completion_tokens=290_000),
    p50=1.5,
    p95=4.9,
    started_at=NOW - 1877,
    ended_at=NOW,
)


def summary(states: dict[TaskState, int], code: ExitCode, **changed: Any) -> Summary:
    known: dict[str, Any] = {
        "db": "reviews.db",
        "exit": code,
        "seconds": 1877.0,
        "runs": 2,
        "seconds_all": 3209.0,
        "counts": Counts(states=states),
        "totals": TOTALS,
        "rate": 187.0,
        "bound_by": "slots",
        "resume": "batchrunner run reviews.csv",
    }
    return Summary(**(known | changed))


def test_the_end_of_a_run_with_failures() -> None:
    outputs = (Output(path="labels.jsonl", rows=9950), Output(path="labels.errors.jsonl", rows=1))
    text = summary_text(summary(DONE, ExitCode.SOME_FAILED, errors=(FILTERED,), outputs=outputs))
    assert (
        text
        == """\
Finished with failures in 31m17s (2 runs, 53m29s in all).

  succeeded      9,950   99.5%      tokens   4.12M in · 290k out · 0 cached
  failed            50    0.5%      speed    187 a minute, bound by slots
  rejected           0                       p50 1.5s p95 4.9s
                                    429s     12 of 10,043 sends (0.1%)
                                    charged  3 sends possibly: no answer came

  why it failed   tasks  example     what to do
  content_filter     41  row-000118  1301: edit the text, or accept and leave it out

  labels.jsonl             9,950 rows
  labels.errors.jsonl          1 row

  errors   batchrunner errors reviews.db
  retry    batchrunner retry reviews.db && batchrunner run reviews.csv"""
    )


def test_a_good_end_asks_for_nothing() -> None:
    text = summary_text(summary({TaskState.SUCCEEDED: 3}, ExitCode.OK, runs=1))
    assert text.startswith("Finished in 31m17s.\n")
    assert "batchrunner" not in text
    assert "cost" not in text


def test_an_interrupted_run_says_how_to_go_on_and_how_to_peek() -> None:
    text = summary_text(summary(HALF, ExitCode.INTERRUPTED))
    assert text.startswith("Stopped by you after 31m17s.   4,112 of 10,000 done, 38 failed, 5,850 left.\n")
    assert "resume   batchrunner run reviews.csv" in text
    assert "peek     batchrunner results reviews.db --partial" in text
    assert summary_text(summary(HALF, ExitCode.TERMINATED)).startswith("Stopped by a signal after")


def test_a_stopped_run_says_why_and_that_nothing_is_lost() -> None:
    text = summary_text(summary(HALF, ExitCode.STOPPED_PROVIDER, reason="the account has no balance (code 1113)."))
    assert text.startswith(
        "Stopped after 31m17s: the account has no balance (code 1113). 38 failed, 5,850 stay pending; nothing is lost."
    )


@pytest.mark.parametrize("code", list(ExitCode))
def test_every_exit_has_its_words(code: ExitCode) -> None:
    assert code.meaning
    assert code.label == code.label.lower()
    assert summary_text(summary(HALF, code)).splitlines()[0].endswith(".")
    assert summary_event(summary(HALF, code))["exit"] == code


def test_exit_codes_are_the_published_ones() -> None:
    assert {code.value: code.label for code in ExitCode} == {
        0: "ok",
        1: "cannot-start",
        2: "usage",
        3: "some-failed",
        4: "stopped-provider",
        5: "stopped-limit",
        6: "busy",
        7: "stopped-later",
        70: "internal",
        130: "interrupted",
        143: "interrupted",
    }


def test_simulated_answers_are_called_so() -> None:
    assert "simulator" in summary_text(summary(DONE, ExitCode.OK, simulated=True))
    assert "simulator" not in summary_text(summary(DONE, ExitCode.OK))


def test_a_summary_in_ascii_is_ascii() -> None:
    group = ErrorGroup(error_class="timeout", count=1, custom_id="行-1\x1b[2J", code=None, message=None)
    text = summary_text(summary(DONE, ExitCode.SOME_FAILED, errors=(group,)), ascii_only=True)
    assert text.isascii()
    assert "\x1b" not in summary_text(summary(DONE, ExitCode.SOME_FAILED, errors=(group,)))


def test_paths_in_commands_are_quoted() -> None:
    assert "results 'my job.db' --partial" in summary_text(summary(HALF, ExitCode.INTERRUPTED, db="my job.db"))


def test_the_summary_event_adds_up() -> None:
    told = json.loads(json.dumps(summary_event(summary(HALF, ExitCode.INTERRUPTED, errors=(FILTERED,)))))
    assert (told["event"], told["exit"], told["name"]) == ("summary", 130, "interrupted")
    parts = ("succeeded", "failed", "held", "cancelled", "pending")
    assert sum(told[part] for part in parts) == 10_000
    assert told["tokens"] == {"in": 4_120_000, "out": 290_000, "cached": 0, "reasoning": 0}
    assert told["classes"] == {"content_filter": 41}
    assert told["resume"] == "batchrunner run reviews.csv"
    assert summary_event(summary(DONE, ExitCode.OK))["resume"] is None


# -- hints


@pytest.mark.parametrize("kind", list(FailureClass))
def test_every_class_of_failure_says_what_happened_and_what_to_do(kind: FailureClass) -> None:
    told = hint(kind.value)
    assert told is HINTS[kind]
    for sentence in (told.happened, told.what_to_do):
        assert len(sentence) > 10
        assert not sentence.endswith(".")


def test_a_class_of_a_newer_version_has_a_hint_too() -> None:
    assert "show" in hint("schema_mismatch").what_to_do


# -- status

JOB = Job(id=1, name="reviews", source="/jobs/reviews.csv", loading=False, settings="{}", created_at=NOW)
RUN = Run(
    id=2,
    started_at=NOW - 1332,
    ended_at=None,
    pid=4711,
    host="box",
    version="1",
    endpoint="https://x/v1",
    settings="{}",
    exit_code=None,
    reason=None,
)
STOPPED = Run(
    id=2,
    started_at=NOW - 1332,
    ended_at=NOW - 60,
    pid=4711,
    host="box",
    version="1",
    endpoint="https://x/v1",
    settings="{}",
    exit_code=4,
    reason="no balance",
)


def status(states: dict[TaskState, int] = HALF, **changed: Any) -> Status:
    known: dict[str, Any] = {"job": JOB, "counts": Counts(states=states, rejected=2)}
    return Status(**(known | changed))


def test_a_running_job_shows_its_gauges() -> None:
    text = status_text(status(run=RUN, alive=True, progress=progress()), NOW, 80, zone=UTC)
    assert "running for 22m12s (since 14:09), pid 4711 on box" in text
    assert "◀ limiting" in text


def test_a_running_job_says_which_lane_rests() -> None:
    rests = Change(at=NOW, what="b/m: lane", old="", new="rests until 2026-11-30T07:00:00Z", evidence="used up")
    told = status(run=RUN, alive=True, progress=progress(), resting=(rests,))
    assert "b/m: lane rests until 2026-11-30T07:00:00Z: used up" in status_text(told, NOW, 80, zone=UTC)
    assert status_json(told, NOW)["resting"] == [
        {"lane": "b/m", "standing": "rests until 2026-11-30T07:00:00Z", "reason": "used up"}
    ]


@pytest.mark.parametrize(
    ("changed", "state", "said"),
    [
        ({}, "new", "never run"),
        ({"run": STOPPED}, "stopped", "stopped 1m00s ago (14:30): no balance"),
        ({"run": STOPPED, "states": DONE}, "finished", "finished 1m00s ago"),
        ({"run": RUN}, "killed", "was killed"),
        ({"job": Job(id=1, name="r", source="/r", loading=True, settings="{}", created_at=NOW)}, "loading", "run'"),
    ],
)
def test_a_job_at_rest_says_how_it_came_to_rest(changed: dict[str, Any], state: str, said: str) -> None:
    told = status(**changed)
    text = status_text(told, NOW, 80, zone=UTC)
    assert said in text
    assert "rejected" in text
    assert status_json(told, NOW)["state"] == state


def test_status_as_json_adds_up() -> None:
    told = json.loads(json.dumps(status_json(status(run=RUN, alive=True, progress=progress()), NOW)))
    assert (told["state"], told["total"], told["pending"], told["rejected"]) == ("running", 10_000, 5850, 2)
    assert told["run"]["pid"] == 4711
    assert told["progress"]["event"] == "progress"


def test_status_lists_failures_and_can_be_ascii() -> None:
    text = status_text(status(run=STOPPED, errors=(FILTERED,)), NOW, 80, ascii_only=True)
    assert "content_filter" in text
    assert text.isascii()


# -- the story of a task


def attempt(number: int, outcome: str | None, **changed: Any) -> Attempt:
    known: dict[str, Any] = {"id": number, "run_id": 1, "number": number, "outcome": outcome, "leased_at": NOW}
    return Attempt(**(known | changed))


def story(state: TaskState, *attempts: Attempt, **changed: Any) -> Story:
    known: dict[str, Any] = {
        "task_id": 118,
        "position": 120,
        "custom_id": "row-000118",
        "state": state,
        "error_class": None,
        "attempts": len(attempts),
        "endpoint": "chat/completions",
        "model": "glm-4",
        "request": '{"messages":[]}',
        "row": None,
    }
    return Story(job="reviews", record=Record(**(known | changed)), attempts=attempts)


def test_streams_tell_the_time_to_their_first_token() -> None:
    """In the summary of a run and in the story of a task; nothing is said where nothing was streamed."""
    streamed = summary(DONE, ExitCode.OK, totals=replace(TOTALS, first_token_p50=0.42))
    assert "streams  first token p50 0.4s" in summary_text(streamed)
    assert summary_event(streamed)["first_token_p50"] == 0.42
    assert "first token" not in summary_text(summary(DONE, ExitCode.OK))
    told = attempt(1, "success", sent_at=NOW, finished_at=NOW + 3, first_token_at=NOW + 0.5)
    assert "success  3.0s  first token 0.5s" in show_text(story(TaskState.SUCCEEDED, told))


def test_the_figures_of_a_run_fit_on_a_screen_of_eighty() -> None:
    """Whatever there is to tell; a figure goes on below itself."""
    usage = Usage(prompt_tokens=4_120_000, completion_tokens=290_000, cached_tokens=190_000, reasoning_tokens=120_000)
    spent = Spending(currency="CNY", spent=3_880_000_000, unsettled=2_000_000, unknown=12_345, limit=5_000_000_000)
    totals = replace(TOTALS, usage=usage, spending=(spent,), refused=12_345, sends=1_234_567, possibly_charged=12_345)
    accounts = summary_text(summary(DONE, ExitCode.OK, totals=totals)).split("\n\n")[1]
    assert all(len(line) <= 80 for line in accounts.splitlines()), accounts
    assert "120k of them reasoning" in accounts


def test_the_story_of_an_answered_task_tells_every_attempt_and_the_answer() -> None:
    body = '{"choices":[{"message":{"content":"好\\nso"}}]}'
    text = show_text(
        story(
            TaskState.SUCCEEDED,
            attempt(1, "failure", status=429, error_class="rate_limit", code="1302", message="slow down"),
            attempt(2, "success", sent_at=NOW, finished_at=NOW + 1.5, usage=Usage(prompt_tokens=10)),
            row='{"text":"x"}',
            answer=Answer(status=200, body=body, finish_reason="stop", simulated=True, received_at=NOW),
        ),
        zone=UTC,
    )
    assert "row-000118  (reviews, task 118, line 120)" in text
    assert "succeeded by the simulator" in text
    assert "attempt 1  2025-11-23 14:31:31  failure  status 429  rate_limit  code 1302\n    slow down" in text
    assert "attempt 2  2025-11-23 14:31:31  success  1.5s  10 tokens in, 0 out" in text
    assert "answer\n    好\n    so\n" in text
    assert '    {\n      "text": "x"\n    }' in text


def test_the_story_of_a_failed_task_says_what_to_do_and_what_was_replied() -> None:
    text = show_text(
        story(
            TaskState.FAILED,
            attempt(1, "failure", error_class="timeout", reply="<html>\x1b[2J", possibly_charged=True),
            error_class="timeout",
        )
    )
    assert HINTS[FailureClass.TIMEOUT].what_to_do in text
    assert "possibly charged" in text
    assert "    <html>\ufffd[2J" in text


def test_the_story_of_a_task_in_flight_and_in_ascii() -> None:
    text = show_text(story(TaskState.RUNNING, attempt(1, None), custom_id="行"), ascii_only=True)
    assert "in flight" in text
    assert text.isascii()
