"""Rate limiters put together from parts, for the laboratory's virtual time: how they count, tell and refuse.

A server may count several things at once (requests, tokens), let only so many in at a time, hold what is over in a
queue, refuse for a while whoever was refused, change its limits, and serve others. ``shortest`` plays the same server
with a client that knows all of it: what ours is held against.
"""

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from email.utils import formatdate
from math import ceil, inf
from random import Random
from typing import Any

from cores import Core
from laboratory import COST, Game, Played, World
from strange_servers import START, Headers
from telling import Tell

from batchrunner.config import LimitSettings
from batchrunner.limits.limiter import Limiter
from batchrunner.simulator.config import Rules

Tokens = tuple[float, float]  # of a prompt, and of its answer
Draw = Callable[[Random], float]
LIMITED = (
    b'{"error": {"message": "Rate limit reached for requests", "type": "requests", "code": "rate_limit_exceeded"}}'
)
ANSWER = (
    b'{"choices": [{"message": {"content": "yes"}, "finish_reason": "stop"}], '
    b'"usage": {"prompt_tokens": %d, "completion_tokens": %d}}'
)
USUAL: Tokens = (60.0, 40.0)
STORM = 10  # sends for each task, at which a game is given up
A_LITTLE = 1e-7  # after the moment at which it would be let in, for rounding


def one(tokens: Tokens) -> float:
    """A request counts as one."""
    del tokens
    return 1.0


def all_tokens(tokens: Tokens) -> float:
    return sum(tokens)


def of_prompt(tokens: Tokens) -> float:
    return tokens[0]


def of_answer(tokens: Tokens) -> float:
    return tokens[1]


def usual(rng: Random) -> Tokens:
    del rng
    return USUAL


def varied(rng: Random) -> Tokens:
    """Answers of very different lengths."""
    return 60.0, float(max(1, round(40 * rng.lognormvariate(0, 0.8))))


def exact(wait: float) -> Headers:
    """The true wait, in whole seconds."""
    return {"Retry-After": str(max(1, ceil(wait)))}


def always(seconds: int) -> Callable[[float], Headers]:
    """The same wait, whatever is true."""
    return lambda _: {"Retry-After": str(seconds)}


def nothing(wait: float) -> Headers:
    del wait
    return {}


@dataclass(frozen=True, slots=True)
class Quota:
    """One count, and what a request takes of it. ``afterwards``: taken once its answer is there. ``reserved``: so much
    more is taken as it comes, and given back with its answer.
    """

    core: Core
    cost: Callable[[Tokens], float] = one
    afterwards: bool = False
    reserved: float = 0.0

    def wait(self, tokens: Tokens, now: float) -> float:
        return self.core.wait(1.0 if self.afterwards else self.cost(tokens) + self.reserved, now)

    def take(self, tokens: Tokens, now: float) -> None:
        self.core.take(self.cost(tokens) + self.reserved, now)

    def give_back(self, taken_at: float, now: float) -> None:
        if self.reserved:
            self.core.give_back(self.reserved, taken_at, now)


@dataclass(frozen=True, slots=True)
class Others:
    """Another client: *count* requests each *every* seconds, from *first* on."""

    first: float
    every: float
    count: int


@dataclass(kw_only=True)
class Composed:
    """One server. ``asks``: what a refusal asks for, given the true wait; ``asks_when_full``: where no place is free.

    ``queue``: seconds that a request may wait inside. ``ban``: seconds of refusals after each. ``stale``: seconds for
    which headers are written once. ``dated``: it tells its own time, so many seconds ahead of ours.
    """

    quotas: Sequence[Quota]
    tells: Sequence[Tell] = ()
    asks: Callable[[float], Headers] = nothing
    status: int = 429
    body: bytes = LIMITED
    places: float = inf
    asks_when_full: Callable[[float], Headers] = nothing
    queue: float = 0.0
    ban: float = 0.0
    counts_refused: bool = False
    stale: float = 0.0
    dated: float | None = None
    changes: Sequence[tuple[float, float]] = ()  # after so many seconds the first quota becomes that many times itself
    others: Sequence[Others] = ()
    _open: int = field(default=0, init=False)
    _banned: float = field(default=-inf, init=False)
    _written: tuple[float, Headers] = field(default=(-inf, {}), init=False)

    def admit(self, tokens: Tokens, now: float) -> float | None:
        """Seconds that the request waits inside before it is worked on; None = refused."""
        if now < self._banned or self._open >= self.places:
            return None
        wait = self._wait(tokens, now)
        if wait > self.queue:
            if self.counts_refused:
                for quota in self.quotas:
                    quota.core.take(1.0, now)
            if self.ban:
                self._banned = now + self.ban
            return None
        for quota in self.quotas:
            if not quota.afterwards:
                quota.take(tokens, now)
        self._open += 1
        return wait

    def finish(self, tokens: Tokens, admitted_at: float, now: float) -> None:
        self._open -= 1
        for quota in self.quotas:
            if quota.afterwards:
                quota.take(tokens, now)
            quota.give_back(admitted_at, now)

    def headers(self, now: float) -> Headers:
        """Of an answer, when its request was let in."""
        if now >= self._written[0] + self.stale:
            self._written = now, self._told(now)
        return self._written[1]

    def refusal(self, tokens: Tokens, now: float) -> Headers:
        wait = max(self._wait(tokens, now), self._banned - now)
        asks = self.asks_when_full if self._open >= self.places else self.asks
        return self._told(now) | self.date(now) | asks(wait)

    def date(self, now: float) -> Headers:
        return {} if self.dated is None else {"Date": formatdate(now + self.dated, usegmt=True)}

    def change(self, factor: float) -> None:
        self.quotas[0].core.scale(factor)

    def serve_others(self, count: int, now: float) -> None:
        for _ in range(count):
            if self.admit(USUAL, now) is not None:
                self.finish(USUAL, now, now)

    def _wait(self, tokens: Tokens, now: float) -> float:
        return max((quota.wait(tokens, now) for quota in self.quotas), default=0.0)

    def _told(self, now: float) -> Headers:
        told: Headers = {}
        for tell in self.tells:
            told |= tell(now)
        return told


class _Visit(Game):
    """The laboratory's game, with a composed server."""

    def __init__(
        self,
        server: Composed,
        tokens: Callable[[Random], Tokens],
        tasks: int,
        world: World,
        limiter: Limiter,
        start: float,
        seed: int,
    ) -> None:
        super().__init__(Rules(dialect="none"), tasks, world, limiter, start, seed)
        self.server, self.tokens, self.most_sends = server, tokens, STORM * tasks
        for after, factor in server.changes:
            self.post(start + after, server.change, factor)
        for others in server.others:
            self.post(start + others.first, self._serve, others)

    def _serve(self, others: Others) -> None:
        self.server.serve_others(others.count, self.now)
        self.post(self.now + others.every, self._serve, others)

    def _arrive(self, permit: Any) -> None:
        assert self.played.sends <= self.most_sends, f"a storm: {STORM} sends for each task"
        tokens = self.tokens(self.rng)
        waits = self.server.admit(tokens, self.now)
        if waits is None:
            headers = self.server.refusal(tokens, self.now)
            self._reply(permit, self.server.status, headers, self.server.body)
            return
        self.played.arrivals.append(self.now)
        headers = self.server.headers(self.now)
        self.post(self.now + waits + self.world.latency(self.rng), self._over, permit, tokens, self.now, headers)

    def _over(self, permit: Any, tokens: Tokens, admitted_at: float, headers: Headers) -> None:
        self.server.finish(tokens, admitted_at, self.now)
        self._reply(permit, 200, headers | self.server.date(self.now), ANSWER % tokens)

    def _reply(self, permit: Any, status: int, headers: Headers, body: bytes) -> None:
        self.post(self.now + self.world.way(self.rng), self._answer, permit, status, headers, body)


def visit(
    make: Callable[[], Composed],
    tasks: int,
    *,
    seed: int = 1,
    latency: Draw,
    tokens: Callable[[Random], Tokens] = usual,
    reckoned: float = COST,
) -> Played:
    """Send *tasks* requests as fast as the limiter allows, each reckoned as *reckoned* tokens, to what *make* makes.

    An AssertionError tells of a deadlock, or of a storm of sends.
    """
    start = START + 13.7 * seed + 0.37
    limiter = Limiter(LimitSettings(), now=start)
    game = _Visit(make(), tokens, tasks, World(latency=latency, reckoned=reckoned), limiter, start, seed)
    game.play()
    game.played.elapsed = game.last - start
    game.played.shortest = shortest(make(), tasks, start, Random(seed + 99), tokens, latency)
    return game.played


def shortest(
    server: Composed,
    tasks: int,
    start: float,
    rng: Random,
    tokens: Callable[[Random], Tokens],
    latency: Draw,
) -> float:
    """Seconds that a client takes who knows everything, and sends each request at the moment it may go.

    It takes no advantage of a charge that comes afterwards: without a limit in flight all could leave before the first.
    """
    now = last = start
    changes = [(start + after, factor) for after, factor in server.changes]
    others = [(start + other.first, number, other) for number, other in enumerate(server.others)]
    leave: list[tuple[float, float]] = []  # when the answers that are worked on are there, and since when they are
    reserves = any(quota.reserved for quota in server.quotas)
    while tasks:
        while changes and changes[0][0] <= now:
            server.change(changes.pop(0)[1])
        while others and others[0][0] <= now:
            at, number, other = heapq.heappop(others)
            server.serve_others(other.count, at)
            heapq.heappush(others, (at + other.every, number, other))
        while leave and leave[0][0] <= now:
            answered, taken_at = heapq.heappop(leave)
            for quota in server.quotas:
                quota.give_back(taken_at, answered)
        wanted = tokens(rng)
        wait = max((quota.core.wait(quota.cost(wanted) + quota.reserved, now) for quota in server.quotas), default=0.0)
        if wait <= server.queue and tasks > 1:  # all but the last may wait inside
            wait = 0.0
        if len(leave) >= server.places:
            wait = max(wait, leave[0][0] - now)
        if wait > 0:
            events = [at for at, _ in changes[:1]] + [at for at, _, _ in others[:1]]
            events += [leave[0][0]] if reserves and leave else []
            now = min([now + wait + A_LITTLE, *(max(at, now + A_LITTLE) for at in events)])
            continue
        for quota in server.quotas:
            quota.take(wanted, now)
        answered = now + latency(rng)
        heapq.heappush(leave, (answered, now))
        last = max(last, answered)
        tasks -= 1
    return last - start
