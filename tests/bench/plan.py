"""A plan and the run it was for, side by side: requests, tokens, money.

    .venv/bin/python tests/bench/plan.py

A slice of 50 tasks runs first, so that lengths of answers are known; then the rest is planned, and run, against the
simulator. The price is made up (1 and 2 USD for a million tokens in and out).
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from bench import BATCHRUNNER, Row, Simulator, environment, report

TASKS, SLICE = 1000, 50
PRICES = '[prices."m"]\ninput = 1\noutput = 2\ncurrency = "USD"\n'
WITHIN = 0.1


def main() -> int:
    """Plan, run, compare; 1 if a figure is off by more than a tenth."""
    with tempfile.TemporaryDirectory() as folder, Simulator("--latency", "0.05") as simulator:
        write_job(Path(folder))

        def command(*words: str) -> Any:
            told = (*words, "job.jsonl", "--base-url", simulator.base_url, "--json")
            done = subprocess.run((*BATCHRUNNER, *told), cwd=folder, env=environment(), capture_output=True, check=True)
            return json.loads(done.stdout.splitlines()[-1])

        first, plan, whole = command("run", "--limit", str(SLICE)), command("plan"), command("run")
    planned = plan["tokens"]["prompt"] + plan["tokens"]["output"]
    table = [
        row("requests", plan["requests"], whole["succeeded"] - first["succeeded"]),
        row("tokens", planned, tokens(whole) - tokens(first)),
        row("USD", plan["cost"], spent(whole) - spent(first)),
    ]
    return report("A plan and its run", ("planned", "came to", "ratio"), table)


def write_job(folder: Path) -> None:
    """Prompts of many lengths, and the price."""
    (folder / "batchrunner.toml").write_text(PRICES, encoding="utf-8")
    with (folder / "job.jsonl").open("w", encoding="utf-8") as stream:
        for n in range(TASKS):
            messages = [{"role": "user", "content": f"Question {n}: " + "word " * (n % 60)}]
            body = {"model": "m", "messages": messages, "max_tokens": 300}
            stream.write(json.dumps({"custom_id": f"task-{n:05}", "body": body}) + "\n")


def row(what: str, planned: float, came: float) -> Row:
    ratio = planned / came
    cells = (f"{planned:,.6g}", f"{came:,.6g}", f"{ratio:.3f}")
    return Row(what=what, cells=cells, target=f"within {WITHIN:.0%}", met=abs(ratio - 1) <= WITHIN)


def tokens(summary: dict[str, Any]) -> float:
    return float(summary["tokens"]["in"] + summary["tokens"]["out"])


def spent(summary: dict[str, Any]) -> float:
    return float(summary["cost"]["spent"])


if __name__ == "__main__":
    sys.exit(main())
