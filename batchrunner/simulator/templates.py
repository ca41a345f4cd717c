"""Texts with ``<fields>``, as headers and refusals are written in TOML: where a limit stands, in each provider's units.

``Rate limit reached: Limit <limit>, Used <used>. Please try again in <go>.`` A word in brackets that is no field stays
as it is. Pure.
"""

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from math import ceil, floor
from typing import NamedTuple

_UNITS = {1.0: "second", 60.0: "minute", 3600.0: "hour", 86400.0: "day"}
_MINUTE, _DAY = 60.0, 86400.0
_BETWEEN = "\n"  # stands in no header


class Place(NamedTuple):
    """Where a limit stands: counts of a window, and ``seconds`` to its reset or until a refused request passes."""

    limit: int
    remaining: int
    seconds: float
    window: float
    utc: float
    requested: int = 0
    bound: str = ""


def go_duration(seconds: float) -> str:
    """*seconds* as Go prints them, cut to milliseconds: ``0s``, ``120ms``, ``1.606s``, ``6m0s``, ``1h9m7.077s``."""
    milliseconds = int(seconds * 1000 + 1e-6)
    if milliseconds <= 0:
        return "0s"
    if milliseconds < 1000:  # noqa: PLR2004  (a second)
        return f"{milliseconds}ms"
    minutes, rest = divmod(milliseconds, 60_000)
    tail = f"{rest // 1000}.{rest % 1000:03}".rstrip("0").rstrip(".") + "s"
    if not minutes:
        return tail
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes}m{tail}" if hours else f"{minutes}m{tail}"


def up(number: float) -> int:
    """Whole units, rounded up, but not for float noise."""
    return ceil(number - 1e-6)


def unit(window: float) -> str:
    """A window by the name it has in headers and prose: ``minute``, ``5-minute``, ``10-second``."""
    if window in _UNITS:
        return _UNITS[window]
    return f"{window / _MINUTE:g}-minute" if window % _MINUTE == 0 else f"{window:g}-second"


def _at(place: Place, style: str) -> str:
    return datetime.fromtimestamp(up(place.utc + place.seconds), UTC).strftime(style)


def _a_day(place: Place) -> int:
    """What a bucket holds that has a day for its window and refills as fast as this one: it lacks the same."""
    return round(place.limit * _DAY / place.window)


FIELDS: Mapping[str, Callable[[Place], str]] = {
    "limit": lambda place: str(place.limit),
    "remaining": lambda place: str(place.remaining),
    "used": lambda place: str(place.limit - place.remaining),
    "requested": lambda place: str(place.requested),
    "needed": lambda place: str(place.limit - place.remaining + place.requested),
    "bound": lambda place: place.bound,
    "limit_a_second": lambda place: repr(place.limit / place.window).removesuffix(".0"),
    "limit_a_day": lambda place: str(_a_day(place)),
    "remaining_a_day": lambda place: str(_a_day(place) - place.limit + place.remaining),
    "window": lambda place: f"{place.window:g}",
    "unit": lambda place: unit(place.window),
    "Unit": lambda place: unit(place.window).capitalize(),
    "go": lambda place: go_duration(place.seconds),
    "seconds": lambda place: str(up(place.seconds)),
    "seconds_cut": lambda place: str(floor(place.seconds)),
    "seconds_unless_full": lambda place: f"{up(place.seconds)}s" if place.remaining < place.limit else "",
    "milliseconds": lambda place: str(up(place.seconds * 1000)),
    "decimal": lambda place: f"{place.seconds:.9f}".rstrip("0").rstrip("."),
    "instant": lambda place: _at(place, "%Y-%m-%dT%H:%M:%SZ"),
    "moment": lambda place: _at(place, "%Y-%m-%d %H:%M:%S UTC"),
    "epoch": lambda place: str(up(place.utc + place.seconds)),
    "epoch_milliseconds": lambda place: str(up((place.utc + place.seconds) * 1000)),
}
_FIELD = re.compile("<(" + "|".join(FIELDS) + ")>")


class Template:
    """A text to fill, cut up once."""

    __slots__ = ("_fields", "_text")

    def __init__(self, text: str) -> None:
        self._fields = tuple(FIELDS[name] for name in _FIELD.findall(text))
        self._text = _FIELD.sub("%s", text.replace("%", "%%")) if self._fields else text

    def fill(self, place: Place) -> str:
        return self._text % tuple(field(place) for field in self._fields) if self._fields else self._text


class HeaderTemplates:
    """Names and values to fill, as one text each, for every reply has them. What comes to nothing is not sent."""

    __slots__ = ("_keys", "_names", "_values")

    def __init__(self, headers: Mapping[str, str]) -> None:
        self._keys = _BETWEEN.join(headers)
        self._names = Template(self._keys)
        self._values = Template(_BETWEEN.join(headers.values()))

    def __bool__(self) -> bool:
        return bool(self._keys)

    def fill(self, place: Place) -> dict[str, str]:
        names, values = self._names.fill(place).split(_BETWEEN), self._values.fill(place).split(_BETWEEN)
        told = dict(zip(names, values, strict=True))
        return told if all(values) else {name: value for name, value in told.items() if value}
