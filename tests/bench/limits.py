"""How much of a rate limit is used, and how often it is overrun, beside a client told the limit and one that is not.

    .venv/bin/python tests/bench/limits.py [--row PATTERN] [--quick | --full]

The rows are those of cases.py. Each client has a simulator of its own, told the same, in real time over HTTP.
Efficiency is the shortest possible time for the answers a client got over the time it took; "late" are the refusals
among what it sent after the first window; a task it gave up (or had not done when our patience ended) is "lost", and
of ours none may be.
Windows are 10 seconds long to be short, a minute where limits are stated; --full takes the minutes that providers have.

Several rows run at the same moment, which costs nothing at such rates; programs start in turn, for that does cost.
"""

import argparse
import re
import resource
import sys
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from bench import Row, Simulator, calm, ours, reference, report, workspace, write_job
from cases import IN_FLIGHT, Case, cases

AT_ONCE = 3  # rows, of three clients each
START = 0.5  # seconds of a processor that the start of a program takes
PATIENCE = 125.0  # seconds for one client
PATIENCE_FULL = 900.0
HEADS = ("client", "seconds", "efficiency", "429s", "late", "lost")
RETRIES = "2"

_turn = threading.Lock()


def measure(case: Case, folder: Path, patience: float) -> list[Row]:
    """A row for each client, ours first."""
    folder.mkdir()
    job = write_job(folder / "job.jsonl", case.tasks, max_tokens=case.max_tokens)
    clients: Mapping[str, Callable[[Simulator], dict[str, Any]]] = {
        "batchrunner": lambda simulator: ours(job, simulator, *case.told, within=patience),
        "fixed rate, told": lambda simulator: reference("bare", job, simulator, *case.paced, within=patience),
        "openai package": lambda simulator: reference(
            "sdk", job, simulator, "--in-flight", IN_FLIGHT, "--retries", RETRIES, within=patience
        ),
    }
    with ThreadPoolExecutor(len(clients)) as pool:
        scores = list(pool.map(lambda client: _score(case, client), clients.values()))
    sys.stderr.write(".")
    sys.stderr.flush()
    mine, *others = (_row(case, name, score) for name, score in zip(clients, scores, strict=True))
    return [_judged(case, mine, scores[0]), *others]


def _score(case: Case, client: Callable[[Simulator], dict[str, Any]]) -> dict[str, Any]:
    _wait_for_turn()
    with Simulator(*case.server) as simulator:
        _wait_for_turn()
        if "--aligned" in case.server:  # what is left of a window that is nearly over counts, and nobody can use it
            time.sleep(-time.time() % float(case.server[case.server.index("--window") + 1]))
        return client(simulator)


def _wait_for_turn() -> None:
    with _turn:
        time.sleep(START)


def _row(case: Case, name: str, score: dict[str, Any]) -> Row:
    cells = (
        name,
        f"{score['elapsed'] or 0:.1f}",
        f"{score['efficiency'] or 0:.3f}",
        f"{_refused(score):.2%}",
        f"{_late(score):.2%}",
        f"{case.tasks - score['answered']:,}",
    )
    return Row(what="", cells=cells)


def _refused(score: dict[str, Any]) -> float:
    return float(sum(score["refusals"].values()) / max(1, score["sends"]))


def _late(score: dict[str, Any]) -> float:
    return float(score["late_refusals"] / max(1, score["late_sends"]))


def _judged(case: Case, row: Row, score: dict[str, Any]) -> Row:
    """Ours has a target."""
    target = case.target
    in_time = (
        score["elapsed"] - score["shortest"] <= case.window
        if target.efficiency is None
        else score["efficiency"] >= target.efficiency
    )
    refused = _late(score) if target.late else _refused(score)
    met = in_time and refused <= target.refused and score["answered"] == case.tasks
    return Row(what=case.what, cells=row.cells, target=str(target), met=met)


def main() -> int:
    """Measure all, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--row", metavar="PATTERN", default="", help="only rows that match this regular expression")
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", help="the first row only")
    size.add_argument("--full", action="store_true", help="windows of a minute")
    options = parser.parse_args()
    chosen = [case for case in cases(full=options.full) if re.search(options.row, case.what, re.IGNORECASE)]
    if not chosen:
        parser.error(f"no row matches {options.row!r}")
    if options.quick:
        chosen = chosen[:1]
    patience = PATIENCE_FULL if options.full else PATIENCE
    calm()
    started = time.monotonic()
    with workspace() as folder, ThreadPoolExecutor(AT_ONCE) as pool:
        rows = pool.map(lambda case: measure(case, folder / case.what, patience), chosen)
        table = [row for group in rows for row in group]
    seconds = time.monotonic() - started
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    busy = (usage.ru_utime + usage.ru_stime) / seconds
    title = f"Limits: {len(chosen)} rows in {seconds:.0f} s, keeping {busy:.2f} processors busy"
    return report(title, HEADS, table)


if __name__ == "__main__":
    sys.exit(main())
