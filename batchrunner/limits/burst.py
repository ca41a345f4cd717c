"""Sends of one moment, which may arrive in any order: what is known of them all, and what replies told of them."""

from dataclasses import dataclass, field
from math import inf

LENGTH = 0.05  # seconds of sends that arrive in any order
ENOUGH = 4  # sends; of fewer it may be chance


@dataclass(frozen=True, slots=True)
class Sums:
    """Since the beginning, in permits: ``sent`` and ``done`` (answered) as reckoned, what had come ``back`` with time,
    and what was ``used``, as answers told.
    """

    sent: float = 0.0
    back: float = 0.0
    done: float = 0.0
    used: float = 0.0

    def since(self, before: "Sums") -> "Sums":
        return Sums(self.sent - before.sent, self.back - before.back, self.done - before.done, self.used - before.used)


@dataclass(slots=True)
class Burst:
    """``first``, ``last``: the sums as its first and its last one left. ``shuffled``: cost of earlier ones that may
    arrive among it; ``alone``: there were none, and nothing else in flight.

    Of ``count`` sends so many were ``told`` what is left, and so many ``refused``; who arrived first was told the
    ``most``, and who came last the ``least``.
    """

    at: float
    first: Sums = field(default_factory=Sums)
    last: Sums = field(default_factory=Sums)
    shuffled: float = 0.0
    alone: bool = False
    count: int = 0
    told: int = 0
    refused: int = 0
    most: float = -inf
    least: float = inf

    def tell(self, remaining: float) -> None:
        """The reply to one of it told what is left."""
        self.told += 1
        self.most, self.least = max(self.most, remaining), min(self.least, remaining)

    @property
    def is_told(self) -> bool:
        """Whether all of it was let through, and told what is left."""
        return self.told >= self.count > 0

    @property
    def is_early(self) -> bool:
        """Whether that was written as they came in, to each another number; not when they were answered."""
        return self.is_told and self.count >= ENOUGH and self.most - self.least >= self.count - 1

    @property
    def is_known(self) -> bool:
        """Whether all replies are here."""
        return self.told + self.refused >= self.count > 0
