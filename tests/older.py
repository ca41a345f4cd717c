"""A database turned back into one that the first release could have written."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path

# as that release wrote it: a clock called "window", a kind that holds the period
BELIEF = {
    "meters": [{"dimension": "requests", "kind": "told 60s", "limit": 600, "period": 60.0, "algorithm": "window"}],
    "slots": 4,
    "slots_refused_at": None,
}


def turn_back(path: Path) -> None:
    """Undo migration 0002, and what is believed with it."""
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DROP VIEW events")
        connection.execute("DROP TABLE event")
        connection.execute("UPDATE alembic_version SET version_num = '0001'")
        connection.execute("UPDATE belief SET value = ?", (json.dumps(BELIEF),))
        connection.execute("PRAGMA user_version = 1")
