"""Budget: whatever the order of calls, losses and crashes, no call starts that could pass the limit."""

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from batchrunner.budget import Budget


class Spending(RuleBasedStateMachine):
    """Calls that are begun, end, get lost, and runs that die; ``ledger`` is what the database remembers of them."""

    def __init__(self) -> None:
        super().__init__()
        self.budget = Budget(limit=0)
        self.in_flight: list[int] = []
        self.paid: list[int] = []
        self.lost: list[int] = []

    @initialize(limit=st.integers(0, 1_000))
    def begin(self, limit: int) -> None:
        self.budget = Budget(limit=limit)

    @rule(most=st.integers(0, 300))
    def start(self, most: int) -> None:
        assert self.budget.limit is not None
        committed = sum(self.paid) + sum(self.lost) + sum(self.in_flight)
        started = self.budget.reserve(most)
        assert started == (committed + most <= self.budget.limit)  # refused only where it really might pass
        if started:
            self.in_flight.append(most)

    @precondition(lambda self: self.in_flight)
    @rule(data=st.data())
    def answer(self, data: st.DataObject) -> None:
        reserved = self._take(data)
        actual = data.draw(st.integers(0, reserved))
        self.budget.settle(reserved, actual)
        self.paid.append(actual)

    @precondition(lambda self: self.in_flight)
    @rule(data=st.data())
    def lose(self, data: st.DataObject) -> None:
        reserved = self._take(data)
        self.budget.settle(reserved, None)
        self.lost.append(reserved)

    @rule()
    def crash(self) -> None:
        """What was in flight may have been charged; the next run counts it so."""
        self.lost += self.in_flight
        self.in_flight.clear()
        self.budget = Budget(limit=self.budget.limit, spent=sum(self.paid), unsettled=sum(self.lost))

    @invariant()
    def never_passed(self) -> None:
        budget = self.budget
        assert budget.limit is not None
        assert (budget.spent, budget.unsettled, budget.reserved) == (
            sum(self.paid),
            sum(self.lost),
            sum(self.in_flight),
        )
        assert budget.spent + budget.unsettled + budget.reserved <= budget.limit
        assert budget.left == budget.limit - budget.spent - budget.unsettled - budget.reserved

    def _take(self, data: st.DataObject) -> int:
        return self.in_flight.pop(data.draw(st.integers(0, len(self.in_flight) - 1)))


TestSpending = Spending.TestCase


def test_without_a_limit_nothing_is_refused_and_all_is_counted() -> None:
    budget = Budget()
    assert budget.reserve(10**15)
    budget.settle(10**15, 7)
    assert (budget.spent, budget.reserved, budget.left) == (7, 0, None)


def test_a_call_that_cost_more_than_was_reserved_is_counted_and_stops_the_next() -> None:
    budget = Budget(limit=100)
    assert budget.reserve(50)
    budget.settle(50, 130)
    assert budget.spent == 130
    assert budget.left == 0
    assert not budget.reserve(1)
