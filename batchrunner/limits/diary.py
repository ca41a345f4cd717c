"""What changed in what the limiter believes, and why; kept until it is asked for."""

from batchrunner.record import Change

NEAR = 0.1  # numbers that differ by less are the same belief, so that a slow creep is no news


class Diary:
    """Told of every belief as it stands; keeps those that are news."""

    def __init__(self) -> None:
        self._known: dict[str, float | str] = {}
        self._changes: list[Change] = []

    def note(self, what: str, value: float | str, at: float, evidence: str) -> None:
        old = self._known.get(what)
        if old == value or (isinstance(old, float) and isinstance(value, float) and _near(old, value)):
            return
        self._known[what] = value
        self._changes.append(Change(at=at, what=what, old=_text(old), new=_text(value), evidence=evidence))

    def take(self) -> list[Change]:
        """The changes since this was last asked."""
        changes, self._changes = self._changes, []
        return changes


def _near(one: float, other: float) -> bool:
    return abs(one - other) <= NEAR * max(abs(one), abs(other))


def _text(value: float | str | None) -> str:
    return "" if value is None else value if isinstance(value, str) else f"{value:g}"
