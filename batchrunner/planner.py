"""What a run would do: how many requests, tokens and money, how long, and what would hold it up. Pure; sends nothing.

Tokens are estimated as the run itself does (limits/estimate.py), from what answers of this job took so far; where there
are none yet, an answer is taken to be as long as max_tokens allows, and that is said. Of prompts as much is taken to
come from a cache as did so far. Where a price has tiers, each request is in that of its expected lengths. The most it
can cost is the sum of what a budget would reserve.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from batchrunner.check import Checker, Finding, Level
from batchrunner.config import Route, serving
from batchrunner.cost import expected_cost, longest, most, wants_cap
from batchrunner.db.history import Took
from batchrunner.limits.estimate import UNKNOWN_OUTPUT, TokenEstimate
from batchrunner.money import Money
from batchrunner.plans import Plan, Speed
from batchrunner.prices import Priced, Prices
from batchrunner.size import Measure, by_bytes
from batchrunner.task import RejectedLine, Request, TaskState

LEAST = 8  # answers, before their length is believed


@dataclass(slots=True)
class _Sums:
    """Of one model as one route knows it."""

    prompt: float = 0.0
    cached: float = 0.0
    output: float = 0.0
    cost: float = 0.0
    priced: Priced | None = None

    def add(self, prompt: float, cached: float, output: float, share: float) -> None:
        """A request of so many tokens, of which this route gets *share*."""
        self.prompt += prompt * share
        self.cached += cached * share
        self.output += output * share
        if self.priced is not None and self.priced.model.price is not None:
            self.cost += expected_cost(self.priced.model.price, prompt, output, cached=cached) * share


@dataclass(slots=True)
class _Learned:
    estimate: TokenEstimate = field(default_factory=TokenEstimate)
    answers: int = 0
    prompt: int = 0
    cached: int = 0
    output: int = 0
    is_bounded: bool = True  # no answer was longer than its request allowed

    def learn(self, one: Took) -> None:
        self.estimate.learn(one.size, one.prompt_tokens, one.completion_tokens)
        self.answers += 1
        self.prompt += one.prompt_tokens
        self.cached += min(one.cached_tokens, one.prompt_tokens)
        self.output += one.completion_tokens
        self.is_bounded = self.is_bounded and (one.longest is None or one.completion_tokens <= one.longest)

    @property
    def at_cache(self) -> float:
        """The share of the prompts that came from the provider's cache."""
        return self.cached / self.prompt if self.answers >= LEAST and self.prompt else 0.0

    def expected(self, cap: int | None) -> float:
        """Tokens of an answer: the mean of those before, else all that it may have."""
        if self.answers >= LEAST:
            mean = self.output / self.answers
            return min(mean, cap) if cap is not None and self.is_bounded else mean
        return UNKNOWN_OUTPUT if cap is None else float(cap)


class Planner:
    """Shown each line of the job once, with how its task stands; ``plan`` adds it all up."""

    def __init__(
        self, routes: Sequence[Route], prices: Prices, took: Iterable[Took] = (), *, measure: Measure = by_bytes
    ) -> None:
        self._routes, self._prices, self._measure = routes, prices, measure
        self._checker = Checker(routes, measure)
        self._models: dict[str, None] = {}
        self._sums: dict[tuple[str, str], _Sums] = {}
        self._learned: dict[str, _Learned] = {}
        self._counts = dict.fromkeys(("new", "edited", "pending", "done", "failed", "rejected"), 0)
        self._counted = self._uncapped = self._unbounded = 0
        self._output_most: int | None = 0
        self._cost_most: int | None = 0
        self._bad: RejectedLine | None = None
        for one in took:
            self._learned.setdefault(one.model or "", _Learned()).learn(one)

    @property
    def models(self) -> tuple[str, ...]:
        """Those of the requests to send, by the job file's name."""
        return tuple(self._models)

    def reject(self, bad: RejectedLine) -> None:
        """A line that is no request."""
        self._counts["rejected"] += 1
        self._bad = self._bad or bad

    def see_again(self, request: Request) -> None:
        """A line whose custom_id came before: a run would not load it."""
        reason = f"custom_id {request.custom_id!r} stands in a line before; each line needs its own"
        self.reject(RejectedLine(line=request.line, offset=request.offset, reason=reason))

    def see(self, request: Request, known: tuple[bytes, TaskState] | None) -> None:
        """*known*: fingerprint and state of its task, None if it is new."""
        standing = _standing(request, known)
        self._counts[standing] += 1
        if standing in ("done", "failed"):
            return
        self._checker.see(request)
        self._models.setdefault(request.model or "")
        self._add(request, serving(self._routes, request.model or ""))

    def plan(self, speed: Speed, budget_left: Money | None = None) -> Plan:
        sums = list(self._sums.values())
        prompt, output = round(sum(one.prompt for one in sums)), round(sum(one.output for one in sums))
        to_send = self._counts["new"] + self._counts["edited"] + self._counts["pending"]
        seconds, bound_by = _time(to_send, prompt + output, speed)
        unpriced = tuple(f"{route}/{model}" for (route, model), one in self._sums.items() if one.priced is None)
        currencies = {one.priced.currency for one in sums if one.priced is not None}
        one_currency = not unpriced and len(currencies) == 1
        currency = currencies.pop() if one_currency else None
        return Plan(
            **self._counts,
            prompt_tokens=prompt,
            cached_tokens=round(sum(one.cached for one in sums)),
            output_tokens=output,
            output_most=self._output_most,
            learned=sum(each.answers for each in self._learned.values() if each.answers >= LEAST),
            counted=self._counted,
            uncapped=self._uncapped,
            unbounded=self._unbounded,
            budget_left=budget_left,
            cost=_money(round(sum(one.cost for one in sums)), currency) if one_currency else None,
            cost_most=_money(self._cost_most, currency) if one_currency else None,
            currency=currency,
            unpriced=unpriced,
            seconds=seconds,
            bound_by=bound_by,
            findings=(*self._rejected(), *self._checker.findings),
        )

    def _add(self, request: Request, routes: Sequence[Route]) -> None:
        """A request that several lanes take is reckoned in equal parts; at most, it goes to the dearest."""
        cap = longest(request.endpoint, request.body)
        size = self._measure(request.body)
        self._counted += size.counted
        bounds, wants = [], False
        for route in routes:
            sums, learned = self._of(route, request.model or "")
            prompt = learned.estimate.prompt(size)
            sums.add(prompt, prompt * learned.at_cache, learned.expected(cap), 1 / len(routes))
            priced = sums.priced
            bounds.append(None if priced is None else most(priced.model, request.endpoint, request.body))
            wants = wants or (priced is not None and wants_cap(priced.model, request.endpoint, request.body))
        self._uncapped += wants
        self._unbounded += all(bound is None for bound in bounds)
        self._output_most = _plus(self._output_most, cap)
        self._cost_most = _plus(self._cost_most, _dearest(bounds))

    def _of(self, route: Route, model: str) -> tuple[_Sums, _Learned]:
        name = route.name_of(model) if model else ""
        key = (route.name, name)
        if key not in self._sums:
            self._sums[key] = _Sums(priced=self._prices.of(route.endpoint.provider, name))
        return self._sums[key], self._learned.get(name) or self._learned.get(model) or _NOTHING

    def _rejected(self) -> Iterator[Finding]:
        if self._bad is not None:
            yield Finding(
                level=Level.ERROR,
                what=f"no request ({self._bad.reason})",
                count=self._counts["rejected"],
                line=self._bad.line,
                custom_id="",
            )


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


def _money(nanos: int | None, currency: str | None) -> Money | None:
    return None if nanos is None else Money(nanos=nanos, currency=currency)


def _plus(total: int | None, part: int | None) -> int | None:
    return None if total is None or part is None else total + part


def _dearest(bounds: Sequence[int | None]) -> int | None:
    """None if one of them is not known."""
    known = [bound for bound in bounds if bound is not None]
    return max(known) if len(known) == len(bounds) else None


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
