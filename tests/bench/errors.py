"""All that the simulator can say in a provider's words, and what we make of it: class, action, hint or wait.

.venv/bin/python tests/bench/errors.py [PROVIDER...]
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from math import inf
from random import Random

from batchrunner.api.reply import read_reply
from batchrunner.config import RetrySettings
from batchrunner.provider import load_provider
from batchrunner.report.hints import hint
from batchrunner.retry import decide
from batchrunner.simulator.gate import Levels
from batchrunner.simulator.rules import Bound, Refusal, State
from batchrunner.simulator.voices import voice_names, voice_of
from batchrunner.task import Failure, FailureClass

NOW = 1_790_000_000.0
LEVELS = Levels(State(limit=60, remaining=0, reset=60.0), State(limit=30_000, remaining=10, reset=59.98), utc=NOW)
REFUSALS = {
    "RPM": Refusal(bound=Bound.REQUESTS, limit=60, used=60, requested=1, wait=1.0),
    "TPM": Refusal(bound=Bound.TOKENS, limit=30_000, used=29_990, requested=700, wait=1.38),
    "in flight": Refusal(bound=Bound.CONCURRENCY, limit=5, used=5, requested=1, wait=None),
    "above TPM": Refusal(bound=Bound.TOKENS, limit=30_000, used=10, requested=40_000, wait=inf),
}


@dataclass(frozen=True, slots=True)
class Said:
    """One reply, and what it is meant to be."""

    what: str
    meant: FailureClass
    status: int
    headers: dict[str, str]
    body: bytes


def all_of(name: str) -> Iterator[Said]:
    """Every error, and a refusal by each limit."""
    voice = voice_of(name)
    for kind in voice.errors:
        status, body = voice.error(kind) or (0, b"")
        yield Said("error", kind, status, {}, body)
    for limit, refusal in REFUSALS.items():
        headers, body = voice.dialect.refuse(refusal, LEVELS)
        table = voice.dialect.refused_as(refusal)
        yield Said(limit, table.kind, table.status, voice.dialect.refusal_headers(LEVELS) | headers, body)


def shown(name: str, said: Said) -> bool:
    """Print a line of the table; whether it was understood."""
    outcome = read_reply(said.status, list(said.headers.items()), said.body, provider=load_provider(name), now=NOW)
    assert isinstance(outcome, Failure)
    action = type(decide(outcome, failures=0, policy=RetrySettings(), rng=Random(1))).__name__.lower()
    right = outcome.kind is said.meant
    advice = outcome.hint or hint(outcome.kind).what_to_do
    if said.what != "error":
        told = ", ".join(f"{w.limit:g} {w.dimension}" for w in outcome.quota.windows if w.limit is not None)
        wait = "" if outcome.retry_after is None else f"wait {outcome.retry_after:g} s; "
        advice = f"{wait}told: {told or 'nothing'}"
    mistake = "" if right else "WRONG "
    print(f"{name:15} {said.status} {said.what:10} {said.meant:18} -> {outcome.kind:18} {action:8} {mistake}{advice}")
    return right


def main() -> int:
    """Print the table; 1 if a class was mistaken."""
    rights = [shown(name, said) for name in sys.argv[1:] or voice_names() for said in all_of(name)]
    print(f"{sum(rights)} of {len(rights)} as they were meant")
    return int(not all(rights))


if __name__ == "__main__":
    sys.exit(main())
