"""What a server says of its limits: windows, and the quota they make up. Values only."""

from dataclasses import dataclass
from enum import StrEnum


class Dimension(StrEnum):
    """What a window counts."""

    REQUESTS = "requests"
    TOKENS = "tokens"


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """One limit as one reply told it. ``None`` = the server did not say.

    ``limit`` and ``remaining`` are counts of the dimension; ``remaining`` may be negative (debt) or above the limit
    (burst). ``reset_after`` is in seconds from the reply: *time until full* at a token bucket, time to the window's end
    at a fixed one.
    ``period`` is the window's length in seconds, where the header's name tells it.
    """

    dimension: Dimension
    limit: int | None = None
    remaining: int | None = None
    reset_after: float | None = None
    period: float | None = None


@dataclass(frozen=True, slots=True)
class Quota:
    """The windows one reply told of; empty when it told of none."""

    windows: tuple[Window, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.windows)


NO_QUOTA = Quota()
