"""``batchrunner run``: load what is new, send what is pending, write the results; the same command again goes on."""

import json
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click

from batchrunner.cli.options import (
    SETTINGS,
    db_option,
    input_options,
    job_argument,
    option,
    output_options,
    provider_options,
    speed_options,
    stop_options,
    talk_options,
    tokenizer_option,
)
from batchrunner.cli.place import STDIN
from batchrunner.errors import ConfigError

if TYPE_CHECKING:
    from batchrunner.cli.settings import Files
    from batchrunner.config import Endpoint
    from batchrunner.jobfile.options import ReadOptions
    from batchrunner.loader import Decide, Difference
    from batchrunner.report.terminal import Display
    from batchrunner.runner import RunOptions


@click.command(epilog=SETTINGS)
@job_argument
@db_option
@input_options
@tokenizer_option
@provider_options
@speed_options
@stop_options
@output_options
@talk_options
@option("--dry-run", is_flag=True, help="Send nothing, and say what would be done: batchrunner plan.")
@click.pass_context
def run(context: click.RichContext, /, job: str | None, db: str | None, **given: Any) -> int:
    """Load what is new in JOB, send what is pending, write the results.

    JOB is a file of requests (JSONL), prompts (JSONL, text), or rows (CSV, TSV, JSONL, with --prompt); - reads
    standard input. Its state is a database beside it. The same command again goes on where the last one stopped:
    nothing that was answered is asked again, and the options need not be repeated.
    """
    job = job or db
    if job is None:
        raise click.UsageError("name a job file or its database: batchrunner run JOB", context)
    from batchrunner.cli.lanes import header, label
    from batchrunner.cli.memory import earlier_settings, settle
    from batchrunner.cli.outputs import check, wanted_of
    from batchrunner.cli.perform import Talk, perform
    from batchrunner.cli.place import check_job, database_of
    from batchrunner.cli.plan import show_plan
    from batchrunner.cli.settings import environment
    from batchrunner.planmaker import first_look, make_plan

    database = database_of(job, db)
    job, earlier = earlier_settings(job, database, named=db is not None)
    check_job(job)
    told = settle(context, given, earlier)
    given = told.given
    talks = talk_of(given)
    options = run_options(
        job,
        database,
        given,
        environment(),
        settings=told.kept,
        files=context.obj.files,
        keys=not given["dry_run"],
    )
    wanted = wanted_of(given, given["outputs"] or (str(database.with_suffix(".results.jsonl")),))
    inputs = {"the job file": job, "the template": given["template"], "the key file": given["key_file"]}
    inputs["the lanes' file"] = given["lanes_file"]
    check(wanted, database, inputs)
    if talks["as_json"] and STDIN in wanted.paths:
        raise ConfigError("--json and -o - both need standard output; name a file for the results")
    if given["dry_run"]:
        show_plan(make_plan(options, keep=given["changed"] == "keep"), options, as_json=talks["as_json"])
        return 0
    talk = Talk(
        display=open_display(talks),
        as_json=talks["as_json"],
        quiet=talks["quiet"],
        ascii_only=talks["ascii_only"],
        label=label(options.routes, given["model"]),
        header=header(options.routes, context.obj.dotenv),
        resume=resume_of(job, db, given["windows"]),
        findings=first_look(options),
        changes=told.changes,
        exit_zero=given["exit_zero"],
    )
    decide = decide_on_terminal(job, given["changed"])
    return perform(options, wanted, talk, decide=decide, stdin=sys.stdin.buffer)


def resume_of(job: str, db: str | None, windows: Sequence[str]) -> str:
    """The command that goes on. Hours are not remembered, so it names them: it is not to send outside of them."""
    hours = (word for window in windows for word in ("--window", window))
    return shlex.join(["batchrunner", "run", job, *(() if db is None else ("--db", db)), *hours])


def read_options(given: Mapping[str, Any]) -> "ReadOptions":
    """How the job file is to be read."""
    from batchrunner.jobfile.options import ReadOptions

    return ReadOptions(
        model=given["model"],
        system=given["system"],
        prompt=given["prompt"],
        template=given["template"],
        id_column=given["id_column"],
        input_format=given["input_format"],
        params=tuple(_parameter(text) for text in given["params"]),
    )


def run_options(
    job: str,
    database: Path,
    given: Mapping[str, Any],
    environ: Mapping[str, str],
    *,
    settings: str,
    files: "Files",
    keys: bool = True,
) -> "RunOptions":
    """All of a run's options as values; without *keys* where nothing is to be sent. Raises ConfigError."""
    from batchrunner.cli.lanes import routes_of
    from batchrunner.config import CONCURRENCY, LimitSettings, RetrySettings, RunSettings
    from batchrunner.learned import learned_path
    from batchrunner.money import parse_money
    from batchrunner.prices import read_prices
    from batchrunner.runner import RunOptions
    from batchrunner.schedule import make_schedule
    from batchrunner.spending import SpendSettings
    from batchrunner.tokenizer import measure_of

    limits = LimitSettings(
        rpm=given["rpm"],
        tpm=given["tpm"],
        concurrency=given["concurrency"] or CONCURRENCY,
        stated_concurrency=given["concurrency"] is not None,
        headroom=given["headroom"],
    )
    lanes = routes_of(given, limits, environ, keys=keys)
    return RunOptions(
        job=job,
        database=database,
        endpoint=lanes[0].endpoint if lanes else endpoint_of(given, environ, keys=keys),
        lanes=lanes,
        read=read_options(given),
        limits=limits,
        retry=RetrySettings(attempts=given["attempts"]),
        run=RunSettings(
            timeout=given["timeout"],
            grace=given["grace"],
            in_flight=given["in_flight"],
            max_tasks=given["limit"],
            learned=not given["no_learned"],
            stream=given["stream"],
            canary=given["canary"],
            waits=not given["no_wait"],
        ),
        on_bad_line=given["on_bad_line"],
        settings=settings,
        learned=None if given["no_learned"] else learned_path(environ),
        schedule=make_schedule(
            windows=given["windows"], finish_by=given["finish_by"], max_time=given["max_time"], now=time.time()
        ),
        spend=SpendSettings(
            budget=None if given["budget"] is None else parse_money(given["budget"]),
            alert=given["alert"],
            unpriced_ok=given["unpriced_ok"],
            prices=read_prices(files.prices, str(files.origins.get("prices", ""))),
        ),
        measure=measure_of(given["tokenizer"]),
    )


def endpoint_of(given: Mapping[str, Any], environ: Mapping[str, str], *, keys: bool = True) -> "Endpoint":
    """The endpoint with its key, if it is wanted. Raises ConfigError."""
    from batchrunner.credentials import KeySource, resolve_endpoint

    file = given["key_file"]
    source = KeySource(variable=given["key_env"], file=None if file is None else Path(file), command=given["key_cmd"])
    return resolve_endpoint(
        provider=provider_of(given),
        base_url=given["base_url"],
        source=source if keys else None,
        environ=environ,
        proxy=given["proxy"],
        ca_file=given["ca_file"],
    )


def provider_of(given: Mapping[str, Any]) -> str | None:
    """By name, or by its file. Raises ConfigError where both are given."""
    name, file = given["provider"], given["provider_file"]
    if name is not None and file is not None:
        raise ConfigError('-p and --provider-file both say who it is; a file may say extends = "NAME"')
    if file is not None and not file.endswith(".toml"):
        raise ConfigError(f"--provider-file {file}: it should be a file NAME.toml")
    return str(file or name) if file or name else None


def talk_of(given: Mapping[str, Any]) -> dict[str, Any]:
    """How to speak: --progress json is --json, and a stream that knows no more than ASCII gets no more."""
    from batchrunner.report.terminal import can_show

    as_json = given["as_json"] or given["progress"] == "json"
    return {**given, "as_json": as_json, "ascii_only": given["ascii_only"] or not can_show(sys.stderr)}


def open_display(given: Mapping[str, Any]) -> "Display":
    """The display that was asked for."""
    from batchrunner.cli.settings import environment
    from batchrunner.clock import Clock
    from batchrunner.report.terminal import Mode, display

    mode = Mode.JSON if given["as_json"] else Mode.NONE if given["quiet"] else Mode(given["progress"])
    return display(
        mode,
        clock=Clock(),
        out=sys.stdout,
        err=sys.stderr,
        environ=environment(),
        ascii_only=given["ascii_only"],
    )


def decide_on_terminal(job: str, changed: str) -> "Decide":
    """What becomes of answers whose lines were edited: as --changed says, or as a person at the terminal does."""
    from batchrunner.loader import describe

    def decide(difference: "Difference") -> Any:
        if changed != "ask":
            return changed
        if not (sys.stdin.isatty() and sys.stderr.isatty()):
            return "stop"
        click.echo(f"{job} changed since it was loaded: {describe(difference)}.", err=True)
        text = f"  [r]edo the {difference.edited:,} edited, [k]eep their old answers, or [s]top"
        answer = click.prompt(text, type=click.Choice(["r", "k", "s"]), default="s", err=True, show_choices=False)
        return {"r": "redo", "k": "keep", "s": "stop"}[answer]

    return decide


def _parameter(text: str) -> tuple[str, Any]:
    """``temperature=0`` or ``thinking={"type":"disabled"}``; what is no JSON is text."""
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise ConfigError(f'--param {text!r}: should look like temperature=0 or user="me"')
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value
