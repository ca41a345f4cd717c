"""Which ids came before, of any number of them: kept by SQLite in a file of its own that goes away, not in memory.

A plan loads nothing, so no table of the job's tells it; a set in memory would take 80 bytes and more for each line.
"""

import sqlite3
from types import TracebackType
from typing import Self

from batchrunner.errors import StoreError

_SETUP = (
    "PRAGMA journal_mode = OFF",  # nobody will want it back
    "CREATE TABLE seen (id TEXT PRIMARY KEY) WITHOUT ROWID",
    "BEGIN",
)


class Seen:
    """A context manager. A million ids take some 3 MB of memory, and as much disk as they are long."""

    def __enter__(self) -> Self:
        self._connection = sqlite3.connect("", isolation_level=None)  # without a name: temporary
        for statement in _SETUP:
            self._connection.execute(statement)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.close()

    def is_new(self, identity: str) -> bool:
        """Whether it did not come before; from now on it did. Raises StoreError where the disk refuses."""
        try:
            return self._connection.execute("INSERT OR IGNORE INTO seen VALUES (?)", (identity,)).rowcount == 1
        except sqlite3.OperationalError as error:
            raise StoreError(
                f"temporary files: {error}. There must be room for all ids of the job; TMPDIR names another folder"
            ) from error
