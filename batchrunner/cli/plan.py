"""``batchrunner plan`` and ``check``: what a run would do, and what the provider would refuse; nothing is sent."""

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from itertools import islice
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click

from batchrunner.cli.options import (
    SETTINGS,
    db_option,
    input_options,
    job_argument,
    json_option,
    provider_options,
    speed_options,
    stop_options,
)
from batchrunner.errors import ConfigError
from batchrunner.exits import ExitCode

if TYPE_CHECKING:
    from batchrunner.check import Finding
    from batchrunner.db.history import History
    from batchrunner.plan import Plan, Speed
    from batchrunner.record import Belief
    from batchrunner.runner import RunOptions
    from batchrunner.schedule import Schedule

PAGE = 500  # lines looked up at once
NEWEST = 2000  # answers to learn from
REST: Mapping[str, Any] = {"attempts": 3, "no_learned": False}  # what a plan has no option for


@click.command(epilog=SETTINGS)
@job_argument
@db_option
@input_options
@provider_options
@speed_options
@stop_options
@json_option
@click.pass_context
def plan(context: click.RichContext, /, job: str | None, db: str | None, *, as_json: bool, **given: Any) -> int:
    """What run would do with JOB: tasks, tokens, cost, time, and what the provider would refuse. Sends nothing.

    Lengths of answers, and limits, are those that earlier runs learned; --limit 20 of run is a cheap way to learn some.
    """
    options, _ = _options(context, job, db, given)
    show_plan(make_plan(options), options, as_json=as_json)
    return ExitCode.OK


@click.command(epilog=SETTINGS)
@job_argument
@db_option
@input_options
@provider_options
@json_option
@click.pass_context
def check(context: click.RichContext, /, job: str | None, db: str | None, *, as_json: bool, **given: Any) -> int:
    """Would the provider take JOB's requests? Models, ranges, lengths, ids. Sends and rewrites nothing.

    Exit code 0 if nothing is sure to be refused, else 3.
    """
    from batchrunner.check import Level
    from batchrunner.report.plan import findings_json, findings_lines

    options, told = _options(context, job, db, given)
    made = make_plan(options)
    if as_json:
        click.echo(json.dumps({"event": "check", "v": 1, "findings": findings_json(made.findings)}, ensure_ascii=False))
    else:
        for line in findings_lines(made.findings):
            click.echo(line)
        looked = made.requests
        click.echo(f"{told}: {looked:,} requests looked at, {made.rejected:,} lines are no requests", err=True)
    bad = made.rejected or any(finding.level is Level.ERROR for finding in made.findings)
    return ExitCode.SOME_FAILED if bad else ExitCode.OK


def show_plan(made: "Plan", options: "RunOptions", *, as_json: bool) -> None:
    """On standard output."""
    from time import time

    from batchrunner.report.plan import plan_json, plan_text

    now = time()
    done_at = None if made.seconds is None else options.schedule.done_at(made.seconds, now)
    if as_json:
        click.echo(json.dumps(plan_json(made, done_at=done_at), ensure_ascii=False))
    else:
        click.echo(plan_text(made, job=options.job, notes=list(_notes(made, options, done_at))))


def make_plan(options: "RunOptions") -> "Plan":
    """Reads the whole job file, and its database where there is one. Raises JobFileError, StoreError."""
    from batchrunner.db.history import History
    from batchrunner.planner import Planner

    if not options.database.exists():
        planner = Planner(options.routes, options.spend.prices)
        _show(planner, options, None, 0)
        return planner.plan(_speed(options, None, 0))
    with History(options.database) as history:
        job_id = _job_of(history, options)
        planner = Planner(options.routes, options.spend.prices, history.took(job_id, NEWEST))
        _show(planner, options, history, job_id)
        return planner.plan(_speed(options, history, job_id))


def first_look(options: "RunOptions") -> "Sequence[Finding]":
    """What a run should say before it begins; nothing for a job that is loaded, or a provider of whom little is known.

    Raises ConfigError if the provider would refuse every single line.
    """
    from batchrunner.check import Checker, Level
    from batchrunner.jobfile.reader import open_job
    from batchrunner.task import Request

    providers = [route.endpoint.provider for route in options.routes]
    knows = any(provider.models or provider.batch_id_least for provider in providers)
    if not knows or options.database.exists() or not Path(options.job).is_file():
        return []
    checker = Checker(options.routes)
    with open_job(options.job, options.read) as reader:
        for item in islice(reader, options.run.max_tasks):
            if isinstance(item, Request):
                checker.see(item)
    if checker.all_fail:
        what = "; ".join(finding.what for finding in checker.findings if finding.level is Level.ERROR)
        who = " and ".join(dict.fromkeys(provider.title for provider in providers))
        raise ConfigError(f"{options.job}: {who} would refuse every line: {what}. Nothing was sent")
    return checker.findings


def _options(
    context: click.RichContext, job: str | None, db: str | None, given: Mapping[str, Any]
) -> "tuple[RunOptions, str]":
    """A run's options, as far as a plan needs them, and the job as it was told."""
    job = job or db
    if job is None:
        raise click.UsageError("name a job file or its database", context)
    from batchrunner.cli.memory import earlier_settings, settle
    from batchrunner.cli.place import STDIN, check_job, database_of
    from batchrunner.cli.run import run, run_options
    from batchrunner.cli.settings import environment

    if job == STDIN:
        raise ConfigError("standard input can be read only once: load it (batchrunner load -), or name a file")
    database = database_of(job, db)
    job, earlier = earlier_settings(job, database, named=db is not None)
    check_job(job)
    with click.RichContext(run, info_name="run", parent=context.find_root()) as running:
        run.parse_args(running, [])
        rest = {name: value for name, value in running.params.items() if name not in given}
    told = settle(context, given, earlier).given
    options = run_options(
        job, database, {**rest, **told}, environment(), settings="{}", files=context.find_root().obj.files, keys=False
    )
    return options, job


def _show(planner: Any, options: "RunOptions", history: "History | None", job_id: int) -> None:
    from batchrunner.db.seen import Seen
    from batchrunner.jobfile.reader import open_job
    from batchrunner.task import Request

    with open_job(options.job, options.read) as reader, Seen() as seen:
        items = islice(reader, options.run.max_tasks)
        for page in _pages(items):
            requests = [item for item in page if isinstance(item, Request)]
            known = {} if history is None else history.states(job_id, [each.custom_id for each in requests])
            for item in page:
                if not isinstance(item, Request):
                    planner.reject(item)
                elif seen.is_new(item.custom_id):
                    planner.see(item, known.get(item.custom_id))
                else:
                    planner.see_again(item)


def _pages(items: Iterator[Any]) -> Iterator[list[Any]]:
    while page := list(islice(items, PAGE)):
        yield page


def _job_of(history: "History", options: "RunOptions") -> int:
    """The job of this file; 0, which no job has, where the database does not know the file."""
    source = str(Path(options.job).resolve())
    return next((job.id for job in history.jobs() if job.source == source), 0)


def _speed(options: "RunOptions", history: "History | None", job_id: int) -> "Speed":
    """What is stated, else what was learned of this endpoint, here or in another job."""
    from batchrunner.learned import read_learned
    from batchrunner.plan import Speed

    endpoints = [route.endpoint.base_url for route in options.routes]
    beliefs = [] if history is None else history.beliefs()
    if options.learned is not None:
        beliefs += read_learned(options.learned)
    states = [_state_of(beliefs, endpoint) for endpoint in endpoints]
    limits = [route.limits for route in options.routes]
    return Speed(
        rpm=_all(each.rpm or state.get("rpm_limit") for each, state in zip(limits, states, strict=True)),
        tpm=_all(each.tpm or state.get("tpm_limit") for each, state in zip(limits, states, strict=True)),
        in_flight=_all(
            each.concurrency if each.stated_concurrency else state.get("slots")
            for each, state in zip(limits, states, strict=True)
        ),
        latency=history.totals(job_id).p50 if history is not None and job_id else None,
    )


def _state_of(beliefs: "Sequence[Belief]", endpoint: str) -> Mapping[str, Any]:
    return next((belief.value.get("state") or {} for belief in beliefs if belief.endpoint == endpoint), {})


def _all(values: Iterator[Any]) -> Any:
    """The sum over all lanes; None where one of them is not known."""
    known = list(values)
    return None if any(value is None for value in known) else sum(known)


def _notes(made: "Plan", options: "RunOptions", done_at: float | None) -> Iterator[str]:
    from batchrunner.money import money_text
    from batchrunner.schedule import ALWAYS

    providers = {route.endpoint.provider.name: route.endpoint.provider for route in options.routes}.values()
    for provider in providers:
        if provider.batch_discount and made.requests:
            yield (
                f"{provider.title}'s own batch API is {provider.batch_discount:.0%} cheaper, if a day is soon enough; "
                "it takes files of batch lines"
            )
    budget = options.spend.budget
    if budget is not None and made.cost_most is not None:
        fits = "within" if made.cost_most <= budget.nanos else "may not be within"
        yield f"{fits} the budget of {money_text(budget.nanos, budget.currency or made.currency)}"
    if done_at is not None and options.schedule != ALWAYS:
        yield _by(options.schedule, done_at)
    if made.cost is not None and not options.spend.prices.own:
        for provider in providers:
            if provider.prices_checked is not None:
                yield f"prices of {provider.title} as of {provider.prices_checked}"


def _by(schedule: "Schedule", done_at: float) -> str:
    """Whether it will be done in the hours, and by the end, that are set."""
    if done_at == inf:
        return f"it will not be done by {schedule.why}; a later run goes on"
    by = f", before {schedule.why}" if schedule.ends_at < inf else ""
    hours = f" in the hours of --window {', '.join(map(str, schedule.hours))}" if schedule.hours else ""
    return f"done about {datetime.fromtimestamp(done_at, schedule.zone):%Y-%m-%d %H:%M}{by}{hours}"
