"""What was learned of windows as JSON for the database, and read again; on start it is a belief, not a fact."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf
from typing import Any

from batchrunner.limits.algorithm import Algorithm
from batchrunner.limits.charging import When
from batchrunner.limits.found import Found
from batchrunner.limits.meter import Meter
from batchrunner.limits.stated import Stated
from batchrunner.quota import Dimension


@dataclass(frozen=True, slots=True, kw_only=True)
class Remembered:
    """What an earlier run learned of one window: *limit* permits in *period* seconds.

    ``charged``: when a request's tokens were, None = not known; ``at_once``: so many of a burst passed.
    """

    dimension: Dimension
    kind: str
    limit: float
    period: float
    algorithm: Algorithm
    charged: When | None
    at_once: float


def watched(dimension: Dimension, kind: str, watch: Meter | Stated) -> dict[str, Any]:
    """Of a window that was told or stated."""
    rule = watch.rule if isinstance(watch, Meter) else None
    return {
        "dimension": dimension,
        "kind": kind,
        "limit": watch.limit,
        "period": watch.period,
        "algorithm": watch.algorithm,
        "remaining": round(watch.remaining, 1),
        "reserve": round(watch.reserve, 1),
        **({} if rule is None else {"charge": round(rule.factor, 3), "charged": rule.when}),
        "replies": watch.replies,
        "refusals": watch.refusals,
    }


def found(dimension: Dimension, limit: Found) -> dict[str, Any]:
    """Of a limit that was found from refusals."""
    return {
        "dimension": dimension,
        "kind": "found",
        "limit": limit.limit,
        "period": limit.period,
        "algorithm": limit.algorithm,
        **({} if limit.at_once == inf else {"at_once": limit.at_once}),
        "evidence": limit.evidence,
    }


def remembered(seen: Mapping[str, Any]) -> Remembered:
    """Read one of them. Raises KeyError, TypeError or ValueError for what is none."""
    limit, period, charged = float(seen["limit"]), float(seen["period"]), seen.get("charged")
    if not (0 < limit < inf and 0 < period < inf):
        raise ValueError(f"a limit of {limit} in {period} s is none")
    return Remembered(
        dimension=Dimension(seen["dimension"]),
        kind=str(seen["kind"]),
        limit=limit,
        period=period,
        algorithm=Algorithm(seen["algorithm"]),
        charged=None if charged is None else When(charged),
        at_once=float(seen.get("at_once", inf)),
    )
