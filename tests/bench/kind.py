"""A row of kinds.py: a server put together from parts, how much is sent to it, and what must be achieved there."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from random import Random
from typing import Any

from cases import Target
from composed import LIMITED, Composed, Quota, Tokens, nothing, usual
from cores import Bucket, Core, Fixed, Sliding
from laboratory import COST
from strange_servers import Headers
from telling import Reset, Tell

TOLD = Target(efficiency=0.95, refused=0.005)
SILENT = Target(efficiency=0.90, refused=0.02)
SHARED = Target(efficiency=0.90, refused=0.01)
CORES: dict[str, type[Bucket | Fixed | Sliding]] = {"sliding": Sliding, "fixed": Fixed, "bucket": Bucket}
PLAIN = b"Too Many Requests"
HTML503 = b"<html>\r\n<head><title>503 Service Temporarily Unavailable</title></head>\r\n<body></body>\r\n</html>\r\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """``make``: a fresh server. ``target``: None = for information. ``reckoned``: tokens that we reckon with."""

    name: str
    make: Callable[[], Composed]
    tasks: int
    target: Target | None
    tokens: Callable[[Random], Tokens] = usual
    reckoned: float = COST


def row(name: str, make: Callable[[], Composed], tasks: int, *, target: Target | None, **options: Any) -> Kind:
    """Each file of rows has a target of its own."""
    return Kind(name=name, make=make, tasks=tasks, target=target, **options)


def telling(core: Core, *tells: Tell, asks: Callable[[float], Headers] = nothing, body: bytes = LIMITED) -> Composed:
    """One count of requests, and what is told of it."""
    return Composed(quotas=[Quota(core)], tells=tells, asks=asks, body=body)


def soonest(name: str) -> Reset:
    """A log tells when one more will be there, the others when all will."""
    return "next" if name == "sliding" else "full"


def named(kinds: Iterable[Kind]) -> dict[str, Kind]:
    """By their names, each once."""
    found: dict[str, Kind] = {}
    for kind in kinds:
        assert kind.name not in found, kind.name
        found[kind.name] = kind
    return found
