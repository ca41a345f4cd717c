"""The scoreboard: what arrived, what was answered, and what was asked again although it had its answer.

A request is known by its body alone (its key is the 16-byte BLAKE2b hash), so no client can look better by the headers
it sends. Millions of keys fit: equal tallies are one object.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from typing import NamedTuple

from batchrunner.simulator.config import Limits, Rules
from batchrunner.simulator.faults import Fault
from batchrunner.simulator.rules import Bound
from batchrunner.simulator.score import Score, Stretch, Work, shortest_time


class Tally(NamedTuple):
    """How often one body was sent, let in by the limits, and answered whole."""

    sends: int = 0
    admitted: int = 0
    answers: int = 0


_NEVER = Tally()


def key_of(body: bytes) -> bytes:
    """What a request is known by."""
    return blake2b(body, digest_size=16).digest()


class Ledger:
    """Counts; told the time. ``origin``: the instant at which the wall clock stood at 0."""

    def __init__(self, rules: Rules, limits: Limits, *, origin: float = 0.0) -> None:
        self._rules = rules
        self._origin = origin
        self._tallies: dict[bytes, Tally] = {}
        self._shared: dict[Tally, Tally] = {}
        self._course: list[tuple[float, Limits]] = [(-float("inf"), limits)]
        self._in_flight = 0
        self._clear()

    def _clear(self) -> None:
        self._statuses: Counter[int] = Counter()
        self._faults: Counter[Fault] = Counter()
        self._refusals: Counter[Bound] = Counter()
        self._late_sends = self._late_refusals = 0
        self._sends = self._aborted = self._gone = 0
        self._answered = self._answers = self._repeats = 0
        self._max_in_flight = self._in_flight
        self._first_send: float | None = None
        self._last_send: float | None = None
        self._last_answer: float | None = None
        self._latencies = self._tokens = self._tokens_before_last = 0.0
        self._least_latency = float("inf")

    def reset(self) -> None:
        """Forget everything but the limits and what is in flight right now."""
        self._tallies = {}
        self._course = self._course[-1:]
        self._clear()

    def set_limits(self, limits: Limits, now: float) -> None:
        self._course.append((now, limits))

    def tallies(self) -> Sequence[tuple[bytes, Tally]]:
        """All keys with their tallies, in the order of their first send."""
        return tuple(self._tallies.items())

    def _set(self, key: bytes, tally: Tally) -> None:
        self._tallies[key] = self._shared.setdefault(tally, tally)

    def sent(self, key: bytes, now: float) -> None:
        """A body arrived."""
        tally = self._tallies.get(key, _NEVER)
        self._set(key, Tally(tally.sends + 1, tally.admitted, tally.answers))
        self._sends += 1
        self._repeats += tally.answers > 0
        self._in_flight += 1
        self._max_in_flight = max(self._max_in_flight, self._in_flight)
        self._last_send = now
        if self._first_send is None:
            self._first_send = now
        self._late_sends += self._is_late(now)

    def _is_late(self, now: float) -> bool:
        """Whether the first window is over."""
        return self._first_send is not None and now >= self._first_send + self._rules.window

    def admitted(self, key: bytes) -> int:
        """The limits let it in; says how often they did so for this body, this time included."""
        tally = self._tallies.get(key, _NEVER)
        self._set(key, Tally(tally.sends, tally.admitted + 1, tally.answers))
        self._tokens_before_last = self._tokens
        return tally.admitted + 1

    def refused(self, bound: Bound, now: float) -> None:
        self._refusals[bound] += 1
        self._late_refusals += self._is_late(now)

    def faulted(self, fault: Fault) -> None:
        self._faults[fault] += 1

    def replied(self, status: int) -> None:
        """A whole reply went out to the socket."""
        self._in_flight -= 1
        self._statuses[status] += 1

    def broken(self) -> None:
        """We broke the connection, as a fault."""
        self._in_flight -= 1
        self._aborted += 1

    def left(self) -> None:
        """The client did not wait for the reply."""
        self._in_flight -= 1
        self._gone += 1

    def answered(self, key: bytes, now: float, *, tokens: float, latency: float) -> None:
        """The reply that went out was a whole, good answer."""
        tally = self._tallies.get(key, _NEVER)
        self._answered += tally.answers == 0
        self._set(key, Tally(tally.sends, tally.admitted, tally.answers + 1))
        self._answers += 1
        self._last_answer = now
        self._tokens += tokens
        self._latencies += latency
        self._least_latency = min(self._least_latency, latency)

    def score(self) -> Score:
        shortest = self._shortest()
        elapsed = (
            None if self._last_answer is None or self._first_send is None else self._last_answer - self._first_send
        )
        return Score(
            sends=self._sends,
            statuses={str(status): count for status, count in sorted(self._statuses.items())},
            faults={fault.value: count for fault, count in self._faults.items()},
            refusals={bound.value: count for bound, count in self._refusals.items()},
            late_sends=self._late_sends,
            late_refusals=self._late_refusals,
            aborted=self._aborted,
            gone=self._gone,
            keys=len(self._tallies),
            answered=self._answered,
            answers=self._answers,
            repeats_after_answer=self._repeats,
            in_flight=self._in_flight,
            max_in_flight=self._max_in_flight,
            first_send_at=self._first_send,
            last_send_at=self._last_send,
            last_answer_at=self._last_answer,
            latencies=self._latencies,
            tokens=self._tokens,
            elapsed=elapsed,
            shortest=shortest,
            efficiency=shortest / elapsed if elapsed and shortest else None,
        )

    def _shortest(self) -> float:
        if self._first_send is None:
            return 0.0
        # Charged afterwards, the tokens of what was in flight at the end held nothing up.
        tokens = self._tokens_before_last if self._rules.charging == "actual" else self._tokens
        work = Work(
            answers=self._answers,
            tokens=tokens,
            latencies=self._latencies,
            least_latency=self._least_latency,
        )
        phase = (self._first_send - self._origin) % self._rules.window if self._rules.aligned else 0.0
        return shortest_time(work, self._rules, tuple(self._stretches(self._first_send)), phase=phase)

    def _stretches(self, start: float) -> Iterator[Stretch]:
        past = [limits for at, limits in self._course if at <= start]
        yield Stretch(0.0, past[-1])
        for at, limits in self._course:
            if at > start:
                yield Stretch(at - start, limits)
