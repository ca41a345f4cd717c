"""Answers of many seconds, in virtual time: how much of the quota is used, and how much is refused.

    .venv/bin/python tests/bench/long_answers.py [--rpm 600] [--windows 20] [--seeds 4]

Each row is a server of the simulator (windows of a minute) whose answers take so many seconds (log-normal, sigma 0.4).
``early``: it writes its headers as a request comes in; ``late``: as its answer leaves. Efficiency is the shortest
possible time over the time it took; the start, in which nothing is known, and the last answers count.
"""

import argparse
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from laboratory import START, play

from batchrunner.simulator.config import Rules

SECONDS = (0.3, 2.0, 8.0, 20.0)
SPREAD = 0.4
TOLD = {"openai": "early late", "zhipu": "early late", "none": "early"}


@dataclass(frozen=True, slots=True)
class Row:
    """One server, and how many windows' worth it is asked."""

    dialect: Any
    algorithm: Any
    late: bool
    rpm: int
    windows: int
    seeds: int


def play_row(row: Row) -> list[tuple[float, float]]:
    """Mean efficiency, and the most that was refused with any seed, for each of SECONDS."""
    found = []
    for seconds in SECONDS:
        games = [
            play(
                Rules(rpm=row.rpm, algorithm=row.algorithm, dialect=row.dialect),
                row.rpm * row.windows,
                seed=seed,
                start=START + 13.7 * seed,
                late=row.late,
                latency=lambda rng, seconds=seconds: seconds * rng.lognormvariate(0, SPREAD),
            )
            for seed in range(row.seeds)
        ]
        mean = sum(game.efficiency for game in games) / len(games)
        found.append((mean, max(game.refused_share for game in games)))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rpm", type=int, default=600)
    parser.add_argument("--windows", type=int, default=20)
    parser.add_argument("--seeds", type=int, default=4)
    asked = parser.parse_args()
    rows = [
        Row(dialect, algorithm, when == "late", asked.rpm, asked.windows, asked.seeds)
        for dialect, whens in TOLD.items()
        for when in whens.split()
        for algorithm in ("bucket", "fixed", "sliding")
    ]
    print(f"{'server':24}" + "".join(f"{f'{seconds:g} s':>17}" for seconds in SECONDS))
    with ProcessPoolExecutor() as workers:
        for row, found in zip(rows, workers.map(play_row, rows), strict=True):
            name = f"{row.dialect} {'late ' if row.late else ''}{row.algorithm}"
            print(f"{name:24}" + "".join(f"{mean:9.3f} {refused:7.2%}" for mean, refused in found), flush=True)


if __name__ == "__main__":
    main()
