"""How a run that another process works on is getting on: from the gauges that it writes down once a second."""

from collections.abc import Sequence
from urllib.parse import urlsplit

from batchrunner.db.reader import Reader
from batchrunner.record import Job, Run, Spending
from batchrunner.report.progress import Progress, estimate
from batchrunner.task import Counts, TaskState


def progress_of(reader: Reader, job: Job, run: Run, counts: Counts, spending: Sequence[Spending]) -> Progress | None:
    """None before the first second is over. *spending*: of the job, that of the newest run last."""
    first, last = reader.first_sample(run.id), reader.last_sample(run.id)
    if first is None or last is None:
        return None
    answered = last.succeeded - first.succeeded
    return Progress(
        job=job.name,
        label=", ".join(urlsplit(url).netloc for url in run.endpoint.split(", ")),
        run=run.id,
        done_before=first.succeeded + first.failed,
        succeeded=counts[TaskState.SUCCEEDED],
        failed=counts[TaskState.FAILED],
        left=counts.left,
        total=counts.total,
        in_flight=last.in_flight,
        slots=last.slots,
        sent_1m=last.sent_1m,
        tokens_1m=last.tokens_1m,
        rpm_limit=last.rpm_limit,
        tpm_limit=last.tpm_limit,
        refused=None,
        retries=None,
        tokens=None,
        p50=last.p50,
        p95=last.p95,
        limiting=last.limiting,
        eta=estimate(
            left=counts.left,
            answered=answered,
            rpm=last.rpm_limit,
            tpm=last.tpm_limit,
            tokens_per_task=last.tokens_1m / last.sent_1m if last.sent_1m else None,
            p50=last.p50,
            slots=last.slots,
        ),
        spending=spending[-1] if spending else Spending(),
    )
