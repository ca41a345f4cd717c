"""How much may still be spent: the most a call can cost is reserved before it is sent, and settled after. Pure.

What is spent, what was perhaps charged for (no reply told) and what is reserved never pass the limit together, as long
as no call costs more than was reserved for it.
"""

from dataclasses import dataclass


@dataclass(slots=True, kw_only=True)
class Budget:
    """Amounts in billionths of one currency. ``limit`` None: nothing is ever refused.

    ``unsettled``: reserved for calls of which no reply told what they cost; it stays counted, for they may have been
    charged.
    """

    limit: int | None = None
    spent: int = 0
    unsettled: int = 0
    reserved: int = 0

    @property
    def left(self) -> int | None:
        """What a next call may cost; None = anything."""
        return None if self.limit is None else max(0, self.limit - self.spent - self.unsettled - self.reserved)

    def fits(self, most: int) -> bool:
        return self.limit is None or self.spent + self.unsettled + self.reserved + most <= self.limit

    def reserve(self, most: int) -> bool:
        """Whether a call that costs at most *most* may go; then that much is kept back for it."""
        if not self.fits(most):
            return False
        self.reserved += most
        return True

    def settle(self, reserved: int, actual: int | None) -> None:
        """The call is over: it did cost *actual*, or None, which nobody knows."""
        self.reserved -= reserved
        if actual is None:
            self.unsettled += reserved
        else:
            self.spent += actual
