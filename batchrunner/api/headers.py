"""Rate-limit headers into a ``Quota``, and every form of "come back later" into a ``RetryHint``. Total: nothing raises.

What a header's name means stands in names.py, how times are written in times.py, the IETF's fields in policies.py. A
server's absolute times are taken by its own clock, where the reply tells that.
"""

from collections.abc import Mapping

from batchrunner.api.names import read_name
from batchrunner.api.policies import FIELDS, policy_windows
from batchrunner.api.times import instant, is_coarse, is_instant, number, seconds_until, sensible
from batchrunner.quota import NO_QUOTA, Dimension, Quota, RetryHint, Window

LATE_MOST = 3600.0  # seconds that an answer may take
_COUNT_MAX = 1e14  # more of anything is nonsense
_CHARGED = ("x-ratelimit-tokens-query-cost", "x-ratelimitbysize-query-cost", "ratelimitbysize-query-cost")
_SAME_CLOCK = 1.5  # seconds; a Date this near to our own clock only has fewer digits
_PER_SECOND = ("true", "false")  # Together's "x-ratelimit"; its other headers count by the second
_REFUSED = frozenset({403, 408, 409, 425, 429, 498})

_Key = tuple[Dimension, float | None, str]


def quota(headers: Mapping[str, str], *, now: float) -> Quota:
    """What a reply's headers say of its limits. *now*: UTC seconds of the reply, for instants. Keys: lower case."""
    found: dict[_Key, dict[str, str]] = {}
    for name, value in headers.items():
        if name in FIELDS or ("limit" not in name and "call-" not in name):
            continue
        if (named := read_name(name)) is None:
            continue
        found.setdefault((named.dimension, named.period, named.scope), {}).setdefault(named.field, value.strip())
    base = server_time(headers, now=now)
    policies = policy_windows(headers, now=base)
    if not found and not policies:
        return NO_QUOTA
    default = None
    if headers.get("x-ratelimit", "").strip().lower() in _PER_SECOND:
        default = 1.0
        for fields in found.values():
            fields.setdefault("reset", headers.get("x-ratelimit-reset", ""))
    full_is_silent = "x-ratelimit-dynamic-period-remaining" in headers  # Nebius leaves the reset out then
    told = (_window(key, fields, base, default, full_is_silent=full_is_silent) for key, fields in found.items())
    windows = [*policies, *(window for window in told if window is not None)]
    windows.sort(key=lambda window: window.period or 0.0)
    return Quota(tuple(windows), charged=_charged(headers)) if windows else NO_QUOTA


def retry_hint(headers: Mapping[str, str], *, status: int, now: float) -> RetryHint:
    """What the headers ask of whoever tries again: ``retry-after-ms``, else ``retry-after``. Keys: lower case.

    On a success it is a poll interval (Together, batch APIs), on a 413 it promises what can't come true: not read.
    """
    should = {"true": True, "false": False}.get(headers.get("x-should-retry", "").strip().lower())
    if status not in _REFUSED and status < 500:  # noqa: PLR2004
        return RetryHint(None, should)
    return RetryHint(retry_after(headers, now=now), should)


def retry_after(headers: Mapping[str, str], *, now: float) -> float | None:
    """Seconds the headers ask to wait: ``retry-after-ms``, else ``retry-after``, in any form. Keys: lower case."""
    milliseconds = number(headers.get("retry-after-ms", ""))
    if milliseconds is not None and (seconds := sensible(milliseconds / 1000)) is not None:
        return seconds
    return seconds_until(headers.get("retry-after", ""), now=server_time(headers, now=now))


def server_time(headers: Mapping[str, str], *, now: float) -> float:
    """UTC seconds by the server's own clock, as far as its ``date`` tells; it has whole seconds only."""
    said = instant(headers.get("date", ""))
    return now if said is None or abs(said + 0.5 - now) < _SAME_CLOCK else said


def _window(
    key: _Key, fields: Mapping[str, str], now: float, default: float | None, *, full_is_silent: bool
) -> Window | None:
    dimension, period, scope = key
    limit, remaining = _count(fields.get("limit", "")), _count(fields.get("remaining", ""))
    if limit is not None and limit < 0:  # Azure's -1/-1/0 means: not known
        return None
    if limit is None and remaining is not None and remaining < 0:
        return None
    reset = seconds_until(fields["reset"], now=now) if "reset" in fields else None
    if limit is None and remaining is None and reset is None:
        return None
    if reset is None and full_is_silent and limit is not None and remaining == limit:
        reset = 0.0
    renewal = number(fields.get("renewalperiod", ""))
    if renewal is not None and renewal > 0:
        period = sensible(renewal)
    rate = number(fields.get("rate", ""))
    if limit and rate is not None and rate > 0:  # so long a bucket takes to fill
        period = sensible(limit / rate)
    return Window(
        dimension=dimension,
        limit=limit,
        remaining=remaining,
        reset_after=reset,
        period=default if period is None else period,
        scope=scope,
        instant=is_instant(fields.get("reset", "")),
        coarse=is_coarse(fields.get("reset", "")),
        ago=_ago(fields.get("reset", ""), now) if reset == 0 else 0.0,
    )


def _ago(text: str, now: float) -> float:
    """Seconds since a moment that is over; 0 if it is none, or long ago."""
    since = LATE_MOST - (seconds_until(text, now=now - LATE_MOST) or 0.0) if is_instant(text) else 0.0
    return since if 0 < since < LATE_MOST else 0.0


def _charged(headers: Mapping[str, str]) -> float | None:
    return next((cost for name in _CHARGED if (cost := _count(headers.get(name, ""))) is not None), None)


def _count(text: str) -> float | None:
    value = number(text)
    return None if value is None or abs(value) > _COUNT_MAX else value
