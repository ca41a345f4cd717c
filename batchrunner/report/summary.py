"""The last word of a run: how it ended, the accounts, why tasks failed and what to do, where the results are."""

import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import zip_longest
from textwrap import wrap
from typing import Any

from batchrunner.exits import ExitCode
from batchrunner.money import in_ascii
from batchrunner.record import ErrorGroup, LaneTotals, Output, Totals
from batchrunner.report.cells import cut, pad, width
from batchrunner.report.clean import clean
from batchrunner.report.cost import cost_json, cost_text
from batchrunner.report.hints import hint
from batchrunner.report.lanes import lane_table, lanes_json
from batchrunner.report.numbers import duration, latency, percent, short
from batchrunner.task import Counts, TaskState

LONGEST_ID = 32  # cells of an example's custom_id
ROOM = 35  # cells of a figure; with its name and the accounts on its left, 80
_DONE = (ExitCode.OK, ExitCode.SOME_FAILED)
_STOPPED = (ExitCode.STOPPED_PROVIDER, ExitCode.STOPPED_LIMIT, ExitCode.STOPPED_LATER)


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """A run that ended. ``reason``: why it stopped early, as half a sentence: "the account has no balance (code 1113)".

    ``seconds`` is this run's time, ``seconds_all`` that of all ``runs``. ``rate``: answers a minute, ``bound_by``: what
    limited it most of the time. ``resume`` is the command that goes on, ``db`` the database's path.
    """

    db: str
    exit: ExitCode
    reason: str = ""
    seconds: float
    runs: int
    seconds_all: float
    counts: Counts
    totals: Totals
    rate: float | None = None
    bound_by: str = ""
    errors: tuple[ErrorGroup, ...] = ()
    outputs: tuple[Output, ...] = ()
    resume: str
    simulated: bool = False
    lanes: tuple[LaneTotals, ...] = ()


def summary_text(summary: Summary, *, ascii_only: bool = False) -> str:
    """Paragraphs for a person, the first of which is one sentence or two."""
    paragraphs = [
        [_headline(summary)],
        list(_accounts(summary)),
        ["  every answer is canned: it came from the built-in simulator"] if summary.simulated else [],
        list(lane_table(summary.lanes)),
        list(error_table(summary.errors)),
        list(_outputs(summary.outputs)),
        list(_commands(summary)),
    ]
    text = "\n\n".join("\n".join(lines) for lines in paragraphs if lines)
    return in_ascii(text.replace(" ·", ",")) if ascii_only else text


def summary_event(summary: Summary) -> dict[str, Any]:
    """The last event of --json. Fields may be added, never changed."""
    counts, usage = summary.counts, summary.totals.usage
    return {
        "event": "summary",
        "exit": int(summary.exit),
        "name": summary.exit.label,
        "reason": summary.reason or None,
        "seconds": round(summary.seconds, 3),
        "runs": summary.runs,
        **counts_json(counts),
        "sends": summary.totals.sends,
        "rate_limited": summary.totals.refused,
        "possibly_charged": summary.totals.possibly_charged,
        "first_token_p50": summary.totals.first_token_p50,
        "tokens": {
            "in": usage.prompt_tokens,
            "out": usage.completion_tokens,
            "cached": usage.cached_tokens,
            "reasoning": usage.reasoning_tokens,
        },
        "cost": cost_json(summary.totals.spending),
        "lanes": lanes_json(summary.lanes),
        "classes": {group.error_class: group.count for group in summary.errors},
        "outputs": [{"path": output.path, "rows": output.rows} for output in summary.outputs],
        "simulated": summary.simulated,
        "resume": summary.resume if counts.left else None,
    }


def counts_json(counts: Counts) -> dict[str, int]:
    """The accounts, whose sum is the job; tasks in flight count as pending."""
    return {
        "succeeded": counts[TaskState.SUCCEEDED],
        "failed": counts[TaskState.FAILED],
        "rejected": counts.rejected,
        "held": counts[TaskState.HELD],
        "cancelled": counts[TaskState.CANCELLED],
        "pending": counts.left,
    }


def error_table(errors: tuple[ErrorGroup, ...]) -> Iterator[str]:
    """The failures by class, with an example and what to do; nothing if there are none."""
    if not errors:
        return
    rows = [("why it failed", "tasks", "example", "what to do")]
    for group in errors:
        example = cut(clean(group.custom_id), LONGEST_ID)
        code = f"{clean(group.code)}: " if group.code else ""
        rows.append((clean(group.error_class), f"{group.count:,}", example, code + hint(group.error_class).what_to_do))
    first, second, third = (max(width(row[column]) for row in rows) for column in range(3))
    for name, count, example, advice in rows:
        yield f"  {pad(name, first)}  {count:>{second}}  {pad(example, third)}  {advice}"


def _headline(s: Summary) -> str:
    failed, left = s.counts[TaskState.FAILED], s.counts.left
    reason = clean(s.reason).rstrip(".")
    if s.exit in _DONE:
        how = " with failures" if s.exit is ExitCode.SOME_FAILED else ""
        several = f" ({s.runs} runs, {duration(s.seconds_all)} in all)" if s.runs > 1 else ""
        return f"Finished{how} in {duration(s.seconds)}{several}."
    if s.exit in _STOPPED:
        why = reason or s.exit.meaning
        return f"Stopped after {duration(s.seconds)}: {why}. {failed:,} failed, {left:,} stay pending; nothing is lost."
    if s.exit in (ExitCode.INTERRUPTED, ExitCode.TERMINATED):
        who = "by you" if s.exit is ExitCode.INTERRUPTED else "by a signal"
        done = s.counts[TaskState.SUCCEEDED]
        return (
            f"Stopped {who} after {duration(s.seconds)}.   "
            f"{done:,} of {s.counts.total:,} done, {failed:,} failed, {left:,} left."
        )
    return f"Stopped: {reason or s.exit.meaning}."


def _accounts(s: Summary) -> Iterator[str]:
    left, right = list(_tasks(s.counts)), list(_traffic(s))
    room = max(map(width, left))
    for one, other in zip_longest(left, right, fillvalue=""):
        yield f"  {pad(one, room)}      {other}".rstrip()


def _tasks(counts: Counts) -> Iterator[str]:
    total = counts.total
    for name, count, always in (
        ("succeeded", counts[TaskState.SUCCEEDED], True),
        ("failed", counts[TaskState.FAILED], True),
        ("rejected", counts.rejected, True),
        ("held", counts[TaskState.HELD], False),
        ("cancelled", counts[TaskState.CANCELLED], False),
        ("left", counts.left, False),
    ):
        if count or always:
            share = percent(count, total) if total and count and name != "rejected" else ""
            yield f"{name:9}  {count:>9,}  {share:>6}"


def _traffic(s: Summary) -> Iterator[str]:
    totals, usage = s.totals, s.totals.usage
    tokens = [f"{short(usage.prompt_tokens)} in", f"{short(usage.completion_tokens)} out"]
    if usage.reasoning_tokens:
        tokens.append(f"{short(usage.reasoning_tokens)} of them reasoning")
    yield from _figure("tokens", *tokens, f"{short(usage.cached_tokens)} cached")
    if cost := cost_text(totals.spending):
        yield from _figure("cost", cost)
    speed = [] if s.rate is None else [f"{short(s.rate)} a minute"]
    if speed and s.bound_by not in ("", "none", "start"):
        speed[0] += f", bound by {clean(s.bound_by)}"
    if totals.p50 is not None:
        speed.append(f"p50 {latency(totals.p50)} p95 {latency(totals.p95)}")
    if speed:
        yield from _figure("speed", *speed)
    if totals.first_token_p50 is not None:
        yield from _figure("streams", f"first token p50 {latency(totals.first_token_p50)}")
    share = f" ({percent(totals.refused, totals.sends)})" if totals.refused else ""
    yield from _figure("429s", f"{totals.refused:,} of {totals.sends:,} sends{share}")
    if totals.possibly_charged:
        sends = "send" if totals.possibly_charged == 1 else "sends"
        yield from _figure("charged", f"{totals.possibly_charged:,} {sends} possibly: no answer came")


def _figure(name: str, *parts: str) -> Iterator[str]:
    """A figure and its parts, on as many lines as they need; a part is broken only where it is too long for one."""
    line = ""
    for part in (piece for each in parts for piece in wrap(each, ROOM, break_long_words=False)):
        if line and width(f"{line} · {part}") > ROOM:
            yield f"{name:7}  {line}"
            name, line = "", ""
        line = f"{line} · {part}" if line else part
    yield f"{name:7}  {line}"


def _outputs(outputs: tuple[Output, ...]) -> Iterator[str]:
    room = max((width(clean(output.path)) for output in outputs), default=0)
    for output in outputs:
        rows = "row" if output.rows == 1 else "rows"
        yield f"  {pad(clean(output.path), room)}  {output.rows:>9,} {rows}"


def _commands(s: Summary) -> Iterator[str]:
    database, resume = clean(shlex.quote(s.db)), clean(s.resume)
    if s.counts.left:
        yield f"  resume   {resume}"
        if s.counts[TaskState.SUCCEEDED]:
            yield f"  peek     batchrunner results {database} --partial -o peek.csv"
    if s.counts[TaskState.FAILED]:
        yield f"  errors   batchrunner errors {database}"
        yield f"  retry    batchrunner retry {database} && {resume}"
