"""The IETF's RateLimit fields, drafts 03 to 10, as servers really write them: lenient where they break the grammar.

draft-ietf-httpapi-ratelimit-headers: ``RateLimit-Limit: 100, 100;w=10`` with ``-Remaining`` and ``-Reset`` (03 to 06),
``RateLimit: limit=100, remaining=50, reset=5`` (07), ``RateLimit: "default";r=50;t=30`` beside
``RateLimit-Policy: "default";q=100;w=60`` (08 to 10).
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from batchrunner.api.times import number, seconds_until, sensible
from batchrunner.quota import Dimension, Window

FIELDS = ("ratelimit", "ratelimit-policy", "ratelimit-limit", "ratelimit-remaining", "ratelimit-reset")
_QUOTED = re.compile(r'"((?:[^"\\]|\\.){0,100})"')
_PARAMETER = re.compile(r"([a-z]{1,20})\s*=\s*(\"[^\"]*\"|:[^:]*:|[^;,\s]+)")
_UNITS = {  # RateLimit-Policy's "qu"
    "requests": Dimension.REQUESTS,
    "tokens": Dimension.TOKENS,
    "concurrent-requests": Dimension.IN_FLIGHT,
}
_ITEMS_MAX = 20
_READ = 1000  # characters of a field; quotes that never end would be looked for from each of them


@dataclass(frozen=True, slots=True)
class _Item:
    """One member of a list: the names it goes by, its bare number, its parameters."""

    names: frozenset[str]
    value: float | None
    parameters: Mapping[str, str]

    def number(self, *keys: str) -> float | None:
        """The first of these parameters that is a number."""
        return next((n for key in keys if (n := number(self.parameters.get(key, ""))) is not None), None)


def policy_windows(headers: Mapping[str, str], *, now: float) -> list[Window]:
    """The windows of the RateLimit fields; what makes no sense is passed over. Keys: lower case.

    *now*: UTC seconds by the server's clock, for those who write an epoch where seconds belong.
    """
    if not any(field in headers for field in FIELDS):
        return []
    policies = [*_items(headers.get("ratelimit-policy", ""))]
    told = [*_told(headers, policies, now)]
    taken = {window.scope for window in told}
    rest = (_policy_window(item) for item in policies if not item.names & taken)
    return told + [w for w in rest if w is not None and not any(_same(w, other) for other in told)]


def _told(headers: Mapping[str, str], policies: list[_Item], now: float) -> Iterator[Window]:
    """What is left of which policy."""
    limits = [*_items(headers.get("ratelimit-limit", ""))]
    remaining = number(headers.get("ratelimit-remaining", "").strip())
    if limits or remaining is not None:  # drafts 03 to 06
        limit = limits[0].value if limits else None
        reset = seconds_until(headers.get("ratelimit-reset", ""), now=now)
        yield _completed(_window(limit, remaining, reset), limits[1:] + policies)
    text = headers.get("ratelimit", "")
    if "remaining" in text and "=" in text:  # draft 07
        found = _Item(frozenset(), None, dict(_PARAMETER.findall(text.lower())))
        yield _completed(_window(*map(found.number, ("limit", "remaining", "reset"))), policies)
        return
    for item in _items(text):
        window = _window(None, item.number("r"), item.number("t"))
        policy = next((policy for policy in policies if policy.names & item.names), None)
        name = min(item.names, default="")
        if policy is not None and (full := _policy_window(policy)) is not None:
            yield replace(full, remaining=window.remaining, reset_after=window.reset_after, scope=name)
        elif window.remaining is not None:
            yield replace(window, scope=name)


def _completed(window: Window, policies: list[_Item]) -> Window:
    """With the period of the policy that has this limit; the first one's where no limit is told."""
    for policy in policies:
        quantity = policy.number("q") if policy.value is None else policy.value
        if quantity is not None and window.limit in (None, quantity):
            return replace(window, limit=quantity, period=_period(policy))
    return window


def _window(limit: float | None, remaining: float | None, reset: float | None) -> Window:
    reset_after = None if reset is None else sensible(reset)
    return Window(dimension=Dimension.REQUESTS, limit=limit, remaining=remaining, reset_after=reset_after)


def _policy_window(policy: _Item) -> Window | None:
    quantity = policy.number("q") if policy.value is None else policy.value
    dimension = _UNITS.get(policy.parameters.get("qu", "requests").strip('"'))
    if quantity is None or dimension is None:
        return None
    return Window(dimension=dimension, limit=quantity, period=_period(policy), scope=min(policy.names, default=""))


def _period(policy: _Item) -> float | None:
    seconds = policy.number("w")
    return None if seconds is None or seconds <= 0 else sensible(seconds)


def _same(one: Window, other: Window) -> bool:
    return (one.dimension, one.limit, one.period) == (other.dimension, other.limit, other.period)


def _items(text: str) -> Iterator[_Item]:
    for part in _split(text)[:_ITEMS_MAX]:
        head = part.partition(";")[0].strip()
        yield _Item(frozenset(_QUOTED.findall(part)), number(head), dict(_PARAMETER.findall(part.lower())))


def _split(text: str) -> list[str]:
    """At the commas that are not in quotes."""
    return [part for part in re.findall(r'(?:"(?:[^"\\]|\\.)*"|[^",]|")+', text[:_READ]) if part.strip()]
