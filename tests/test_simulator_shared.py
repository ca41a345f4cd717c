"""Another client takes its share of a limit, whatever we do, and no more; and what is left is known."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchrunner.errors import ConfigError
from batchrunner.simulator.config import Algorithm, Limits, Rules
from batchrunner.simulator.gate import Admission, Gate
from batchrunner.simulator.score import Stretch, Work, shortest_time

ALL = pytest.mark.parametrize("algorithm", ["bucket", "fixed", "sliding"])


def admitted(gate: Gate, *, until: float, step: float = 0.01, cost: int = 1) -> list[float]:
    """When somebody who asks all the time gets in."""
    times = [number * step for number in range(round(until / step))]
    return [at for at in times if isinstance(gate.admit(cost, at), Admission)]


@ALL
def test_who_asks_all_the_time_gets_what_is_left(algorithm: Algorithm) -> None:
    """100 a window of 10 s, half of them another's: the first 100 may be had at once, then 50 a window."""
    gate = Gate(Rules(algorithm=algorithm, rpm=100, window=10, foreign=0.5), now=0.0)

    got = admitted(gate, until=40)

    assert len(got) == pytest.approx(300 if algorithm == "bucket" else 250, abs=8)


@ALL
def test_tokens_are_shared_too(algorithm: Algorithm) -> None:
    gate = Gate(Rules(algorithm=algorithm, tpm=1000, window=10, foreign=0.75), now=0.0)

    got = admitted(gate, until=40, cost=10)

    assert len(got) == pytest.approx(200 if algorithm == "bucket" else 175, abs=8)


def test_headers_show_what_the_other_took() -> None:
    gate = Gate(Rules(rpm=100, window=10, foreign=0.5, algorithm="fixed"), now=0.0)
    gate.admit(1, 1.0)

    requests = gate.levels(6.1).requests

    assert requests is not None
    assert requests.remaining == 100 - 1 - 26  # one every 0.2 s since our first


def test_other_client_follows_a_limit_that_changes() -> None:
    gate = Gate(Rules(rpm=100, window=10, foreign=0.5, algorithm="fixed"), now=0.0)
    gate.admit(1, 0.0)

    gate.set_limits(Limits(rpm=50), 5.0)

    requests = gate.levels(9.99).requests
    assert requests is not None
    assert requests.remaining == 50 - 1 - 25 - 13


@given(
    st.sampled_from(["bucket", "fixed", "sliding"]),
    st.sampled_from([0.1, 0.5, 0.75]),
    st.integers(4, 30),
    st.integers(80, 400),
    st.lists(st.integers(1, 20), min_size=1, max_size=40),
    st.none() | st.tuples(st.floats(0, 100), st.integers(4, 60)),
)
def test_nobody_beats_the_shortest_time(
    algorithm: Algorithm, share: float, rpm: int, tpm: int, costs: Sequence[int], change: tuple[float, int] | None
) -> None:
    """A client that knows everything and asks at every instant worth asking at comes no sooner, change or not."""
    rules = Rules(algorithm=algorithm, rpm=rpm, tpm=tpm, foreign=share)
    gate, now, stretches = Gate(rules, now=0.0), 0.0, [Stretch(0.0, rules.limits)]
    for cost in costs:
        while not isinstance(refusal := gate.admit(cost, now), Admission):
            assert refusal.wait is not None
            now += min(max(refusal.wait, 1e-3), 1.0)
            if change is not None and change[0] <= now:
                stretches.append(Stretch(change[0], Limits(rpm=change[1], tpm=tpm)))
                gate.set_limits(stretches[-1].limits, change[0])
                change = None

    best = shortest_time(Work(answers=len(costs), tokens=sum(costs), latencies=0, least_latency=0), rules, stretches)

    assert best <= now + 1e-3


@pytest.mark.parametrize("share", [-0.1, 1.0, float("nan")])
def test_share_that_leaves_nothing_is_refused(share: float) -> None:
    with pytest.raises(ConfigError, match="share"):
        Rules(foreign=share)
