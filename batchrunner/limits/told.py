"""What one reply said of a window, and what that means for the one we are in."""

from dataclasses import dataclass
from enum import StrEnum


class Reading(StrEnum):
    """What a reply's reset means for its ``remaining``."""

    CURRENT = "current"  # it speaks of the window we are in
    OLD = "old"  # of one that is over: worth nothing
    NEXT = "next"  # the server's window has rolled over before ours
    CHANGED = "changed"  # the verdict is another: begin anew from this reply


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What one reply said: ``used`` of ``limit``. It was written between ``sent_at`` and ``received_at``.

    ``reset``: seconds from when it was written, or from ``received_at`` where it was an ``instant``; ``coarse``: that
    is exact to a second only. ``epoch``: of its send. ``refused``: so of its own cost nothing was used.
    """

    limit: float
    used: float | None
    reset: float | None
    epoch: int
    sent_at: float
    received_at: float
    refused: bool = False
    instant: bool = False
    coarse: bool = False

    @property
    def reset_from(self) -> float:
        """The earliest that the reset can be."""
        assert self.reset is not None
        return (self.received_at if self.instant else self.sent_at) + self.reset

    @property
    def reset_by(self) -> float:
        """The latest."""
        assert self.reset is not None
        return self.received_at + self.reset
