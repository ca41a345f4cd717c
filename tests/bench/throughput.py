"""How fast requests go out and answers come in, beside a bare loop that keeps nothing, and beside the openai package.

.venv/bin/python tests/bench/throughput.py [--quick]
"""

import argparse
import sys
from pathlib import Path

from bench import COMPARED, Row, Simulator, at_least, compare, ours, rate, reference, report, workspace, write_job

SERVES = 5_000  # requests a second the simulator must manage, or it is itself what is measured


def beside_bare(folder: Path, tasks: int, in_flight: int, latency: str, target: float, rounds: int) -> list[Row]:
    """Ours and plain aiohttp, the same bodies to the same server."""
    job = write_job(folder / "job.jsonl", tasks)

    def mine() -> float:
        with Simulator("--latency", latency) as simulator:
            return rate(ours(job, simulator, "-c", str(in_flight)))

    def bare() -> float:
        with Simulator("--latency", latency) as simulator:
            return rate(reference("bare", job, simulator, "--in-flight", str(in_flight)))

    figures = compare(rounds, mine, bare)
    what = f"{tasks:,} tasks, {in_flight} in flight, {latency} s: bare aiohttp, no store"
    rows = [at_least(what, figures, target)]
    if latency == "0":
        served = figures[1]
        what, cells = "the simulator itself, to that loop", ("", f"{served:,.0f}", "")
        rows.append(Row(what=what, cells=cells, target=f">= {SERVES:,}", met=served >= SERVES))
    return rows


def beside_sdk(folder: Path, tasks: int, rounds: int) -> Row:
    """Ours and AsyncOpenAI behind a semaphore."""
    job = write_job(folder / "job.jsonl", tasks)

    def mine() -> float:
        with Simulator("--latency", "0") as simulator:
            return rate(ours(job, simulator, "-c", "64"))

    def package() -> float:
        with Simulator("--latency", "0") as simulator:
            return rate(reference("sdk", job, simulator, "--in-flight", "64"))

    return at_least(f"{tasks:,} tasks, 64 in flight, 0 s: openai package", compare(rounds, mine, package), 5.0)


def main() -> int:
    """Measure all, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a quarter of the tasks, one round")
    quick = parser.parse_args().quick
    tasks, rounds = (5_000, 1) if quick else (20_000, 3)
    with workspace() as folder:
        rows = beside_bare(folder, tasks, 512, "0.1", 0.6, rounds)
        rows += beside_bare(folder, tasks, 64, "0", 0.35, rounds)
        rows.append(beside_sdk(folder, 1_000 if quick else 2_000, rounds))
    return report("Throughput, answers a second (medians; the ratio is the median of the rounds')", COMPARED, rows)


if __name__ == "__main__":
    sys.exit(main())
