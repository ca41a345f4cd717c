"""Days of a limiter's life in virtual time, against servers drawn at random: what must hold in every one of them.

    .venv/bin/python tests/bench/days.py [--days 30] [--seeds 20] [--first 1]

Each seed draws a server (algorithm, window, limit, dialect), how it charges tokens if they are what binds, its latency,
lost replies, changes of the limit and times when it is down, and plays the days out with the limiter of a fresh run. A
seed that breaks a rule says so; the same seed plays the same days again.
"""

import argparse
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from laboratory import COST, START, Played, play

from batchrunner.config import LimitSettings
from batchrunner.limits.limiter import Limiter
from batchrunner.simulator.config import Limits, Rules

DAY = 86400.0
TASKS = 15_000  # of one seed at most; with hours for windows they last a month
REFUSED = {"openai": 0.01, "zhipu": 0.01, "none": 0.06, "retry-after": 0.06}  # share of the sends, with all of that
UNTOLD = {"mistral": 0.01, "xai": 0.02, "groq": 0.06}  # voices that tell no reset, or only by refusals
TOKENS = 0.4  # of the servers that tell limit tokens
TOKENS_BIND = 0.6  # of what the requests would take
LIMIT_OFF = 0.05  # of the true limit


@dataclass(frozen=True, slots=True, kw_only=True)
class Life:
    """What one seed came to."""

    seed: int
    rules: Rules
    days: float
    sends: int
    refused: int
    efficiency: float
    broken: tuple[str, ...]


def draw(seed: int, days: float) -> tuple[Rules, dict[str, Any]]:
    """A server and its world."""
    rng = Random(seed)
    window = rng.choice([10, 60, 300, 3600, 3600])
    limit = rng.choice([10, 20, 60])
    dialect: Any = rng.choice(["openai", "openai", "zhipu", "zhipu", "none", "retry-after"])
    algorithm: Any = rng.choice(["bucket", "bucket", "fixed", "sliding"])
    tasks = min(TASKS, round(days * DAY / window * limit))
    slow = rng.choice([0.1, 1.0, 5.0])
    world: dict[str, Any] = {
        "tasks": tasks,
        "latency": lambda rng: rng.uniform(slow, 3 * slow),
        "way": lambda rng: 0.01 + rng.expovariate(100),
        "lost": rng.choice([0.0, 0.0, 0.001]),
    }
    if dialect in ("openai", "zhipu") and rng.random() < 0.3:
        at = rng.uniform(0.2, 0.4) * tasks / limit * window
        world["changes"] = [(at, Limits(rpm=round(limit * rng.choice([0.5, 2.0]))))]
    aligned = algorithm == "fixed" and rng.random() < 0.5
    server: dict[str, Any] = {"dialect": dialect}
    if "changes" not in world and rng.random() < 0.3:
        server = {"voice": rng.choice(list(UNTOLD))}
    elif dialect in ("openai", "zhipu") and "changes" not in world:
        server |= draw_tokens(rng, limit, world)
    if rng.random() < 0.3:
        lasts = tasks / limit * window
        world["down"] = [(rng.uniform(0.1, 0.9) * lasts, rng.choice([5.0, 60.0, 900.0])) for _ in range(3)]
    return Rules(rpm=limit, window=window, algorithm=algorithm, aligned=aligned, **server), world


def draw_tokens(rng: Random, limit: int, world: dict[str, Any]) -> dict[str, Any]:
    """Tokens that bind, in four of ten, charged in one of the ways there are; how they are reckoned is the world's."""
    if rng.random() >= TOKENS:
        return {}
    charging = rng.choice(["actual", "estimate", "max_tokens", "max_tokens"])
    world |= {"reckoned": rng.choice([80.0, 110.0, 277.0]), "learned": rng.choice([95.0, 111.0, 150.0])}
    if charging == "max_tokens":
        world["reserved"] = COST * rng.choice([1.0, 1.5, 4.0])
    return {"tpm": round(TOKENS_BIND * limit * COST), "charging": charging}


def live(seed: int, days: float) -> Life:
    """Play one seed's days and hold them against the rules."""
    rules, world = draw(seed, days)
    limiter = Limiter(LimitSettings(), now=START)
    try:
        played = play(rules, seed=seed, limiter=limiter, **world)
    except AssertionError as error:
        return Life(seed=seed, rules=rules, days=0, sends=0, refused=0, efficiency=0, broken=(str(error),))
    return Life(
        seed=seed,
        rules=rules,
        days=played.elapsed / DAY,
        sends=played.sends,
        refused=played.refused,
        efficiency=played.efficiency,
        broken=tuple(judge(rules, played, limiter, world)),
    )


def judge(rules: Rules, played: Played, limiter: Limiter, world: dict[str, Any]) -> list[str]:
    """What did not hold."""
    broken = []
    most = REFUSED[rules.dialect] if rules.voice is None else UNTOLD[rules.voice]
    if played.refused_share > most and played.refused > 20:
        broken.append(f"{played.refused_share:.2%} refused")
    pause = max((later - earlier for earlier, later in pairwise(played.arrivals)), default=0.0)
    down = max((seconds for _, seconds in world.get("down", ())), default=0.0)
    if pause > 2 * rules.window + 120 + 2 * down:
        broken.append(f"a pause of {pause:.0f} s")
    changes = world.get("changes", [])
    true = (changes[-1][1] if changes else Limits(rpm=rules.rpm)).rpm or 0
    told = {m["dimension"]: m["limit"] for m in limiter.beliefs()["meters"] if m["kind"].startswith("told")}
    if rules.dialect not in ("openai", "zhipu"):  # nor do voices tell all: a day's, and the minute's by refusals only
        return broken
    for dimension, limit in (("requests", true), ("tokens", rules.tpm)):
        if limit and abs(told.get(dimension, 0.0) - limit) > LIMIT_OFF * limit:
            broken.append(f"believes in {told.get(dimension, 'no')} {dimension}, and it is {limit}")
    return broken


def main() -> int:
    """Live them all, print the totals."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--days", type=float, default=30.0)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--first", type=int, default=1)
    options = parser.parse_args()
    began = time.monotonic()
    seeds = range(options.first, options.first + options.seeds)
    with ProcessPoolExecutor() as pool:
        lives = list(pool.map(partial(live, days=options.days), seeds))
    for life in lives:
        r = life.rules
        server = f"{r.algorithm:8}{r.voice or r.dialect:12}{r.rpm:>6} in {r.window:g} s" + (
            f", tokens {r.charging}" if r.tpm else ""
        )
        verdict = "; ".join(life.broken) or "holds"
        share = life.refused / max(life.sends, 1)
        print(f"{life.seed:5}  {server:58}{life.days:6.1f} days  {life.efficiency:.3f}  {share:7.2%}  {verdict}")
    days, sends = sum(life.days for life in lives), sum(life.sends for life in lives)
    refused, broken = sum(life.refused for life in lives), sum(bool(life.broken) for life in lives)
    share = refused / max(sends, 1)
    print(f"{len(lives)} seeds, {days:,.0f} days, {sends:,} sends, {refused:,} refused ({share:.2%}), {broken} broken")
    print(f"in {time.monotonic() - began:.0f} s")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
