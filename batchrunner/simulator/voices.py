"""How a provider speaks, for ``simulator --as NAME``: the style of its limit headers, and its errors as they look.

A prompt that holds ``[[error:auth]]`` gets that provider's error of this class, every time. The classes are those of
task.FailureClass; what a provider has no word for, it can't be made to say.
"""

import re
import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import msgspec

from batchrunner.errors import ConfigError
from batchrunner.simulator.config import DialectName
from batchrunner.task import FailureClass

FILE = Path(__file__).with_name("voices.toml")
_ASKED = re.compile(rb"\[\[error:([a-z_]+)\]\]")


@dataclass(frozen=True, slots=True)
class Voice:
    """``errors``: status and body, as JSON text, by class."""

    name: str
    dialect: DialectName
    errors: dict[FailureClass, tuple[int, str]]

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


class _Table(msgspec.Struct, forbid_unknown_fields=True):
    dialect: DialectName
    errors: dict[FailureClass, tuple[int, str]]


@cache
def voices() -> dict[str, Voice]:
    """By the provider's name."""
    tables = msgspec.convert(tomllib.loads(FILE.read_text(encoding="utf-8")), dict[str, _Table])
    return {name: Voice(name, table.dialect, table.errors) for name, table in tables.items()}


def voice_of(name: str) -> Voice:
    """Raises ConfigError for a provider that can't be played."""
    if name not in voices():
        raise ConfigError(f"{name!r} can't be played; there are {', '.join(voices())}")
    return voices()[name]
