"""Killed with SIGKILL in the middle of a run, the same command goes on: nothing lost, nothing paid for twice."""

import json
from pathlib import Path
from random import Random

from killed import run_and_kill

import batchrunner as br

TASKS, KILLS, IN_FLIGHT = 600, 3, 16


def test_killed_and_resumed(tmp_path: Path) -> None:
    """Every task is answered, no recorded answer is asked for again or changed, what is re-sent was in flight."""
    job = tmp_path / "job.jsonl"
    lines = [
        {"custom_id": f"task-{n}", "body": {"model": "m", "messages": [{"role": "user", "content": f"question {n}"}]}}
        for n in range(TASKS)
    ]
    job.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    with br.Simulator(latency="uniform:0.02:0.1") as server:
        options = ("-c", str(IN_FLIGHT), "-o", "out.jsonl")
        outcome = run_and_kill(job, server.base_url, *options, kills=KILLS, longest=0.7, rng=Random(7))
        ledger = server.ledger()
    assert outcome.exit_code == 0
    assert outcome.succeeded == TASKS == len(ledger)
    assert outcome.integrity == "ok"
    assert outcome.asked_again == outcome.changed == 0
    assert len(outcome.kills) == KILLS
    assert all(kill.in_flight <= IN_FLIGHT for kill in outcome.kills)
    resent = sum(sends - 1 for sends, _ in ledger.values())
    assert resent <= outcome.unknown <= sum(kill.in_flight for kill in outcome.kills)
    written = [json.loads(line)["custom_id"] for line in (tmp_path / "out.jsonl").read_text("utf-8").splitlines()]
    assert written == [line["custom_id"] for line in lines]
