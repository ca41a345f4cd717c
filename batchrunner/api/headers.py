"""Rate-limit headers into a ``Quota``, and every form of "come back later" into seconds. Total: nothing raises.

Names come in two orders, ``x-ratelimit-limit-requests`` (OpenAI, Groq) and ``x-ratelimit-requests-limit`` (the seed's
``X-RateLimit-Requests-Limit``, Anthropic's ``anthropic-ratelimit-requests-limit``). A reset is a Go duration
(``1m3.5s``), a bare number, an instant (RFC 3339 or HTTP date), or an epoch; ``None`` where the server did not say or
makes no sense.
"""

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from batchrunner.quota import NO_QUOTA, Dimension, Quota, Window

_DIMENSION = "requests|tokens"
_FIELD = "limit|remaining|reset"
_NAME = re.compile(
    rf"(?:x|anthropic)-ratelimit-(?:(?P<field>{_FIELD})-(?P<what>{_DIMENSION})|(?P<what2>{_DIMENSION})-(?P<field2>{_FIELD}))"
)
_UNITS = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
_DURATION_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|us|µs|ns|d|h|m|s)")
_DURATION = re.compile(rf"(?:{_DURATION_PART.pattern})+")
_EPOCH_SECONDS, _EPOCH_MS, _EPOCH_US = 1e9, 1e11, 1e14  # a bare number from here on is an instant
WAIT_MAX = 86400.0 * 31  # a longer wait is nonsense


def quota(headers: Mapping[str, str], *, now: float) -> Quota:
    """What a reply's headers say of its limits. *now*: UTC seconds of the reply, for instants. Keys: lower case."""
    found: dict[Dimension, dict[str, str]] = {}
    for name, value in headers.items():
        if "ratelimit" not in name:
            continue
        match = _NAME.fullmatch(name)
        if match:
            dimension = Dimension(match["what"] or match["what2"])
            found.setdefault(dimension, {}).setdefault(match["field"] or match["field2"], value.strip())
    windows = [window for dimension, fields in found.items() if (window := _window(dimension, fields, now)) is not None]
    return Quota(tuple(windows)) if windows else NO_QUOTA


def retry_after(headers: Mapping[str, str], *, now: float) -> float | None:
    """Seconds the headers ask to wait: ``retry-after-ms``, else ``retry-after`` (seconds or date). Keys: lower case."""
    milliseconds = _number(headers.get("retry-after-ms", ""))
    if milliseconds is not None:
        return _sensible(milliseconds / 1000)
    text = headers.get("retry-after", "").strip()
    seconds = _number(text)
    if seconds is not None:
        return _sensible(seconds)
    instant = _instant(text)
    return None if instant is None else _sensible(max(instant - (_date(headers) or now), 0.0))


def duration(text: str, *, now: float) -> float | None:
    """Seconds from *now* that a reset means, in any of its forms; past instants are 0."""
    text = text.strip()
    number = _number(text)
    if number is not None:
        return _bare(number, now)
    if _DURATION.fullmatch(text):
        parts = (float(amount) * _UNITS[unit] for amount, unit in _DURATION_PART.findall(text))
        return _sensible(sum(parts))
    instant = _instant(text)
    return None if instant is None else _sensible(max(instant - now, 0.0))


def _window(dimension: Dimension, fields: Mapping[str, str], now: float) -> Window | None:
    limit, remaining = _count(fields.get("limit", "")), _count(fields.get("remaining", ""))
    if limit is not None and limit < 0:  # Azure's -1/-1/0 means: not known
        return None
    if limit is None and remaining is not None and remaining < 0:
        return None
    if limit is None and remaining is None:
        return None
    reset = duration(fields["reset"], now=now) if "reset" in fields else None
    return Window(dimension=dimension, limit=limit, remaining=remaining, reset_after=reset)


def _bare(number: float, now: float) -> float | None:
    if number < _EPOCH_SECONDS:
        return _sensible(number)
    scale = 1.0 if number < _EPOCH_MS else 1e3 if number < _EPOCH_US else 1e6
    return _sensible(max(number / scale - now, 0.0))


def _count(text: str) -> int | None:
    number = _number(text)
    return None if number is None or abs(number) > _EPOCH_US else math.floor(number)


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) and "_" not in text else None


def _sensible(seconds: float) -> float | None:
    return seconds if 0 <= seconds <= WAIT_MAX else None


def _instant(text: str) -> float | None:
    """UTC seconds of an RFC 3339 time or an HTTP date."""
    try:
        if "," in text or "GMT" in text:
            when = parsedate_to_datetime(text)
        elif "T" in text and ":" in text:
            when = datetime.fromisoformat(text)
        else:
            return None
        return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError, TypeError, IndexError):
        return None


def _date(headers: Mapping[str, str]) -> float | None:
    """The server's own clock: dates in its reply are relative to this, not to ours."""
    return _instant(headers.get("date", ""))
