"""``batchrunner retry``: failed tasks back to pending, with all their tries."""

from pathlib import Path

import rich_click as click

from batchrunner.cli.options import db_option, job_argument
from batchrunner.exits import ExitCode


@click.command()
@job_argument
@db_option
@click.option("--class", "classes", metavar="NAME", multiple=True, help="Only this class of failure; repeatable.")
@click.option("--id", "ids", metavar="CUSTOM_ID", multiple=True, help="Only this task; repeatable.")
@click.option("--held", is_flag=True, help="The tasks held since a crash, too.")
def retry(job: str | None, db: str | None, classes: tuple[str, ...], ids: tuple[str, ...], *, held: bool) -> int:
    """Send failed tasks again at the next run: all of them, or those named."""
    from batchrunner.cli.look import only_job
    from batchrunner.cli.place import existing_database
    from batchrunner.clock import Clock
    from batchrunner.db.lock import OwnerLock
    from batchrunner.db.reader import Reader
    from batchrunner.db.store import Store
    from batchrunner.report.numbers import instant

    database = existing_database(job, db, folder=Path.cwd())
    with Reader(database) as reader:
        seen = only_job(reader)
    with OwnerLock(database, started_at=instant(Clock()())):
        store = Store(database)
        try:
            count = store.retry(seen.id, classes=classes, custom_ids=ids, held=held)
        finally:
            store.close()
    click.echo(f"{count:,} tasks are pending again; batchrunner run {database} sends them", err=True)
    return ExitCode.OK
