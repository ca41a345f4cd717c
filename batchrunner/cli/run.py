"""``batchrunner run``: load what is new, send what is pending, write the results; the same command again goes on."""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click
from click.core import ParameterSource

from batchrunner.cli.options import (
    db_option,
    input_options,
    job_argument,
    output_options,
    provider_options,
    speed_options,
    stop_options,
    talk_options,
)
from batchrunner.errors import ConfigError

if TYPE_CHECKING:
    from batchrunner.config import Endpoint
    from batchrunner.jobfile.options import ReadOptions
    from batchrunner.loader import Decide, Difference
    from batchrunner.report.terminal import Display
    from batchrunner.runner import RunOptions

# what the first run was told is kept with the job, so that "batchrunner run JOB" alone goes on
REMEMBERED = (
    *("model", "prompt", "template", "system", "params", "id_column", "input_format", "on_bad_line"),
    *("provider", "base_url", "key_env", "key_file", "key_cmd", "proxy", "ca_file"),
    *("rpm", "tpm", "concurrency", "headroom", "timeout", "attempts"),
    *("outputs", "errors_file", "layout", "extras", "prefix", "for_excel"),
)
FILES = ("template", "key_file", "ca_file", "errors_file")  # kept as absolute paths, so that any folder will do


@click.command()
@job_argument
@db_option
@input_options
@provider_options
@speed_options
@stop_options
@output_options
@talk_options
@click.pass_context
def run(context: click.RichContext, /, job: str | None, db: str | None, **given: Any) -> int:
    """Run JOB: load what is new, send what is pending, write the results.

    JOB is a file of requests (JSONL), prompts (JSONL, text), or rows (CSV, TSV, JSONL, with --prompt); - reads
    standard input. Its state is a database beside it. The same command again goes on where the last one stopped;
    nothing that was answered is asked again.
    """
    if job is None:
        click.echo(context.get_help())
        return 2
    from batchrunner.cli.perform import Talk, Wanted, perform
    from batchrunner.cli.place import database_of
    from batchrunner.cli.settings import environment

    database = database_of(job, db)
    job, given = _recall(context, job, database, given, named=db is not None)
    options = run_options(job, database, given, environment())
    outputs = tuple(given["outputs"]) or (str(database.with_suffix(".results.jsonl")),)
    wanted = Wanted(
        paths=outputs,
        errors=given["errors_file"],
        layout=given["layout"],
        extras=given["extras"],
        prefix=given["prefix"],
        for_excel=given["for_excel"],
        force=given["force"],
    )
    talk = Talk(
        display=open_display(given),
        as_json=given["as_json"],
        quiet=given["quiet"],
        ascii_only=given["ascii_only"],
        label=f"{given['model'] or 'model of each line'} @ {options.endpoint.host}",
        header=_header(options.endpoint, context.obj),
        resume=f"batchrunner run {_quoted(job)}" + ("" if db is None else f" --db {_quoted(db)}"),
        exit_zero=given["exit_zero"],
    )
    decide = decide_on_terminal(job, given["changed"])
    return perform(options, wanted, talk, decide=decide, stdin=sys.stdin.buffer)


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


def run_options(job: str, database: Path, given: Mapping[str, Any], environ: Mapping[str, str]) -> "RunOptions":
    """All of a run's options as values. Raises ConfigError."""
    from batchrunner.config import CONCURRENCY, LimitSettings, RetrySettings, RunSettings
    from batchrunner.runner import RunOptions

    stated = given["concurrency"] is not None
    return RunOptions(
        job=job,
        database=database,
        endpoint=endpoint_of(given, environ),
        read=read_options(given),
        limits=LimitSettings(
            rpm=given["rpm"],
            tpm=given["tpm"],
            concurrency=given["concurrency"] or CONCURRENCY,
            stated_concurrency=stated,
            headroom=given["headroom"],
        ),
        retry=RetrySettings(attempts=given["attempts"]),
        run=RunSettings(
            timeout=given["timeout"],
            grace=given["grace"],
            in_flight=given["in_flight"],
            max_tasks=given["limit"],
            learned=not given["no_learned"],
        ),
        on_bad_line=given["on_bad_line"],
        settings=_remember(given),
    )


def endpoint_of(given: Mapping[str, Any], environ: Mapping[str, str]) -> "Endpoint":
    """The endpoint with its key. Raises ConfigError."""
    from batchrunner.provider import KeySource, resolve_endpoint

    file = given["key_file"]
    source = KeySource(variable=given["key_env"], file=None if file is None else Path(file), command=given["key_cmd"])
    return resolve_endpoint(
        provider=given["provider"],
        base_url=given["base_url"],
        source=source,
        environ=environ,
        proxy=given["proxy"],
        ca_file=given["ca_file"],
    )


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


def _recall(
    context: click.RichContext, job: str, database: Path, given: dict[str, Any], *, named: bool
) -> tuple[str, dict[str, Any]]:
    """The job file, and the options completed with what the job's first run was told. What is given now wins."""
    from batchrunner.cli.place import SUFFIX, check_name

    if not database.is_file():
        if Path(job).suffix == SUFFIX:
            raise ConfigError(f"{job}: there is no such database; give the job file first: batchrunner run FILE.jsonl")
        return job, given
    from batchrunner.db.reader import Reader

    with Reader(database) as reader:
        jobs = reader.jobs()
    check_name(job, database, tuple(seen.source for seen in jobs), named=named or job == str(database))
    source = None if job == str(database) else str(Path(job).resolve()) if job != "-" else job
    mine = [seen for seen in jobs if source is None or seen.source == source]
    if not mine:
        return job, given
    stored = json.loads(mine[-1].settings)
    for name, value in stored.items():
        if name in given and context.get_parameter_source(name) is ParameterSource.DEFAULT:
            given[name] = value
    return (mine[-1].source if source is None else job), given


def _remember(given: Mapping[str, Any]) -> str:
    """The options worth keeping, as JSON; never a key, only where it is found."""
    kept = {name: given[name] for name in REMEMBERED if given.get(name)}
    for name in FILES:
        if name in kept:
            kept[name] = str(Path(kept[name]).resolve())
    return json.dumps(kept, ensure_ascii=False)


def _header(endpoint: "Endpoint", dotenv: Path | None) -> str:
    where = f" ({dotenv.name})" if dotenv is not None and endpoint.key is not None else ""
    key = f"key {endpoint.key_source}{where}" if endpoint.key is not None else "no key"
    return f"{key} · {endpoint.base_url}"


def _parameter(text: str) -> tuple[str, Any]:
    """``temperature=0`` or ``thinking={"type":"disabled"}``; what is no JSON is text."""
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise ConfigError(f'--param {text!r}: should look like temperature=0 or user="me"')
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def _quoted(text: str) -> str:
    import shlex

    return shlex.quote(text)
