"""``batchrunner plan`` and ``check``: what a run would do, and what the provider would refuse; nothing is sent."""

import json
from collections.abc import Iterator, Mapping
from datetime import datetime
from math import inf
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
    tokenizer_option,
)
from batchrunner.errors import ConfigError
from batchrunner.exits import ExitCode

if TYPE_CHECKING:
    from batchrunner.plans import Plan
    from batchrunner.runner import RunOptions
    from batchrunner.schedule import Schedule

REST: Mapping[str, Any] = {"attempts": 3, "no_learned": False}  # what a plan has no option for


@click.command(epilog=SETTINGS)
@job_argument
@db_option
@input_options
@tokenizer_option
@provider_options
@speed_options
@stop_options
@json_option
@click.pass_context
def plan(context: click.RichContext, /, job: str | None, db: str | None, *, as_json: bool, **given: Any) -> int:
    """What run would do with JOB: tasks, tokens, cost, time, and what the provider would refuse. Sends nothing.

    Lengths of answers, and limits, are those that earlier runs learned; --limit 20 of run is a cheap way to learn some.
    """
    from batchrunner.planmaker import make_plan

    options, _ = _options(context, job, db, given)
    show_plan(make_plan(options, keep=given["changed"] == "keep"), options, as_json=as_json)
    return ExitCode.OK


@click.command(epilog=SETTINGS)
@job_argument
@db_option
@input_options
@tokenizer_option
@provider_options
@json_option
@click.pass_context
def check(context: click.RichContext, /, job: str | None, db: str | None, *, as_json: bool, **given: Any) -> int:
    """Would the provider take JOB's requests? Models, ranges, lengths, ids. Sends and rewrites nothing.

    Exit code 0 if nothing is sure to be refused, else 3.
    """
    from batchrunner.check import Level
    from batchrunner.planmaker import make_plan
    from batchrunner.report.plan import findings_json, findings_lines

    options, told = _options(context, job, db, given)
    made = make_plan(options)
    if as_json:
        click.echo(json.dumps({"event": "check", "v": 1, "findings": findings_json(made.findings)}, ensure_ascii=False))
    else:
        for line in findings_lines(made.findings):
            click.echo(line)
        looked = made.requests
        click.echo(f"{told}: {looked:,} requests to send looked at, {made.rejected:,} lines are no requests", err=True)
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


def _notes(made: "Plan", options: "RunOptions", done_at: float | None) -> Iterator[str]:
    from batchrunner.schedule import ALWAYS
    from batchrunner.spending import CAP

    providers = {route.endpoint.provider.name: route.endpoint.provider for route in options.routes}.values()
    for provider in providers:
        if provider.batch_discount and made.requests:
            yield (
                f"{provider.title}'s own batch API is {provider.batch_discount:.0%} cheaper, if a day is soon enough; "
                "it takes files of batch lines"
            )
    if made.uncapped:
        yield (
            f"{made.uncapped:,} of the requests do not say max_tokens, so {_worst(made)}; "
            f"{CAP} bounds that, and lets more go at once where there is a budget"
        )
    if (word := _budget_word(made, options)) is not None:
        yield word
    if done_at is not None and options.schedule != ALWAYS:
        yield _by(options.schedule, done_at)
    if made.cost is not None and not options.spend.prices.own:
        for provider in providers:
            if provider.prices_checked is not None:
                yield f"prices of {provider.title} as of {provider.prices_checked}"


def _budget_word(made: "Plan", options: "RunOptions") -> str | None:
    """Whether what is left of the budget will do."""
    from batchrunner.money import money_text

    budget, left = options.spend.budget, made.budget_left
    if budget is None or left is None or not made.requests:
        return None
    told = f"the budget of {money_text(budget.nanos, left.currency)}"
    if made.unbounded and not options.spend.unpriced_ok:
        return (
            f"{told} can't be kept: nothing bounds what {made.unbounded:,} of the requests may cost, and a run stops "
            "at the first of them; --unpriced-ok sends them uncounted"
        )
    told += f", of which {left} is left" if left.nanos < budget.nanos else ""
    if made.cost is None or made.cost_most is None:
        return f"not all that is sent can be counted in {told}"
    if made.cost.nanos > left.nanos and made.learned:
        return f"not within {told}: a run stops when it is reached, and a larger one goes on"
    return f"{'within' if made.cost_most.nanos <= left.nanos else 'may not be within'} {told}"


def _worst(made: "Plan") -> str:
    return "nothing bounds what they may cost" if made.cost_most is None else '"at most" is for the longest answers'


def _by(schedule: "Schedule", done_at: float) -> str:
    """Whether it will be done in the hours, and by the end, that are set."""
    if done_at == inf:
        return f"it will not be done by {schedule.why}; a later run goes on"
    by = f", before {schedule.why}" if schedule.ends_at < inf else ""
    hours = f" in the hours of --window {', '.join(map(str, schedule.hours))}" if schedule.hours else ""
    return f"done about {datetime.fromtimestamp(done_at, schedule.zone):%Y-%m-%d %H:%M}{by}{hours}"
