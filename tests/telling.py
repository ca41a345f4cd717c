"""How rate limiters tell of what they count: headers, as the dialects of servers have them.

Each is given a core and returns what is written at a moment. *reset* is the name of the wait that it tells: until all
of it is there (``full``), or until one more is (``next``). *fields* leaves some out: l(imit), r(emaining), t (reset).
"""

from collections.abc import Callable
from datetime import UTC, datetime
from math import ceil, floor
from typing import Literal

from cores import Core, State
from strange_servers import Headers

Tell = Callable[[float], Headers]
Reset = Literal["full", "next"]
ALL = "lrt"


def openai(core: Core, what: str = "requests", *, reset: Reset = "full", fields: str = ALL) -> Tell:
    """``x-ratelimit-*-requests``, with a reset as ``1m2.5s``."""

    def tell(now: float) -> Headers:
        state = core.state(now)
        return _named(f"x-ratelimit-{{}}-{what}", state, _duration(_until(state, reset)), fields)

    return tell


def github(
    core: Core,
    rounded: Callable[[float], float] = floor,
    *,
    reset: Reset = "full",
    instant: bool = True,
    fields: str = ALL,
    ahead: float = 0.0,
) -> Tell:
    """``X-RateLimit-*``, with a reset in whole seconds: of the epoch, or from now on. *ahead*: so is its clock."""

    def tell(now: float) -> Headers:
        state = core.state(now)
        until = _until(state, reset)
        told = str(int(rounded(now + ahead + until if instant else until)))
        return _named("x-ratelimit-{}", state, told, fields)

    return tell


def draft6(core: Core, *, reset: Reset = "full", burst: bool = False) -> Tell:
    """The IETF's draft 06. *burst*: what is told as the limit is what goes at once."""

    def tell(now: float) -> Headers:
        state = core.state(now)
        return {
            "RateLimit-Limit": str(int(state.burst if burst else state.limit)),
            "RateLimit-Remaining": str(state.remaining),
            "RateLimit-Reset": str(ceil(_until(state, reset))),
        }

    return tell


def draft8(core: Core, *, burst: bool = False) -> Tell:
    """The IETF's draft 08, which names the window as well."""

    def tell(now: float) -> Headers:
        state = core.state(now)
        quota = int(state.burst if burst else state.limit)
        return {
            "RateLimit-Policy": f'"default";q={quota};w={int(core.window)}',
            "RateLimit": f'"default";r={state.remaining};t={ceil(state.full)}',
        }

    return tell


def anthropic(core: Core, what: str) -> Tell:
    """``anthropic-ratelimit-*``, with a reset as an instant of whole seconds."""

    def tell(now: float) -> Headers:
        state = core.state(now)
        reset = datetime.fromtimestamp(ceil(now + state.full), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return _named(f"anthropic-ratelimit-{what}-{{}}", state, reset, ALL)

    return tell


def written(core: Core, headers: Headers) -> Tell:
    """Any other. Values may have ``{limit}``, ``{remaining}``, ``{full}`` (seconds), ``{ends}`` (ms of the epoch)."""

    def tell(now: float) -> Headers:
        state = core.state(now)
        ends = int((now + state.full) * 1000)
        told = {"limit": int(state.limit), "remaining": state.remaining, "full": ceil(state.full), "ends": ends}
        return {name: value.format(**told) for name, value in headers.items()}

    return tell


def half_up(seconds: float) -> int:
    return floor(seconds + 0.5)


def _until(state: State, reset: Reset) -> float:
    return state.full if reset == "full" else state.next


def _named(name: str, state: State, reset: str, fields: str) -> Headers:
    told = {"limit": str(int(state.limit)), "remaining": str(state.remaining), "reset": reset}
    letters = {"l": "limit", "r": "remaining", "t": "reset"}
    return {name.format(letters[letter]): told[letters[letter]] for letter in fields}


def _duration(seconds: float) -> str:
    """As OpenAI writes it: ``350ms``, ``6.5s``, ``1m2s``."""
    milliseconds = int(max(seconds, 0) * 1000)
    if milliseconds < 1000:
        return f"{milliseconds}ms"
    minutes, rest = divmod(milliseconds / 1000, 60)
    return (f"{int(minutes)}m" if minutes else "") + f"{rest:.3f}".rstrip("0").rstrip(".") + "s"
