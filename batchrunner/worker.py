"""Keeps requests in flight: asks what may go, sends each at its time, hands back what came of it.

    ask the coordinator, with what came back since
    start each lease it grants
    wait for news, or for the time it named
    and again, until nothing is left, or we are told to drain

Whatever finishes while one exchange is being committed goes into the next: a group commit that needs no timer.
"""

import math
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Protocol

import anyio

from batchrunner.coordinator import Grant
from batchrunner.pacer import Pacer
from batchrunner.quota import Quota
from batchrunner.retry import Limit, Stop
from batchrunner.task import Abandoned, Lease, Outcome, Released, Report, Sighting

# One exchange takes an eighth of what may be in flight: the first slots fill again while the last are being recorded,
# instead of all waiting for one great commit.
BATCHES = 8
BATCH_LEAST = 64

Clock = Callable[[], float]


class Exchange(Protocol):
    """The door to the coordinator."""

    def __call__(
        self, reports: Sequence[Report], /, *, want: int, sightings: Sequence[Sighting] = ()
    ) -> Awaitable[Grant]: ...


class Send(Protocol):
    """The door to the wire. *on_head* is told what a stream's headers say of limits, when they come."""

    def __call__(self, lease: Lease, /, *, now: float, on_head: Callable[[Quota], None]) -> Awaitable[Outcome]: ...


class Worker:
    """At most *concurrency* leases at a time. ``clock`` is UTC seconds that never go back."""

    def __init__(self, exchange: Exchange, send: Send, *, clock: Clock, concurrency: int) -> None:
        self._exchange, self._send = exchange, send
        self._clock, self._concurrency = clock, concurrency
        self._batch = max(BATCH_LEAST, concurrency // BATCHES)
        self._pacers: defaultdict[str, Pacer] = defaultdict(Pacer)  # a lane's name: its own
        self._reports: list[Report] = []
        self._sightings: list[Sighting] = []
        self._news = anyio.Event()
        self._in_flight = 0
        self._draining = False
        self._attempts = anyio.create_task_group()
        self.stop: Stop | Limit | None = None

    @property
    def in_flight(self) -> int:
        return self._in_flight

    def drain(self) -> None:
        """Claim nothing new, give back what was not sent yet, finish what is in flight."""
        self._draining = True
        self._news.set()

    def abandon(self) -> None:
        """Cut off what is in flight too; it may have been paid for, and is recorded so."""
        self.drain()
        self._attempts.cancel_scope.cancel()

    async def run(self) -> None:
        """Returns when nothing is left, when drained, or when no task can succeed any more (see ``stop``)."""
        try:
            async with self._attempts:
                while True:
                    grant = await self._ask()
                    for lease in grant.leases:
                        self._in_flight += 1
                        self._attempts.start_soon(self._attempt, lease)
                    if grant.finished or self._drained:
                        break
                    await self._hear(grant.wait)
        finally:
            self._draining = True
            while self._reports:
                await self._ask()

    @property
    def _drained(self) -> bool:
        return self._draining and not self._in_flight

    async def _ask(self) -> Grant:
        """One exchange. Never cut off: what it was given is on disk when it returns."""
        reports, self._reports = self._reports[: self._batch], self._reports[self._batch :]
        sightings, self._sightings = self._sightings, []
        self._in_flight -= len(reports)
        want = 0 if self._draining else self._concurrency - self._in_flight
        with anyio.CancelScope(shield=True):
            grant = await self._exchange(reports, want=want, sightings=sightings)
        for lane, pace in grant.paces.items():
            self._pacers[lane].set(pace)
        if grant.stop is not None and self.stop is None:
            self.stop = grant.stop
            self.drain()
        return grant

    async def _hear(self, seconds: float) -> None:
        """Wait for news, but no longer than *seconds*."""
        if not self._reports and not self._sightings:
            with anyio.move_on_after(seconds if math.isfinite(seconds) else None):
                await self._news.wait()
        self._news = anyio.Event()

    async def _attempt(self, lease: Lease) -> None:
        outcome: Outcome = Released()
        sent_at = self._clock()
        try:
            await self._turn(lease)
            if not self._draining:
                outcome, sent_at = Abandoned(), self._clock()
                outcome = await self._send(lease, now=sent_at, on_head=partial(self._sight, lease, sent_at))
        except BaseException:  # a bug, here or beside us, cancels every attempt: nothing more is claimed
            self._draining = True
            raise
        finally:  # also when cut off: then it stays what it was
            self._reports.append(Report(lease=lease, outcome=outcome, sent_at=sent_at, received_at=self._clock()))
            self._news.set()

    def _sight(self, lease: Lease, sent_at: float, quota: Quota) -> None:
        """A stream's headers are here, perhaps minutes before its end."""
        self._sightings.append(Sighting(lease=lease, quota=quota, sent_at=sent_at, received_at=self._clock()))
        self._news.set()

    async def _turn(self, lease: Lease) -> None:
        """Wait until the lease may be sent."""
        ahead = lease.send_at - self._clock()
        if ahead > 0:
            await anyio.sleep(ahead)
        await self._pacers[lease.lane].wait()
