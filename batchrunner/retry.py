"""What becomes of a task after an attempt: one verdict for each class of failure. Pure; the dice are handed in.

Rate limits, overload and an unreachable server use up no try, unless an answer had begun that may have to be paid for.
Server errors, timeouts and broken connections do, and wait an exponential backoff with full jitter between tries. What
the task itself is at fault for fails it; what would fail every task stops the run and leaves the tasks pending. An
answer that was received whole is never asked for again; a proxy's page is none, and like an error of the server.
"""

from dataclasses import dataclass
from random import Random
from typing import assert_never

from batchrunner.config import RetrySettings
from batchrunner.growth import grown
from batchrunner.task import Abandoned, Failure, FailureClass, Outcome, Released, Success


@dataclass(frozen=True, slots=True)
class Done:
    """The task has its answer."""


@dataclass(frozen=True, slots=True)
class Retry:
    """Again in *after* seconds; a try is used up."""

    after: float


@dataclass(frozen=True, slots=True)
class Snooze:
    """Again in *after* seconds, as if it had not been tried."""

    after: float


@dataclass(frozen=True, slots=True)
class GiveUp:
    """The task has failed, for this reason."""

    reason: Failure


@dataclass(frozen=True, slots=True)
class Stop:
    """No task can succeed: the run stops, the task stays pending. *later*: it passes by itself."""

    reason: Failure
    later: bool = False

    @property
    def message(self) -> str:
        return self.reason.message

    @property
    def asked(self) -> float | None:
        """Seconds until there is more, as the server says: what it asks for, or the reset of what is used up."""
        if self.reason.retry_after is not None:
            return self.reason.retry_after
        gone = [window for window in self.reason.quota.windows if window.remaining is not None and window.remaining < 1]
        return max((window.reset_after for window in gone if window.reset_after is not None), default=None)


@dataclass(frozen=True, slots=True)
class Limit:
    """A limit of the user's own is reached (a budget, an hour): the run ends, and the next one goes on."""

    message: str


Verdict = Done | Retry | Snooze | GiveUp | Stop

SNOOZE = frozenset({FailureClass.RATE_LIMIT, FailureClass.CONCURRENCY, FailureClass.OVERLOADED})
DOWN = frozenset({FailureClass.SERVER_ERROR, FailureClass.NETWORK, FailureClass.TRUNCATED})
# a timeout may be this task's own, and may be paid for each time
BACK_OFF = DOWN | {FailureClass.TIMEOUT, FailureClass.NO_VALID_RESPONSE}
STOP = frozenset(
    {
        FailureClass.AUTH,
        FailureClass.PERMISSION,
        FailureClass.MODEL_NOT_FOUND,
        FailureClass.WRONG_ENDPOINT,
        FailureClass.QUOTA_EXHAUSTED,
        FailureClass.CERTIFICATE,
    }
)
TRIES_OF = {FailureClass.NO_VALID_RESPONSE: 2}  # it was charged; what comes to nothing twice mostly will again
SNOOZE_FROM, SNOOZE_TO = 0.5, 2.0  # seconds; the limiter decides when it really goes, this only scatters
LONG = 3600.0  # seconds; who asks for a longer wait speaks of an allowance, whatever it is called


def decide(outcome: Outcome, *, failures: int, policy: RetrySettings, rng: Random, outage: bool = False) -> Verdict:
    """The verdict on an attempt of a task of which *failures* tries were used up before.

    *outage*: the server is down for everyone, so a broken attempt says nothing about its task.
    """
    match outcome:
        case Success():
            return Done()
        case Released() | Abandoned():
            return Snooze(0.0)
        case Failure():
            return _decide(outcome, failures=failures, policy=policy, rng=rng, outage=outage)
        case _:
            assert_never(outcome)


def backoff(failures: int, *, policy: RetrySettings, rng: Random) -> float:
    """Seconds to wait after *failures* failed tries: full jitter under an exponential cap (0 < wait <= wait_max)."""
    cap = grown(policy.wait_initial, failures - 1, most=policy.wait_max)
    return cap * (1.0 - rng.random())


def _decide(failure: Failure, *, failures: int, policy: RetrySettings, rng: Random, outage: bool) -> Verdict:
    asked = failure.retry_after or 0.0
    if failure.kind in STOP:
        return Stop(failure)
    if failure.kind is FailureClass.QUOTA_WINDOW or (failure.kind is FailureClass.RATE_LIMIT and asked > LONG):
        return Stop(failure, later=True)
    if failure.kind in SNOOZE and not failure.maybe_charged:
        return Snooze(max(asked, rng.uniform(SNOOZE_FROM, SNOOZE_TO)))
    if failure.kind is FailureClass.UNREACHABLE or (outage and (failure.kind in DOWN or failure.is_page)):
        return Snooze(max(asked, backoff(failures + 1, policy=policy, rng=rng)))
    tries = min(policy.attempts, TRIES_OF.get(failure.kind, policy.attempts))
    again = failure.kind in BACK_OFF | SNOOZE or failure.is_page or _is_nothing(failure)
    if again and failures + 1 < tries:
        return Retry(max(asked, backoff(failures + 1, policy=policy, rng=rng)))
    return GiveUp(failure)


def _is_nothing(failure: Failure) -> bool:
    """A 200 with neither an answer nor usage: nothing came, so nothing is asked for twice."""
    return failure.kind is FailureClass.MALFORMED_SUCCESS and not failure.maybe_charged
