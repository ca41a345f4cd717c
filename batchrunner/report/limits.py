"""What is believed of a provider's limits and why, as a table for a person and as JSON."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import tzinfo
from math import isfinite
from typing import Any

from batchrunner.record import Belief, Change
from batchrunner.report.cells import pad, width
from batchrunner.report.clean import clean
from batchrunner.report.numbers import clock, duration

NOTHING = "-"
HEADINGS = ("limit", "how", "clock", "window", "limit", "left", "held back", "charged", "evidence")
CHARGED = {
    "at admission": "{} reckoned",
    "settled by the answer": "{} reckoned, then as used",
    "with the answer": "as used",
}


def limits_text(
    beliefs: Sequence[Belief],
    changes: Sequence[Change],
    now: float,
    *,
    ascii_only: bool = False,
    zone: tzinfo | None = None,
) -> str:
    """A paragraph for each endpoint, key and model, then the changes."""
    paragraphs = ["\n".join(_belief(belief, now, zone)) for belief in beliefs]
    if changes:
        paragraphs.append("\n".join(["changes", *_changes(changes, zone)]))
    text = "\n\n".join(paragraphs) or "nothing was learned of any limit yet"
    return clean_ascii(text) if ascii_only else text


def clean_ascii(text: str) -> str:
    """For terminals that know no more."""
    return text.replace("·", ",").replace("→", "->").encode("ascii", "replace").decode()


def limits_json(beliefs: Sequence[Belief], changes: Sequence[Change]) -> dict[str, Any]:
    """The same, for programs. Fields may be added, never changed."""
    return {
        "limits": [
            {"endpoint": b.endpoint, "key": b.key_label, "model": b.model, "at": b.at, **b.value} for b in beliefs
        ],
        "changes": [{"at": c.at, "what": c.what, "old": c.old, "new": c.new, "evidence": c.evidence} for c in changes],
    }


def _belief(belief: Belief, now: float, zone: tzinfo | None) -> Iterator[str]:
    value = belief.value
    key = f"key {belief.key_label}" if belief.key_label else "no key"
    seen = f"as of {clock(belief.at, zone, seconds=True)}, {duration(max(now - belief.at, 0.0))} ago"
    yield clean(" · ".join((belief.endpoint, key, belief.model or "any model", seen)))
    rows = [tuple(map(clean, _meter(meter))) for meter in _list(value.get("meters"))]
    if rows:
        yield from _table([HEADINGS, *rows])
    else:
        yield "  no limit was told, stated or hit"
    yield "  " + clean(_slots(value))


def _meter(meter: Mapping[str, Any]) -> tuple[str, ...]:
    kind = str(meter.get("kind", NOTHING))
    evidence = meter.get("evidence") or f"{meter.get('replies', 0)} replies, {meter.get('refusals', 0)} refusals"
    return (
        str(meter.get("dimension", NOTHING)),
        kind,
        str(meter.get("algorithm", NOTHING)),
        _number(meter.get("period"), "s"),
        _number(meter.get("limit")),
        _number(meter.get("remaining")),
        _number(meter.get("reserve")),
        _charged(meter),
        NOTHING if kind == "stated" else str(evidence),
    )


def _charged(meter: Mapping[str, Any]) -> str:
    """What a request is charged, of the tokens that we reckon, and whether its answer changes that."""
    factor, when = meter.get("charge"), meter.get("charged")
    if not isinstance(factor, int | float) or not meter.get("replies"):
        return NOTHING
    return CHARGED.get(str(when), NOTHING).format(f"{factor:.2f} x")


def _slots(value: Mapping[str, Any]) -> str:
    state = value.get("state")
    state = state if isinstance(state, Mapping) else {}
    refused_at = value.get("slots_refused_at")
    refused = "never refused" if refused_at is None else f"last refused at {refused_at}"
    last_minute = f"last minute {_number(state.get('sent_1m'))} sent, {_number(state.get('refused_1m'))} refused"
    return f"in flight up to {value.get('slots', NOTHING)}, {refused}; {last_minute}"


def _changes(changes: Sequence[Change], zone: tzinfo | None) -> Iterator[str]:
    rows = [
        (
            clock(change.at, zone, seconds=True),
            clean(change.what),
            clean(f"{change.old or NOTHING} → {change.new}"),
            clean(change.evidence),
        )
        for change in changes
    ]
    return _table(rows)


def _table(rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    cells = [max(map(width, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  " + "  ".join(pad(cell, size) for cell, size in zip(row, cells, strict=True)).rstrip()


def _number(value: Any, unit: str = "") -> str:
    if not isinstance(value, int | float) or isinstance(value, bool) or not isfinite(value):
        return NOTHING
    return (f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.1f}") + unit  # noqa: PLR2004


def _list(value: Any) -> list[Mapping[str, Any]]:
    return [each for each in value if isinstance(each, Mapping)] if isinstance(value, list) else []
