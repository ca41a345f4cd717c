"""Our limiter against the simulator's limits, in virtual time: no sockets, no sleeping, minutes in milliseconds.

The server side is the simulator's own gate and dialect, the client side our own reader of replies and limiter; only the
network between them is made up here: a request takes *way* seconds to arrive, is worked on for *latency* and as long
on its way back. Limits may change on the way, others may use the same quota, replies may get lost. With a voice in the
rules the server speaks as that provider, and the client knows it.
"""

import heapq
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from random import Random
from typing import Any

from batchrunner.api.reply import read_reply
from batchrunner.config import LimitSettings
from batchrunner.limits.limiter import Limiter, Permit
from batchrunner.provider import GENERIC, load_provider
from batchrunner.retry import SNOOZE
from batchrunner.simulator.config import Limits, Rules
from batchrunner.simulator.dialects import DIALECTS
from batchrunner.simulator.gate import Admission, Gate
from batchrunner.simulator.rules import Refusal
from batchrunner.simulator.score import Stretch, Work, shortest_time
from batchrunner.simulator.voices import voice_of
from batchrunner.task import Failure, FailureClass, Success

START = 1_000_000.0
COST = 100.0  # tokens of a request
LOST = 60.0  # seconds until a lost reply is given up
ANSWER = b'{"choices": [{"message": {"content": "yes"}, "finish_reason": "stop"}], "usage": {"prompt_tokens": 100}}'


@dataclass(slots=True)
class Played:
    """How it went. ``arrivals``: when each admitted request arrived, for looking at any window."""

    elapsed: float = 0.0
    shortest: float = 0.0
    sends: int = 0
    refused: int = 0
    refused_at: list[float] = field(default_factory=list)
    arrivals: list[float] = field(default_factory=list)
    most_in_flight: int = 0
    lost: int = 0

    @property
    def efficiency(self) -> float:
        return self.shortest / self.elapsed

    @property
    def refused_share(self) -> float:
        return self.refused / self.sends

    def busiest(self, window: float) -> int:
        """The most admitted in any stretch of *window* seconds."""
        most, first = 0, 0
        for last, at in enumerate(self.arrivals):
            while self.arrivals[first] <= at - window:
                first += 1
            most = max(most, last - first + 1)
        return most


@dataclass(kw_only=True)
class World:
    """What surrounds the limiter: how long things take, who else is there, what gets lost."""

    latency: Callable[[Random], float] = lambda rng: rng.uniform(0.1, 0.4)
    way: Callable[[Random], float] = lambda rng: rng.uniform(0.02, 0.05)
    changes: Sequence[tuple[float, Limits]] = ()
    others: float = 0.0
    lost: float = 0.0
    reckoned: float = COST  # tokens a request takes, as we estimate
    learned: float | None = None  # the same, once the first answer is here
    busy: float = 0.0  # seconds of our own processor that a send takes; the next ones wait for it
    reserved: float = COST  # tokens charged at admission where the rules say max_tokens; the rest is given back later
    late: bool = False  # headers tell what is left as the answer leaves, not as the request came
    down: Sequence[tuple[float, float]] = ()  # seconds from the start on, and for how many of them all get a 503


class Game:
    """One server, one client, and the events between them in the order of their time."""

    def __init__(self, rules: Rules, tasks: int, world: World, limiter: Limiter, start: float, seed: int) -> None:
        self.rules, self.world, self.limiter, self.start = rules, world, limiter, start
        self.rng = Random(seed)
        self.gate = Gate(rules, now=start)
        voice = None if rules.voice is None else voice_of(rules.voice)
        self.dialect = DIALECTS[rules.dialect] if voice is None or rules.dialect != "provider" else voice.dialect
        self.provider = GENERIC if rules.voice is None else load_provider(rules.voice)
        self.played = Played()
        self.left = tasks
        self.open = 0  # requests that are neither answered nor given up
        self.now = self.last = start
        self.worked = 0.0
        self.answered = False
        self._free = start  # our own processor
        self._sent_at: dict[int, float] = {}
        self._events: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._numbers = count()
        for after, limits in world.changes:
            self.post(start + after, self._change, limits)
        if world.others:
            self.post(start + self.rng.expovariate(world.others), self._others)

    def post(self, at: float, event: Callable[..., None], *arguments: Any) -> None:
        heapq.heappush(self._events, (at, next(self._numbers), event, arguments))

    def play(self) -> None:
        while self.left or self.open:
            wait = self._send()
            assert self.open or wait < math.inf, f"deadlock at {self.now - self.start:.3f}s"
            if not self._events or self.now + wait < self._events[0][0]:
                self.now += wait
                continue
            self.now, _, event, arguments = heapq.heappop(self._events)
            event(*arguments)
            self.played.most_in_flight = max(self.played.most_in_flight, self.limiter.slots.in_flight)

    def _send(self) -> float:
        """Send all that may go; returns how long to wait for the next."""
        while self.left:
            cost = self.world.reckoned if not self.answered or self.world.learned is None else self.world.learned
            permit = self.limiter.admit(cost, self.now)
            if permit is None:
                return self.limiter.wait(cost, self.now)
            self.left -= 1
            self.open += 1
            self.played.sends += 1
            self._free = sent_at = max(permit.send_at, self._free) + self.world.busy
            self._sent_at[id(permit)] = sent_at
            self.post(sent_at + self.world.way(self.rng), self._arrive, permit)
        return math.inf

    def _arrive(self, permit: Permit) -> None:
        charged = {"actual": 0.0, "estimate": COST, "max_tokens": self.world.reserved}[self.rules.charging]
        if any(begin <= self.now - self.start < begin + seconds for begin, seconds in self.world.down):
            self.post(self.now + self.world.way(self.rng), self._turn_away, permit)
            return
        admitted = self.gate.admit(charged, self.now)
        levels = self.gate.levels(self.now)
        if isinstance(admitted, Refusal):
            more, body = self.dialect.refuse(admitted, levels)
            headers, status = self.dialect.refusal_headers(levels) | more, self.dialect.refused_as(admitted).status
            self.post(self.now + self.world.way(self.rng), self._answer, permit, status, headers, body)
            return
        self.played.arrivals.append(self.now)
        took = self.world.latency(self.rng)
        self.worked += took
        self.post(
            self.now + took, self._done, permit, admitted, None if self.world.late else self.dialect.headers(levels)
        )

    def _done(self, permit: Permit, admission: Admission, headers: dict[str, str] | None) -> None:
        self.gate.finish(admission, COST, self.now)
        if headers is None:
            headers = self.dialect.headers(self.gate.levels(self.now))
        if self.rng.random() < self.world.lost:
            self.post(self.now + LOST, self._give_up, permit)
        else:
            self.post(self.now + self.world.way(self.rng), self._answer, permit, 200, headers, ANSWER)

    def _answer(self, permit: Permit, status: int, headers: dict[str, str], body: bytes) -> None:
        named = [(name, str(value)) for name, value in headers.items()]
        outcome = read_reply(status, named, body, now=self.now, provider=self.provider)
        self._settle(permit, outcome)
        if status == 200:
            self.last = self.now
            self.answered = True
        else:
            assert isinstance(outcome, Failure)
            assert outcome.kind in SNOOZE, outcome
            self.played.refused += 1
            self.played.refused_at.append(self.now - self.start)
            self.left += 1

    def _turn_away(self, permit: Permit) -> None:
        """The server is down; a proxy before it answers."""
        self._settle(permit, read_reply(503, [], b"no healthy upstream", now=self.now, provider=self.provider))
        self.left += 1

    def _give_up(self, permit: Permit) -> None:
        self._settle(permit, Failure(kind=FailureClass.TIMEOUT, message="no answer", maybe_charged=True))
        self.played.lost += 1
        self.left += 1

    def _settle(self, permit: Permit, outcome: Success | Failure) -> None:
        self.open -= 1
        self.limiter.settle(permit, outcome, sent_at=self._sent_at.pop(id(permit)), received_at=self.now)

    def _change(self, limits: Limits) -> None:
        self.gate.set_limits(limits, self.now)

    def _others(self) -> None:
        if isinstance(admitted := self.gate.admit(COST, self.now), Admission):
            self.gate.finish(admitted, COST, self.now)
        self.post(self.now + self.rng.expovariate(self.world.others), self._others)


def play(
    rules: Rules,
    tasks: int,
    *,
    settings: LimitSettings | None = None,
    seed: int = 1,
    limiter: Limiter | None = None,
    start: float = START,
    **world: Any,
) -> Played:
    """Send *tasks* requests as fast as the limiter allows; refused ones and lost ones are sent again.

    *world*: ``latency`` and ``way`` draw seconds. ``changes``: limits from that many seconds on. ``others``: requests a
    second that other clients send (Poisson), which are not ours to have. ``lost``: share of the answers that do not
    arrive; their requests are given up after a minute. ``busy``: seconds of our own processor that a send takes.
    ``reserved``: tokens that are charged at admission where the rules say max_tokens. ``late``: headers are written as
    the answer leaves. ``down``: seconds from the start on, and for how many of them all get a 503.
    """
    limiter = limiter or Limiter(settings or LimitSettings(), now=start)
    game = Game(rules, tasks, World(**world), limiter, start, seed)
    game.play()
    played = game.played
    played.elapsed = game.last - start
    if game.world.others:
        rules = replace(rules, rpm=max(1, round((rules.rpm or 0) - game.world.others * rules.window)))
    work = Work(answers=tasks, tokens=tasks * COST, latencies=game.worked, least_latency=0.0)
    stretches = [Stretch(0.0, rules.limits), *(Stretch(after, limits) for after, limits in game.world.changes)]
    phase = start % rules.window if rules.aligned else 0.0
    played.shortest = shortest_time(work, rules, stretches, phase=phase)
    return played
