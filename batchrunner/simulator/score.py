"""How fast a run could have been: the shortest possible time for the answers it got, given the limits it was under."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import inf

from batchrunner.simulator.config import Limits, Rules


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """What a simulator saw. Instants are seconds of its own clock: only differences mean something.

    ``sends``: requests whose body arrived. ``statuses``: replies written, by HTTP status. ``faults``: injected ones, by
    name. ``refusals``: by the limit that refused. ``late_sends``, ``late_refusals``: those after one window, when a
    client could know the limits. ``aborted``: connections the simulator broke; ``gone``: clients that did not wait.
    ``keys``: different bodies; ``answered``: those of them answered at least once; ``answers``: all whole answers.
    ``repeats_after_answer``: sends of a body that had its answer already. ``latencies``: seconds of work in the
    answers, ``tokens``: charged for them. ``efficiency``: ``shortest`` / ``elapsed``; None while there is nothing to
    compare. ``shortest`` is a lower bound, so above 1 it would be the simulator that is wrong.
    """

    sends: int = 0
    statuses: dict[str, int] = field(default_factory=dict)
    faults: dict[str, int] = field(default_factory=dict)
    refusals: dict[str, int] = field(default_factory=dict)
    late_sends: int = 0
    late_refusals: int = 0
    aborted: int = 0
    gone: int = 0
    keys: int = 0
    answered: int = 0
    answers: int = 0
    repeats_after_answer: int = 0
    in_flight: int = 0
    max_in_flight: int = 0
    first_send_at: float | None = None
    last_send_at: float | None = None
    last_answer_at: float | None = None
    latencies: float = 0.0
    tokens: float = 0.0
    elapsed: float | None = None
    shortest: float = 0.0
    efficiency: float | None = None

    @property
    def refused_share(self) -> float:
        """The share of all sends that a limit refused."""
        return sum(self.refusals.values()) / self.sends if self.sends else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What was answered: how many requests, their tokens, their latencies summed up, and the least latency."""

    answers: int
    tokens: float
    latencies: float
    least_latency: float


@dataclass(frozen=True, slots=True)
class Stretch:
    """Limits that held from ``since`` on, in seconds after the first send."""

    since: float
    limits: Limits


def shortest_time(work: Work, rules: Rules, stretches: Sequence[Stretch], *, phase: float = 0.0) -> float:
    """Seconds in which nobody could have got the same answers faster; a lower bound.

    ``stretches``: the limits in the order they held, the first since 0. ``phase``: how much of an aligned window had
    passed at the first send. The last answer of all takes one latency after its admission. Of what another client takes
    (``rules.foreign``) nothing is left, but a full bucket or a fresh first window may be had before it.
    """
    if not work.answers:
        return 0.0
    rpm = [(stretch.since, stretch.limits.rpm) for stretch in stretches]
    tpm = [(stretch.since, stretch.limits.tpm) for stretch in stretches]
    places = [(stretch.since, stretch.limits.concurrency) for stretch in stretches]
    requests = _until(work.answers, rpm, rules, phase)
    # Charged afterwards, what is in flight may overdraw a window, and the next one forgets it; a bucket does not.
    forgotten = rules.charging == "actual" and rules.algorithm != "bucket"
    admitted = requests if forgotten else max(requests, _until(work.tokens, tpm, rules, phase))
    return max(admitted + work.least_latency, _accumulate(work.latencies, places, window=1.0))


_Course = Sequence[tuple[float, int | None]]  # a limit's values, each with the time since which it held


def _until(demand: float, course: _Course, rules: Rules, phase: float) -> float:
    """When the last of *demand* could be admitted."""
    if rules.algorithm != "bucket":
        return _by_windows(demand, course, rules, phase)
    start = course[0][1]
    window = rules.window / (1 - rules.foreign)  # what another client takes makes it slower for us
    return 0.0 if start is None else _accumulate(demand - start, course, window)


def _accumulate(demand: float, course: _Course, window: float) -> float:
    """When *demand* has come in, at limit/window a second."""
    ends = [since for since, _ in course[1:]] + [inf]
    for (since, limit), end in zip(course, ends, strict=True):
        if demand <= 0 or limit is None:
            return since if demand > 0 else 0.0
        gain = (end - since) * limit / window
        if gain >= demand:
            return since + demand * window / limit
        demand -= gain
    return inf


def _by_windows(demand: float, course: _Course, rules: Rules, phase: float) -> float:
    """When the window begins in which the last of *demand* fits; a limit that changed counts as its largest value.

    Another client has, by then, what it asked for in the windows before.
    """
    start, end = 0.0, rules.window - phase
    while True:
        held = _held(course, start, end)
        if None in held:  # for a while there was no limit
            return start
        limits = [limit for limit in held if limit is not None]
        if demand <= max(limits) + 1e-6:
            return start
        demand -= max(limits) - rules.foreign * min(limits) * (end - start) / rules.window
        start, end = end, end + rules.window


def _held(course: _Course, start: float, end: float) -> list[int | None]:
    """The values that held at any time from *start* to *end*."""
    ends = [since for since, _ in course[1:]] + [inf]
    return [limit for (since, limit), until in zip(course, ends, strict=True) if since < end and until > start]
