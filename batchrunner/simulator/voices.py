"""How a provider speaks, for ``simulator --as NAME``: how it tells of limits, its refusals and errors as they look.

A voice is one file in ``voices/``, for each file in ``providers/``. It stands on a dialect (dialects.toml), or on
another voice (``extends``), and says for itself what differs. ``source`` tells where its words come from. What is not
documented of a provider is said in the words of the voice it extends, mostly ``generic``.

A prompt that holds ``[[error:auth]]`` gets that provider's error of this class, every time. The classes are those of
task.FailureClass; what a provider has no word for, it can't be made to say.
"""

import json
import re
import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import msgspec

from batchrunner.errors import ConfigError
from batchrunner.simulator.config import DialectName
from batchrunner.simulator.dialects import Dialect, Manner, manner_tables
from batchrunner.task import FailureClass

FOLDER = Path(__file__).with_name("voices")
UNNAMED = "x"  # the model of an error that no request asked for
_ASKED = re.compile(rb"\[\[error:([a-z_]+)\]\]")
_PARTS = ("headers", "silent", "refusals", "stream")  # what a voice may say otherwise than its dialect


@dataclass(frozen=True, slots=True, kw_only=True)
class Voice:
    """``errors``: status and body by class; ``shape``: a body for words of the simulator's own.

    ``<model>`` and ``<message>`` in them are filled.
    """

    name: str
    source: str
    extends: str | None
    dialect: Dialect
    errors: dict[FailureClass, tuple[int, str]]
    shape: str
    key_header: str

    def asked(self, body: bytes, model: str) -> tuple[int, bytes] | None:
        """The error that a request asks for. Raises ConfigError if this provider has no such error."""
        found = _ASKED.search(body) if b"[[error:" in body else None
        if found is None:
            return None
        name = found[1].decode()
        error = self.error(FailureClass(name), model) if name in list(FailureClass) else None
        if error is None:
            raise ConfigError(f"{self.name} has no error of class {name!r}; there are {', '.join(self.errors)}")
        return error

    def error(self, kind: FailureClass, model: str = UNNAMED) -> tuple[int, bytes] | None:
        """Its error of this class; None if it has none."""
        if kind not in self.errors:
            return None
        status, body = self.errors[kind]
        return status, _filled(body, model=model)

    def say(self, message: str) -> bytes:
        """*message* as an error of its shape."""
        return _filled(self.shape, message=message)


class _Table(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A voice's file, with what it extends in it."""

    source: str
    shape: str
    errors: dict[FailureClass, tuple[int, str]]
    dialect: DialectName
    headers: Any = None
    silent: Any = None
    refusals: Any = None
    stream: Any = None
    key_header: str = "authorization"


def voice_names() -> tuple[str, ...]:
    return tuple(sorted(path.stem for path in FOLDER.glob("*.toml")))


@cache
def voice_of(name: str) -> Voice:
    """Raises ConfigError for a provider that can't be played."""
    if name not in voice_names():
        raise ConfigError(f"{name!r} can't be played; there are {', '.join(voice_names())}")
    written = _written(name)
    base = written.pop("extends", None)
    table = msgspec.convert(_joined(base, written), _Table)
    return Voice(
        name=name,
        source=table.source,
        extends=base,
        dialect=_dialect(table),
        errors=table.errors,
        shape=table.shape,
        key_header=table.key_header,
    )


def _written(name: str) -> dict[str, Any]:
    return tomllib.loads((FOLDER / f"{name}.toml").read_text(encoding="utf-8"))


def _joined(base: str | None, own: dict[str, Any]) -> dict[str, Any]:
    """What a voice says over what the one it extends says: errors and refusals one by one, the rest as a whole."""
    if base is None:
        return own
    told = _written(base)
    known = _joined(told.pop("extends", None), told)
    errors = {**known.get("errors", {}), **own.get("errors", {})}
    refusals = {**known.get("refusals", {}), **own.get("refusals", {})}
    return {**known, **own, "errors": errors, "refusals": refusals}


def _dialect(table: _Table) -> Dialect:
    known = manner_tables()[table.dialect]
    own = {part: said for part in _PARTS if (said := getattr(table, part)) is not None}
    refusals = {**known["refusals"], **own.get("refusals", {})}
    return Dialect(msgspec.convert({**known, **own, "refusals": refusals}, Manner))


def _filled(body: str, **words: str) -> bytes:
    for name, word in words.items():
        body = body.replace(f"<{name}>", json.dumps(word, ensure_ascii=False)[1:-1])
    return body.encode()
