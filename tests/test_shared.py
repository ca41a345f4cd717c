"""Whether two lanes draw from one quota: found out soon if they do, never if they do not."""

from hypothesis import given
from hypothesis import strategies as st

from batchrunner.quota import Dimension, Quota, Window
from batchrunner.shared import Kinship

LIMIT = 1000
_SENDERS = st.lists(st.booleans(), min_size=40, max_size=200)


def told(taken: int, *, dimension: Dimension = Dimension.REQUESTS) -> Quota:
    return Quota((Window(dimension=dimension, limit=LIMIT, remaining=LIMIT - taken),))


@given(_SENDERS, st.integers(0, 5))
def test_one_quota_is_noticed(senders: list[bool], late: int) -> None:
    """Each reply tells what both have sent, but for the last few; a dozen of each is enough."""
    kinship, sent, shown = Kinship(), {True: 0, False: 0}, False
    for sender in senders:
        sent[sender] += 1
        counted = max(sum(sent.values()) - late, sent[True])
        if sender:
            shown = kinship.is_shown(told(counted), sent=sent[True], by_siblings=sent[False])
    enough = sum(senders[-6:]) >= 3 and sent[False] >= 4 * late + 12
    assert shown or not enough


@given(_SENDERS)
def test_two_quotas_are_never_taken_for_one(senders: list[bool]) -> None:
    """Each reply tells what its own lane has sent, or less, where some of it has come back."""
    kinship, sent = Kinship(), {True: 0, False: 0}
    for sender in senders:
        sent[sender] += 1
        if sender:
            assert not kinship.is_shown(told(sent[True]), sent=sent[True], by_siblings=sent[False])


def test_a_strangers_traffic_does_not_add_up() -> None:
    kinship = Kinship()
    for taken in range(1, 50):
        assert not kinship.is_shown(told(10 * taken), sent=taken, by_siblings=taken)


def test_a_reply_without_windows_says_nothing() -> None:
    kinship = Kinship()
    for _ in range(3):
        assert not kinship.is_shown(told(20, dimension=Dimension.TOKENS), sent=10, by_siblings=10)
        assert not kinship.is_shown(Quota(), sent=10, by_siblings=10)
