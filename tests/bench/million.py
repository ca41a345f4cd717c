"""What a million tasks cost beside ten thousand: memory, and the time until the first request of a run that goes on.

    .venv/bin/python tests/bench/million.py [--quick | --full]

Plans, loads and runs are real commands. The run over the million sends its first 30,000 tasks; --full sends them all.
"""

import argparse
import signal
import sqlite3
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from bench import (
    BATCHRUNNER,
    COMPARED,
    Exit,
    Row,
    Simulator,
    call,
    calm,
    environment,
    rate,
    report,
    workspace,
    write_job,
)

SMALL = 10_000
SENT = 30_000  # tasks of the large job that are run
IN_FLIGHT = "64"
GROWTH, MOST_MB = 1.3, 250.0
FIRST_REQUEST = 1.5  # seconds
STARTS = 3
RECENT = 100_000  # sends in the last minute before a kill, at some 1,700 a second
ANSWER = '{"id":"x","choices":[{"index":0,"message":{"role":"assistant","content":"%s"},"finish_reason":"stop"}]}'
ATTEMPTS = """
    INSERT INTO attempt (task_id, run_id, number, outcome, leased_at, sent_at, finished_at, cost, status)
    SELECT id, 1, attempts + 1, 'success', 1, 1, 2, 300, 200 FROM task WHERE state = 'pending' AND id <= ? ORDER BY id
"""
TASKS = """
    UPDATE task SET state = 'succeeded', attempts = attempts + 1, finished_at = 2 WHERE state = 'pending' AND id <= ?
"""
RESULTS = """
    INSERT INTO result SELECT task_id, id, 200, ?, 'stop', 1, 2 FROM attempt
    WHERE outcome = 'success' AND task_id NOT IN (SELECT task_id FROM result)
"""
IMPORTS = "import batchrunner.cli.run, batchrunner.cli.perform"


@dataclass(frozen=True, slots=True, kw_only=True)
class Phases:
    """Planning, loading and running one job: how the processes ended, and answers a second."""

    planned: Exit
    loaded: Exit
    ran: Exit
    rate: float


def measure(job: Path, database: Path, *options: str) -> Phases:
    """Plan, load, then run, each in a process of its own."""
    calm()
    planned = call(*BATCHRUNNER, "plan", job, "--db", database, "--base-url", "http://127.0.0.1:9/v1")
    loaded = call(*BATCHRUNNER, "load", job, "--db", database)
    with Simulator("--latency", "0") as simulator:
        server = ("--base-url", simulator.base_url, "-c", IN_FLIGHT)
        ran = call(*BATCHRUNNER, "run", job, "--db", database, *server, *options)
        return Phases(planned=planned, loaded=loaded, ran=ran, rate=rate(simulator.score()))


def memory(what: str, large: Exit, small: Exit) -> Row:
    """The row of one phase's peaks."""
    ratio = large.peak_mb / small.peak_mb
    return Row(
        what=what,
        cells=(f"{large.peak_mb:.0f} MB", f"{small.peak_mb:.0f} MB", f"{ratio:.2f}"),
        target=f"<= {GROWTH:g}, <= {MOST_MB:g} MB",
        met=ratio <= GROWTH and large.peak_mb <= MOST_MB,
    )


def half_done(database: Path, tasks: int) -> None:
    """Answer the first half of the tasks, long ago, as a run would have written it."""
    answer = ANSWER % ("word " * 150)
    connection = sqlite3.connect(database)
    with connection:
        moved = connection.execute(ATTEMPTS, (tasks // 2,)).rowcount
        connection.execute(TASKS, (tasks // 2,))
        connection.execute(RESULTS, (answer,))
        connection.execute("UPDATE tally SET count = count - ? WHERE state = 'pending'", (moved,))
        connection.execute("UPDATE tally SET count = count + ? WHERE state = 'succeeded'", (moved,))
    connection.close()


def sent_just_now(database: Path) -> None:
    """Make the newest sends ones of the last half minute, which still count against the limits."""
    connection = sqlite3.connect(database)
    with connection:
        connection.execute(
            "UPDATE attempt SET leased_at = ?1, sent_at = ?1, finished_at = ?1"
            " WHERE id > (SELECT max(id) FROM attempt) - ?2",
            (time.time() - 30, RECENT),
        )
    connection.close()


def first_request(job: Path, database: Path) -> tuple[float, float]:
    """Seconds from the start of the process until the job is ready, and until its first request has arrived."""
    calm()
    with Simulator("--latency", "0.2") as simulator:
        command = (*BATCHRUNNER, "run", str(job), "--db", str(database), "--base-url", simulator.base_url)
        started = time.monotonic()
        process = subprocess.Popen(
            (*command, "--progress", "json"),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment(),
            text=True,
        )
        assert process.stdout is not None
        if '"start"' not in process.stdout.readline():
            sys.exit("the run did not start")
        ready = time.monotonic() - started
        while (first := simulator.score()["first_send_at"]) is None:
            time.sleep(0.02)
        process.send_signal(signal.SIGTERM)  # it drains
        process.communicate()
    return ready, first - started


def starts(what: str, job: Path, database: Path) -> list[Row]:
    """The time to the first request, and where it goes."""
    calm()
    python = median(call(sys.executable, "-c", "pass").seconds for _ in range(STARTS))
    imports = median(call(sys.executable, "-c", IMPORTS).seconds for _ in range(STARTS))
    seen = [first_request(job, database) for _ in range(STARTS)]
    ready, first = median(at for at, _ in seen), median(at for _, at in seen)
    steps = (
        ("  Python itself", python),
        ("  our imports", imports - python),
        ("  database, job file, accounts", ready - imports),
        ("  wire, first lease and request", first - ready),
    )
    total = Row(
        what=what, cells=(f"{first:.2f} s", "", ""), target=f"<= {FIRST_REQUEST:g} s", met=first <= FIRST_REQUEST
    )
    return [total, *(Row(what=step, cells=(f"{seconds:.2f} s", "", "")) for step, seconds in steps)]


def main() -> int:
    """Measure all, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", help="200,000 tasks")
    size.add_argument("--full", action="store_true", help="send all of the million")
    options = parser.parse_args()
    tasks = 200_000 if options.quick else 1_000_000
    with workspace() as folder:
        few = measure(write_job(folder / "small.jsonl", SMALL), folder / "small.db")
        job, database = write_job(folder / "large.jsonl", tasks), folder / "large.db"
        many = measure(job, database, *(() if options.full else ("--limit", str(SENT))))
        rows = [memory("peak memory, plan", many.planned, few.planned)]
        rows += [memory("peak memory, load", many.loaded, few.loaded), memory("peak memory, run", many.ran, few.ran)]
        speeds = (f"{many.rate:,.0f}/s", f"{few.rate:,.0f}/s", f"{many.rate / few.rate:.2f}")
        rows.append(Row(what="answers a second", cells=speeds))
        if not options.full:  # else nothing is left to be sent
            half_done(database, tasks)
            rows += starts("first request, half done", job, database)
            sent_just_now(database)
            rows += starts(f"first request, {RECENT:,} sends in the last minute", job, database)
    return report(f"{tasks:,} tasks (ours) beside {SMALL:,} (reference), 64 in flight", COMPARED, rows)


if __name__ == "__main__":
    sys.exit(main())
