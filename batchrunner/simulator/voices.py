"""How a provider speaks, for ``simulator --as NAME``: the style of its limit headers, and its errors as they look.

A prompt that holds ``[[error:auth]]`` gets that provider's error of this class, every time. The classes are those of
task.FailureClass; what a provider has no word for, it can't be made to say. What its limits refuse, it refuses in its
own words where they are known, with the numbers of that moment.
"""

import re
import tomllib
from dataclasses import dataclass
from functools import cache
from math import ceil, inf
from pathlib import Path

import msgspec

from batchrunner.errors import ConfigError
from batchrunner.simulator.config import DialectName
from batchrunner.simulator.rules import Bound, Refusal
from batchrunner.task import FailureClass

FILE = Path(__file__).with_name("voices.toml")
_ASKED = re.compile(rb"\[\[error:([a-z_]+)\]\]")


@dataclass(frozen=True, slots=True)
class Voice:
    """``errors``: status and body, as JSON text, by class. ``refusals``: the same, by the limit that refused."""

    name: str
    dialect: DialectName
    errors: dict[FailureClass, tuple[int, str]]
    refusals: dict[Bound, tuple[int, str]]

    def asked(self, body: bytes) -> tuple[int, bytes] | None:
        """The error that a request asks for. Raises ConfigError if this provider has no such error."""
        found = _ASKED.search(body) if b"[[error:" in body else None
        if found is None:
            return None
        error = self.errors.get(FailureClass(found[1].decode())) if found[1].decode() in list(FailureClass) else None
        if error is None:
            known = ", ".join(self.errors)
            raise ConfigError(f"{self.name} has no error of class {found[1].decode()!r}; there are {known}")
        return error[0], error[1].encode()

    def refused(self, refusal: Refusal) -> tuple[int, bytes] | None:
        """What it says to a refusal; None if its words are not known, or if the request is larger than the limit."""
        if refusal.wait == inf or refusal.bound not in self.refusals:
            return None
        status, text = self.refusals[refusal.bound]
        seconds = max(1, ceil((refusal.wait or 0) - 1e-6))
        numbers = {"limit": refusal.limit, "used": refusal.used, "requested": refusal.requested, "seconds": seconds}
        for name, number in numbers.items():
            text = text.replace(f"<{name}>", str(number))
        return status, text.encode()


class _Table(msgspec.Struct, forbid_unknown_fields=True):
    """``extends``: who has all that is not said here."""

    extends: str | None = None
    dialect: DialectName | None = None
    errors: dict[FailureClass, tuple[int, str]] = {}
    refusals: dict[Bound, tuple[int, str]] = {}


@cache
def voices() -> dict[str, Voice]:
    """By the provider's name."""
    tables = msgspec.convert(tomllib.loads(FILE.read_text(encoding="utf-8")), dict[str, _Table])
    return {name: _voice(name, tables) for name in tables}


def _voice(name: str, tables: dict[str, _Table]) -> Voice:
    table = tables[name]
    if table.extends is None:
        return Voice(name, table.dialect or "none", table.errors, table.refusals)
    base = _voice(table.extends, tables)
    errors, refusals = base.errors | table.errors, base.refusals | table.refusals
    return Voice(name, table.dialect or base.dialect, errors, refusals)


def voice_of(name: str) -> Voice:
    """Raises ConfigError for a provider that can't be played."""
    if name not in voices():
        raise ConfigError(f"{name!r} can't be played; there are {', '.join(voices())}")
    return voices()[name]
