"""Servers of every kind in virtual time: how much of each is used, and how often it is overrun.

    .venv/bin/python tests/bench/kinds.py [--kind PATTERN] [--seeds 1] [--latency short,2s,8s]

The rows are those of told_kinds.py, silent_kinds.py and odd_kinds.py: how a server counts, how it tells, how it
refuses, and nothing said to our limiter. ``efficiency`` is the time that a client would take who knows everything, over
ours, the mean of the seeds; ``refused`` and ``late`` are shares of the sends, the most of any seed: in all, and after
the first minute. Rows without a target are for information; a game with ten sends for each task is given up as a storm.
"""

import argparse
import re
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from composed import Draw, visit
from kind import Kind, named
from odd_kinds import odd_kinds
from silent_kinds import silent_kinds
from told_kinds import told_kinds

KINDS = named([*told_kinds(), *silent_kinds(), *odd_kinds()])
LATENCIES: dict[str, Draw] = {
    "short": lambda rng: rng.uniform(0.1, 0.4),
    "2s": lambda rng: 2 * rng.lognormvariate(0, 0.3),
    "8s": lambda rng: 8 * rng.lognormvariate(0, 0.3),
}
MINUTE = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What one row came to. ``broken``: a deadlock or a storm of sends, told."""

    efficiency: float = 0.0
    refused: float = 0.0
    late: float = 0.0
    broken: str = ""

    def __str__(self) -> str:
        if self.broken:
            return f"{'-':>10}{'-':>9}{'-':>9}"
        return f"{self.efficiency:10.3f}{self.refused:9.2%}{self.late:9.2%}"

    def verdict(self, kind: Kind) -> str:
        if self.broken:
            return f"BROKEN: {self.broken}"
        if kind.target is None:
            return ""
        is_met = self.efficiency >= (kind.target.efficiency or 0.0) and self.refused <= kind.target.refused
        return "PASS" if is_met else "MISSED"


@dataclass(frozen=True, slots=True)
class Asked:
    """One row: a kind and a latency, by their names."""

    kind: str
    latency: str
    seeds: int


def find(asked: Asked) -> Found:
    """Play all seeds of a row."""
    kind = KINDS[asked.kind]
    try:
        games = [
            visit(
                kind.make,
                kind.tasks,
                seed=seed,
                latency=LATENCIES[asked.latency],
                tokens=kind.tokens,
                reckoned=kind.reckoned,
            )
            for seed in range(1, asked.seeds + 1)
        ]
    except AssertionError as error:
        return Found(broken=str(error).partition("\n")[0])
    return Found(
        efficiency=sum(game.efficiency for game in games) / len(games),
        refused=max(game.refused_share for game in games),
        late=max(sum(at > MINUTE for at in game.refused_at) / game.sends for game in games),
    )


def latencies(text: str) -> list[str]:
    names = text.split(",")
    if unknown := set(names) - LATENCIES.keys():
        raise argparse.ArgumentTypeError(f"there are {', '.join(LATENCIES)}, no {', '.join(unknown)}")
    return names


def main() -> int:
    """Play what is asked for, print a row for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kind", default="", metavar="PATTERN", help="only those whose name has this regex")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--latency", type=latencies, default=[*LATENCIES], help="of short, 2s and 8s; by default all")
    options = parser.parse_args()
    kinds = [kind for name, kind in KINDS.items() if re.search(options.kind, name)]
    rows = [Asked(kind.name, latency, options.seeds) for kind in kinds for latency in options.latency]
    began, missed, passed = time.monotonic(), 0, 0
    print(f"{'server':54}{'latency':8}{'efficiency':>10}{'refused':>9}{'late':>9}  target")
    with ProcessPoolExecutor() as workers:
        for asked, found in zip(rows, workers.map(find, rows), strict=True):
            kind = KINDS[asked.kind]
            verdict = found.verdict(kind)
            passed, missed = passed + (verdict == "PASS"), missed + verdict.startswith(("MISSED", "BROKEN"))
            print(f"{kind.name:54}{asked.latency:8}{found}  {kind.target or '-'}  {verdict}".rstrip(), flush=True)
    print(f"{len(rows)} rows, {passed} pass, {missed} missed; in {time.monotonic() - began:.0f} s")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
