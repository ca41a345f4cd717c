"""kill -9 at random moments of one run, resumed each time: nothing lost, no answered task asked again.

python tests/bench/kill.py [KILLS] [SEED]
"""

import json
import sys
from pathlib import Path
from random import Random

from bench import Simulator, workspace, write_job

sys.path.insert(0, str(Path(__file__).parents[1]))

from killed import run_and_kill

TASKS, IN_FLIGHT = 4000, 128


def main() -> int:
    """Run, kill, resume, and hold the simulator's ledger against the database."""
    kills = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else 1
    with workspace() as folder, Simulator("--latency", "uniform:0.2:1.0") as server:
        job = write_job(folder / "job.jsonl", TASKS)
        outcome = run_and_kill(job, server.base_url, "-c", str(IN_FLIGHT), kills=kills, longest=1.5, rng=Random(seed))
        score = server.score()
    resent = score["sends"] - score["keys"]
    flying = [kill.in_flight for kill in outcome.kills]
    rows = [
        ("kills in the middle of the run", str(len(outcome.kills)), f"{kills}", len(outcome.kills) == kills),
        ("tasks answered", f"{outcome.succeeded:,} of {TASKS:,}", "all", outcome.succeeded == TASKS),
        ("recorded answers lost or changed", str(outcome.changed), "0", outcome.changed == 0),
        ("recorded answers asked for again", str(outcome.asked_again), "0", outcome.asked_again == 0),
        ("most in flight at a kill", str(max(flying)), f"<= {IN_FLIGHT}", max(flying) <= IN_FLIGHT),
        ("sent again, all kills", f"{resent} (in flight: {sum(flying)})", "<= in flight", resent <= sum(flying)),
        ("counted as possibly charged", str(outcome.unknown), ">= sent again", outcome.unknown >= resent),
        ("integrity_check", outcome.integrity, "ok", outcome.integrity == "ok"),
        ("exit code of the last run", str(outcome.exit_code), "0", outcome.exit_code == 0),
    ]
    for what, found, target, met in rows:
        sys.stdout.write(f"{what:36} {found:>24}   {target:14} {'ok' if met else 'MISSED'}\n")
    sys.stdout.write(json.dumps({"seed": seed, "sends": score["sends"], "in_flight_at_kills": flying}) + "\n")
    return 0 if all(met for *_, met in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
