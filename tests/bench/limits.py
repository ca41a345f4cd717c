"""How much of a rate limit is used, and how often it is overrun, beside a client told the limit and one that is not.

    .venv/bin/python tests/bench/limits.py [--quick | --full]

Efficiency is the shortest possible time for the answers a client got over the time it took; a task the client gave up
counts in "lost". All clients have 64 in flight and a simulator each, told the same; they run at the same moment, which
costs nothing at such rates. Windows are 10 seconds long to be short; --full takes the minutes that providers have.
"""

import argparse
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from bench import Row, Simulator, calm, ours, reference, report, workspace, write_job

PER_MINUTE = 1_200
WINDOWS = 4  # a job's size, in limits' worths
EFFICIENCY = 0.95
REFUSED = 0.005
IN_FLIGHT = ("--in-flight", "64")


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A server, what our command is told, and whether there is a target yet."""

    what: str
    server: tuple[str, ...]
    told: tuple[str, ...] = ()
    targeted: bool = False


CASES = (
    Case(what="bucket, OpenAI's headers; told nothing", server=("--dialect", "openai"), targeted=True),
    Case(what="fixed window, Zhipu's headers; told nothing", server=("--algorithm", "fixed", "--dialect", "zhipu")),
    Case(
        what="bucket, OpenAI's headers; told the limit",
        server=("--dialect", "openai"),
        told=("--rpm", str(PER_MINUTE)),
    ),
    Case(what="bucket, no headers; told the limit", server=("--dialect", "none"), told=("--rpm", str(PER_MINUTE))),
    Case(what="bucket, no headers; told nothing", server=("--dialect", "none")),
)


def measure(case: Case, folder: Path, window: float, tasks: int) -> list[Row]:
    """A row for each client, ours first."""
    limit = round(PER_MINUTE * window / 60)
    job = write_job(folder / "job.jsonl", tasks)
    server = (*case.server, "--rpm", str(limit), "--window", f"{window:g}", "--latency", "0.1")
    clients: Mapping[str, Callable[[Simulator], dict[str, Any]]] = {
        "batchrunner": lambda simulator: ours(job, simulator, *case.told),
        "aiolimiter, told the limit": lambda simulator: reference(
            "bare", job, simulator, *IN_FLIGHT, "--limit", str(limit), "--window", f"{window:g}"
        ),
        "openai package, 2 retries": lambda simulator: reference("sdk", job, simulator, *IN_FLIGHT, "--retries", "2"),
    }
    with ThreadPoolExecutor(len(clients)) as pool:
        scores = list(pool.map(partial(_score, server), clients.values()))
    return [
        _row(case, name, score, tasks, first=not at)
        for at, (name, score) in enumerate(zip(clients, scores, strict=True))
    ]


def _score(server: tuple[str, ...], client: Callable[[Simulator], dict[str, Any]]) -> dict[str, Any]:
    with Simulator(*server) as simulator:
        return client(simulator)


def _row(case: Case, name: str, score: dict[str, Any], tasks: int, *, first: bool) -> Row:
    efficiency, refused = score["efficiency"] or 0.0, sum(score["refusals"].values()) / score["sends"]
    targeted = first and case.targeted
    return Row(
        what=case.what if first else "",
        cells=(name, f"{efficiency:.3f}", f"{refused:.2%}", f"{tasks - score['answered']:,}"),
        target=f">= {EFFICIENCY:g}, <= {REFUSED:.1%}" if targeted else "",
        met=efficiency >= EFFICIENCY and refused <= REFUSED if targeted else None,
    )


def main() -> int:
    """Measure all, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", help="the first case only")
    size.add_argument("--full", action="store_true", help="windows of a minute, 2,400 tasks")
    options = parser.parse_args()
    window, tasks = (60.0, 2_400) if options.full else (10.0, WINDOWS * PER_MINUTE // 6)
    rows: list[Row] = []
    with workspace() as folder:
        for case in CASES[:1] if options.quick else CASES:
            calm()
            rows += measure(case, folder, window, tasks)
    title = f"Limits: {PER_MINUTE:,} requests a minute in windows of {window:g} s, {tasks:,} tasks, latency 0.1 s"
    return report(title, ("client", "efficiency", "429s", "lost"), rows)


if __name__ == "__main__":
    sys.exit(main())
