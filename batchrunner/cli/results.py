"""``batchrunner results``: write result files from the database, at any time."""

from typing import Any

import rich_click as click

from batchrunner.cli.options import db_option, job_argument, output_options
from batchrunner.errors import ConfigError
from batchrunner.task import TaskState


@click.command()
@job_argument
@db_option
@output_options
@click.option("--only", type=click.Choice([s.value for s in TaskState]), multiple=True, help="Only tasks so ended.")
@click.option("--partial", is_flag=True, help="Although the job is not finished; unfinished tasks are in it too.")
def results(job: str | None, db: str | None, only: tuple[str, ...], *, partial: bool, **given: Any) -> int:
    """Write the results of JOB, in input order, from its database."""
    from batchrunner.cli.look import only_job, open_reader
    from batchrunner.cli.perform import Wanted, export

    with open_reader(job, db) as reader:
        seen, path = only_job(reader), reader.path
        counts = reader.counts(seen.id)
    if counts.left and not partial:
        raise ConfigError(
            f"{path}: {counts.left:,} of {counts.total:,} tasks are not finished; add --partial for what is there"
        )
    wanted = Wanted(
        errors=given["errors_file"],
        layout=given["layout"],
        extras=given["extras"],
        prefix=given["prefix"],
        for_excel=given["for_excel"],
        force=given["force"],
    )
    states = tuple(TaskState(name) for name in only) or None
    for target in given["outputs"] or ("-",):
        for output in export(target, seen.id, path, wanted, only=states, partial=partial):
            if output.path != "-":
                click.echo(f"{output.path}  {output.rows:,} rows", err=True)
    if partial and counts.left:
        click.echo(f"partial: {counts.total - counts.left:,} of {counts.total:,} tasks are finished", err=True)
    return 0
