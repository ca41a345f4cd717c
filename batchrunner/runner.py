"""Puts a run together: database, owner lock, job file, limits, wire, signals; and says how it ended."""

import os
import signal
import socket
import threading
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from math import inf
from pathlib import Path
from random import Random
from typing import BinaryIO, Literal, Self

import anyio
from anyio import to_thread
from anyio.abc import TaskStatus

from batchrunner import __version__
from batchrunner.api.client import Client
from batchrunner.clock import Clock
from batchrunner.config import Endpoint, LimitSettings, RetrySettings, Route, RunSettings
from batchrunner.coordinator import Coordinator, Grant
from batchrunner.db.lock import OwnerLock
from batchrunner.db.store import NO_LAST, Store
from batchrunner.errors import BatchRunnerError, JobFileError
from batchrunner.exits import ExitCode
from batchrunner.jobfile.options import ReadOptions
from batchrunner.judge import WORTH_WAITING
from batchrunner.lanemaker import LaneMaker
from batchrunner.lanes import Lanes
from batchrunner.loader import STDIN, Decide, Loaded, load
from batchrunner.logbook import Standing
from batchrunner.provider import GENERIC
from batchrunner.pursemaker import make_purse
from batchrunner.quota import Quota
from batchrunner.retry import Limit, Stop
from batchrunner.schedule import ALWAYS, Door, Schedule
from batchrunner.size import Measure, by_bytes
from batchrunner.spending import SpendSettings
from batchrunner.task import Counts, Lease, Outcome, Report, Sighting, TaskState
from batchrunner.worker import Worker

TICK = 0.25  # seconds between looks at where the run stands
BELIEVE_EVERY = 30.0  # seconds
LOOK = 60.0  # seconds between looks at a clock that may be set, or have slept
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """All that a run is told. ``job`` is a path, or ``-`` for standard input.

    ``lanes``: where requests go, if it is more than the one ``endpoint`` with its ``limits``.
    """

    job: str
    database: Path
    endpoint: Endpoint
    read: ReadOptions = field(default_factory=ReadOptions)
    limits: LimitSettings = field(default_factory=LimitSettings)
    retry: RetrySettings = field(default_factory=RetrySettings)
    run: RunSettings = field(default_factory=RunSettings)
    on_bad_line: Literal["stop", "skip"] = "stop"
    settings: str = "{}"  # what the user said, as JSON, for the record; never a key
    seed: int | None = None
    learned: Path | None = None  # the file in which all jobs of this user keep what they learned of limits
    lanes: tuple[Route, ...] = ()
    schedule: Schedule = ALWAYS
    spend: SpendSettings = field(default_factory=SpendSettings)
    measure: Measure = by_bytes  # of prompts; exact with a tokenizer

    @property
    def routes(self) -> tuple[Route, ...]:
        """Where requests go; one that was not named is known by its provider or its host."""
        known = self.endpoint.provider.name
        name = self.endpoint.host if known == GENERIC.name else known
        return self.lanes or (Route(name=name, endpoint=self.endpoint, limits=self.limits),)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a run ended. ``resent``: requests in flight at a crash, sent again and so possibly charged twice."""

    exit_code: ExitCode
    job_id: int
    run_id: int
    counts: Counts
    standing: Standing
    loaded: Loaded
    resent: int
    elapsed: float
    stop: Stop | Limit | None = None


class Runner:
    """One run of one job. ``prepare`` loads and may raise BatchRunnerError; ``drive`` sends; ``close`` accounts."""

    def __init__(
        self,
        options: RunOptions,
        *,
        decide: Decide | None = None,
        stdin: BinaryIO | None = None,
        on_load: Callable[[int], None] | None = None,
        on_standing: Callable[[Standing], None] | None = None,
        on_start: Callable[[], None] | None = None,
        on_drain: Callable[[int], None] | None = None,
        on_warning: Callable[[str], None] | None = None,
        clock: Callable[[], float] | None = None,
    ) -> None:
        self._options = options
        self._decide, self._stdin, self._on_load = decide, stdin, on_load
        self._on_standing, self._on_start, self._on_drain = on_standing, on_start, on_drain
        self._warn = on_warning or _unheard
        self._clock = clock or Clock()
        self._exit = ExitStack()
        self._signal: int | None = None
        self._door = Door(options.schedule)
        self._is_late = False  # the end came that the user set
        self._one_at_a_time: anyio.CapacityLimiter | None = None
        self._clients: dict[str, Client] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._exit.close()

    def prepare(self) -> Loaded:
        """Own the database, load the job file, put right what a crash left."""
        options, now = self._options, self._clock()
        self._started_at = now
        if options.job != STDIN and not Path(options.job).exists():
            raise JobFileError(options.job, "there is no such file")  # before a database is made for it
        lock = OwnerLock(options.database, started_at=_iso(now))
        self._exit.callback(lock.release)
        self._store = Store(options.database)
        self._exit.callback(self._store.close)
        self.loaded = load(
            self._store,
            options.job,
            options.read,
            decide=self._decide,
            on_bad_line=options.on_bad_line,
            stdin=self._stdin,
            on_progress=self._on_load,
            settings=options.settings,
            now=now,
        )
        self.job_id = self.loaded.job_id
        self.resent = self._store.recover(self.job_id, at=now, hold=options.run.in_flight == "hold")
        self._purse = make_purse(self._store, self.job_id, options.routes, options.spend, self._warn)
        self.run_id = self._store.begin_run(
            self.job_id,
            started_at=now,
            pid=os.getpid(),
            host=socket.gethostname(),
            version=__version__,
            endpoint=", ".join(route.endpoint.base_url for route in options.routes),
            settings=options.settings,
            currency=self._purse.state.currency,
        )
        self._believed_at = now
        self._maker = self._make_maker()
        self._lanes = Lanes(options.routes, self._maker.make)
        self._coordinator = self._make_coordinator()
        return self.loaded

    def standing(self) -> Standing:
        return self._coordinator.standing(self._clock())

    def run(self) -> Ended:
        """Send until nothing is left, or a signal, or a reason to stop. Call ``prepare`` first."""
        return anyio.run(self.drive)

    async def drive(self) -> Ended:
        """The same, inside a running event loop."""
        routes = self._options.routes
        concurrency = sum(route.limits.concurrency for route in routes)
        self._one_at_a_time = anyio.CapacityLimiter(1)
        try:
            async with AsyncExitStack() as doors, anyio.create_task_group() as house:
                for route in routes:
                    self._clients[route.name] = await doors.enter_async_context(self._make_client(route))
                worker = Worker(self._exchange, self._send, clock=self._clock, concurrency=concurrency)
                if threading.current_thread() is threading.main_thread():
                    await house.start(self._listen, worker)
                if self._options.schedule.ends_at < inf:
                    house.start_soon(self._finish, worker)
                if self._on_start is not None:
                    self._on_start()
                if self._on_standing is not None:
                    house.start_soon(self._watch, self._on_standing)
                await worker.run()
                house.cancel_scope.cancel()
        except BaseExceptionGroup as group:
            raise _first_of_ours(group) from group
        return self._end(worker.stop)

    # -- private

    def _make_maker(self) -> LaneMaker:
        options = self._options
        return LaneMaker(
            self._store,
            self.job_id,
            canary=options.run.canary,
            believe=options.run.learned,
            learned=options.learned,
            measure=options.measure,
            warn=self._warn,
        )

    def _make_client(self, route: Route) -> Client:
        limits, run = route.limits, self._options.run
        return Client(
            route.endpoint,
            version=__version__,
            concurrency=limits.concurrency,
            timeout=run.timeout,
            stream=run.stream,
        )

    def _make_coordinator(self) -> Coordinator:
        run = self._options.run
        last = NO_LAST if run.max_tasks is None else self._store.position_of(self.job_id, run.max_tasks)
        return Coordinator(
            self._store,
            self._lanes,
            job_id=self.job_id,
            run_id=self.run_id,
            policy=self._options.retry,
            rng=Random(self._options.seed),
            hold=run.in_flight == "hold",
            last=last,
            purse=self._purse,
            patience=inf if run.waits else WORTH_WAITING,
        )

    def _send(self, lease: Lease, /, *, now: float, on_head: Callable[[Quota], None]) -> Awaitable[Outcome]:
        """By the client of the lane's route: a key never meets another address."""
        return self._clients[lease.lane.partition("/")[0]].send(lease, now=now, on_head=on_head)

    async def _exchange(self, reports: Sequence[Report], /, *, want: int, sightings: Sequence[Sighting] = ()) -> Grant:
        exchange = partial(self._exchange_now, reports, want, self._clock(), sightings)
        grant = await to_thread.run_sync(exchange, limiter=self._one_at_a_time)
        for notice in grant.notices:
            self._warn(notice)
        return grant

    def _exchange_now(self, reports: Sequence[Report], want: int, now: float, sightings: Sequence[Sighting]) -> Grant:
        shut = self._door.wait(now)
        if shut and self._coordinator.standing(now).counts.left:
            want = 0
        grant = self._coordinator.exchange(reports, want=want, now=now, sightings=sightings)
        if shut:
            grant = replace(grant, wait=min(grant.wait, shut, LOOK))
        if self._door.word is not None:
            grant = replace(grant, notices=(*grant.notices, self._door.word))
        if now > self._believed_at + BELIEVE_EVERY:
            self._maker.keep(self._lanes, now)
            self._believed_at = now
        return grant

    async def _listen(self, worker: Worker, *, task_status: TaskStatus[None]) -> None:
        """The first signal drains, for at most the grace period; the second abandons."""
        with anyio.open_signal_receiver(*SIGNALS) as signals:
            task_status.started()
            self._signal = await anext(signals)
            worker.drain()
            if self._on_drain is not None:
                self._on_drain(worker.in_flight)
            with anyio.move_on_after(self._options.run.grace):
                await anext(signals)
            worker.abandon()

    async def _finish(self, worker: Worker) -> None:
        """Drain when the end comes that the user set, for at most the grace period."""
        while (left := self._options.schedule.ends_at - self._clock()) > 0:  # noqa: ASYNC110  (nobody sets a clock's event)
            await anyio.sleep(min(left, LOOK))
        self._is_late = True
        worker.drain()
        if self._on_drain is not None:
            self._on_drain(worker.in_flight)
        await anyio.sleep(self._options.run.grace)
        worker.abandon()

    async def _watch(self, tell: Callable[[Standing], None]) -> None:
        while True:
            standing = partial(self._coordinator.standing, self._clock())
            tell(await to_thread.run_sync(standing, limiter=self._one_at_a_time))
            await anyio.sleep(TICK)

    def _end(self, stop: Stop | Limit | None) -> Ended:
        now = self._clock()
        self._store.check_accounts(self.job_id)
        counts = self._store.counts(self.job_id)
        code = self._exit_code(counts, stop)
        reason = code.label if stop is None else stop.message
        if stop is None and code is ExitCode.STOPPED_LIMIT:
            reason = f"{self._options.schedule.why} was reached"
        self._store.end_run(self.run_id, ended_at=now, exit_code=code, reason=reason)
        self._maker.keep(self._lanes, now)
        self._maker.share(self._lanes, now)
        return Ended(
            exit_code=code,
            job_id=self.job_id,
            run_id=self.run_id,
            counts=counts,
            standing=self._coordinator.standing(now),
            loaded=self.loaded,
            resent=self.resent,
            elapsed=now - self._started_at,
            stop=stop,
        )

    def _exit_code(self, counts: Counts, stop: Stop | Limit | None) -> ExitCode:
        if isinstance(stop, Limit):
            return ExitCode.STOPPED_LIMIT
        if stop is not None:
            return ExitCode.STOPPED_LATER if stop.later else ExitCode.STOPPED_PROVIDER
        if self._signal is not None:
            return ExitCode.INTERRUPTED if self._signal == signal.SIGINT else ExitCode.TERMINATED
        if self._is_late and counts.left:
            return ExitCode.STOPPED_LIMIT
        troubled = counts[TaskState.FAILED] or counts[TaskState.HELD] or counts.rejected
        return ExitCode.SOME_FAILED if troubled else ExitCode.OK


def _first_of_ours(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The exception that says why: ours, if there is one among what a task group collected."""
    ours = group.subgroup(BatchRunnerError)
    error: BaseException = ours or group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _unheard(_: str) -> None:
    """For who does not listen to warnings."""


def _iso(at: float) -> str:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
