"""Limits and waits that stand only in an error's body: its prose, Google's details, OpenRouter's inner headers. Total.

The wordings are providers' own: "Limit 30000, Used 29500, Requested 700. Please try again in 308ms" (OpenAI, Groq),
"organization max RPM: 3", "TPM rate limit, current: 1410, limit: 100" (Moonshot), "(actual/limit): 65605/16000" (xAI),
"limited to 8 requests per minute" (OpenRouter), "Rate limit of 40000 per 60s exceeded for UserByModelByMinuteTokens"
(GitHub), "will reset at 2026-09-12 00:35:41" (GLM, in Beijing time).
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from batchrunner.api.times import DURATION, beijing, number, sensible, span
from batchrunner.quota import Dimension, Window

SEARCHED = 4000  # characters of a message that are read

_PERIODS = {
    **dict.fromkeys(("s", "sec", "second"), 1.0),
    **dict.fromkeys(("m", "min", "minute"), 60.0),
    **dict.fromkeys(("h", "hour"), 3600.0),
    **dict.fromkeys(("d", "day"), 86400.0),
    "week": 86400.0 * 7,
    "month": 86400.0 * 30,
}
_LETTERS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_AMOUNT = r"~?\s*(?P<{}>\d+(?:,\d{{3}})*(?:\.\d+)?)"
_COUNTED = r"(?P<what>(?:input|output|prompt|completion)?\s*tokens?|(?:api )?(?:requests?|calls?|queries)|images?)"
_PER = r"\s*(?:per|/|a)\s*(?P<period>second|sec|minute|min|hour|day|week|month|s|m|h|d)\b"
_LIMIT = rf"limit:?\s*{_AMOUNT.format('limit')}"
_USED = rf"[,;.]\s*(?:used|current):?\s*{_AMOUNT.format('used')}"
_REQUESTED = rf"(?:[,;.]\s*requested:?\s*{_AMOUNT.format('requested')})?"
_LIMIT_USED = re.compile(rf"{_COUNTED}{_PER}[^:.]{{0,60}}[:.]\s*{_LIMIT}(?:\s*/\s*\w+)?(?:{_USED})?{_REQUESTED}")
_NO_PERIOD = re.compile(rf"(?<!concurrent )(?<!parallel )(?<!simultaneous )\b{_COUNTED}:\s*{_LIMIT}{_USED}{_REQUESTED}")
_ACTUAL = re.compile(
    rf"{_COUNTED}{_PER}\s*\(actual/limit\):\s*{_AMOUNT.format('used')}\s*/\s*{_AMOUNT.format('limit')}"
)
_LETTERED = re.compile(rf"\b(?P<kind>[rt])p(?P<letter>[smhd])\b\s*(?:limit)?\s*[:=]\s*{_AMOUNT.format('limit')}")
_CURRENT = re.compile(
    rf"\b(?P<kind>[rt])p(?P<letter>[smh])\b rate limit, current:\s*{_AMOUNT.format('used')},"
    rf"\s*limit:\s*{_AMOUNT.format('limit')}"
)
_FOR_USER = re.compile(
    rf"rate limit of {_AMOUNT.format('limit')} per (?P<span>\d{{1,6}})s exceeded"
    r" for userby(?:modelby)?minute(?P<what>tokens|)"
)
_AT_ONCE = re.compile(
    rf"(?:max(?:imum)?|limit of)\s*(?:concurrency|concurrent requests)\D{{0,4}}{_AMOUNT.format('limit')}"
    r"|(?:max(?:imum)?|limit(?:ed)?)(?: of| to)?\s*(?P<most>\d+)\s*(?:concurrent|parallel|simultaneous)"
)
_PLAIN = re.compile(
    rf"(?:limit(?:ed)?|quota|exceed\w{{0,3}}|allow\w{{0,4}})\b[^.]{{0,60}}?{_AMOUNT.format('limit')}\s*{_COUNTED}{_PER}"
)
_DIMENSIONS = (
    (
        re.compile(
            r"\btp[mhd]\b|tokens?[ -]per[ -](?:minute|min|hour|day)|token (?:rate )?limit|token_quota|allocated quota"
        ),
        Dimension.TOKENS,
    ),
    (
        re.compile(r"\brp[smhd]\b|requests?[ -]per[ -](?:second|minute|min|hour|day)|call rate limit"),
        Dimension.REQUESTS,
    ),
)
_TYPES = {"tokens": Dimension.TOKENS}  # OpenAI's ``error.type``; its "requests" is said of much else
_AGAIN = (
    r"(?:try again|retry|retrying|wait|available)(?: again)?(?: for| in| after|:)?\s*"
    r"(?:at least\s*|about\s*|another\s*)?"
)
_WAIT = re.compile(
    rf"{_AGAIN}(?:(?P<go>{DURATION})(?![a-z\d])"
    r"|(?P<amount>\d+(?:\.\d+)?)\s*(?P<unit>milliseconds?|seconds?|secs?|minutes?|mins?|hours?|days?)\b)"
)
_WAIT_UNITS = {"mil": 1e-3, "sec": 1.0, "min": 60.0, "hou": 3600.0, "day": 86400.0}
_QUOTED_DAY = re.compile(r"quotaid\W{1,6}\w{0,60}perday")  # Google's details as a proxy passes them on: as text
_NONE = re.compile(r"limit: 0(?!\.?\d)")
_RESET = re.compile(r"reset|重置", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What a body says: ``after`` seconds to wait, the windows it names, and which dimension refused, number or not.

    ``daily``: Google's allowance of a day is used up. ``none``: there is no allowance at all ("limit: 0").
    ``inner``: rate-limit headers that came inside the body, lower-case.
    """

    after: float | None
    windows: tuple[Window, ...]
    dimension: Dimension | None
    daily: bool
    none: bool
    inner: Mapping[str, str]


def read_error(error: Mapping[str, Any], message: str, *, now: float) -> Told:
    """What an error object and its *message* say. *now*: UTC seconds by the server's clock."""
    text = " ".join(message[:SEARCHED].split())  # a thousand blanks in a row would be tried in a million ways
    low = text.lower()
    google = _google(error.get("details"))
    windows = tuple(_windows(low))
    after = _first(_reset_at(text, now), _wait(low), google.after, _seconds(error.get("retry_after")))
    return Told(
        after=after,
        windows=windows,
        dimension=windows[0].dimension if windows else _TYPES.get(str(error.get("type"))) or _dimension_word(low),
        daily=google.daily or _QUOTED_DAY.search(low) is not None,
        none=google.failed and _NONE.search(low) is not None,
        inner=_inner(error.get("metadata")),
    )


def _windows(text: str) -> Sequence[Window]:
    """Every limit the text names with its number."""
    for pattern in (_LIMIT_USED, _NO_PERIOD, _ACTUAL, _LETTERED, _CURRENT, _FOR_USER, _AT_ONCE, _PLAIN):
        found = [_window(match.groupdict()) for match in pattern.finditer(text)]
        if windows := [window for window in found if window is not None]:
            return windows
    return ()


def _window(parts: Mapping[str, str | None]) -> Window | None:
    limit = _count(parts.get("limit") or parts.get("most"))
    if limit is None:
        return None
    used, requested = _count(parts.get("used")), _count(parts.get("requested"))
    remaining = None if used is None else max(limit - used, 0.0)
    if used is None and requested is None:
        remaining = 0.0  # it refuses for this limit, so nothing is left of it
    return Window(
        dimension=_dimension(parts),
        limit=limit,
        remaining=remaining,
        period=_period(parts),
        requested=requested,
    )


def _dimension(parts: Mapping[str, str | None]) -> Dimension:
    if (kind := parts.get("kind")) is not None:
        return Dimension.TOKENS if kind == "t" else Dimension.REQUESTS
    what = parts.get("what")
    if what is None:
        return Dimension.IN_FLIGHT
    if "token" in what:
        if "input" in what or "prompt" in what:
            return Dimension.INPUT_TOKENS
        return Dimension.OUTPUT_TOKENS if "output" in what or "completion" in what else Dimension.TOKENS
    return Dimension.INPUT_IMAGES if "image" in what else Dimension.REQUESTS


def _period(parts: Mapping[str, str | None]) -> float | None:
    if (letter := parts.get("letter")) is not None:
        return _LETTERS[letter]
    if (span_told := parts.get("span")) is not None:
        return float(span_told) or None
    return None if (word := parts.get("period")) is None else _PERIODS[word]


def _dimension_word(text: str) -> Dimension | None:
    """The dimension of a limit that is named without its number: "TPM limit reached"."""
    return next((dimension for pattern, dimension in _DIMENSIONS if pattern.search(text)), None)


def _wait(text: str) -> float | None:
    """ "Please try again in 1m2.5s", "Try again in 50 seconds", "Please retry in 1.68s"."""
    match = _WAIT.search(text)
    if match is None:
        return None
    if match["go"] is not None:
        return span(match["go"])
    return sensible(float(match["amount"]) * _WAIT_UNITS[match["unit"][:3]])


def _reset_at(text: str, now: float) -> float | None:
    when = beijing(text) if _RESET.search(text) else None
    return None if when is None else sensible(max(when - now, 0.0))


@dataclass(frozen=True, slots=True)
class _Google:
    after: float | None = None
    daily: bool = False
    failed: bool = False


def _google(details: Any) -> _Google:
    """google.rpc: RetryInfo's delay, whether there is a QuotaFailure, and whether one is of a day."""
    after, daily, failed = None, False, False
    for detail in details if isinstance(details, list) else ():
        if not isinstance(detail, dict):
            continue
        delay = detail.get("retryDelay")
        if isinstance(delay, str) and after is None:
            after = span(delay.strip())
        violations = detail.get("violations")
        for violation in violations if isinstance(violations, list) else ():
            failed = True
            daily = daily or (isinstance(violation, dict) and "PerDay" in str(violation.get("quotaId")))
    return _Google(after, daily, failed)


def _inner(metadata: Any) -> Mapping[str, str]:
    """OpenRouter's ``error.metadata.headers``."""
    headers = metadata.get("headers") if isinstance(metadata, dict) else None
    if not isinstance(headers, dict):
        return {}
    return {str(name).lower(): str(value) for name, value in headers.items() if isinstance(value, str | int | float)}


def _seconds(value: Any) -> float | None:
    """The body's own ``retry_after``: a number, or a number as text."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    seconds = number(str(value))
    return None if seconds is None else sensible(seconds)


def _count(text: str | None) -> float | None:
    return None if text is None else number(text.replace(",", ""))


def _first(*values: float | None) -> float | None:
    return next((value for value in values if value is not None), None)
