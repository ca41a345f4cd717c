"""What is known of a provider, for a person and for a program."""

from decimal import Decimal

from batchrunner.provider import Model, Price, Provider, Tier
from batchrunner.report.providers import provider_json, provider_text

TIERED = Price(
    input=Decimal(4),
    output=Decimal(16),
    tiers=(Tier(up_to=31_999, answer_up_to=199, input=Decimal("0.8"), output=Decimal(0), cached=Decimal("0.16")),),
)
PROVIDER = Provider(title="x", currency="CNY", models={"m": Model(context=128_000, price=TIERED), "unpriced": Model()})


def test_each_tier_has_a_line_below_its_model() -> None:
    lines = provider_text(PROVIDER, {}, ascii_only=True).splitlines()
    at = next(place for place, line in enumerate(lines) if line.split()[:1] == ["m"])
    assert lines[at].split() == ["m", "128,000", "-", "4", "16", "-"]
    assert lines[at + 1].split() == ["prompt", "to", "31,999,", "answer", "to", "199", "0.8", "free", "0.16"]


def test_programs_are_told_the_tiers() -> None:
    models = provider_json(PROVIDER, {})["models"]
    assert models["unpriced"]["price"] is None
    assert models["m"]["price"] == {
        "input": 4.0,
        "output": 16.0,
        "cached": None,
        "tiers": [{"up_to": 31_999, "answer_up_to": 199, "input": 0.8, "output": 0.0, "cached": 0.16}],
    }
