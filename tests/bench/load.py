"""How fast a job file gets into the database, beside sqlite3's own executemany of the same rows.

    .venv/bin/python tests/bench/load.py [--quick]

Ours reads the file, checks each line, fingerprints it and stores it. The reference has the finished rows in memory and
only stores them: the same two tables, pragmas, rows a transaction, and the same durability. Both are timed inside a
process of their own, without its start, to the closed database.
"""

import argparse
import sqlite3
import sys
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from itertools import islice
from pathlib import Path

from bench import COMPARED, FOLDER, at_least, call, compare, report, workspace, write_job

from batchrunner.db.engine import close_writer, open_writer
from batchrunner.db.store import Store
from batchrunner.jobfile.options import ReadOptions
from batchrunner.jobfile.reader import open_job
from batchrunner.loader import CHUNK, load
from batchrunner.task import Request

TARGET = 0.5
TASK = "INSERT INTO task (id, job_id, custom_id, fingerprint, position, seen) VALUES (?, ?, ?, ?, ?, ?)"
REQUEST = "INSERT INTO request (task_id, endpoint, model, body, row) VALUES (?, ?, ?, ?, ?)"
JOB = (
    "INSERT INTO job (name, source, shape, digest, stamp, state, settings, created_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
)


def load_ours(job: Path, database: Path) -> float:
    """Seconds of our loader."""
    store = Store(database)
    started = time.perf_counter()
    load(store, str(job), ReadOptions(), now=time.time())
    store.close()
    return time.perf_counter() - started


def load_plain(job: Path, database: Path) -> float:
    """Seconds that sqlite3 takes for the rows; making them is not counted."""
    connection = open_writer(database)
    raw = connection.connection.driver_connection
    assert isinstance(raw, sqlite3.Connection)
    raw.execute(JOB, ("job", str(job), "", b"", "", "loading", "{}", 0.0))
    seconds, first = 0.0, 1
    with open_job(str(job), ReadOptions()) as reader:
        requests = (item for item in reader if isinstance(item, Request))
        while chunk := list(islice(requests, CHUNK)):
            tasks = [(i, 1, r.custom_id, r.fingerprint, r.line, 1) for i, r in enumerate(chunk, first)]
            wide = [(i, r.endpoint, r.model, r.body, r.row) for i, r in enumerate(chunk, first)]
            first += len(chunk)
            started = time.perf_counter()
            _insert(raw, tasks, wide)
            seconds += time.perf_counter() - started
    started = time.perf_counter()
    close_writer(connection, single_file=False)
    return seconds + time.perf_counter() - started


def _insert(raw: sqlite3.Connection, tasks: Sequence[tuple[object, ...]], wide: Sequence[tuple[object, ...]]) -> None:
    raw.execute("BEGIN IMMEDIATE")
    raw.executemany(TASK, tasks)
    raw.executemany(REQUEST, wide)
    raw.execute("COMMIT")


LOADERS = {"ours": load_ours, "plain": load_plain}


def speed(loader: str, job: Path, count: int) -> float:
    """Lines a second of a loader in a new process, into a new database."""
    with tempfile.TemporaryDirectory(dir=job.parent) as name:
        done = call(sys.executable, FOLDER / "load.py", "--one", loader, job, Path(name, "job.db"))
    return count / float(done.out)


def main() -> int:
    """Measure, print the table; with --one, be the process that is measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="100,000 lines")
    parser.add_argument("--one", nargs=3, metavar=("LOADER", "JOB", "DB"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        loader, job, database = options.one
        print(LOADERS[loader](Path(job), Path(database)))
        return 0
    count, rounds = (100_000, 3) if options.quick else (1_000_000, 2)
    with workspace() as folder:
        job = write_job(folder / "job.jsonl", count)
        figures = compare(rounds, partial(speed, "ours", job, count), partial(speed, "plain", job, count))
    row = at_least(f"{count:,} lines of 1 kB: sqlite3.executemany of finished rows", figures, TARGET)
    return report("Loading, lines a second (medians)", COMPARED, [row])


if __name__ == "__main__":
    sys.exit(main())
