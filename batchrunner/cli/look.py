"""``status``, ``errors`` and ``show``: looking at a job without touching it; they work while it runs."""

import json
import shutil
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click

from batchrunner.cli.options import db_option, job_argument, json_option
from batchrunner.errors import ConfigError

if TYPE_CHECKING:
    from batchrunner.db.reader import Reader
    from batchrunner.record import Job, Spending


@click.command()
@job_argument
@db_option
@json_option
def status(job: str | None, db: str | None, *, as_json: bool) -> int:
    """Where a job stands, and what its last run did."""
    from batchrunner.cli.running import progress_of
    from batchrunner.db.lock import is_owned
    from batchrunner.report.rests import not_open
    from batchrunner.report.status import Status, status_json, status_text
    from batchrunner.report.terminal import can_show

    now = time.time()
    with open_reader(job, db) as reader:
        alive = is_owned(reader.path)
        newest_job(reader)
        for seen in reader.jobs():
            *_, run = (None, *reader.runs(seen.id))
            counts, spending = reader.counts(seen.id), _spending(reader, seen, killed=not alive)
            working = run if run is not None and alive and run.ended_at is None else None
            standing = Status(
                job=seen,
                counts=counts,
                run=run,
                alive=working is not None,
                progress=None if working is None else progress_of(reader, seen, working, counts, spending),
                resting=() if working is None else tuple(not_open(reader.changes(working.id))),
                errors=reader.errors_by_class(seen.id),
                lanes=reader.lanes(seen.id),
                spending=spending,
            )
            if as_json:
                click.echo(json.dumps(status_json(standing, now), ensure_ascii=False))
            else:
                columns = shutil.get_terminal_size().columns
                click.echo(status_text(standing, now, columns, ascii_only=not can_show(sys.stdout)))
    return 0


@click.command()
@job_argument
@db_option
@click.option("--class", "error_class", metavar="NAME", help="Only this class, such as content_filter.")
@click.option("--ids", is_flag=True, help="The custom_ids, one a line.")
@json_option
def errors(job: str | None, db: str | None, error_class: str | None, *, ids: bool, as_json: bool) -> int:
    """Why tasks failed: by class, with an example and what to do."""
    from batchrunner.report.clean import clean
    from batchrunner.report.summary import error_table

    with open_reader(job, db) as reader:
        seen = chosen_job(reader, job)
        groups = tuple(g for g in reader.errors_by_class(seen.id) if error_class in (None, g.error_class))
        if ids:
            for record in reader.records(seen.id, states=[_failed()]):
                if error_class in (None, record.error_class):
                    click.echo(clean(record.custom_id))
        elif as_json:
            rows = [
                {"class": g.error_class, "tasks": g.count, "example": g.custom_id, "code": g.code, "message": g.message}
                for g in groups
            ]
            rejected = [{"line": r.line, "offset": r.offset, "reason": r.reason} for r in reader.rejected(seen.id)]
            click.echo(json.dumps({"errors": rows, "rejected": rejected}, ensure_ascii=False))
        else:
            for line in error_table(groups):
                click.echo(line)
            for group in groups:
                if group.message:
                    click.echo(f"\n  {clean(group.custom_id)}: {clean(group.message)}")
            for bad in reader.rejected(seen.id):
                click.echo(f"  rejected: line {bad.line} (byte {bad.offset:,}): {clean(bad.reason)}")
            if not groups:
                click.echo("no task failed" + (f" with class {error_class}" if error_class else ""))
    return 0


@click.command()
@click.argument("key", metavar="ID")
@job_argument
@db_option
def show(key: str, job: str | None, db: str | None) -> int:
    """One task: its request, every attempt, its answer. ID is a custom_id or a task number."""
    from batchrunner.report.story import show_text
    from batchrunner.report.terminal import can_show

    with open_reader(job, db) as reader:
        story = reader.task(key, job_id=None if job is None else chosen_job(reader, job).id)
        if story is None:
            raise ConfigError(
                f"{reader.path}: no task {key!r}; ids are listed by: batchrunner errors --ids, or in the view tasks"
            )
        click.echo(show_text(story, ascii_only=not can_show(sys.stdout)))
    return 0


def open_reader(job: str | None, db: str | None) -> "Reader":
    """The database that is meant, for reading. Raises ConfigError."""
    from batchrunner.cli.place import existing_database
    from batchrunner.db.reader import Reader

    return Reader(existing_database(job, db, folder=Path()))


def chosen_job(reader: "Reader", job: str | None) -> "Job":
    """The job of the file *job*; the newest where *job* is the database itself. Raises ConfigError."""
    from batchrunner.cli.place import SUFFIX, source_of

    if job is None or Path(job).suffix == SUFFIX:
        return newest_job(reader)
    for seen in reader.jobs():
        if seen.source == source_of(job):
            return seen
    names = ", ".join(seen.name for seen in reader.jobs())
    raise ConfigError(f"{reader.path}: {job} was not loaded into it; it holds {names or 'nothing yet'}")


def newest_job(reader: "Reader") -> "Job":
    """The newest job of a database. Raises ConfigError if there is none."""
    jobs = reader.jobs()
    if not jobs:
        raise ConfigError(f"{reader.path}: no job was loaded into it yet; batchrunner run JOB --db {reader.path}")
    return jobs[-1]


def _spending(reader: "Reader", job: "Job", *, killed: bool) -> tuple["Spending", ...]:
    """What the job cost; with the budget, as the last run was told it.

    *killed*: nobody waits for what is in flight, and it may have been charged.
    """
    from batchrunner.money import parse_money

    *earlier, newest = reader.spending(job.id, in_flight=killed) or (None,)
    if newest is None:
        return ()
    told = json.loads(job.settings).get("budget")
    budget = None if told is None else parse_money(told)
    if budget is not None and budget.currency in (None, newest.currency):
        newest = replace(newest, limit=budget.nanos)
    return (*earlier, newest)


def _failed() -> Any:
    from batchrunner.task import TaskState

    return TaskState.FAILED
