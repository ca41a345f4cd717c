"""One run as the command line shows it: progress while it lasts, then the results and the summary."""

import gc
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, BinaryIO

import rich_click as click

from batchrunner.check import Finding
from batchrunner.cli.outputs import Wanted, check_columns, export
from batchrunner.db.reader import Reader
from batchrunner.exits import ExitCode
from batchrunner.loader import Decide
from batchrunner.logbook import Standing
from batchrunner.money import money_text
from batchrunner.record import Output, Run, Spending, Totals
from batchrunner.report.hints import hint
from batchrunner.report.plan import problems
from batchrunner.report.progress import ENOUGH_ANSWERS, Progress, estimate
from batchrunner.report.summary import Summary, summary_event, summary_text
from batchrunner.report.terminal import Display
from batchrunner.retry import Limit
from batchrunner.runner import Ended, Runner, RunOptions
from batchrunner.task import Failure, FailureClass, TaskState

OTHER_FILES = 128  # database, results, terminal, libraries
ENDED = (ExitCode.OK, ExitCode.SOME_FAILED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Talk:
    """How to speak: the display, and how much of it."""

    display: Display
    as_json: bool = False
    quiet: bool = False
    ascii_only: bool = False
    label: str = ""
    header: str = ""
    resume: str = ""
    changes: str = ""
    findings: Sequence[Finding] = ()
    exit_zero: bool = False


def perform(
    options: RunOptions, wanted: Wanted, talk: Talk, *, decide: Decide, stdin: BinaryIO | None = None
) -> ExitCode:
    """Run, write the results, say how it went; returns the exit code. *wanted* was checked."""
    allow_sockets(sum(route.limits.concurrency for route in options.routes))
    gc.set_threshold(20_000, 20, 100)  # a run makes many small objects that live for one request; a tenth less CPU
    say = _silent if talk.quiet else talk.display.say
    teller = _Teller(talk, options)
    try:
        with Runner(
            options,
            decide=decide,
            stdin=stdin,
            on_standing=teller,
            on_start=lambda: talk.display.event(_start_event(runner, options)),
            on_drain=lambda count: say(_drain_sentence(count, options.run.grace)),
            on_warning=say,
        ) as runner:
            loaded = runner.prepare()
            check_columns(wanted, loaded.job_id, options.database)
            say(f"{talk.header} · state {options.database}{_budget(runner)}")
            for warning in dict.fromkeys(text for route in options.routes for text in route.endpoint.warnings):
                say(f"mind: {warning}")
            for problem in problems(talk.findings):
                say(problem)
            if talk.changes:
                say(f"told otherwise than before: {talk.changes}")
            say(loaded.sentence)
            if (sentence := _resuming(runner)) is not None:
                say(sentence)
            if runner.resent:
                say(f"{_requests(runner.resent)} in flight when the last run died, and possibly charged; sent again")
            teller.run = runner.run_id
            ended = runner.run()
    finally:
        talk.display.close()
    outputs = export(wanted, ended.job_id, options.database) if ended.exit_code in ENDED else ()
    summary = _summary(options, talk, ended, outputs)
    if talk.as_json:
        talk.display.event(summary_event(summary))
    if not (talk.quiet and ended.exit_code is ExitCode.OK):
        click.echo(summary_text(summary, ascii_only=talk.ascii_only), err=True)
    return ExitCode.OK if talk.exit_zero and ended.exit_code is ExitCode.SOME_FAILED else ended.exit_code


def allow_sockets(most: int) -> None:
    """Let this process have *most* connections open, as far as the system does; some start with 256 files."""
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = most + OTHER_FILES
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    with suppress(OSError, ValueError):  # then it stays as it is, and connections wait
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))


class _Teller:
    """Turns each standing of the run into a moment of the display."""

    def __init__(self, talk: Talk, options: RunOptions) -> None:
        self._talk, self._options = talk, options
        self._done_before: int | None = None
        self._spent_before: int | None = None
        self.run = 0

    def __call__(self, standing: Standing) -> None:
        self._talk.display.update(self._progress(standing))

    def _progress(self, standing: Standing) -> Progress:
        counts, limits = standing.counts, standing.limiter
        done = counts[TaskState.SUCCEEDED] + counts[TaskState.FAILED]
        if self._done_before is None:
            self._done_before = done
        problem = standing.last_failure
        tokens = standing.usage.total / standing.answered if standing.answered else None
        return Progress(
            job=self._options.database.stem,
            label=self._talk.label,
            run=self.run,
            done_before=self._done_before,
            succeeded=counts[TaskState.SUCCEEDED],
            failed=counts[TaskState.FAILED],
            left=counts.left,
            total=counts.total,
            in_flight=limits.in_flight,
            slots=limits.slots,
            sent_1m=limits.sent_1m,
            tokens_1m=limits.tokens_1m,
            rpm_limit=limits.rpm_limit,
            tpm_limit=limits.tpm_limit,
            refused=standing.refusals,
            retries=standing.retries,
            tokens=standing.usage.total,
            p50=standing.p50,
            p95=standing.p95,
            limiting="budget" if standing.spending.is_short else limits.limiting,
            spending=standing.spending,
            cost_at_end=self._cost_at_end(standing),
            waiting=limits.waiting,
            eta=estimate(
                left=counts.left,
                answered=standing.answered,
                rpm=limits.rpm_limit,
                tpm=limits.tpm_limit,
                tokens_per_task=tokens,
                p50=standing.p50,
                slots=limits.slots,
            ),
            last_problem=None if problem is None else f"{problem[1].kind} ({problem[1].message}), {problem[0]}",
        )

    def _cost_at_end(self, standing: Standing) -> int | None:
        """Of the whole job, if the rest costs what this run's answers did."""
        spent = standing.spending.spent
        if spent is None:
            return None
        if self._spent_before is None:
            self._spent_before = spent
        if standing.answered < ENOUGH_ANSWERS:
            return None
        each = (spent - self._spent_before) / standing.answered
        return spent + standing.spending.unsettled + round(each * standing.counts.left)


def _silent(_: str) -> None:
    """For --quiet."""


def _resuming(runner: Runner) -> str | None:
    """What earlier runs did, if there is anything of it."""
    counts = runner.standing().counts
    done, failed = counts[TaskState.SUCCEEDED], counts[TaskState.FAILED]
    if not done and not failed:
        return None
    stay = " (batchrunner retry brings them back)" if failed else ""
    return f"resuming, run {runner.run_id}: {done:,} done, {failed:,} failed{stay}, {counts.left:,} to do"


def _drain_sentence(count: int, grace: float) -> str:
    if not count:
        return "Stopping: nothing is in flight."
    return f"Stopping: {_requests(count)} in flight, at most {grace:g}s more. Ctrl-C again to abandon (maybe billed)."


def _requests(count: int) -> str:
    return "1 request" if count == 1 else f"{count:,} requests"


def _start_event(runner: Runner, options: RunOptions) -> dict[str, Any]:
    counts = runner.standing().counts
    return {
        "event": "start",
        "v": 1,
        "run": runner.run_id,
        "job": options.database.stem,
        "db": str(options.database),
        "total": counts.total,
        "done": counts[TaskState.SUCCEEDED],
        "failed": counts[TaskState.FAILED],
    }


def _lasted(reader: Reader, run: Run) -> float:
    """Seconds of a run; of one that was killed, to its last sign of life."""
    if run.ended_at is not None:
        return run.ended_at - run.started_at
    sample = reader.last_sample(run.id)
    return 0.0 if sample is None else sample.at - run.started_at


def _budget(runner: Runner) -> str:
    spending = runner.standing().spending
    return "" if spending.limit is None else f" · budget {money_text(spending.limit, spending.currency)}"


def _with_budget(totals: Totals, now: Spending) -> Totals:
    """The sums, with the budget beside what was spent in its currency."""
    spending = tuple(replace(one, limit=now.limit) if one.currency == now.currency else one for one in totals.spending)
    return replace(totals, spending=spending)


def _reason(options: RunOptions, ended: Ended) -> str:
    """Why it stopped; of several lanes, why each did."""
    if ended.stop is None:
        return ""
    if isinstance(ended.stop, Limit):
        return ended.stop.message
    lanes = ended.standing.lanes
    sources = {route.name: route.endpoint.key_source for route in options.routes}
    if len(lanes) == 1:
        return _why(ended.stop.reason, options.endpoint.key_source)
    stopped = [(lane.name, lane.stop.reason) for lane in lanes if lane.stop is not None]
    reasons = [f"{name}: {_why(failure, sources[name.partition('/')[0]])}" for name, failure in stopped]
    return f"no lane is left for the tasks that wait. {' '.join(reasons)}"


def _why(failure: Failure, key_source: str) -> str:
    """What the provider said, and what to do about it."""
    code = f" (code {failure.code})" if failure.code else ""
    source = f" The key came from {key_source}." if failure.kind is FailureClass.AUTH else ""
    advice = hint(failure.kind)
    return f"{advice.happened}: {failure.message}{code}.{source} What to do: {failure.hint or advice.what_to_do}"


def _summary(options: RunOptions, talk: Talk, ended: Ended, outputs: Sequence[Output]) -> Summary:
    with Reader(options.database) as reader:
        runs = reader.runs(ended.job_id)
        totals = _with_budget(reader.totals(ended.job_id), ended.standing.spending)
        errors = reader.errors_by_class(ended.job_id)
        simulated = reader.is_simulated(ended.job_id)
        lanes = reader.lanes(ended.job_id)
        spent = sum(_lasted(reader, run) for run in runs)
    answered = ended.standing.answered
    return Summary(
        db=str(options.database),
        exit=ended.exit_code,
        reason=_reason(options, ended),
        seconds=ended.elapsed,
        runs=len(runs),
        seconds_all=spent,
        counts=ended.counts,
        totals=totals,
        rate=answered / ended.elapsed * 60 if answered and ended.elapsed > 0 else None,
        bound_by=ended.standing.bound_by,
        errors=errors,
        outputs=tuple(outputs),
        resume=talk.resume,
        simulated=simulated,
        lanes=lanes,
    )
