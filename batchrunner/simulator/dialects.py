"""How a provider tells of its limits: the state after admission, or a refusal, as headers and an error body.

The ways that ``--dialect`` names stand in dialects.toml; a provider's own stands in its voice, see voices.py.
"""

import tomllib
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Any, Literal, get_args

import msgspec

from batchrunner.simulator.config import DialectName
from batchrunner.simulator.gate import Levels
from batchrunner.simulator.rules import Refusal, State
from batchrunner.simulator.templates import HeaderTemplates, Place, Template, up
from batchrunner.task import FailureClass

FILE = Path(__file__).with_name("dialects.toml")
Headers = dict[str, str]
Occasion = Literal["requests", "tokens", "concurrency", "too_large", "any"]
_NOWHERE = Levels(None, None)


class StreamManner(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a stream is told: where its usage stands, whether ``[DONE]`` ends it, and what stands before the events.

    ``usage``: in a chunk of its own where it is asked for ("asked") or always ("own"), in the last chunk that has
    choices ("last"), in every chunk ("each").
    """

    usage: Literal["asked", "own", "last", "each"] = "asked"
    done: bool = True
    crlf: bool = False
    comment: str = ""


class HeaderTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Headers of a reply, by what they tell of. ``first``: of requests, or of tokens where only those are limited."""

    requests: dict[str, str] = {}
    tokens: dict[str, str] = {}
    first: dict[str, str] = {}
    always: dict[str, str] = {}


class RefusalTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A refusal as it looks, and the class it is meant to be understood as."""

    body: str
    status: int = 429
    headers: dict[str, str] = {}
    kind: FailureClass = msgspec.field(default=FailureClass.RATE_LIMIT, name="class")


class Manner(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A dialect as it is written. ``silent``: where none of its headers are sent."""

    refusals: dict[Occasion, RefusalTable]
    headers: HeaderTable = HeaderTable()
    silent: tuple[Literal["streams", "refusals"], ...] = ()
    stream: StreamManner = StreamManner()


@dataclass(frozen=True, slots=True)
class _Refused:
    table: RefusalTable
    headers: HeaderTemplates
    body: Template


class Dialect:
    """A manner, ready to speak: ``headers`` go with every reply of an endpoint that has limits."""

    def __init__(self, manner: Manner) -> None:
        self.manner = manner
        self._requests = HeaderTemplates(manner.headers.requests)
        self._tokens = HeaderTemplates(manner.headers.tokens)
        self._first = HeaderTemplates(manner.headers.first)
        self._always = HeaderTemplates(manner.headers.always)
        self._refusals = {
            occasion: _Refused(table, HeaderTemplates(table.headers), Template(table.body))
            for occasion, table in manner.refusals.items()
        }

    def headers(self, levels: Levels, *, stream: bool = False) -> Headers:
        """What a reply that was let in tells."""
        if stream and "streams" in self.manner.silent:
            return {}
        told: Headers = {}
        for templates, state in (
            (self._always, levels.requests or levels.tokens),
            (self._first, levels.requests or levels.tokens),
            (self._requests, levels.requests),
            (self._tokens, levels.tokens),
        ):
            if templates and state is not None:
                told |= templates.fill(_stand(state, levels))
        return told

    def refuse(self, refusal: Refusal, levels: Levels = _NOWHERE) -> tuple[Headers, bytes]:
        """The headers and the body of a refusal, beside those that every reply has."""
        place = _wait(refusal, levels)
        refused = self._refused(refusal)
        told = refused.headers.fill(place) if refusal.wait != inf or "too_large" in self._refusals else {}
        return told, refused.body.fill(place).encode()

    def refusal_headers(self, levels: Levels) -> Headers:
        """What a refusal tells of the limits, as every reply does."""
        return {} if "refusals" in self.manner.silent else self.headers(levels)

    def refused_as(self, refusal: Refusal) -> RefusalTable:
        """The status of a refusal, and what it is meant to be."""
        return self._refused(refusal).table

    def _refused(self, refusal: Refusal) -> _Refused:
        names: tuple[Occasion, ...] = (refusal.bound.value, "any")
        if refusal.wait == inf:
            names = ("too_large", *names)
        return next(self._refusals[name] for name in names if name in self._refusals)


def _stand(state: State, levels: Levels) -> Place:
    return Place(
        limit=state.limit,
        remaining=state.remaining,
        seconds=state.reset,
        window=levels.window,
        utc=levels.utc,
    )


def _wait(refusal: Refusal, levels: Levels) -> Place:
    """Where a refused request stands; what it is told to wait is never too short, and never nothing."""
    wait = 0.0 if refusal.wait is None or refusal.wait == inf else refusal.wait
    return Place(
        limit=refusal.limit,
        remaining=refusal.limit - refusal.used,
        seconds=max(1, up(wait * 1000)) / 1000,
        window=levels.window,
        utc=levels.utc,
        requested=refusal.requested,
        bound=refusal.bound,
    )


def manner_tables() -> dict[str, dict[str, Any]]:
    """The dialects as they are written, by name; of one that extends another, that one's."""
    tables = tomllib.loads(FILE.read_text(encoding="utf-8"))
    return {name: tables[table["extends"]] if "extends" in table else table for name, table in tables.items()}


_TABLES = manner_tables()
DIALECTS: dict[DialectName, Dialect] = {
    name: Dialect(msgspec.convert(_TABLES[name], Manner)) for name in get_args(DialectName)
}
