"""Whether two lanes draw from one quota: found out soon if they do, never if they do not."""

from collections import Counter
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from batchrunner.quota import Dimension, Quota, Window
from batchrunner.shared import Kinship

LIMIT = 1000
_SENDERS = st.lists(st.booleans(), min_size=40, max_size=200)


def told(taken: int, *, dimension: Dimension = Dimension.REQUESTS) -> Quota:
    return Quota((Window(dimension=dimension, limit=LIMIT, remaining=LIMIT - taken),))


def shown(kinship: Kinship, taken: int, ended: int, beside: int, *, in_flight: int = 0) -> bool:
    """After a reply that told of *taken*; as many of our own, and of the others', may be under way."""
    return kinship.is_shown(
        told(taken), ended=ended, in_flight=in_flight, ended_beside=beside, in_flight_beside=in_flight
    )


@given(_SENDERS, st.integers(0, 5), st.integers(0, 300))
def test_one_quota_is_noticed(senders: list[bool], in_flight: int, before: int) -> None:
    """Each reply tells what both have sent, some of which has not ended yet; whatever a stranger took before."""
    kinship, ended, found = Kinship(), Counter[bool](), False
    for sender in senders:
        ended[sender] += 1
        if sender:
            taken = before + ended.total() + in_flight
            found = shown(kinship, taken, ended[True], ended[False], in_flight=in_flight)
    last = [place for place, sender in enumerate(senders) if sender][-3:]
    enough = len(last) == 3 and senders[: last[0]].count(False) >= in_flight + 4 + senders.index(True)
    assert found or not enough


@given(_SENDERS, st.integers(0, 9), st.integers(0, 300), st.integers(0, 2**32))
def test_two_quotas_are_never_taken_for_one(senders: list[bool], in_flight: int, before: int, seed: int) -> None:
    """Each reply tells what its own lane has sent, ended or not; and what a stranger took before."""
    kinship, ended, rng = Kinship(), Counter[bool](), Random(seed)
    for sender in senders:
        ended[sender] += 1
        if sender:
            taken = before + ended[True] + rng.randint(0, in_flight)
            assert not shown(kinship, taken, ended[True], ended[False], in_flight=in_flight)


def test_a_stranger_that_does_not_keep_step_is_no_kin() -> None:
    """One that is three times as fast as the other lanes, and one that is half as fast."""
    for pace in (3.0, 0.5):
        kinship = Kinship()
        for ended in range(1, 100):
            assert not shown(kinship, round(ended + pace * ended), ended, ended)


def test_a_window_that_begins_anew_is_looked_at_anew() -> None:
    """Its end, after every fifth pair of requests, hides nothing for good."""
    kinship = Kinship()
    found = [shown(kinship, 2 * (ended % 5), ended, ended) for ended in range(1, 50)]
    assert not any(found[:5])
    assert not all(found)
    kinship = Kinship()
    found = [shown(kinship, 2 * (ended % 15), ended, ended) for ended in range(1, 50)]
    assert found[-1]


def test_a_reply_without_windows_says_nothing() -> None:
    kinship = Kinship()
    for ended in range(1, 50):
        tokens = told(2 * ended, dimension=Dimension.TOKENS)
        for quota in (tokens, Quota()):
            assert not kinship.is_shown(quota, ended=ended, in_flight=0, ended_beside=ended, in_flight_beside=0)
