"""What was spent, in words and for programs. What is not known is left out or said to be so; it is never shown as 0."""

from collections.abc import Sequence
from typing import Any

from batchrunner.money import BILLION, money_text
from batchrunner.record import Spending


def cost_text(spending: Sequence[Spending]) -> str:
    """Of a job, over all its runs: ``¥3.88 of ¥5.00 (+ at most ¥0.002 possibly charged)``; empty: nothing is known."""
    return " and ".join(words for one in spending if (words := _words(one)))


def cost_json(spending: Sequence[Spending]) -> dict[str, Any] | None:
    """Of the currency that was paid in last; ``others``: the same of each other one, for they can't be added up.

    Fields may be added, never changed. null: nothing was sent that costs; ``spent`` null: not known.
    """
    each = [_json(one) for one in spending if one.spent is not None or one.unsettled or one.unknown]
    return {**each[-1], "others": each[:-1]} if each else None


def in_units(nanos: int | None) -> float | None:
    """Of a currency, for programs."""
    return None if nanos is None else nanos / BILLION


def _json(one: Spending) -> dict[str, Any]:
    return {
        "currency": one.currency,
        "spent": in_units(one.spent),
        "possibly_charged": in_units(one.unsettled),
        "sends_of_unknown_cost": one.unknown,
        "budget": in_units(one.limit),
    }


def _words(one: Spending) -> str:
    if one.spent is None and not one.unsettled:
        return ""
    total = money_text(one.spent or 0, one.currency)
    if one.limit is not None:
        total += f" of {money_text(one.limit, one.currency)}"
    more = [f"at most {money_text(one.unsettled, one.currency)} possibly charged"] if one.unsettled else []
    if one.unknown:
        more.append(f"{one.unknown:,} {'send' if one.unknown == 1 else 'sends'} of unknown cost")
    return f"{total} (+ {', '.join(more)})" if more else total
