"""Every error the simulator can say in a provider's words, and what we make of it: class, action, hint.

.venv/bin/python tests/bench/errors.py [PROVIDER]
"""

import sys
from random import Random

from batchrunner.api.reply import read_reply
from batchrunner.config import RetrySettings
from batchrunner.provider import load_provider
from batchrunner.report.hints import hint
from batchrunner.retry import decide
from batchrunner.simulator.voices import voices
from batchrunner.task import Failure


def main() -> int:
    """Print the table; 1 if a class was mistaken."""
    chosen = sys.argv[1:] or list(voices())
    wrong = total = 0
    for name in chosen:
        for kind, (status, body) in voices()[name].errors.items():
            outcome = read_reply(status, [], body.encode(), provider=load_provider(name), now=1_790_000_000.0)
            assert isinstance(outcome, Failure)
            action = type(decide(outcome, failures=0, policy=RetrySettings(), rng=Random(1))).__name__.lower()
            right = outcome.kind is kind
            total, wrong = total + 1, wrong + (not right)
            advice = outcome.hint or hint(outcome.kind).what_to_do
            print(f"{name:12} {status} {kind:18} -> {outcome.kind:18} {action:8} {'' if right else 'WRONG '}{advice}")
    print(f"{total - wrong} of {total} as they were meant")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
