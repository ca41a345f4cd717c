"""Prices held against a price list that others keep (genai-prices), tier by tier; skipped where it is not installed."""

from decimal import Decimal
from typing import Any

import pytest

from batchrunner.cost import cost_of
from batchrunner.provider import load_provider
from batchrunner.task import Usage

genai = pytest.importorskip("genai_prices")

CNY_A_DOLLAR = Decimal("7.25")  # at which that list converts BigModel's prices
ROUNDED = Decimal("0.02")  # their dollars have three decimals
# Ours, theirs, and what their amounts are multiplied by.
PROVIDERS = {
    "zhipu": ("zhipuai", CNY_A_DOLLAR),
    **{name: (name, Decimal(1)) for name in ("zai", "openai", "anthropic", "groq", "cohere", "together", "cerebras")},
    "gemini": ("google", Decimal(1)),
    "xai": ("x-ai", Decimal(1)),
    "moonshot": ("moonshotai", Decimal(1)),
}
# At the ends of tiers and beyond them.
LENGTHS = [(end + over, 100) for end in (128_000, 199_999, 200_000, 272_000) for over in (0, 1)]
SHORT = (1_000, 100)


def theirs(provider: str, model: str, prompt: int, answer: int) -> Decimal | None:
    """In dollars; None: not in their list."""
    usage = genai.Usage(input_tokens=prompt, output_tokens=answer)
    try:
        found: Any = genai.calc_price(usage, model_ref=model, provider_id=provider)
    except LookupError:
        return None
    return Decimal(found.total_price)


@pytest.mark.parametrize("ours", PROVIDERS)
def test_prices_are_those_of_another_list(ours: str) -> None:
    provider, factor = PROVIDERS[ours]
    compared, differ = 0, []
    for name, model in load_provider(ours).models.items():
        if model.price is None:
            continue
        lengths = [] if ours == "zhipu" or model.context is None else LENGTHS  # of BigModel it has the first tier only
        for prompt, answer in [SHORT, *lengths]:
            other = theirs(provider, name, prompt, answer)
            if other is None or prompt > (model.context or prompt):
                continue
            cost = Decimal(cost_of(Usage(prompt_tokens=prompt, completion_tokens=answer), model.price)) / 10**9
            compared += 1
            if abs(cost - other * factor) > cost * ROUNDED:
                differ.append((name, prompt, cost, other * factor))
    assert compared > 1
    assert not differ
