"""Databases of an older batchrunner: a command that is going to write brings them up to date before it looks inside."""

from pathlib import Path

from batchrunner.clock import Clock
from batchrunner.db.lock import OwnerLock
from batchrunner.db.reader import Reader
from batchrunner.db.store import Store
from batchrunner.errors import SchemaTooOld
from batchrunner.report.numbers import instant


def open_up_to_date(database: Path) -> Reader:
    """A reader of *database*, which is upgraded first where that is needed; the older one stays beside it as a copy.

    Raises StoreError; DatabaseBusy where another runner owns it.
    """
    try:
        return Reader(database)
    except SchemaTooOld:
        with OwnerLock(database, started_at=instant(Clock()())):
            Store(database).close()
        return Reader(database)
