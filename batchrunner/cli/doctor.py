"""``batchrunner doctor``: is everything in order before the night: key, endpoint, SQLite, disk, settings."""

import shutil
import sqlite3
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click
from click.core import ParameterSource

from batchrunner.cli.options import provider_options
from batchrunner.cli.settings import Said, option_name
from batchrunner.errors import BatchRunnerError

if TYPE_CHECKING:
    from batchrunner.config import Endpoint, Route

SAFE_SQLITE = (3, 51, 3)  # from here on, and in some backports, two writers at once are harmless
ROOM = 1 << 30  # bytes of free disk below which to warn


@click.command()
@provider_options
@click.option(
    "-m",
    "--model",
    envvar="BATCHRUNNER_MODEL",
    metavar="NAME",
    help="Ask this model one tiny question (it costs a few tokens).",
)
@click.option("--config", "show_config", is_flag=True, help="Each setting of a run, and where it comes from.")
@click.pass_context
def doctor(context: click.RichContext, /, *, show_config: bool, **given: Any) -> int:
    """Check the key, the endpoint, SQLite and the disk; with -m, ask one tiny question.

    Exit code 0 if all is well, else 1.
    """
    from batchrunner.cli.memory import settle

    given = settle(context, given, {}).given
    bad = 0
    for good, sentence in (*_machine(Path.cwd()), *_provider(given)):
        click.echo(f"  {'ok' if good else 'BAD':4} {sentence}")
        bad += not good
    if show_config:
        for line in _settings(context):
            click.echo(line)
    return 1 if bad else 0


def _machine(folder: Path) -> Iterator[tuple[bool, str]]:
    yield True, f"Python {sys.version.split()[0]}"
    version = sqlite3.sqlite_version_info
    note = "" if version >= SAFE_SQLITE else " (its WAL bug needs two writers; batchrunner has one, so it is not hit)"
    yield version >= (3, 37), f"SQLite {sqlite3.sqlite_version}{note}"
    free = shutil.disk_usage(folder).free
    yield free > ROOM, f"{free / (1 << 30):,.1f} GiB free on this disk"


def _provider(given: dict[str, Any]) -> Iterator[tuple[bool, str]]:
    from batchrunner.cli.lanes import routes_of
    from batchrunner.cli.run import endpoint_of
    from batchrunner.cli.settings import environment
    from batchrunner.config import LimitSettings, Route

    try:
        routes = routes_of(given, LimitSettings(), environment())
        routes = routes or (Route(name="", endpoint=endpoint_of(given, environment())),)
    except BatchRunnerError as error:
        yield False, str(error)
        return
    for route in routes:
        for good, sentence in _route(route, given["model"]):
            yield good, f"lane {route.name}: {sentence}" if route.name else sentence


def _route(route: "Route", model: str | None) -> Iterator[tuple[bool, str]]:
    endpoint = route.endpoint
    yield True, f"endpoint {endpoint.base_url}, {'no key' if endpoint.key is None else f'key {endpoint.key_source}'}"
    for warning in endpoint.warnings:
        yield True, f"mind: {warning}"
    if model and route.serves(model):
        yield _ask(endpoint, route.name_of(model))
    elif model:
        yield True, f"does not take {model}"


def _ask(endpoint: "Endpoint", model: str) -> tuple[bool, str]:
    """One real request, as a run would send it."""
    import json
    import time

    import anyio

    from batchrunner import __version__
    from batchrunner.api.client import Client
    from batchrunner.report.clean import clean
    from batchrunner.task import Lease, Success

    body = json.dumps({"model": model, "messages": [{"role": "user", "content": "Say ok."}], "max_tokens": 16})
    lease = Lease(
        attempt_id=0,
        task_id=0,
        custom_id="doctor",
        endpoint="chat/completions",
        body=body,
        attempt=1,
        failures=0,
        cost=0,
        send_at=0,
        permit=None,
    )

    async def send() -> Any:
        async with Client(endpoint, version=__version__, timeout=120) as client:
            return await client.send(lease, now=time.time())

    began = time.monotonic()
    outcome = anyio.run(send)
    took = time.monotonic() - began
    if isinstance(outcome, Success):
        return True, f"{model} answered in {took:.1f}s"
    return False, f"{model}: {outcome.kind}: {clean(outcome.message)}"


def _settings(context: click.RichContext) -> Iterator[str]:
    """All that a run would be told, as if the options of this command were its own."""
    from batchrunner.cli.run import run

    root = context.find_root()
    with click.RichContext(run, info_name="run", parent=root) as running:
        run.parse_args(running, [])
        for option in run.params:
            if not isinstance(option, click.Option) or option.name is None:
                continue
            asked = context if context.get_parameter_source(option.name) is ParameterSource.COMMANDLINE else running
            origin = _origin(asked, option, root.obj)
            yield f"  {option_name(option):16} {_shown(option.name, asked.params[option.name]):40} {origin}".rstrip()


def _origin(context: click.Context, option: click.Option, said: Said) -> str:
    """In words: the command line, the variable (and whether .env has it), the file; nothing for a default."""
    match context.get_parameter_source(option.name or ""):
        case ParameterSource.COMMANDLINE:
            return "command line"
        case ParameterSource.ENVIRONMENT:
            return f"{option.envvar}{' (.env)' if option.envvar in said.dotenv else ''}"
        case ParameterSource.DEFAULT_MAP:
            return str(said.files.origins[option_name(option).lstrip("-").replace("-", "_")])
        case _:
            return ""


def _shown(name: str, value: Any) -> str:
    if value is None or value in ((), ""):
        return "-"
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    return f"***@{value.rpartition('@')[2]}" if name == "proxy" and "@" in value else str(value)
