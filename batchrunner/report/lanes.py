"""What each lane did, where there are several: a table for a person, and the same for programs."""

from collections.abc import Iterator, Sequence
from typing import Any

from batchrunner.record import LaneTotals
from batchrunner.report.cells import pad, width
from batchrunner.report.clean import clean
from batchrunner.report.numbers import percent, short

BILLION = 1_000_000_000


def lane_table(lanes: Sequence[LaneTotals]) -> Iterator[str]:
    """A line for each; nothing where there is one lane or none. Money only where a price is known."""
    if not lanes:
        return
    headings = ["lane", "sends", "answered", "429s", "tokens in", "out"]
    if any(lane.spent is not None for lane in lanes):
        headings.append("spent")
    rows = [headings, *(_cells(lane)[: len(headings)] for lane in lanes)]
    sizes = [max(map(width, column)) for column in zip(*rows, strict=True)]
    for first, *others in rows:
        numbers = [f"{cell:>{size}}" for cell, size in zip(others, sizes[1:], strict=True)]
        yield "  " + "  ".join([pad(first, sizes[0]), *numbers]).rstrip()


def lanes_json(lanes: Sequence[LaneTotals]) -> list[dict[str, Any]]:
    """Fields may be added, never changed."""
    return [
        {
            "lane": lane.lane,
            "sends": lane.sends,
            "answered": lane.answered,
            "rate_limited": lane.refused,
            "possibly_charged": lane.possibly_charged,
            "tokens": {"in": lane.usage.prompt_tokens, "out": lane.usage.completion_tokens},
            "spent": None if lane.spent is None else lane.spent / BILLION,
        }
        for lane in lanes
    ]


def _cells(lane: LaneTotals) -> list[str]:
    share = f" ({percent(lane.refused, lane.sends)})" if lane.refused else ""
    return [
        clean(lane.lane),
        f"{lane.sends:,}",
        f"{lane.answered:,}",
        f"{lane.refused:,}{share}",
        short(lane.usage.prompt_tokens),
        short(lane.usage.completion_tokens),
        "not known" if lane.spent is None else f"{lane.spent / BILLION:,.4f}",
    ]
