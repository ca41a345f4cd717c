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
    """What one reply said, and when: ``used`` of ``limit``, ``reset`` in seconds; ``epoch`` of its send.

    ``refused``: it was a refusal, so of its own cost nothing was used. ``coarse``: the reset is exact to a second only.
    """

    limit: float
    used: float | None
    reset: float | None
    epoch: int
    sent_at: float
    received_at: float
    refused: bool = False
    coarse: bool = False
