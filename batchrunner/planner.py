"""What a run would do: how many requests, tokens and money, how long, and what would hold it up. Pure; sends nothing.

Tokens are estimated as the run itself does (limits/estimate.py), from what answers of this job took so far; where there
are none yet, an answer is taken to be as long as max_tokens allows, and that is said. The most it can cost is the sum
of what a budget would reserve.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean

from batchrunner.check import Checker
from batchrunner.config import Route
from batchrunner.cost import EMBEDDINGS, cost_of, most
from batchrunner.db.history import Took
from batchrunner.limits.estimate import UNKNOWN_OUTPUT, TokenEstimate, max_tokens
from batchrunner.plan import Plan, Speed
from batchrunner.prices import Priced, Prices
from batchrunner.task import Request, TaskState, Usage

LEAST = 8  # answers, before their length is believed


@dataclass(slots=True)
class _Sums:
    """Of one model as one route knows it."""

    prompt: float = 0.0
    output: float = 0.0
    most: int | None = 0
    priced: Priced | None = None


@dataclass(slots=True)
class _Learned:
    estimate: TokenEstimate = field(default_factory=TokenEstimate)
    outputs: list[int] = field(default_factory=list)


class Planner:
    """Shown each line of the job once, with how its task stands; ``plan`` adds it all up."""

    def __init__(self, routes: Sequence[Route], prices: Prices, took: Iterable[Took] = ()) -> None:
        self._routes, self._prices = routes, prices
        self._checkers = {route.name: Checker(route.endpoint.provider) for route in routes}
        self._sums: dict[tuple[str, str], _Sums] = {}
        self._learned: dict[str, _Learned] = {}
        self._counts = dict.fromkeys(("new", "edited", "pending", "done", "failed", "rejected"), 0)
        self._output_most: int | None = 0
        for one in took:
            learned = self._learned.setdefault(one.model or "", _Learned())
            learned.estimate.learn(one.size, one.prompt_tokens, one.completion_tokens)
            learned.outputs.append(one.completion_tokens)

    def reject(self) -> None:
        """A line that is no request."""
        self._counts["rejected"] += 1

    def see(self, request: Request, known: tuple[bytes, TaskState] | None) -> None:
        """*known*: fingerprint and state of its task, None if it is new."""
        standing = _standing(request, known)
        self._counts[standing] += 1
        if standing in ("done", "failed"):
            return
        route = next((route for route in self._routes if route.serves(request.model or "")), self._routes[0])
        model = route.name_of(request.model) if request.model and route.serves(request.model) else request.model or ""
        self._checkers[route.name].see(request, model=model or None)
        self._add(request, route, model)

    def plan(self, speed: Speed) -> Plan:
        sums = list(self._sums.values())
        prompt, output = round(sum(one.prompt for one in sums)), round(sum(one.output for one in sums))
        to_send = self._counts["new"] + self._counts["edited"] + self._counts["pending"]
        seconds, bound_by = _time(to_send, prompt + output, speed)
        unpriced = tuple(f"{route}/{model}" for (route, model), one in self._sums.items() if one.priced is None)
        currencies = {one.priced.currency for one in sums if one.priced is not None}
        one_currency = not unpriced and len(currencies) == 1
        return Plan(
            **self._counts,
            prompt_tokens=prompt,
            output_tokens=output,
            output_most=self._output_most,
            learned=sum(len(each.outputs) for each in self._learned.values() if len(each.outputs) >= LEAST),
            cost=sum(map(_cost, sums)) if one_currency else None,
            cost_most=_sum(one.most for one in sums) if one_currency else None,
            currency=currencies.pop() if one_currency else None,
            unpriced=unpriced,
            seconds=seconds,
            bound_by=bound_by,
            findings=tuple(finding for checker in self._checkers.values() for finding in checker.findings),
        )

    def _add(self, request: Request, route: Route, model: str) -> None:
        key = (route.name, model)
        if key not in self._sums:
            self._sums[key] = _Sums(priced=self._prices.of(route.endpoint.provider, model))
        sums = self._sums[key]
        learned = self._learned.get(model) or self._learned.get(request.model or "") or _NOTHING
        sums.prompt += learned.estimate.prompt(len(request.body.encode("utf-8", "surrogatepass")))
        cap = 0 if request.endpoint == EMBEDDINGS else max_tokens(request.body)
        if self._output_most is not None:
            self._output_most = None if cap is None else self._output_most + cap
        sums.output += _expected(learned, cap)
        if sums.priced is not None and sums.most is not None:
            bound = most(sums.priced.model, request.endpoint, request.body)
            sums.most = None if bound is None else sums.most + bound


_NOTHING = _Learned()


def _standing(request: Request, known: tuple[bytes, TaskState] | None) -> str:
    if known is None:
        return "new"
    fingerprint, state = known
    if fingerprint != request.fingerprint:
        return "edited"
    if state is TaskState.SUCCEEDED:
        return "done"
    return "failed" if state in (TaskState.FAILED, TaskState.HELD) else "pending"


def _expected(learned: _Learned, cap: int | None) -> float:
    """Tokens of an answer: the mean of those before, else all that it may have."""
    if len(learned.outputs) >= LEAST:
        mean = fmean(learned.outputs)
        return mean if cap is None else min(mean, cap)
    return UNKNOWN_OUTPUT if cap is None else float(cap)


def _cost(sums: _Sums) -> int:
    assert sums.priced is not None
    assert sums.priced.model.price is not None
    usage = Usage(prompt_tokens=round(sums.prompt), completion_tokens=round(sums.output))
    return cost_of(usage, sums.priced.model.price)


def _sum(parts: Iterable[int | None]) -> int | None:
    total = 0
    for part in parts:
        if part is None:
            return None
        total += part
    return total


def _time(requests: int, tokens: float, speed: Speed) -> tuple[float | None, str]:
    """Seconds at the limits that are known, and which of them binds."""
    candidates: Mapping[str, float | None] = {
        "RPM": None if speed.rpm is None else requests / speed.rpm * 60,
        "TPM": None if speed.tpm is None else tokens / speed.tpm * 60,
        "requests in flight": None
        if speed.in_flight is None or speed.latency is None
        else requests * speed.latency / speed.in_flight,
    }
    known = {name: seconds for name, seconds in candidates.items() if seconds is not None}
    if not known:
        return None, ""
    bound_by = max(known, key=lambda name: known[name])
    return known[bound_by], bound_by
