"""``batchrunner results``: write result files from the database, at any time."""

from typing import Any

import rich_click as click

from batchrunner.cli.options import db_option, job_argument, output_options
from batchrunner.cli.place import STDIN
from batchrunner.errors import ConfigError
from batchrunner.task import TaskState

STATES = [state.value for state in TaskState]


@click.command()
@job_argument
@db_option
@output_options
@click.option("--only", type=click.Choice(STATES), multiple=True, help="Only tasks in this state; repeatable.")
@click.option("--partial", is_flag=True, help="Although the job is not finished; unfinished tasks are in it too.")
def results(job: str | None, db: str | None, only: tuple[str, ...], *, partial: bool, **given: Any) -> int:
    """Write the results of JOB from its database, in input order.

    To standard output, where no -o names a file.
    """
    from batchrunner.cli.look import chosen_job, open_reader
    from batchrunner.cli.outputs import check, export, wanted_of

    with open_reader(job, db) as reader:
        seen, path = chosen_job(reader, job), reader.path
        counts = reader.counts(seen.id)
    states = tuple(TaskState(name) for name in only) or None
    wanted = wanted_of(given, given["outputs"] or (STDIN,), only=states, partial=partial)
    check(wanted, path, {"the job file": seen.source})
    if counts.left and not partial and states is None:
        raise ConfigError(
            f"{path}: {counts.left:,} of {counts.total:,} tasks are not finished; add --partial for what is there"
        )
    for output in export(wanted, seen.id, path):
        if output.path != STDIN:
            click.echo(f"{output.path}  {output.rows:,} {'row' if output.rows == 1 else 'rows'}", err=True)
    if partial and counts.left:
        click.echo(f"partial: {counts.total - counts.left:,} of {counts.total:,} tasks are finished", err=True)
    return 0
