"""The names of rate-limit headers as one grammar: which window, and which of its fields, a header speaks of.

``[x-|anthropic-|llm_provider-…]ratelimit-`` and then, in any order: a field (limit, remaining, reset, renewalperiod), a
dimension (requests, req, tokens, input-tokens, …), a window (minute, 60-second, 5-minute, day, 1h), a scope
(model_per_key, team, …). A name with any other word in it means something else and is passed over.
"""

import re
from dataclasses import dataclass
from functools import lru_cache

from batchrunner.quota import Dimension

_MARK = re.compile(
    r"(?P<before>(?:[a-z_]+-){0,3}?)(?P<mark>rate-?limitbysize|rate-?limit|tokenlimit)(?:-(?P<rest>.+))?"
)
_PREFIXES = frozenset({"", "x-", "llm_provider-", "llm_provider-x-", "anthropic-", "llm_provider-anthropic-", "x-ai-"})
_FIELDS = frozenset({"limit", "remaining", "reset", "renewalperiod"})
_SCOPES = frozenset(
    {
        *("key", "api_key", "model", "model_per_key", "model_per_team", "team", "team_member", "user", "end_user"),
        *("organization", "org", "project", "model_per_project", "model_per_organization", "agent", "tag", "global"),
    }
)
_UNITS = {
    **dict.fromkeys(("second", "seconds", "sec", "s"), 1.0),
    **dict.fromkeys(("minute", "minutes", "min", "m"), 60.0),
    **dict.fromkeys(("hour", "hours", "h"), 3600.0),
    **dict.fromkeys(("day", "days", "d"), 86400.0),
    **dict.fromkeys(("month", "months", "monthly"), 86400.0 * 30),
}
_WORDS: dict[str, Dimension] = {
    **dict.fromkeys(("requests", "request", "reqs", "req", "calls", "call"), Dimension.REQUESTS),
    **dict.fromkeys(("tokens", "token"), Dimension.TOKENS),
    **dict.fromkeys(("images", "image"), Dimension.INPUT_IMAGES),
}
_COUNTED = re.compile(r"(\d{1,6})([a-z]+)")  # "1h", "60s"
_DIGITS_MAX = 6
_PERIOD_MAX = 86400.0 * 366


@dataclass(frozen=True, slots=True)
class Named:
    """What a header's name says: ``field`` is limit, remaining, reset, renewalperiod or rate; ``period`` in seconds."""

    field: str
    dimension: Dimension
    period: float | None = None
    scope: str = ""


_OTHERS = {  # Cohere's trial keys; Azure's gateway writes one hyphen more, which the grammar covers
    "x-trial-endpoint-call-limit": Named("limit", Dimension.REQUESTS, 60.0),
    "x-trial-endpoint-call-remaining": Named("remaining", Dimension.REQUESTS, 60.0),
    "x-endpoint-monthly-call-limit": Named("limit", Dimension.REQUESTS, _UNITS["month"]),
    "x-ratelimit-burst-capacity": Named("limit", Dimension.REQUESTS),  # Spring Cloud Gateway's bucket
    "x-ratelimit-replenish-rate": Named("rate", Dimension.REQUESTS),  # a second
}


@lru_cache(maxsize=1024)
def read_name(name: str) -> Named | None:
    """What a header speaks of, by its lower-case name; None if it is of no window."""
    if (other := _OTHERS.get(name)) is not None:
        return other
    match = _MARK.fullmatch(name)
    if match is None or match["before"] not in _PREFIXES or match["rest"] is None:
        return None
    sized = match["mark"] not in ("ratelimit", "rate-limit")
    words = _Words(Dimension.TOKENS if sized else Dimension.REQUESTS)
    return words.named() if all(map(words.take, match["rest"].split("-"))) else None


class _Words:
    """The words of a name, taken up one by one; ``take`` is False for one that belongs to no window."""

    def __init__(self, default: Dimension) -> None:
        self.field = self.scope = self.qualifier = ""
        self.period: float | None = None
        self.dimension: Dimension | None = None
        self._default = default
        self._count = 1.0

    def take(self, word: str) -> bool:
        return self._is_kind(word) or self._is_time(word) or word == "per"

    def named(self) -> Named | None:
        if not self.field or (self.period is not None and not 0 < self.period <= _PERIOD_MAX):
            return None
        dimension = self.dimension or self._default
        if dimension is Dimension.TOKENS and self.qualifier:
            dimension = Dimension.INPUT_TOKENS if self.qualifier == "input" else Dimension.OUTPUT_TOKENS
        return Named(self.field, dimension, self.period, self.scope)

    def _is_kind(self, word: str) -> bool:
        if word in _FIELDS and not self.field:
            self.field = word
        elif word in ("input", "output") and not self.qualifier:
            self.qualifier = word
        elif word == "tokens_usage_based":
            self.dimension, self.scope = Dimension.TOKENS, "usage_based"
        elif word in _WORDS and self.dimension is None:
            self.dimension = _WORDS[word]
        elif word in _SCOPES:
            self.scope = word
        else:
            return False
        return True

    def _is_time(self, word: str) -> bool:
        if word in _UNITS:
            self.period = self._count * _UNITS[word]
        elif word.isdecimal() and len(word) <= _DIGITS_MAX:
            self._count = float(word)
        elif (counted := _COUNTED.fullmatch(word)) and counted[2] in _UNITS:
            self.period = float(counted[1]) * _UNITS[counted[2]]
        else:
            return False
        return True
