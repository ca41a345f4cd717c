"""Every way a server writes a time: seconds, Go durations, epochs, RFC 3339, HTTP dates, GLM's local time. Total."""

import math
import re
from datetime import UTC, datetime, timedelta, timezone
from email.utils import parsedate_to_datetime
from functools import lru_cache

WAIT_MAX = 86400.0 * 31  # seconds; a longer wait is nonsense
BEIJING = timezone(timedelta(hours=8))  # GLM writes its resets in this zone and does not say so
_UNITS = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ns": 1e-9}
_AMOUNT = r"\d+(?:\.\d+)?"
_UNIT = r"ms|us|µs|μs|ns|d|h|m|s"
_PART = re.compile(rf"({_AMOUNT})({_UNIT})")
DURATION = rf"(?:(?:{_AMOUNT})(?:{_UNIT}))+"
_DURATION = re.compile(DURATION)
_EPOCH_SECONDS, _EPOCH_MS, _EPOCH_US = 1e9, 1e11, 1e14  # a bare number from here on is an instant
_LOCAL = re.compile(r"(\d{4})-(\d\d)-(\d\d)\s+(\d\d):(\d\d):(\d\d)(?!\s*(?:Z|UTC|[+-]\d\d))")


def seconds_until(text: str, *, now: float) -> float | None:
    """Seconds from *now* (UTC) that a reset means, in any of its forms; past instants are 0, nonsense is None."""
    text = text.strip()
    value = number(text)
    if value is not None:
        return _bare(value, now)
    if (seconds := span(text)) is not None:
        return seconds
    when = instant(text)
    return None if when is None else sensible(max(when - now, 0.0))


def is_instant(text: str) -> bool:
    """Whether *text* is a moment in time and not a number of seconds."""
    value = number(text.strip())
    return value >= _EPOCH_SECONDS if value is not None else instant(text) is not None


def is_coarse(text: str) -> bool:
    """Whether *text* is an instant without decimals: the time until then is known to a second only."""
    value = number(text.strip())
    if value is not None:
        return value == int(value) and _EPOCH_SECONDS <= value < _EPOCH_MS
    return "." not in text and instant(text) is not None


def span(text: str) -> float | None:
    """Seconds of a Go duration such as ``1h9m7.077s`` or ``308ms``."""
    if not _DURATION.fullmatch(text):
        return None
    return sensible(sum(float(amount) * _UNITS[unit] for amount, unit in _PART.findall(text)))


@lru_cache(maxsize=64)  # every reply has a date, and a thousand of them the same
def instant(text: str) -> float | None:
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


def beijing(text: str) -> float | None:
    """UTC seconds of the first ``2026-09-12 00:35:41`` in a GLM message: Asia/Shanghai, though it does not say so."""
    found = _LOCAL.search(text)
    if found is None:
        return None
    try:
        year, month, day, hour, minute, second = map(int, found.groups())
        return datetime(year, month, day, hour, minute, second, tzinfo=BEIJING).timestamp()
    except (ValueError, OverflowError):
        return None


def number(text: str) -> float | None:
    """A plain number; None for anything else, infinities and ``1_000`` too."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) and "_" not in text else None


def sensible(seconds: float) -> float | None:
    """*seconds* if they can be a wait."""
    return seconds if 0 <= seconds <= WAIT_MAX else None


def _bare(value: float, now: float) -> float | None:
    if value < _EPOCH_SECONDS:
        return sensible(value)
    scale = 1.0 if value < _EPOCH_MS else 1e3 if value < _EPOCH_US else 1e6
    return sensible(max(value / scale - now, 0.0))
