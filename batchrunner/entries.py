"""What is written of an attempt: the entry that opens it, and the one that ends it."""

from functools import partial
from typing import assert_never

from batchrunner.db.store import Closing, Opening
from batchrunner.retry import GiveUp, Retry, Snooze, Verdict
from batchrunner.task import Abandoned, Failure, Lease, Released, Report, Success, TaskState


def opening(lease: Lease, now: float) -> Opening:
    """Committed before the request leaves."""
    return Opening(
        attempt_id=lease.attempt_id,
        task_id=lease.task_id,
        number=lease.attempt,
        leased_at=now,
        cost=lease.cost,
        lane=lease.lane,
        model=lease.model,
        reserved=lease.reserved,
    )


def closing(
    report: Report, verdict: Verdict, state: TaskState, available_at: float, *, spent: int | None = None
) -> Closing:
    """Committed before the slot is free again; the task goes to *state*."""
    lease, outcome = report.lease, report.outcome
    ended = partial(
        Closing,
        attempt_id=lease.attempt_id,
        task_id=lease.task_id,
        state=state,
        finished_at=report.received_at,
        available_at=available_at,
        spent=spent,
    )
    match outcome:
        case Success():
            return ended(
                outcome="success",
                sent_at=report.sent_at,
                status=outcome.status,
                request_id=outcome.request_id,
                usage=outcome.usage,
                finish_reason=outcome.finish_reason,
                simulated=outcome.simulated,
                body=outcome.body,
                first_token_at=outcome.first_token_at,
            )
        case Failure():
            return ended(
                outcome="failure",
                sent_at=report.sent_at if outcome.sent else None,
                used_up_a_try=isinstance(verdict, Retry | GiveUp),
                status=outcome.status,
                error_class=outcome.kind,
                error_code=outcome.code,
                message=outcome.message,
                request_id=outcome.request_id,
                usage=outcome.usage,
                possibly_charged=outcome.maybe_charged,
                body=None if isinstance(verdict, Snooze) else outcome.body,
            )
        case Abandoned():
            return ended(outcome="unknown", sent_at=report.sent_at, possibly_charged=True)
        case Released():
            return ended(outcome="released", sent_at=None)
        case _:
            assert_never(outcome)
