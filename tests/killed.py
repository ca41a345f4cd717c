"""One run, killed again and again with SIGKILL, and what the referee and the database say of it afterwards.

The referee is the simulator's own ledger: how often each question was sent and how often its answer was fully
delivered. An answered task may be asked again only if the kill came between its answer and its commit, so it was in
flight.
"""

import os
import signal
import sqlite3
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from random import Random

KILLED = -signal.SIGKILL
PATIENCE = 120.0  # seconds for a run to end by itself


@dataclass(frozen=True, slots=True, kw_only=True)
class Kill:
    """What one kill found: ``in_flight`` open attempts, ``recorded`` answers."""

    in_flight: int
    recorded: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The whole story. ``asked_again``: recorded answers whose task was sent once more (must be none)."""

    kills: tuple[Kill, ...]
    exit_code: int
    succeeded: int
    asked_again: int
    changed: int
    unknown: int
    integrity: str


def run_and_kill(
    job: Path, base_url: str | None, *options: str, kills: int, longest: float, rng: Random, least: float = 0.3
) -> Outcome:
    """Run *job*, kill it *kills* times after random times of up to *longest* seconds of work, then let it finish.

    Without *base_url*, the options say where to send.
    """
    database = job.with_suffix(".db")
    where = () if base_url is None else ("--base-url", base_url)
    command = (sys.executable, "-m", "batchrunner", "run", str(job), *where, "-q", *options)
    seen: list[Kill] = []
    answers: dict[int, bytes] = {}
    attempts: dict[int, int] = {}
    for _ in range(kills):
        process = subprocess.Popen(command, stderr=subprocess.PIPE, cwd=job.parent, env={**os.environ})
        _wait_for_work(process, database, len(seen))
        threading.Event().wait(rng.uniform(least, longest))  # the moment of the kill is what is random here
        process.kill()
        process.communicate()
        if process.returncode != KILLED:
            break  # it was done before
        with _open(database) as connection:
            in_flight = _number(connection, "SELECT count(*) FROM attempt WHERE outcome IS NULL")
            recorded = dict(connection.execute("SELECT task_id, body FROM result"))
            attempts = dict(connection.execute("SELECT id, attempts FROM task WHERE state = 'succeeded'"))
        seen.append(Kill(in_flight=in_flight, recorded=len(recorded)))
        answers.update(recorded)
    done = subprocess.run(command, cwd=job.parent, capture_output=True, timeout=PATIENCE, check=False)
    with _open(database) as connection:
        after = dict(connection.execute("SELECT task_id, body FROM result"))
        sent = dict(connection.execute("SELECT id, attempts FROM task"))
        return Outcome(
            kills=tuple(seen),
            exit_code=done.returncode,
            succeeded=_number(connection, "SELECT count(*) FROM task WHERE state = 'succeeded'"),
            asked_again=sum(sent[task] != count for task, count in attempts.items()),
            changed=sum(after.get(task) != body for task, body in answers.items()),
            unknown=_number(connection, "SELECT count(*) FROM attempt WHERE outcome = 'unknown'"),
            integrity=connection.execute("PRAGMA integrity_check").fetchone()[0],
        )


def _wait_for_work(process: "subprocess.Popen[bytes]", database: Path, runs: int) -> None:
    """Until this run has its row, so that the kill meets it at work and not at its start."""
    pause = threading.Event()
    for _ in range(600):
        if process.poll() is not None:
            return
        if database.is_file():
            try:
                with _open(database) as connection:
                    if _number(connection, "SELECT count(*) FROM run") > runs:
                        return
            except sqlite3.OperationalError:  # not made yet
                pass
        pause.wait(0.02)


def _open(database: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"file:{database}?mode=ro", uri=True)


def _number(connection: sqlite3.Connection, query: str) -> int:
    return int(connection.execute(query).fetchone()[0])
