"""How a run is getting on: as a block of lines, as one line, as an event. Pure: told numbers in, text out.

The rule of the display: never stillness without its reason on the screen. So what limits the speed just now is marked
on its line, or said in the first one.
"""

from dataclasses import dataclass
from datetime import tzinfo
from typing import Any

from batchrunner.money import in_ascii, money_text
from batchrunner.record import Spending
from batchrunner.report.cells import cut, width
from batchrunner.report.clean import clean
from batchrunner.report.cost import cost_text, in_units
from batchrunner.report.numbers import clock, duration, instant, latency, percent, short

ENOUGH_ANSWERS = 20  # before that, a rate is a guess
NARROW = 50  # cells; below, one line is all there is
LABEL = 7  # cells of the word before a bar
WIDEST_BAR = 34
MOMENT = 1.0  # seconds; a shorter wait is not worth a word

NO_SPENDING = Spending()
_GAUGES = ("rpm", "tpm", "slots", "budget")
_NOTHING = ("", "none", "start")
_REASONS = {
    "server": "the server is the limit",
    "allowance": "the allowance is used up",
    "probe": "one at a time until a reply says more",
    "refused": "waiting after a refusal",
    "disk": "the disk is the limit",
    "draining": "finishing what is in flight",
    "pause": "paused",
}
_ASCII = str.maketrans({"█": "#", "▓": "x", "░": ".", "·": ".", "◀": "<", "…": "...", "≈": "~"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """A run at one moment.

    ``label``: model and host. ``done_before``: tasks that earlier runs finished. Limits are per minute, None = none
    seen. ``refused`` counts the 429s of this run, ``tokens`` those it used; as ``retries``, None = not known here.
    ``waiting``: seconds until something is sent again. ``eta``: seconds, None while unknown. ``limiting``: rpm, tpm,
    slots or budget, or a reason in words. ``cost_at_end``: what the whole job will have cost, None while unknown.
    """

    job: str
    label: str
    run: int
    done_before: int
    succeeded: int
    failed: int
    left: int
    total: int
    in_flight: int
    slots: int
    sent_1m: int
    tokens_1m: int
    rpm_limit: float | None = None
    tpm_limit: float | None = None
    refused: int | None = 0
    retries: int | None = 0
    tokens: int | None = 0
    p50: float | None = None
    p95: float | None = None
    limiting: str = "none"
    waiting: float = 0.0
    eta: float | None = None
    last_problem: str | None = None
    spending: Spending = NO_SPENDING
    cost_at_end: int | None = None

    @property
    def done(self) -> int:
        return self.succeeded + self.failed


def estimate(
    *,
    left: int,
    answered: int,
    rpm: float | None,
    tpm: float | None,
    tokens_per_task: float | None,
    p50: float | None,
    slots: int,
) -> float | None:
    """Seconds to the end: the slowest of requests, tokens and slots. ``answered`` and means are this run's alone.

    None until enough was answered to say so.
    """
    if left == 0:
        return 0.0
    if answered < ENOUGH_ANSWERS:
        return None
    waits = []
    if rpm:
        waits.append(left / rpm * 60)
    if tpm and tokens_per_task is not None:
        waits.append(left * tokens_per_task / tpm * 60)
    if p50 is not None and slots:
        waits.append(left * p50 / slots)
    return max(waits, default=None)


def plain_line(progress: Progress, now: float, *, zone: tzinfo | None = None) -> str:
    """One line for logs and pipes; *zone* is the machine's own if not given."""
    p = progress
    words = [
        clock(now, zone, seconds=True),
        clean(p.job).replace(" ", "_"),
        f"{p.done}/{p.total}",
        percent(p.done, p.total),
        f"ok={p.succeeded}",
        f"failed={p.failed}",
        f"rpm={_of(p.sent_1m, p.rpm_limit)}",
        f"tpm={_of(p.tokens_1m, p.tpm_limit)}" if _tokens_are_known(p) else "",
        f"slots={p.in_flight}/{p.slots}",
        f"limit={'none' if p.limiting in _NOTHING else clean(p.limiting).replace(' ', '_')}",
        f"wait={duration(p.waiting)}" if p.waiting >= MOMENT else "",
        "" if p.refused is None else f"429s={p.refused}",
        _cost_word(p.spending),
        "" if p.eta is None else f"eta={clock(now + p.eta, zone)}",
        f"last: {clean(p.last_problem)}" if p.last_problem and p.waiting >= MOMENT else "",
    ]
    return " ".join(word for word in words if word)


def lines(
    progress: Progress, now: float, cells: int, *, ascii_only: bool = False, zone: tzinfo | None = None
) -> list[str]:
    """The block for a terminal *cells* wide; no line is wider. Glyphs differ, so it reads without colours."""
    if cells < NARROW:
        block = [_narrow(progress, now, zone)]
    else:
        block = [_head(progress), *_bars(progress, now, cells, zone), _foot(progress)]
        if progress.last_problem:
            block.append(f"last: {clean(progress.last_problem)}")
    if ascii_only:
        block = [in_ascii(line.translate(_ASCII)) for line in block]
    return [cut(line, cells, mark="..." if ascii_only else "…") for line in block]


def event(progress: Progress, now: float) -> dict[str, Any]:
    """The progress event of --json. Fields may be added, never changed."""
    p = progress
    return {
        "event": "progress",
        "t": instant(now),
        "done": p.succeeded,
        "failed": p.failed,
        "left": p.left,
        "total": p.total,
        "in_flight": p.in_flight,
        "slots": p.slots,
        "rpm": p.sent_1m,
        "rpm_limit": p.rpm_limit,
        "tpm": p.tokens_1m,
        "tpm_limit": p.tpm_limit,
        "limiting": p.limiting,
        "waiting_s": round(p.waiting, 1),
        "rate_limited": p.refused,
        "retries": p.retries,
        "tokens": p.tokens,
        "p50": p.p50,
        "p95": p.p95,
        "cost": in_units(p.spending.spent),
        "possibly_charged": None if p.spending.spent is None else in_units(p.spending.unsettled),
        "budget": in_units(p.spending.limit),
        "currency": p.spending.currency,
        "cost_at_end": in_units(p.cost_at_end),
        "eta": None if p.eta is None else instant(now + p.eta),
    }


def _head(p: Progress) -> str:
    before = f", {p.done_before:,} done before" if p.done_before else ""
    return "  ".join([clean(p.job), clean(p.label), f"run {p.run}{before}", *_reason(p)])


def _reason(p: Progress) -> list[str]:
    """What slows the run where no bar shows it."""
    if p.limiting in _GAUGES or (p.limiting in _NOTHING and p.waiting < MOMENT):
        return []
    reason = "waiting" if p.limiting in _NOTHING else _REASONS.get(p.limiting, clean(p.limiting))
    return [f"◀ {reason}, {duration(p.waiting)}" if p.waiting >= MOMENT else f"◀ {reason}"]


def _bars(p: Progress, now: float, cells: int, zone: tzinfo | None) -> list[str]:
    gauges: list[tuple[str, int, int, float | None, str]]
    gauges = [("tasks", p.succeeded, p.failed, p.total, _tasks_tail(p, now, zone))]
    gauges.append(("RPM", p.sent_1m, 0, p.rpm_limit, _limit_tail(p, "rpm", p.sent_1m, p.rpm_limit)))
    if _tokens_are_known(p):
        gauges.append(("TPM", p.tokens_1m, 0, p.tpm_limit, _limit_tail(p, "tpm", p.tokens_1m, p.tpm_limit)))
    gauges.append(("slots", p.in_flight, 0, p.slots, f"{p.in_flight}/{p.slots} in flight{_mark(p, 'slots')}"))
    if p.spending.spent is not None:
        gauges.append(("cost", p.spending.spent, p.spending.unsettled, p.spending.limit, _cost_tail(p)))
    tails = max(width(tail) for *_, tail in gauges)
    room = max(0, min(WIDEST_BAR, cells - LABEL - 1 - tails))
    return [f"{name:{LABEL}}{_bar(full, bad, whole, room)} {tail}" for name, full, bad, whole, tail in gauges]


def _tasks_tail(p: Progress, now: float, zone: tzinfo | None) -> str:
    tail = f"{percent(p.done, p.total)}  {p.done:,}/{p.total:,}"
    if not p.left:
        return tail
    return f"{tail}  ETA …" if p.eta is None else f"{tail}  ETA {duration(p.eta)} ({clock(now + p.eta, zone)})"


def _limit_tail(p: Progress, name: str, used: float, limit: float | None) -> str:
    tail = f"{short(used)}  no limit seen" if limit is None else _of(used, limit)
    return tail + _mark(p, name)


def _cost_tail(p: Progress) -> str:
    at_end = "" if p.cost_at_end is None else f" · at end ≈ {money_text(p.cost_at_end, p.spending.currency)}"
    return cost_text((p.spending,)) + at_end + _mark(p, "budget")


def _cost_word(spending: Spending) -> str:
    if spending.spent is None:
        return ""
    of = "" if spending.limit is None else f"/{money_text(spending.limit, None)}"
    return f"cost={money_text(spending.spent, None)}{of}{clean(spending.currency or '')}"


def _mark(p: Progress, name: str) -> str:
    if p.limiting != name:
        return ""
    return f"  ◀ limiting, {duration(p.waiting)}" if p.waiting >= MOMENT else "  ◀ limiting"


def _of(used: float, limit: float | None) -> str:
    return short(used) if limit is None else f"{short(used)}/{short(limit)}"


def _tokens_are_known(p: Progress) -> bool:
    return p.tpm_limit is not None or p.tokens_1m > 0


def _bar(full: float, bad: float, whole: float | None, cells: int) -> str:
    """Only a thing that is whole looks so, and a failure is seen however rare it is."""
    if not whole:
        return "·" * cells
    filled = int(min((full + bad) / whole, 1.0) * cells)
    failed = min(max(int(min(bad / whole, 1.0) * cells), 1), max(filled, min(cells, 1))) if bad else 0
    filled = max(filled, failed)
    return "█" * (filled - failed) + "▓" * failed + "░" * (cells - filled)


def _foot(p: Progress) -> str:
    words = [
        f"done {p.succeeded:,}",
        f"failed {p.failed:,}",
        f"left {p.left:,}",
    ]
    if p.retries is not None:
        words.append(f"retries {p.retries:,}")
    if p.refused is not None:
        words.append(f"429s {p.refused:,}")
    if p.p50 is not None:
        words.append(f"p50 {latency(p.p50)} p95 {latency(p.p95)}")
    if p.tokens:
        words.append(f"tokens {short(p.tokens)}")
    return "  ".join(words)


def _narrow(p: Progress, now: float, zone: tzinfo | None) -> str:
    eta = "" if p.eta is None else f" ETA {clock(now + p.eta, zone)}"
    limit = "" if p.limiting in _NOTHING else f" ◀ {clean(p.limiting)}"
    return f"{percent(p.done, p.total)} {p.done:,}/{p.total:,}{eta}{limit} {clean(p.job)}"
