"""What a server says of its limits: windows, the quota they make up, and when to come back. Values only."""

from dataclasses import dataclass
from enum import StrEnum

_PERIODS = {60.0: " a minute", 3600.0: " an hour", 86400.0: " a day", 604800.0: " a week", 2592000.0: " a month"}


class Dimension(StrEnum):
    """What a window counts."""

    REQUESTS = "requests"
    TOKENS = "tokens"
    INPUT_TOKENS = "input-tokens"
    OUTPUT_TOKENS = "output-tokens"
    INPUT_IMAGES = "input-images"
    IN_FLIGHT = "in-flight"

    def share(self, tokens: float) -> float:
        """What a request of so many tokens takes of such a window."""
        return tokens if self in _TOKENS else 1.0


_TOKENS = frozenset({Dimension.TOKENS, Dimension.INPUT_TOKENS, Dimension.OUTPUT_TOKENS})


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """One limit as one reply told it. ``None`` = the server did not say.

    ``limit`` and ``remaining`` are counts of the dimension; ``remaining`` may be negative (debt) or above the limit
    (burst). ``reset_after`` is in seconds from the reply: *time until full* at a token bucket, time to the window's end
    at a fixed one, sometimes just the time until a little more comes back.
    ``period`` is the window's length in seconds, where the server names it. ``scope`` tells apart limits of one
    dimension that hold side by side ("model_per_key", "usage_based", a policy's name). ``requested`` is what the
    refused request would have taken, where the refusal says so. ``instant``: the reset was a moment in time, so it
    stays right while an answer takes long; ``coarse``: one in whole seconds; ``ago``: seconds since
    then, where it is over.
    """

    dimension: Dimension
    limit: float | None = None
    remaining: float | None = None
    reset_after: float | None = None
    period: float | None = None
    scope: str = ""
    requested: float | None = None
    instant: bool = False
    coarse: bool = False
    ago: float = 0.0

    @property
    def words(self) -> str:
        """What is left of it: "0 of 1,000,000 tokens a month are left"."""
        of = "" if self.limit is None else f" of {self.limit:,.0f}"
        each = "" if self.period is None else _PERIODS.get(self.period, f" in {self.period:g} s")
        return f"{max(self.remaining or 0.0, 0.0):,.0f}{of} {self.dimension}{each} are left"

    def lacks(self, tokens: float) -> bool:
        """Whether it says that too little is left for a request of so many tokens."""
        needs = self.dimension.share(tokens) if self.requested is None else self.requested
        return self.remaining is not None and self.remaining < needs

    def has(self, tokens: float) -> bool:
        """Whether it says that enough is left, so that it is not what refused such a request."""
        return self.remaining is not None and not self.lacks(tokens)

    @property
    def never(self) -> bool:
        """Whether the request was larger than the whole limit."""
        return self.requested is not None and self.limit is not None and self.requested > self.limit


@dataclass(frozen=True, slots=True)
class Quota:
    """The windows one reply told of; empty when it told of none. ``charged``: tokens this request cost."""

    windows: tuple[Window, ...] = ()
    charged: float | None = None

    def __bool__(self) -> bool:
        return bool(self.windows)


@dataclass(frozen=True, slots=True)
class RetryHint:
    """What a reply asks of whoever would try again.

    ``after``: seconds to wait, None = not said. ``should``: ``x-should-retry``, None = not said; where the class of an
    error is known, that is believed instead (Cerebras says "false" of the error that clears soonest).
    """

    after: float | None = None
    should: bool | None = None


NO_QUOTA = Quota()
