"""Rate limiters of others, as we read them in their sources or saw them behave, for the laboratory's virtual time.

Each is told the time of an arrival and says whether it is admitted; its headers are told the time they are written,
which some do when the answer is there and not when the request came.
"""

import json
from collections import deque
from collections.abc import Callable
from math import ceil, floor
from random import Random
from typing import Any, Protocol

from laboratory import Game, Played, World

from batchrunner.config import LimitSettings
from batchrunner.limits.limiter import Limiter
from batchrunner.simulator.config import Rules
from batchrunner.simulator.gate import Admission

START = 1_700_000_000.0  # resets that are instants are told from those that are seconds by their size
Headers = dict[str, str]
HTML = b"<html>\r\n<head><title>429 Too Many Requests</title></head>\r\n<body></body>\r\n</html>\r\n"


class Server(Protocol):
    """A limiter behind HTTP. ``late``: its headers are written with the answer. ``status``: of a refusal."""

    late: bool
    status: int

    def admit(self, now: float) -> float | None:
        """Seconds that the request waits inside before it is worked on; None = refused."""

    def headers(self, now: float) -> Headers: ...

    def refusal(self, now: float) -> Headers: ...

    def shortest(self, tasks: int) -> float: ...

    def finish(self, now: float) -> bytes:
        """An admitted request was answered; what it says."""


class _Plain:
    """What most of them share: nothing told."""

    late = False
    status = 429

    def headers(self, now: float) -> Headers:
        del now
        return {}

    def refusal(self, now: float) -> Headers:
        return self.headers(now)

    def finish(self, now: float) -> bytes:
        del now
        return b"{}"


class SlowapiMoving(_Plain):
    """SlowAPI with a moving window: the reset is when the oldest is forgotten, and a second more."""

    late = True

    def __init__(self, limit: int, window: float) -> None:
        self.limit, self.window = limit, window
        self._log: deque[float] = deque()

    def admit(self, now: float) -> float | None:
        if len(self._log) >= self.limit and self._log[-self.limit] >= now - self.window:
            return None
        self._log.append(now)
        return 0.0

    def headers(self, now: float) -> Headers:
        recent = [at for at in self._log if at >= now - self.window]
        reset = 1 + (recent[0] if recent else now) + self.window
        return _slowapi(self.limit, self.limit - len(recent), reset, now)

    def shortest(self, tasks: int) -> float:
        return (ceil(tasks / self.limit) - 1) * self.window


class SlowapiMistaken(SlowapiMoving):
    """The same, as it cleans up beside it: one of its replies, the *mistake*-th, takes the log to begin just now.

    *again*: and so does the one that comes so many after it. *empty*: it tells of all of the limit as well.
    """

    def __init__(self, limit: int, window: float, mistake: int, *, empty: bool, again: int = 0) -> None:
        super().__init__(limit, window)
        self._replies = 0
        self._mistakes = {mistake, mistake + again}
        self._is_empty = empty

    def headers(self, now: float) -> Headers:
        self._replies += 1
        if self._replies not in self._mistakes:
            return super().headers(now)
        used = 0 if self._is_empty else sum(at >= now - self.window for at in self._log)
        return _slowapi(self.limit, self.limit - used, 2 + now + self.window, now)


class SlowapiFixed(_Plain):
    """SlowAPI with a fixed window that begins with its first request."""

    late = True

    def __init__(self, limit: int, window: float) -> None:
        self.limit, self.window = limit, window
        self._ends, self._count = 0.0, 0

    def admit(self, now: float) -> float | None:
        if now >= self._ends:
            self._ends, self._count = now + self.window, 0
        self._count += 1
        return 0.0 if self._count <= self.limit else None

    def headers(self, now: float) -> Headers:
        ends, count = (self._ends, self._count) if now < self._ends else (now, 0)
        return _slowapi(self.limit, max(self.limit - count, 0), 1 + ends, now)

    def shortest(self, tasks: int) -> float:
        return (ceil(tasks / self.limit) - 1) * self.window


class RoundedFixed(_Plain):
    """A fixed window whose reset has whole seconds, rounded as ``rounded`` does: an epoch, or seconds from now.

    ``aligned``: it stands on the clock's grid, else it begins with its first request. ``slow``: seconds that the
    server's clock is behind.
    """

    def __init__(
        self,
        limit: int,
        window: float,
        rounded: Callable[[float], int],
        *,
        aligned: bool = False,
        epoch: bool = True,
        slow: float = 0.0,
    ) -> None:
        self.limit, self.window, self.rounded = limit, window, rounded
        self.aligned, self.epoch, self.slow = aligned, epoch, slow
        self._ends, self._count, self._first = 0.0, 0, 0.0

    def admit(self, now: float) -> float | None:
        self._first = self._first or now
        if now >= self._ends:
            self._ends, self._count = now + self.window - (now % self.window if self.aligned else 0.0), 0
        self._count += self._count < self.limit + 1
        if self._count > self.limit:
            self._count = self.limit
            return None
        return 0.0

    def headers(self, now: float) -> Headers:
        reset = self.rounded(self._ends - self.slow if self.epoch else self._ends - now)
        left = str(self.limit - self._count)
        return {"X-RateLimit-Limit": str(self.limit), "X-RateLimit-Remaining": left, "X-RateLimit-Reset": str(reset)}

    def shortest(self, tasks: int) -> float:
        passed = self._first % self.window if self.aligned else 0.0
        return (ceil(tasks / self.limit) - 1) * self.window - passed


class LimitOnly(RoundedFixed):
    """What is left is not told."""

    def headers(self, now: float) -> Headers:
        return {name: value for name, value in super().headers(now).items() if not name.endswith("Remaining")}


class HiddenRate(RoundedFixed):
    """Tells of the minute alone, and lets ten through a second: as Azure and OpenAI may."""

    def __init__(self, rate: float) -> None:
        super().__init__(round(60 * rate), 60.0, ceil)
        self.rate, self._level, self._second = rate, rate, 0

    def admit(self, now: float) -> float | None:
        if floor(now) > self._second:
            self._level, self._second = self.rate, floor(now)
        if self._level < 1 or super().admit(now) is None:
            return None
        self._level -= 1
        return 0.0

    def shortest(self, tasks: int) -> float:
        return (tasks - self.rate) / self.rate


class SameWait(RoundedFixed):
    """Silent; asks for the same wait whenever it refuses."""

    def __init__(self, limit: int, window: float, wait: int) -> None:
        super().__init__(limit, window, ceil, aligned=True)
        self.wait = wait

    def headers(self, now: float) -> Headers:
        del now
        return {}

    def refusal(self, now: float) -> Headers:
        del now
        return {"Retry-After": str(self.wait)}


class Counter(_Plain):
    """Two windows' counts weighed by time. ``counts_refused``: as HAProxy's stick-tables do."""

    def __init__(self, limit: int, window: float, *, aligned: bool = True, counts_refused: bool = False) -> None:
        self.limit, self.window, self.aligned, self.counts_refused = limit, window, aligned, counts_refused
        self._begin: float | None = None
        self._first = 0.0
        self._previous = self._current = 0

    def admit(self, now: float) -> float | None:
        self._first = self._first or now
        weighed = self._weighed(now)
        admitted = weighed + 1 <= self.limit
        self._current += admitted or self.counts_refused
        return 0.0 if admitted else None

    def _weighed(self, now: float) -> float:
        if self._begin is None:
            self._begin = floor(now / self.window) * self.window if self.aligned else now
        while now >= self._begin + self.window:
            self._begin += self.window
            self._previous, self._current = self._current, 0
        return floor(self._previous * (1 - (now - self._begin) / self.window) + self._current)

    def shortest(self, tasks: int) -> float:
        passed = self._first % self.window if self.aligned else 0.0
        return (self.window - passed) + max(tasks - self.limit, 0) * self.window / self.limit


class SlowapiCounter(Counter):
    """SlowAPI with that strategy; its reset is the moment the next one is forgotten, and a second more."""

    late = True

    def headers(self, now: float) -> Headers:
        remaining = max(self.limit - floor(self._weighed(now)), 0)
        assert self._begin is not None
        left = self._begin + self.window - now
        resets = [left % (self.window / self._previous)] if self._previous else []
        resets += [left] if self._current else []
        return _slowapi(self.limit, remaining, 1 + now + min(resets, default=0.0), now)


class ThrottledCounter(Counter):
    """throttled-py's sliding window: the whole of one window before the next comes back, says its reset."""

    def headers(self, now: float) -> Headers:
        remaining = max(self.limit - floor(self._weighed(now)), 0)
        return _draft6(self.limit, remaining, self.window)

    def refusal(self, now: float) -> Headers:
        remaining = max(self.limit - floor(self._weighed(now)), 0)
        return _draft6(self.limit, remaining, self.window) | {"Retry-After": str(ceil(self._retry_after(now)))}

    def _retry_after(self, now: float) -> float:
        assert self._begin is not None
        share = 1 - (now - self._begin) / self.window
        before = floor(share * self._previous)
        return share * self.window / before if before else share * self.window


class UpstashCounter(Counter):
    """Upstash's sliding window: its reset is the end of the current one, as an instant in milliseconds."""

    def headers(self, now: float) -> Headers:
        remaining = max(self.limit - floor(self._weighed(now)), 0)
        assert self._begin is not None
        reset = str(int((self._begin + self.window) * 1000))
        return {
            "X-RateLimit-Limit": str(self.limit),
            "X-RateLimit-Remaining": str(remaining),
            "X-RateLimit-Reset": reset,
        }


class SteppedBucket(_Plain):
    """throttled-py's bucket: what comes back, comes at each full second of the server's clock."""

    def __init__(self, limit: int, window: float) -> None:
        self.limit, self.rate = limit, limit / window
        self._level, self._second = limit, 0

    def admit(self, now: float) -> float | None:
        level = self._at(now)
        if level < 1:
            return None
        self._level, self._second = level - 1, floor(now)
        return 0.0

    def _at(self, now: float) -> int:
        if not self._second:
            return self.limit
        return min(self._level + floor((floor(now) - self._second) * self.rate), self.limit)

    def headers(self, now: float) -> Headers:
        level = self._at(now)
        return _draft6(self.limit, level, ceil((self.limit - level) / self.rate))

    def refusal(self, now: float) -> Headers:
        return self.headers(now) | {"Retry-After": "1"}

    def shortest(self, tasks: int) -> float:
        return max(tasks - self.limit, 0) / self.rate


class SpringGateway(SteppedBucket):
    """Spring Cloud Gateway: names what its bucket holds and what comes back a second; no limit, no reset."""

    def headers(self, now: float) -> Headers:
        rate = {"X-RateLimit-Burst-Capacity": str(self.limit), "X-RateLimit-Replenish-Rate": f"{self.rate:g}"}
        return rate | {"X-RateLimit-Remaining": str(self._at(now)), "X-RateLimit-Requested-Tokens": "1"}

    def refusal(self, now: float) -> Headers:
        return self.headers(now)


class Gcra(_Plain):
    """A bucket whose resets are whole seconds: until it is full (redis-cell), or ``to_next`` permit (gubernator)."""

    def __init__(self, burst: int, rate: float, *, to_next: bool = False) -> None:
        self.burst, self.rate, self.to_next = burst, rate, to_next
        self._full_at = 0.0

    def admit(self, now: float) -> float | None:
        if self._level(now) < 1:
            return None
        self._full_at = max(self._full_at, now) + 1 / self.rate
        return 0.0

    def _level(self, now: float) -> float:
        return self.burst - max(self._full_at - now, 0.0) * self.rate + 1e-6

    def headers(self, now: float) -> Headers:
        level = self._level(now)
        reset = max(1 - level, 0.0) / self.rate if self.to_next else max(self._full_at - now, 0.0)
        return _draft6(self.burst, floor(level), reset)

    def shortest(self, tasks: int) -> float:
        return (tasks - self.burst) / self.rate


class ChargedLater(_Plain):
    """A bucket of tokens that lets pass while any is left, and charges an answer when it is there, at any length."""

    def __init__(self, limit: int, *, seed: int = 1) -> None:
        self.limit, self.rate = limit, limit / 60
        self._level, self._at, self._used, self._rng = float(limit), 0.0, 0.0, Random(seed)

    def _left(self, now: float) -> float:
        self._level = min(self._level + (now - self._at) * self.rate, self.limit)
        self._at = now
        return self._level

    def admit(self, now: float) -> float | None:
        return 0.0 if self._left(now) >= 1 else None

    def headers(self, now: float) -> Headers:
        left = self._left(now)
        told = {
            "limit": self.limit,
            "remaining": max(floor(left), 0),
            "reset": f"{(self.limit - left) / self.rate:.3f}s",
        }
        return {f"x-ratelimit-{what}-tokens": str(value) for what, value in told.items()}

    def finish(self, now: float) -> bytes:
        tokens = round(60 + 40 * self._rng.lognormvariate(0, 0.8))
        self._level = self._left(now) - tokens
        self._used += tokens
        usage = {"prompt_tokens": 60, "completion_tokens": tokens - 60}
        choice = {"message": {"content": "yes"}, "finish_reason": "stop"}
        return json.dumps({"choices": [choice], "usage": usage}).encode()

    def shortest(self, tasks: int) -> float:
        del tasks
        return (self._used - self.limit) / self.rate


class Nginx(_Plain):
    """``limit_req``: a leaky bucket in milliseconds that tells nothing. With a delay, what is over waits inside."""

    def __init__(self, rate: float, burst: int = 0, *, delay: bool = False) -> None:
        self.rate, self.burst, self.delay = rate, burst, delay
        self._excess, self._last = 0, 0  # in thousandths of a request, and in milliseconds

    def admit(self, now: float) -> float | None:
        at = floor(now * 1000)
        excess = max(self._excess - round(self.rate * (at - self._last)) + 1000, 0) if self._last else 0
        if excess > self.burst * 1000:
            return None
        self._excess, self._last = excess, at
        return excess / 1000 / self.rate if self.delay else 0.0

    def shortest(self, tasks: int) -> float:
        return max(tasks - 1 - (0 if self.delay else self.burst), 0) / self.rate


class Places(_Plain):
    """``limit_conn``: so many at a time, and nothing told. *work* draws the seconds that one takes; a refusal may ask
    for a *wait*.
    """

    def __init__(self, places: int, work: Callable[[Random], float], *, seed: int = 1, wait: int | None = None) -> None:
        self.places, self.work, self.wait = places, work, wait
        self._open, self._worked, self._rng = 0, 0.0, Random(seed)

    def admit(self, now: float) -> float | None:
        del now
        if self._open >= self.places:
            return None
        self._open += 1
        took = self.work(self._rng)
        self._worked += took
        return took

    def refusal(self, now: float) -> Headers:
        del now
        return {} if self.wait is None else {"Retry-After": str(self.wait)}

    def finish(self, now: float) -> bytes:
        self._open -= 1
        return super().finish(now)

    def shortest(self, tasks: int) -> float:
        del tasks
        return self._worked / self.places


class BusyPlaces(Places):
    """The same with the status that nginx has by default."""

    status = 503


def _slowapi(limit: int, remaining: int, reset: float, now: float) -> Headers:
    """``remaining`` of what is left when it is written, the instant with decimals, ``Retry-After`` always."""
    return {
        "X-RateLimit-Limit": str(limit),
        "X-RateLimit-Remaining": str(remaining),
        "X-RateLimit-Reset": str(reset),
        "Retry-After": str(int(reset - now)),
    }


def _draft6(limit: int, remaining: int, reset: float) -> Headers:
    return {"RateLimit-Limit": str(limit), "RateLimit-Remaining": str(remaining), "RateLimit-Reset": str(ceil(reset))}


class _Visit(Game):
    """The laboratory's game, with a server of others."""

    def __init__(self, server: Server, tasks: int, world: World, limiter: Limiter, start: float, seed: int) -> None:
        super().__init__(Rules(dialect="none"), tasks, world, limiter, start, seed)
        self.server = server

    def _arrive(self, permit: Any) -> None:
        waits = self.server.admit(self.now)
        if waits is None:
            status, headers = self.server.status, self.server.refusal(self.now)
            self.post(self.now + self.world.way(self.rng), self._answer, permit, status, headers, HTML)
            return
        self.played.arrivals.append(self.now)
        headers = {} if self.server.late else self.server.headers(self.now)
        self.post(self.now + waits + self.world.latency(self.rng), self._done, permit, None, headers)

    def _done(self, permit: Any, admission: Admission | None, headers: dict[str, str] | None) -> None:
        del admission
        body = self.server.finish(self.now)
        headers = self.server.headers(self.now) if self.server.late else headers or {}
        self.post(self.now + self.world.way(self.rng), self._answer, permit, 200, headers, body)


def visit(
    server: Server,
    tasks: int,
    *,
    seed: int = 1,
    start: float = START,
    limiter: Limiter | None = None,
    settings: LimitSettings | None = None,
    latency: float = 0.1,
) -> Played:
    """Send *tasks* requests over loopback as fast as the limiter allows."""
    limiter = limiter or Limiter(settings or LimitSettings(), now=start)
    world = World(way=_loopback, latency=lambda _: latency)
    game = _Visit(server, tasks, world, limiter, start, seed)
    game.play()
    game.played.elapsed = game.last - start
    game.played.shortest = server.shortest(tasks) + latency
    return game.played


def _loopback(rng: Random) -> float:
    return 0.001 + rng.expovariate(1 / 0.001)
