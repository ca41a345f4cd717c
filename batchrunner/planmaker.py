"""Makes the plan of a run: reads its job file and what is known of it, and sends nothing."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from batchrunner.check import Checker, Finding, Level
from batchrunner.config import Route
from batchrunner.db.history import History
from batchrunner.db.seen import Seen
from batchrunner.errors import ConfigError
from batchrunner.jobfile.reader import open_job
from batchrunner.lanemaker import UNUSABLE
from batchrunner.learned import read_learned
from batchrunner.limits.limiter import Limiter, LimiterState
from batchrunner.money import Money
from batchrunner.planner import Planner
from batchrunner.plans import Plan, Speed
from batchrunner.record import Belief, Spending
from batchrunner.runner import RunOptions
from batchrunner.spending import tariff_of
from batchrunner.task import Request

PAGE = 500  # lines looked up at once
NEWEST = 2000  # answers to learn from


def make_plan(options: RunOptions, *, keep: bool = False) -> Plan:
    """Reads the whole job file, and its database where there is one. *keep*: edited lines are not asked again.

    Raises JobFileError, StoreError; and ConfigError where a run would, as its budget could not be kept.
    """
    if not options.database.exists():
        planner = Planner(options.routes, options.spend.prices, measure=options.measure)
        return _plan(planner, options, None, 0, keep=keep)
    with History(options.database) as history:
        job_id = _job_of(history, options)
        took = history.took(job_id, NEWEST, options.measure)
        planner = Planner(options.routes, options.spend.prices, took, measure=options.measure)
        return _plan(planner, options, history, job_id, keep=keep)


def first_look(options: RunOptions) -> Sequence[Finding]:
    """What a run should say before it begins; nothing for a job that is loaded, or a provider of whom little is known.

    Raises ConfigError if the provider would refuse every single line.
    """
    providers = [route.endpoint.provider for route in options.routes]
    knows = any(provider.models or provider.batch_id_least for provider in providers)
    if not knows or options.database.exists() or not Path(options.job).is_file():
        return []
    checker = Checker(options.routes, options.measure)
    with open_job(options.job, options.read) as reader:
        for item in islice(reader, options.run.max_tasks):
            if isinstance(item, Request):
                checker.see(item)
    if checker.all_fail:
        what = "; ".join(finding.what for finding in checker.findings if finding.level is Level.ERROR)
        who = " and ".join(dict.fromkeys(provider.title for provider in providers))
        raise ConfigError(f"{options.job}: {who} would refuse every line: {what}. Nothing was sent")
    return checker.findings


def _plan(planner: Planner, options: RunOptions, history: History | None, job_id: int, *, keep: bool) -> Plan:
    _show(planner, options, history, job_id, keep=keep)
    tariff = tariff_of(options.routes, planner.models, options.spend)
    earlier = () if history is None else history.spending(job_id, in_flight=True)
    left = _left(options.spend.budget, tariff.currency, earlier)
    return planner.plan(_speed(options, history, job_id, planner.models), left)


def _left(budget: Money | None, currency: str | None, earlier: Sequence[Spending]) -> Money | None:
    """Of the budget, which is the job's: what earlier runs spent counts, and what was perhaps charged."""
    if budget is None:
        return None
    currency = currency or budget.currency  # nothing is to be sent
    gone = sum((one.spent or 0) + one.unsettled for one in earlier if one.currency == currency)
    return Money(nanos=max(0, budget.nanos - gone), currency=currency)


def _show(planner: Planner, options: RunOptions, history: History | None, job_id: int, *, keep: bool) -> None:
    with open_job(options.job, options.read) as reader, Seen() as seen:
        for page in _pages(_lines(reader, seen, options.run.max_tasks)):
            requests = [item for item, is_task in page if is_task]
            known = {} if history is None else history.states(job_id, [each.custom_id for each in requests])
            for item, is_task in page:
                if not isinstance(item, Request):
                    planner.reject(item)
                elif is_task:
                    task = known.get(item.custom_id)
                    planner.see(item, None if task is None else task.meets(item.fingerprint, keep=keep))
                else:
                    planner.see_again(item)


def _lines(reader: Iterable[Any], seen: Seen, most: int | None) -> Iterator[tuple[Any, bool]]:
    """Each line and whether it makes a task, up to the last of *most* tasks: a run's --limit counts those alone."""
    tasks = 0
    for item in reader:
        is_task = isinstance(item, Request) and seen.is_new(item.custom_id)
        yield item, is_task
        tasks += is_task
        if tasks == most:
            return


def _pages(items: Iterator[Any]) -> Iterator[list[Any]]:
    while page := list(islice(items, PAGE)):
        yield page


def _job_of(history: History, options: RunOptions) -> int:
    """The job of this file; 0, which no job has, where the database does not know the file."""
    source = str(Path(options.job).resolve())
    return next((job.id for job in history.jobs() if job.source == source), 0)


def _speed(options: RunOptions, history: History | None, job_id: int, models: Sequence[str]) -> Speed:
    """What is stated, and what was learned of these models where they are asked, here or in another job."""
    beliefs = [] if history is None else history.beliefs()
    if options.learned is not None:
        beliefs += read_learned(options.learned)
    starts = [_start(route, models, beliefs if options.run.learned else ()) for route in options.routes]
    limits = [route.limits for route in options.routes]
    stated = [each.concurrency if each.stated_concurrency else None for each in limits]
    return Speed(
        rpm=_all(state.rpm_limit for state, _ in starts),
        tpm=_all(state.tpm_limit for state, _ in starts),
        in_flight=_all(most or slots for most, (_, slots) in zip(stated, starts, strict=True)),
        latency=history.totals(job_id).p50 if history is not None and job_id else None,
    )


def _start(route: Route, models: Sequence[str], beliefs: Sequence[Belief]) -> tuple[LimiterState, int | None]:
    """The limits with which a run begins, and how many were in flight at the end of the last one, if it is known.

    What an earlier run was told by its user, or another model's limits, are none of its.
    """
    names = {route.name_of(model) for model in models if route.serves(model)}
    known = [belief for belief in beliefs if belief.endpoint == route.endpoint.base_url and belief.model in names]
    for belief in sorted(known, key=lambda belief: -belief.at):
        limiter = Limiter(route.limits, now=belief.at)
        try:
            limiter.believe(belief.value, now=belief.at)
        except UNUSABLE:
            continue
        return limiter.state(belief.at), (belief.value.get("state") or {}).get("slots")
    return Limiter(route.limits, now=0.0).state(0.0), None


def _all(values: Iterator[Any]) -> Any:
    """The sum over all lanes; None where one of them is not known."""
    known = list(values)
    return None if any(value is None for value in known) else sum(known)
