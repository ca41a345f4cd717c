"""What the user hears when a lane rests, or is closed while the run goes on; and what of that is written down."""

from collections.abc import Iterable
from math import inf

from batchrunner.record import Change
from batchrunner.report.numbers import clock, duration, instant
from batchrunner.retry import Stop

SAFE = "(Ctrl-C is safe; --no-wait would stop)"
LANE = "lane"  # what such a change is about; "NAME: lane" where there are several
OPEN = "open"


def rest_word(stop: Stop, rest: float, now: float, *, lane: str = "") -> str:
    """One sentence. *rest*: seconds, infinite = for good; *lane*: its name, where there are several."""
    why = f"{stop.reason.kind}: {stop.reason.message}"
    if rest == inf:
        return f"{lane} takes nothing more: {why}"
    if stop.asked is None:
        asks = f"nothing says when there will be more, so one request asks after {duration(rest)}, then every hour"
        return f"{lane} rests, {asks}: {why}" if lane else f"waiting: {asks} {SAFE}: {why}"
    if lane:
        return f"{lane} rests for {duration(rest)}: {why}"
    return f"waiting for {duration(rest)}, until {clock(now + rest)} {SAFE}: {why}"


def standing(until: float) -> str:
    """How a lane that takes nothing until then stands, in a word for the database."""
    return "closed" if until == inf else f"rests until {instant(until)}"


def not_open(changes: Iterable[Change]) -> list[Change]:
    """Of a run's changes, oldest first: the last word of each lane that is not open."""
    newest = {change.what: change for change in changes if change.what.endswith(LANE)}
    return [change for change in newest.values() if change.new != OPEN]


def lane_of(change: Change) -> str | None:
    """Its name; None where there is one only."""
    return change.what.removesuffix(LANE).removesuffix(": ") or None
