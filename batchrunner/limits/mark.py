"""What a meter's account was at one send: kept in the permit, and compared when the reply is here."""

from dataclasses import dataclass, field

from batchrunner.limits.burst import Burst, Sums


@dataclass(frozen=True, slots=True)
class Mark:
    """``cost``: as charged. ``sums``: of all sends until this one.

    ``before``: the account as it was before what this send may have overtaken, or what the server had not charged yet.
    ``alone``: nothing else of ours was in flight. ``shuffled``: cost of those that may well arrive in another order.
    ``expected``: what should have been left by our log of a sliding window, where its reply is to prove that.
    ``factor``: ``cost`` over what we reckoned.
    """

    account: float
    before: float
    epoch: int
    cost: float
    alone: bool = False
    shuffled: float = 0.0
    sums: Sums = field(default_factory=Sums)
    at: float | None = None
    burst: Burst | None = None
    expected: float | None = None
    factor: float = 1.0

    @property
    def reckoned(self) -> float:
        """Cost of all sends until this one, which tells one from another."""
        return self.sums.sent

    def overtaken(self, factor: float) -> float:
        """Cost of sends that may have come before it, though they left later."""
        return self.shuffled + (0.0 if self.burst is None else self.burst.last.sent - self.reckoned) * factor
