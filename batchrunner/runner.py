"""Puts a run together: database, owner lock, job file, limits, wire, signals; and says how it ended."""

import os
import signal
import socket
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from functools import partial
from hashlib import blake2b
from pathlib import Path
from random import Random
from typing import BinaryIO, Literal, Self

import anyio
from anyio import to_thread
from anyio.abc import TaskStatus

from batchrunner import __version__
from batchrunner.api.client import Client
from batchrunner.clock import Clock
from batchrunner.config import Endpoint, LimitSettings, RetrySettings, RunSettings
from batchrunner.coordinator import Coordinator, Grant, Standing
from batchrunner.db.lock import OwnerLock
from batchrunner.db.store import NO_LAST, Store
from batchrunner.errors import BatchRunnerError, JobFileError
from batchrunner.exits import ExitCode
from batchrunner.jobfile.options import ReadOptions
from batchrunner.learned import find_learned, keep_learned, read_learned
from batchrunner.limits.limiter import Limiter
from batchrunner.loader import STDIN, Decide, Loaded, load
from batchrunner.record import Belief
from batchrunner.retry import Stop
from batchrunner.task import Counts, Report, Sighting, TaskState
from batchrunner.worker import Worker

TICK = 0.25  # seconds between looks at where the run stands
BELIEVE_EVERY = 30.0  # seconds
REMEMBER = 60.0  # seconds of earlier sends that still count against the limits
UNUSABLE = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)  # what beliefs of no use raise
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """All that a run is told. ``job`` is a path, or ``-`` for standard input."""

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
    stop: Stop | None = None


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
        self._one_at_a_time: anyio.CapacityLimiter | None = None

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
        self.run_id = self._store.begin_run(
            self.job_id,
            started_at=now,
            pid=os.getpid(),
            host=socket.gethostname(),
            version=__version__,
            endpoint=options.endpoint.base_url,
            settings=options.settings,
        )
        self._lane = self._make_lane()
        self._believed_at = now
        self._limiter = self._make_limiter(now)
        self._coordinator = self._make_coordinator()
        return self.loaded

    def standing(self) -> Standing:
        return self._coordinator.standing(self._clock())

    def run(self) -> Ended:
        """Send until nothing is left, or a signal, or a reason to stop. Call ``prepare`` first."""
        return anyio.run(self.drive)

    async def drive(self) -> Ended:
        """The same, inside a running event loop."""
        options = self._options
        self._one_at_a_time = anyio.CapacityLimiter(1)
        client = Client(
            options.endpoint,
            version=__version__,
            concurrency=options.limits.concurrency,
            timeout=options.run.timeout,
            stream=options.run.stream,
        )
        try:
            async with client, anyio.create_task_group() as house:
                worker = Worker(self._exchange, client.send, clock=self._clock, concurrency=options.limits.concurrency)
                if threading.current_thread() is threading.main_thread():
                    await house.start(self._listen, worker)
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

    def _make_limiter(self, now: float) -> Limiter:
        limiter = self._blank_limiter(now)
        for belief in self._known():
            try:
                limiter.believe(belief.value, now=now)
                break
            except UNUSABLE:  # of another version, or edited: half of it may be believed by now
                self._warn("what an earlier run learned of the limits can't be used, and is learned anew")
                limiter = self._blank_limiter(now)
        for sent in self._store.recent_sends(since=now - REMEMBER):
            if not sent.refused:
                limiter.remember(sent.at, sent.cost, now)
        return limiter

    def _blank_limiter(self, now: float) -> Limiter:
        limits = self._options.limits
        return Limiter(limits, now=now, start=limits.concurrency if limits.stated_concurrency else 1)

    def _make_coordinator(self) -> Coordinator:
        run = self._options.run
        last = NO_LAST if run.max_tasks is None else self._store.position_of(self.job_id, run.max_tasks)
        return Coordinator(
            self._store,
            self._limiter,
            job_id=self.job_id,
            run_id=self.run_id,
            policy=self._options.retry,
            rng=Random(self._options.seed),
            hold=run.in_flight == "hold",
            last=last,
        )

    def _make_lane(self) -> tuple[str, str, str]:
        """What limits are known by: the endpoint, a one-way fingerprint of the key, the model."""
        endpoint = self._options.endpoint
        key = "" if endpoint.key is None else blake2b(endpoint.key.reveal().encode(), digest_size=4).hexdigest()
        return endpoint.base_url, key, self._store.first_model(self.job_id)

    async def _exchange(self, reports: Sequence[Report], /, *, want: int, sightings: Sequence[Sighting] = ()) -> Grant:
        exchange = partial(self._exchange_now, reports, want, self._clock(), sightings)
        return await to_thread.run_sync(exchange, limiter=self._one_at_a_time)

    def _exchange_now(self, reports: Sequence[Report], want: int, now: float, sightings: Sequence[Sighting]) -> Grant:
        grant = self._coordinator.exchange(reports, want=want, now=now, sightings=sightings)
        if now > self._believed_at + BELIEVE_EVERY:
            self._believe(now)
        return grant

    def _believe(self, now: float) -> None:
        """Keep what was learned of the limits, so that a run that is killed has not learned it in vain."""
        self._store.believe(self._belief(now))
        self._believed_at = now

    def _belief(self, now: float) -> Belief:
        endpoint, key_label, model = self._lane
        value = {**self._limiter.beliefs(), "state": asdict(self._limiter.state(now))}
        return Belief(endpoint=endpoint, key_label=key_label, model=model, value=value, at=now)

    def _known(self) -> list[Belief]:
        """What earlier runs of this job, and other jobs of this user, learned of our limits; the newest first."""
        if not self._options.run.learned:
            return []
        path = self._options.learned
        shared = None if path is None else find_learned(read_learned(path, warn=self._warn), self._lane)
        known = [belief for belief in (self._store.belief(*self._lane), shared) if belief is not None]
        return sorted(known, key=lambda belief: -belief.at)

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

    async def _watch(self, tell: Callable[[Standing], None]) -> None:
        while True:
            standing = partial(self._coordinator.standing, self._clock())
            tell(await to_thread.run_sync(standing, limiter=self._one_at_a_time))
            await anyio.sleep(TICK)

    def _end(self, stop: Stop | None) -> Ended:
        now = self._clock()
        self._store.check_accounts(self.job_id)
        counts = self._store.counts(self.job_id)
        code = self._exit_code(counts, stop)
        reason = code.label if stop is None else stop.reason.message
        self._store.end_run(self.run_id, ended_at=now, exit_code=code, reason=reason)
        self._believe(now)
        if self._options.learned is not None:
            keep_learned(self._options.learned, self._belief(now), warn=self._warn)
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

    def _exit_code(self, counts: Counts, stop: Stop | None) -> ExitCode:
        if stop is not None:
            return ExitCode.STOPPED_LATER if stop.later else ExitCode.STOPPED_PROVIDER
        if self._signal is not None:
            return ExitCode.INTERRUPTED if self._signal == signal.SIGINT else ExitCode.TERMINATED
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
