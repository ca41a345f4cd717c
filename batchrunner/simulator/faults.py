"""What may go wrong on purpose: each fault with its share of the requests, or asked for by a prompt.

A share is drawn from the body and the number of its send, never from the order of arrival, so a run with the same seed
meets the same faults however its requests interleave. A prompt that holds ``[[fault:500]]`` gets that fault every time,
``[[fault:500x2]]`` the first two times it is let in.
"""

import re
from dataclasses import dataclass
from enum import StrEnum

from batchrunner.errors import ConfigError

SLOW = 10.0  # seconds over which a slow body trickles in, where the spec does not say


class Fault(StrEnum):
    """What goes wrong."""

    SERVER_ERROR = "500"
    UNAVAILABLE = "503"
    BAD_REQUEST = "400"
    UNAUTHORIZED = "401"
    DROP = "drop"  # computed and charged, then the connection closes before the first byte
    RESET = "reset_mid"  # computed and charged, then the connection is reset in the middle of the body
    HANG = "hang"  # no answer until the client gives up
    HTML = "html"  # 200 with a web page
    SLOW = "slow"  # a good answer, a few bytes at a time
    EMPTY = "empty"  # 200 with choices: null
    # of streams only; what is no stream goes well
    CUT = "cut"  # it ends in the middle, as if that were its end
    ERROR_MID = "error_mid"  # an error in the middle, and nothing after it
    NO_DONE = "no_done"  # a good answer, but for the [DONE]
    COMMENTS = "comments"  # a good answer with a keep-alive comment before each chunk
    CRLF = "crlf"  # a good answer whose lines end like that

    @property
    def status(self) -> int | None:
        """The error status this fault is; None where the answer was computed and charged like any other."""
        return int(self.value) if self.value.isdigit() else None

    @property
    def spares_answer(self) -> bool:
        """Whether the whole answer still arrives."""
        return self in _SPARING

    @property
    def is_of_streams(self) -> bool:
        return self in _OF_STREAMS


_SPARING = frozenset({Fault.SLOW, Fault.NO_DONE, Fault.COMMENTS, Fault.CRLF})
_OF_STREAMS = frozenset({Fault.CUT, Fault.ERROR_MID, Fault.NO_DONE, Fault.COMMENTS, Fault.CRLF})
_NAMES = {fault.value: fault for fault in Fault} | {"truncated": Fault.RESET}
_ASKED = re.compile(rb"\[\[fault:(?P<name>[a-z_]+|\d+)(?:x(?P<times>\d{1,9}))?\]\]")
_KNOWN = ", ".join(_NAMES)


@dataclass(frozen=True, slots=True, kw_only=True)
class Faults:
    """Faults and their shares. ``slow_for``: seconds a slow body takes."""

    shares: tuple[tuple[Fault, float], ...] = ()
    slow_for: float = SLOW

    def __bool__(self) -> bool:
        return bool(self.shares)

    def draw(self, chance: float) -> Fault | None:
        """The fault at *chance*, a number from 0 to 1; None = all goes well."""
        edge = 0.0
        for fault, share in self.shares:
            edge += share
            if chance < edge:
                return fault
        return None


@dataclass(frozen=True, slots=True)
class AskedFault:
    """A fault a prompt asked for. ``times`` None = always."""

    fault: Fault
    times: int | None


def asked_fault(body: bytes) -> AskedFault | None:
    """The fault that *body* asks for. Raises ConfigError if there is none of that name."""
    found = _ASKED.search(body) if b"[[fault:" in body else None
    if found is None:
        return None
    times = found["times"]
    return AskedFault(_fault(found["name"].decode()), None if times is None else int(times))


def parse_faults(spec: str) -> Faults:
    """Read ``500:0.01,drop:0.005,slow:0.01:20`` (the last: over 20 seconds). Raises ConfigError."""
    shares: dict[Fault, float] = {}
    slow_for = SLOW
    for part in filter(None, (part.strip() for part in spec.split(","))):
        name, *numbers = part.split(":")
        fault = _fault(name)
        values = [_number(number, part) for number in numbers]
        if fault in shares:
            raise ConfigError(f"the fault {name!r} is named twice in {spec!r}")
        match values:
            case [share]:
                shares[fault] = share
            case [share, seconds] if fault is Fault.SLOW:
                shares[fault], slow_for = share, seconds
            case _:
                raise ConfigError(f"the fault {part!r} should look like NAME:SHARE, for example 500:0.01")
    if any(share > 1 for share in shares.values()) or sum(shares.values()) > 1 + 1e-9:
        raise ConfigError(f"the shares in {spec!r} add up to more than 1; 0.01 is one request in a hundred")
    return Faults(shares=tuple(shares.items()), slow_for=slow_for)


def _fault(name: str) -> Fault:
    fault = _NAMES.get(name)
    if fault is None:
        raise ConfigError(f"there is no fault {name!r}; there are {_KNOWN}")
    return fault


def _number(text: str, part: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise ConfigError(f"the fault {part!r}: {text!r} is no share; 0.01 is one request in a hundred")
    return value
