"""One task told in full: what was asked, every attempt, what came. All of it cleaned for the terminal."""

import json
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, tzinfo

from batchrunner.answer import answer_text
from batchrunner.money import in_ascii, money_text
from batchrunner.record import Attempt, Record, Story
from batchrunner.report.clean import clean, clean_lines
from batchrunner.report.hints import hint
from batchrunner.report.numbers import latency
from batchrunner.task import TaskState

INDENT = "    "


def show_text(story: Story, *, ascii_only: bool = False, zone: tzinfo | None = None) -> str:
    """The story of a task, as ``batchrunner show`` prints it."""
    record = story.record
    text = [
        f"{clean(record.custom_id)}  ({clean(story.job)}, task {record.task_id}, line {record.position})",
        *_standing(record),
        f"  asked   {clean(record.endpoint)}" + (f", model {clean(record.model)}" if record.model else ""),
    ]
    if record.row is not None:
        text += ["", "row", *_body(record.row)]
    text += ["", "request", *_body(record.request)]
    for attempt in story.attempts:
        text += ["", *_attempt(attempt, zone)]
    if record.answer is not None:
        text += ["", "answer", *_indented(answer_text(record.answer.body)), "", "response", *_body(record.answer.body)]
    joined = "\n".join(text)
    return in_ascii(joined) if ascii_only else joined


def _standing(record: Record) -> Iterator[str]:
    simulated = " by the simulator" if record.answer is not None and record.answer.simulated else ""
    if record.error_class is None:
        yield f"  state   {record.state.value}{simulated}"
        return
    told = hint(record.error_class)
    yield f"  state   {record.state.value}, {clean(record.error_class)}: {told.happened}"
    if record.state is TaskState.FAILED:
        yield f"  to do   {told.what_to_do}"


def _attempt(attempt: Attempt, zone: tzinfo | None) -> Iterator[str]:
    at = attempt.leased_at if attempt.sent_at is None else attempt.sent_at
    words = [
        f"attempt {attempt.number}",
        f"{datetime.fromtimestamp(at, UTC).astimezone(zone):%Y-%m-%d %H:%M:%S}",
        attempt.outcome or "in flight",
        "" if attempt.latency is None else latency(attempt.latency),
        "" if attempt.first_token is None else f"first token {latency(attempt.first_token)}",
        "" if attempt.status is None else f"status {attempt.status}",
        clean(attempt.error_class or ""),
        f"code {clean(attempt.code)}" if attempt.code else "",
        _tokens(attempt),
        _cost(attempt),
        "possibly charged" if attempt.possibly_charged else "",
        f"request id {clean(attempt.request_id)}" if attempt.request_id else "",
    ]
    yield "  ".join(word for word in words if word)
    if attempt.message:
        yield INDENT + clean(attempt.message)
    if attempt.reply:
        yield from _body(attempt.reply)


def _tokens(attempt: Attempt) -> str:
    usage = attempt.usage
    return "" if usage is None else f"{usage.prompt_tokens:,} tokens in, {usage.completion_tokens:,} out"


def _cost(attempt: Attempt) -> str:
    if attempt.spent is not None:
        return f"cost {money_text(attempt.spent, attempt.currency)}"
    if attempt.reserved is None:
        return ""
    return f"cost at most {money_text(attempt.reserved, attempt.currency)}"


def _body(body: str | bytes) -> list[str]:
    """A body for reading: JSON is set out, anything else stands as it came."""
    text = body if isinstance(body, str) else body.decode("utf-8", "replace")
    with suppress(ValueError, RecursionError):
        text = json.dumps(json.loads(text), ensure_ascii=False, indent=2)
    return _indented(text)


def _indented(text: str) -> list[str]:
    return [INDENT + line for line in clean_lines(text).split("\n")]
