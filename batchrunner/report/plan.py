"""A plan as text and as JSON."""

from collections.abc import Iterator, Sequence
from math import inf
from typing import Any

from batchrunner.check import Finding
from batchrunner.money import Money
from batchrunner.plans import Plan
from batchrunner.report.clean import clean
from batchrunner.report.numbers import duration, instant, short

ASSUMED = "assumed: as long as each may be, else 512, for too few answers are known"


def plan_text(plan: Plan, *, job: str, notes: Sequence[str] = ()) -> str:
    """A block of lines; *notes*: what else is worth knowing."""
    rows = [("tasks", _tasks(plan)), ("tokens", _tokens(plan)), ("cost", _cost(plan)), ("time", _time(plan))]
    lines = [f"plan for {job}: {plan.requests:,} requests would be sent, none was", ""]
    lines += [f"  {name:8} {text}" for name, text in rows]
    lines += findings_lines(plan.findings, indent="  ")
    lines += [f"  note     {note}" for note in notes]
    return "\n".join([*lines, "", "  to do it: the same command with run instead of plan"])


def plan_json(plan: Plan, *, done_at: float | None) -> dict[str, Any]:
    """The same for programs. Fields may be added, never changed; money in the currency, null = not known.

    ``done_at``: with the hours and the end that are set; null = not known, or not by that end.
    """
    return {
        "event": "plan",
        "v": 1,
        "requests": plan.requests,
        "new": plan.new,
        "edited": plan.edited,
        "pending": plan.pending,
        "done": plan.done,
        "failed": plan.failed,
        "rejected": plan.rejected,
        "tokens": {
            "prompt": plan.prompt_tokens,
            "cached": plan.cached_tokens,
            "output": plan.output_tokens,
            "output_most": plan.output_most,
            "answers_learned_from": plan.learned,
            "prompts_counted": plan.counted,
        },
        "cost": _units(plan.cost),
        "cost_most": _units(plan.cost_most),
        "currency": plan.currency,
        "budget_left": _units(plan.budget_left),
        "uncapped": plan.uncapped,
        "unbounded": plan.unbounded,
        "unpriced": list(plan.unpriced),
        "seconds": plan.seconds,
        "bound_by": plan.bound_by or None,
        "done_at": None if done_at is None or done_at == inf else instant(done_at),
        "findings": findings_json(plan.findings),
    }


def findings_lines(findings: Sequence[Finding], *, indent: str = "") -> list[str]:
    """One line each: how sure, what, of how many lines, with the first as the example."""
    return [
        f"{indent}{finding.level:8} {clean(finding.what)}: {_lines(finding.count)}, the first is line {finding.line}"
        + (f" ({clean(finding.custom_id)})" if finding.custom_id else "")
        for finding in findings
    ]


def findings_json(findings: Sequence[Finding]) -> list[dict[str, Any]]:
    return [
        {
            "level": finding.level,
            "what": finding.what,
            "count": finding.count,
            "line": finding.line,
            "custom_id": finding.custom_id,
        }
        for finding in findings
    ]


def _tasks(plan: Plan) -> str:
    parts = (
        (plan.new, "new"),
        (plan.edited, "edited (--changed redo asks them, keep does not)"),
        (plan.pending, "loaded and not done"),
        (plan.done, "done"),
        (plan.failed, "failed (batchrunner retry brings them back)"),
        (plan.rejected, "lines are no requests"),
    )
    return ", ".join(f"{count:,} {what}" for count, what in parts if count) or "none"


def _tokens(plan: Plan) -> str:
    most = "" if plan.output_most is None else f", at most {short(plan.output_most)}"
    source = f"as {plan.learned:,} answers before" if plan.learned else ASSUMED
    counted = " (counted)" if plan.counted == plan.requests > 0 else ""
    cached = f", {short(plan.cached_tokens)} of them cached" if plan.cached_tokens else ""
    told = f"{short(plan.prompt_tokens)} in{counted}{cached}, {short(plan.output_tokens)} out{most}"
    return f"about {told} ({source})" if plan.requests else "none"


def _cost(plan: Plan) -> str:
    if plan.unpriced:
        model = plan.unpriced[0].partition("/")[2]
        where = f'[prices."{clean(model)}"] in batchrunner.toml' if model else "[prices] in batchrunner.toml"
        return f"not known: no price for {', '.join(map(clean, plan.unpriced))}; {where} gives one"
    if plan.cost is None:
        return "not known: more than one currency" if plan.requests else "nothing"
    if plan.cost_most is None:
        return f"about {plan.cost}, no bound known"
    if plan.cost.nanos > plan.cost_most.nanos:
        return f"about {plan.cost}, more than it should ({plan.cost_most}): answers were longer than max_tokens"
    if plan.learned or not plan.output_tokens:
        return f"about {plan.cost}, at most {plan.cost_most}"
    return f"{plan.cost} if all answers are that long, at most {plan.cost_most}"


def _units(money: Money | None) -> float | None:
    return None if money is None else float(money.amount)


def _time(plan: Plan) -> str:
    if plan.seconds is None:
        return "not known: no limit is stated or learned yet (batchrunner run --limit 20 learns)"
    return f"about {duration(plan.seconds)}, bound by {plan.bound_by}"


def _lines(count: int) -> str:
    return "1 line" if count == 1 else f"{count:,} lines"


def problems(findings: Sequence[Finding]) -> Iterator[str]:
    """Sentences for a run that begins."""
    yield from (line.replace(f"{finding.level:8}", f"{finding.level}:") for finding, line in _pairs(findings))


def _pairs(findings: Sequence[Finding]) -> Iterator[tuple[Finding, str]]:
    return zip(findings, findings_lines(findings), strict=True)
