"""Our limiter against the simulator's limits, in virtual time: no sockets, no sleeping, minutes in milliseconds.

The server side is the simulator's own gate and dialect, the client side our own reader of replies and limiter; only the
network between them is made up here: a request takes *way* seconds to arrive, is worked on for *latency* and as long
on its way back. Limits may change on the way, others may use the same quota, replies may get lost.
"""

import heapq
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from random import Random

from batchrunner.api.reply import read_reply
from batchrunner.config import LimitSettings
from batchrunner.limits.limiter import Limiter, Permit
from batchrunner.simulator.config import Limits, Rules
from batchrunner.simulator.dialects import DIALECTS
from batchrunner.simulator.gate import Admission, Gate
from batchrunner.simulator.rules import Refusal
from batchrunner.simulator.score import Stretch, Work, shortest_time
from batchrunner.task import Failure, FailureClass

START = 1_000_000.0
COST = 100.0  # tokens, as we estimate and as they turn out
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


def play(  # noqa: PLR0915  (one loop over three kinds of events)
    rules: Rules,
    tasks: int,
    *,
    settings: LimitSettings | None = None,
    latency: Callable[[Random], float] = lambda rng: rng.uniform(0.1, 0.4),
    way: Callable[[Random], float] = lambda rng: rng.uniform(0.02, 0.05),
    seed: int = 1,
    limiter: Limiter | None = None,
    start: float = START,
    changes: Sequence[tuple[float, Limits]] = (),
    others: float = 0.0,
    lost: float = 0.0,
) -> Played:
    """Send *tasks* requests as fast as the limiter allows; refused ones and lost ones are sent again.

    *changes*: limits from that many seconds on. *others*: requests a second that other clients send (Poisson), which
    are not ours to have. *lost*: share of the answers that do not arrive; their requests are given up after a minute.
    """
    rng, numbers = Random(seed), count()
    settings = settings or LimitSettings()
    limiter = limiter or Limiter(settings, now=start)
    gate, dialect = Gate(rules, now=start), DIALECTS[rules.dialect]
    played, left, now, last = Played(), tasks, start, start
    worked = 0.0
    events: list[tuple[float, int, str, Permit | None, object]] = []

    for after, limits in changes:
        heapq.heappush(events, (start + after, next(numbers), "changes", None, limits))
    if others:
        heapq.heappush(events, (start + rng.expovariate(others), next(numbers), "others", None, None))

    def post(at: float, what: str, permit: Permit, thing: object = None) -> None:
        heapq.heappush(events, (at, next(numbers), what, permit, thing))

    while left or any(permit is not None for _, _, _, permit, _ in events):
        wait = math.inf
        while left:
            permit = limiter.admit(COST, now)
            if permit is None:
                wait = limiter.wait(COST, now)
                break
            left -= 1
            played.sends += 1
            post(permit.send_at + way(rng), "arrives", permit)
        assert events or wait < math.inf, f"deadlock at {now - start:.3f}s"
        if not events or now + wait < events[0][0]:
            now += wait
            continue
        now, _, what, sender, thing = heapq.heappop(events)
        if what == "changes":
            assert isinstance(thing, Limits)
            gate.set_limits(thing, now)
            continue
        if what == "others":
            if isinstance(admitted := gate.admit(COST, now), Admission):
                gate.finish(admitted, COST, now)
            heapq.heappush(events, (now + rng.expovariate(others), next(numbers), "others", None, None))
            continue
        assert sender is not None
        permit = sender
        if what == "arrives":
            admitted = gate.admit(COST, now)
            headers = dict(dialect.headers(gate.levels(now)))
            if isinstance(admitted, Refusal):
                more, body = dialect.refuse(admitted)
                post(now + way(rng), "answered", permit, (429, headers | more, body))
            else:
                played.arrivals.append(now)
                took = latency(rng)
                worked += took
                post(now + took, "done", permit, (admitted, headers))
        elif what == "done":
            assert isinstance(thing, tuple)
            admission, headers = thing
            assert isinstance(admission, Admission)
            gate.finish(admission, COST, now)
            if rng.random() < lost:
                post(now + LOST, "lost", permit)
            else:
                post(now + way(rng), "answered", permit, (200, headers, ANSWER))
        elif what == "lost":
            gone = Failure(kind=FailureClass.TIMEOUT, message="no answer")
            limiter.settle(permit, gone, sent_at=permit.send_at, received_at=now)
            played.lost += 1
            left += 1
        else:
            assert isinstance(thing, tuple)
            status, headers, body = thing
            outcome = read_reply(status, list(headers.items()), body, now=now)
            played.most_in_flight = max(played.most_in_flight, limiter.slots.in_flight)
            limiter.settle(permit, outcome, sent_at=permit.send_at, received_at=now)
            if status == 200:
                last = now
            else:
                played.refused += 1
                played.refused_at.append(now - start)
                left += 1
    played.elapsed = last - start
    if others:
        rules = replace(rules, rpm=max(1, round((rules.rpm or 0) - others * rules.window)))
    work = Work(answers=tasks, tokens=tasks * COST, latencies=worked, least_latency=0.1)
    phase = start % rules.window if rules.aligned else 0.0
    stretches = [Stretch(0.0, rules.limits), *(Stretch(after, limits) for after, limits in changes)]
    played.shortest = shortest_time(work, rules, stretches, phase=phase)
    return played
