"""What the user hears when a lane rests, or is closed while the run goes on."""

from math import inf

from batchrunner.report.numbers import clock, duration
from batchrunner.retry import Stop

SAFE = "(Ctrl-C is safe; --no-wait would stop)"


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
