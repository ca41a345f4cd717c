"""How many recorded replies are read as they were meant, by provider: class, wait and whether their task may go again.

    .venv/bin/python tests/bench/vectors.py [FOLDER]

FOLDER holds other vectors of the same form; without it, those of the tests.
"""

import sys
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
from recorded import VECTORS, read, vectors

from batchrunner.config import RetrySettings
from batchrunner.retry import GiveUp, Stop, decide
from batchrunner.task import Success

NEAR = 1.0  # seconds; a reset is told to the second


def faults(vector: dict[str, Any]) -> list[str]:
    """What is read otherwise than the vector says."""
    outcome, expected = read(vector), vector["expected"]
    if isinstance(outcome, Success):
        return [] if expected.get("class", "ok") == "ok" else [f"class ok, not {expected['class']}"]
    verdict = decide(outcome, failures=0, policy=RetrySettings(), rng=Random(1))
    again = not isinstance(verdict, GiveUp) and not (isinstance(verdict, Stop) and not verdict.later)
    seen = {"class": str(outcome.kind), "retryable": again, "retry_after_s": outcome.retry_after}
    wrong = [name for name in seen if name in expected and _differ(seen, expected, name)]
    return [f"{name} is read as {seen[name]}, not {expected[name]}" for name in wrong]


def _differ(seen: dict[str, Any], expected: dict[str, Any], name: str) -> bool:
    mine, theirs = seen[name], expected[name]
    if isinstance(mine, float) and isinstance(theirs, int | float):
        return abs(mine - theirs) > NEAR
    return bool(mine != theirs)


def main() -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else VECTORS
    read_right, total = Counter[str](), Counter[str]()
    for vector in vectors(folder):
        found = faults(vector)
        total[vector["provider"]] += 1
        read_right[vector["provider"]] += not found
        for fault in found:
            print(f"{vector['id']}: {fault}")
    for name in sorted(total):
        print(f"{name:16}{read_right[name]:4} of {total[name]}")
    print(f"{'all':16}{read_right.total():4} of {total.total()}")


if __name__ == "__main__":
    main()
