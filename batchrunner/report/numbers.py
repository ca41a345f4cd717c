"""Numbers and times as people read them."""

from datetime import UTC, datetime, tzinfo
from itertools import pairwise

_UNITS = ((86_400, "d"), (3_600, "h"), (60, "m"), (1, "s"))


def short(number: float) -> str:
    """A count in four or five characters: 196, 76.4k, 200k, 4.12M."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size * 0.9995:
            digits = f"{number / size:.3g}" if unit == "k" else f"{number / size:.2f}"
            return f"{float(digits):g}{unit}"
    return f"{number:.0f}"


def duration(seconds: float) -> str:
    """The two largest units: 41s, 18m43s, 2h41m, 3d04h."""
    left = max(0, round(seconds))
    for (size, unit), (smaller, smaller_unit) in pairwise(_UNITS):
        if left >= size:
            rest = left % size // smaller
            return f"{left // size}{unit}{rest:02d}{smaller_unit}" if rest or unit != "d" else f"{left // size}{unit}"
    return f"{left}s"


def latency(seconds: float | None) -> str:
    """Seconds with one digit where it matters."""
    return "?" if seconds is None else f"{seconds:.1f}s" if seconds < 99.95 else duration(seconds)  # noqa: PLR2004


def percent(part: float, whole: float) -> str:
    """One digit, and never 100.0 before it is all, nor 0.0 before it is nothing."""
    if not whole:
        return "0.0%"
    share = 100 * part / whole
    if 0 < part < whole:
        share = min(max(share, 0.1), 99.9)
    return f"{share:.1f}%"


def clock(at: float, zone: tzinfo | None = None, *, seconds: bool = False) -> str:
    """The time of day in *zone*, which is the machine's own if not given."""
    local = datetime.fromtimestamp(at, UTC).astimezone(zone)
    return f"{local:%H:%M:%S}" if seconds else f"{local:%H:%M}"


def instant(at: float) -> str:
    """An instant for machines."""
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%dT%H:%M:%SZ}"
