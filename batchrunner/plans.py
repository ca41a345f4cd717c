"""What a run would come to, as values: the plan, and the speed it reckons with."""

from dataclasses import dataclass

from batchrunner.check import Finding
from batchrunner.money import Money


@dataclass(frozen=True, slots=True, kw_only=True)
class Speed:
    """What a run may send: a minute, and at once; None = not known. ``latency``: seconds to an answer."""

    rpm: float | None = None
    tpm: float | None = None
    in_flight: int | None = None
    latency: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """``cost`` and ``cost_most`` are None where a price or a bound is not known; ``seconds``, where no limit is.

    ``requests`` are to be sent: ``new`` lines, ``edited`` ones, and those that are pending. ``learned``: the lengths of
    answers are from so many answers, 0 = assumed. ``counted``: so many prompts were measured by a tokenizer, the others
    by their bytes. ``uncapped``: so many have no bound, or one that is far larger, only because they do not say
    max_tokens; ``unbounded``: so many have none, whichever lane takes them. ``budget_left``: by earlier runs; None
    where there is no budget.
    """

    new: int
    edited: int
    pending: int
    done: int
    failed: int
    rejected: int
    prompt_tokens: int
    cached_tokens: int
    output_tokens: int
    output_most: int | None
    learned: int
    counted: int
    uncapped: int
    unbounded: int
    budget_left: Money | None
    cost: Money | None
    cost_most: Money | None
    currency: str | None
    unpriced: tuple[str, ...]
    seconds: float | None
    bound_by: str
    findings: tuple[Finding, ...]

    @property
    def requests(self) -> int:
        return self.new + self.edited + self.pending
