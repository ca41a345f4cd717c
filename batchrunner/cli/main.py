"""The ``batchrunner`` command: the group, its configuration, and the one boundary where errors become exit codes."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import rich_click as click
from click.exceptions import Abort

from batchrunner import __version__
from batchrunner.cli import crash, demo, doctor, limits, load, look, providers, results, retry, run, simulator
from batchrunner.cli.settings import Said, default_map, environment, read_dotenv, read_files
from batchrunner.errors import BatchRunnerError
from batchrunner.exits import ExitCode
from batchrunner.report.clean import clean, clean_lines

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}
WORK = (
    run.run,
    look.status,
    results.results,
    look.errors,
    retry.retry,
    look.show,
    limits.limits,
    providers.providers,
    doctor.doctor,
    load.load,
)
LEARN = (demo.demo, simulator.simulator)  # no settings from files: they are for work


class _Group(click.RichGroup):
    """Lists its commands in the order in which one needs them."""

    def list_commands(self, _: click.Context) -> list[str]:
        return list(self.commands)

    def invoke(self, context: click.Context) -> Any:
        try:
            return super().invoke(context)
        except BrokenPipeError:  # click would make it exit code 1
            return _unread()


@click.group(cls=_Group, context_settings=CONTEXT)
@click.version_option(__version__, prog_name="batchrunner")
@click.pass_context
def cli(context: click.RichContext, /) -> None:
    """Run a file of LLM requests as fast as the rate limits allow, and never pay twice for an answer.

    Try it: batchrunner demo. Then: batchrunner run JOB. The same command again goes on where the last one stopped.
    """
    folder = Path()
    files = read_files(folder, environment())
    context.obj = Said(files=files, dotenv=read_dotenv(folder, environment()))
    context.default_map = default_map(files, WORK)


for _command in (*WORK, *LEARN):
    cli.add_command(_command)


def main() -> None:
    """Run, and leave with an exit code of exits.py."""
    os.umask(0o077)  # databases, results and reports hold what others have no business to read
    try:
        code = _guarded(lambda: cli.main(prog_name="batchrunner", standalone_mode=False))
        sys.stdout.flush()
    except BrokenPipeError:
        code = _unread()
    sys.exit(code)


def _unread() -> ExitCode:
    """Whoever read our output has seen enough: what is left of it goes nowhere, and all is well."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return ExitCode.OK


def _guarded(command: Callable[[], Any]) -> int:
    """The exit code of *command*, and a sentence for what it raises; only BrokenPipeError goes through."""
    try:
        return int(command() or 0)
    except click.ClickException as error:
        _say(_usage(error))
        return error.exit_code
    except (Abort, KeyboardInterrupt):
        _say("stopped by you; the same command again goes on")
        return ExitCode.INTERRUPTED
    except BatchRunnerError as error:
        _say(clean_lines(str(error)))
        return error.exit_code
    except BrokenPipeError:
        raise
    except Exception as error:  # noqa: BLE001  (the one place that turns a bug into a report)
        path = crash.report(error, environment())
        _say(f"a bug of ours ({type(error).__name__}); please report it with {path}. What is finished is safe")
        return ExitCode.INTERNAL


def _usage(error: click.ClickException) -> str:
    context = getattr(error, "ctx", None)
    help_page = f" ({context.command_path} --help)" if context is not None else ""
    return clean(error.format_message()).rstrip(".") + help_page


def _say(sentence: str) -> None:
    click.echo(f"batchrunner: {sentence}", err=True)
