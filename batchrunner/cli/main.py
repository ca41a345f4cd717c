"""The ``batchrunner`` command: the group, its configuration, and the one boundary where errors become exit codes."""

import os
import sys
from pathlib import Path

import rich_click as click
from click.exceptions import Abort

from batchrunner import __version__
from batchrunner.cli import crash, demo, doctor, load, look, results, retry, run, simulator
from batchrunner.cli.settings import default_map, environment, read_dotenv, read_files
from batchrunner.errors import BatchRunnerError
from batchrunner.exits import ExitCode
from batchrunner.report.clean import clean_lines

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}
COMMANDS = (
    run.run,
    look.status,
    results.results,
    look.errors,
    retry.retry,
    look.show,
    doctor.doctor,
    demo.demo,
    simulator.simulator,
    load.load,
)


@click.group(context_settings=CONTEXT)
@click.version_option(__version__, prog_name="batchrunner")
@click.pass_context
def cli(context: click.RichContext, /) -> None:
    """Run a file of LLM requests as fast as the rate limits allow, and never pay twice for an answer.

    The same command again goes on where the last one stopped.
    """
    folder = Path.cwd()
    context.obj = read_dotenv(folder, environment())
    names = {command.name or "": {p.name or "" for p in command.params} for command in COMMANDS}
    context.default_map = default_map(read_files(folder, environment()), names)


for _command in COMMANDS:
    cli.add_command(_command)


def main() -> None:
    """Run, and leave with an exit code of exits.py."""
    os.umask(0o077)  # databases, results and reports hold what others have no business to read
    try:
        code = cli.main(prog_name="batchrunner", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except (Abort, KeyboardInterrupt):
        code = ExitCode.INTERRUPTED
    except BatchRunnerError as error:
        click.echo(f"batchrunner: {clean_lines(str(error))}", err=True)
        code = error.exit_code
    except BrokenPipeError:  # whoever read our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = ExitCode.OK
    except Exception as error:  # noqa: BLE001  (the one place that turns a bug into a report)
        path = crash.report(error)
        sentence = (
            f"batchrunner: a bug of ours ({type(error).__name__}); please report {path}. What is finished is safe"
        )
        click.echo(sentence, err=True)
        code = ExitCode.INTERNAL
    sys.exit(int(code or 0))
