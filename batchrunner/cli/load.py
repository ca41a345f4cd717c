"""``batchrunner load``: a job file into its database, without sending anything."""

import sys
from pathlib import Path
from typing import Any

import rich_click as click

from batchrunner.cli.options import db_option, input_options, talk_options
from batchrunner.exits import ExitCode


@click.command(hidden=True)
@click.argument("job")
@db_option
@input_options
@talk_options
@click.pass_context
def load(context: click.RichContext, /, job: str, db: str | None, **given: Any) -> int:
    """Load JOB (or standard input, as -) into its database; send nothing."""
    import time

    from batchrunner.cli.memory import earlier_settings, settle
    from batchrunner.cli.place import check_job, database_of
    from batchrunner.cli.run import decide_on_terminal, read_options
    from batchrunner.db.lock import OwnerLock
    from batchrunner.db.store import Store
    from batchrunner.loader import load as load_job
    from batchrunner.report.numbers import instant

    database: Path = database_of(job, db)
    job, earlier = earlier_settings(job, database, named=db is not None)
    check_job(job)
    told = settle(context, given, earlier)
    now = time.time()
    with OwnerLock(database, started_at=instant(now)):
        store = Store(database)
        try:
            loaded = load_job(
                store,
                job,
                read_options(told.given),
                decide=decide_on_terminal(job, given["changed"]),
                on_bad_line=told.given["on_bad_line"],
                stdin=sys.stdin.buffer,
                settings=told.kept,
                now=now,
            )
        finally:
            store.close()
    if not given["quiet"]:
        click.echo(f"{database}: {loaded.sentence}", err=True)
    return ExitCode.SOME_FAILED if loaded.rejected and not given["exit_zero"] else ExitCode.OK
