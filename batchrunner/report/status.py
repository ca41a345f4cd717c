"""Where a job stands, for someone who was not watching: as text, and as one object for --json."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import tzinfo
from typing import Any

from batchrunner.money import in_ascii
from batchrunner.record import Change, ErrorGroup, Job, LaneTotals, Run, Spending
from batchrunner.report.clean import clean
from batchrunner.report.cost import cost_json, cost_text
from batchrunner.report.lanes import lane_table, lanes_json
from batchrunner.report.numbers import clock, duration, instant, percent
from batchrunner.report.progress import Progress, event, lines
from batchrunner.report.rests import lane_of
from batchrunner.report.summary import counts_json, error_table
from batchrunner.task import Counts, TaskState

DAY = 86_400


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """``run`` is the newest, ``alive`` tells whether its process owns the database, ``progress`` its last gauges.

    ``resting``: the lanes that take nothing now, as the run wrote it down.
    """

    job: Job
    counts: Counts
    run: Run | None = None
    alive: bool = False
    progress: Progress | None = None
    resting: tuple[Change, ...] = ()
    errors: tuple[ErrorGroup, ...] = ()
    lanes: tuple[LaneTotals, ...] = ()
    spending: tuple[Spending, ...] = ()


def status_text(status: Status, now: float, cells: int, *, ascii_only: bool = False, zone: tzinfo | None = None) -> str:
    """Some lines; the gauges too while the run is alive."""
    text = [f"{clean(status.job.name)}  {clean(status.job.source)}", f"  {_standing(status, now, zone)}"]
    if status.alive and status.progress is not None:
        text += ["", *lines(status.progress, now, cells, ascii_only=ascii_only, zone=zone)]
    else:
        text += ["", *_counts(status.counts)]
    text += [f"  {clean(f'{lane.what} {lane.new}: {lane.evidence}')}" for lane in status.resting]
    if cost := cost_text(status.spending):
        text += ["", f"  cost {cost}"]
    for table in (list(lane_table(status.lanes)), list(error_table(status.errors))):
        text += ["", *table] if table else []
    joined = "\n".join(text)
    return in_ascii(joined) if ascii_only else joined


def status_json(status: Status, now: float) -> dict[str, Any]:
    """One object. Fields may be added, never changed."""
    run = status.run
    return {
        "job": status.job.name,
        "source": status.job.source,
        "state": _state(status),
        "total": status.counts.total,
        **counts_json(status.counts),
        "run": None
        if run is None
        else {
            "id": run.id,
            "started": instant(run.started_at),
            "ended": None if run.ended_at is None else instant(run.ended_at),
            "exit": run.exit_code,
            "reason": run.reason,
            "pid": run.pid,
            "host": run.host,
        },
        "progress": event(status.progress, now) if status.alive and status.progress is not None else None,
        "resting": [{"lane": lane_of(one), "standing": one.new, "reason": one.evidence} for one in status.resting],
        "cost": cost_json(status.spending),
        "lanes": lanes_json(status.lanes),
        "classes": {group.error_class: group.count for group in status.errors},
    }


def _state(s: Status) -> str:
    if s.alive:
        return "running"
    if s.job.loading:
        return "loading"
    if s.run is None:
        return "new"
    if not s.counts.left:
        return "finished"
    return "killed" if s.run.ended_at is None else "stopped"


def _standing(s: Status, now: float, zone: tzinfo | None) -> str:
    run, state = s.run, _state(s)
    if run is None or state == "loading":
        return "the job file is not loaded to its end; 'batchrunner run' goes on" if state == "loading" else "never run"
    age, began = duration(now - run.started_at), _when(run.started_at, now, zone)
    if state == "running":
        return f"running for {age} (since {began}), pid {run.pid} on {clean(run.host)}"
    if run.ended_at is None:
        return f"its runner was killed; it began {age} ago ({began}). 'batchrunner run' goes on"
    ended = f"{state} {duration(now - run.ended_at)} ago ({_when(run.ended_at, now, zone)})"
    return f"{ended}: {clean(run.reason)}" if run.reason else ended


def _when(at: float, now: float, zone: tzinfo | None) -> str:
    day = "" if now - at < DAY else f"{instant(at)[:10]} "
    return day + clock(at, zone)


def _counts(counts: Counts) -> Iterator[str]:
    for state in TaskState:
        if counts[state] or state in (TaskState.SUCCEEDED, TaskState.FAILED, TaskState.PENDING):
            yield f"  {state.value:9}  {counts[state]:>11,}  {percent(counts[state], counts.total):>6}"
    if counts.rejected:
        yield f"  {'rejected':9}  {counts.rejected:>11,}"
