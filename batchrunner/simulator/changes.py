"""Limits that change by themselves while the server runs: which, to what, and how long after the first request."""

from dataclasses import dataclass
from math import isfinite

from batchrunner.errors import ConfigError

_NONE = "none"


@dataclass(frozen=True, slots=True)
class Change:
    """One limit (``rpm``, ``tpm``, ``concurrency``) from ``after`` seconds on; ``value`` None = no such limit."""

    after: float
    name: str
    value: int | None


def parse_changes(spec: str) -> tuple[Change, ...]:
    """Read ``20:rpm=600,60:rpm=none``, in the order of their times. Raises ConfigError."""
    parts = filter(None, (part.strip() for part in spec.split(",")))
    return tuple(sorted(map(_change, parts), key=lambda change: change.after))


def _change(part: str) -> Change:
    after, _, change = part.partition(":")
    name, _, value = change.partition("=")
    try:
        parsed = Change(float(after), name.strip(), None if value.strip() == _NONE else int(value))
    except ValueError as error:
        raise ConfigError(f"the change {part!r} should look like SECONDS:LIMIT=NUMBER, as 20:rpm=600 does") from error
    if not isfinite(parsed.after) or parsed.after < 0:
        raise ConfigError(f"the change {part!r}: a limit changes 0 or more seconds after the first request")
    return parsed
