"""What the attempts of a job add up to: sends, tokens, seconds and money."""

from collections.abc import Sequence

from sqlalchemy import Connection

from batchrunner.record import LaneTotals, Spending, Totals
from batchrunner.task import Usage

NEWEST = 10_000  # attempts that percentiles look at

_TOTALS = """
    SELECT count(*), coalesce(sum(status = 429), 0), coalesce(sum(possibly_charged), 0),
           coalesce(sum(prompt_tokens), 0), coalesce(sum(completion_tokens), 0), coalesce(sum(cached_tokens), 0),
           coalesce(sum(reasoning_tokens), 0)
    FROM attempt WHERE run_id IN (SELECT id FROM run WHERE job_id = ?) AND outcome IS NOT 'released'
"""
_LANES = "SELECT DISTINCT lane FROM attempt WHERE run_id IN (SELECT id FROM run WHERE job_id = ?) ORDER BY lane"
_LANE = """
    SELECT count(*), coalesce(sum(outcome = 'success'), 0), coalesce(sum(status = 429), 0),
           coalesce(sum(possibly_charged), 0), coalesce(sum(prompt_tokens), 0), coalesce(sum(completion_tokens), 0),
           coalesce(sum(cached_tokens), 0), coalesce(sum(reasoning_tokens), 0), sum(spent)
    FROM attempt WHERE run_id IN (SELECT id FROM run WHERE job_id = ?) AND outcome IS NOT 'released' AND lane = ?
"""
_LATENCIES = """
    SELECT finished_at - sent_at AS latency, first_token_at - sent_at
    FROM (SELECT outcome, sent_at, finished_at, first_token_at FROM attempt
          WHERE run_id IN (SELECT id FROM run WHERE job_id = ?) ORDER BY id DESC LIMIT ?)
    WHERE outcome = 'success' AND sent_at IS NOT NULL ORDER BY latency
"""
_SPAN = """
    SELECT min(started_at), (SELECT ended_at FROM run WHERE job_id = ?1 ORDER BY id DESC LIMIT 1)
    FROM run WHERE job_id = ?1
"""
_CURRENCIES = "SELECT currency FROM run WHERE job_id = ? GROUP BY currency ORDER BY max(id)"
_SPENDING = """
    SELECT sum(spent), coalesce(sum(reserved) FILTER (WHERE spent IS NULL), 0),
           count(*) FILTER (WHERE spent IS NULL AND reserved IS NULL
                                  AND (outcome IS NULL OR outcome = 'success' OR possibly_charged)),
           count(*)
    FROM attempt WHERE run_id IN (SELECT id FROM run WHERE job_id = ? AND currency IS ?) AND (outcome IS NOT NULL OR ?)
"""


def totals(connection: Connection, job_id: int) -> Totals:
    """Sums over every attempt of the job."""
    sums = connection.exec_driver_sql(_TOTALS, (job_id,)).one()
    timed = connection.exec_driver_sql(_LATENCIES, (job_id, NEWEST)).all()
    started_at, ended_at = connection.exec_driver_sql(_SPAN, (job_id,)).one()
    latencies = [row[0] for row in timed]
    return Totals(
        sends=sums[0],
        refused=sums[1],
        possibly_charged=sums[2],
        usage=usage_of(sums[3:7]),
        p50=_percentile(latencies, 50),
        p95=_percentile(latencies, 95),
        first_token_p50=_percentile(sorted(row[1] for row in timed if row[1] is not None), 50),
        started_at=started_at,
        ended_at=ended_at,
        spending=spending(connection, job_id),
    )


def lane_totals(connection: Connection, job_id: int) -> tuple[LaneTotals, ...]:
    """Sums over the attempts of each lane; empty where there was one only, for then the totals say it all."""
    names = [row[0] for row in connection.exec_driver_sql(_LANES, (job_id,)).all()]
    if len(names) < 2:  # noqa: PLR2004  (as said)
        return ()
    return tuple(
        LaneTotals(
            lane=name,
            sends=row[0],
            answered=row[1],
            refused=row[2],
            possibly_charged=row[3],
            usage=usage_of(row[4:8]),
            spent=row[8],
        )
        for name in names
        if name is not None
        for row in connection.exec_driver_sql(_LANE, (job_id, name)).all()
    )


def spending(connection: Connection, job_id: int, *, in_flight: bool = False) -> tuple[Spending, ...]:
    """What the job's sends cost, for each currency its runs were billed in, the newest last.

    *in_flight*: what was sent and has no end yet is counted too, as possibly charged.
    """
    found = []
    for (currency,) in connection.exec_driver_sql(_CURRENCIES, (job_id,)).all():
        spent, unsettled, unknown, sends = connection.exec_driver_sql(_SPENDING, (job_id, currency, in_flight)).one()
        if sends:
            found.append(Spending(currency=currency, spent=spent, unsettled=unsettled, unknown=unknown))
    return tuple(found)


def _percentile(ordered: Sequence[float], percent: int) -> float | None:
    """The nearest-rank percentile: a value that did occur."""
    return ordered[-(-len(ordered) * percent // 100) - 1] if ordered else None


def usage_of(cells: Sequence[int | None]) -> Usage:
    prompt, completion, cached, reasoning = (cell or 0 for cell in cells)
    return Usage(prompt_tokens=prompt, completion_tokens=completion, cached_tokens=cached, reasoning_tokens=reasoning)
