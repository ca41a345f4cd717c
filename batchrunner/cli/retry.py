"""``batchrunner retry``: failed tasks back to pending, with all their tries."""

import shlex
from pathlib import Path

import rich_click as click

from batchrunner.cli.options import db_option, job_argument
from batchrunner.exits import ExitCode


@click.command()
@job_argument
@db_option
@click.option("--class", "classes", metavar="NAME", multiple=True, help="Only this class of failure; repeatable.")
@click.option("--id", "ids", metavar="CUSTOM_ID", multiple=True, help="Only this task; repeatable.")
@click.option("--held", is_flag=True, help="The tasks held since a crash (--in-flight hold), too.")
def retry(job: str | None, db: str | None, classes: tuple[str, ...], ids: tuple[str, ...], *, held: bool) -> int:
    """Send failed tasks again at the next run, all or those named."""
    from batchrunner.cli.look import chosen_job
    from batchrunner.cli.older import open_up_to_date
    from batchrunner.cli.place import existing_database
    from batchrunner.clock import Clock
    from batchrunner.db.lock import OwnerLock
    from batchrunner.db.store import Store
    from batchrunner.report.numbers import instant

    database = existing_database(job, db, folder=Path())
    with open_up_to_date(database) as reader:
        seen = chosen_job(reader, job)
    with OwnerLock(database, started_at=instant(Clock()())):
        store = Store(database)
        try:
            count = store.retry(seen.id, classes=classes, custom_ids=ids, held=held)
        finally:
            store.close()
    if count:
        tasks = "1 task is" if count == 1 else f"{count:,} tasks are"
        go_on = shlex.join(["batchrunner", "run", job or str(database), *([] if db is None else ["--db", db])])
        click.echo(f"{tasks} pending again; to send: {go_on}", err=True)
    else:
        which = " of these" if classes or ids else ""
        click.echo(f"nothing to retry: no task{which} has failed; see batchrunner status", err=True)
    return ExitCode.OK
