"""Cost: exact from usage, and before the send a bound that no reply can pass."""

import json
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchrunner.cost import FRAME, TOOLS, cost_of, expected_cost, most, wants_cap
from batchrunner.provider import Model, Price, Tier
from batchrunner.task import Usage

PRICE = Price(input=Decimal(2), output=Decimal(8), cached=Decimal("0.4"))
MODEL = Model(context=128_000, max_output=4_096, price=PRICE)
CHAT = "chat/completions"
AMOUNTS: dict[str, Any] = {
    "input": st.decimals(0, 500, places=4),
    "output": st.decimals(0, 500, places=4),
    "cached": st.none() | st.decimals(0, 500, places=4),
}
ENDS = st.none() | st.integers(0, 2_000)
TIERS = st.lists(st.builds(Tier, up_to=ENDS, answer_up_to=ENDS, **AMOUNTS), max_size=4)
PRICES = st.builds(Price, tiers=TIERS.map(tuple), **AMOUNTS)  # in any order, also tiers that never hold
TIERED = Price(
    input=Decimal(4),
    output=Decimal(16),
    cached=Decimal("0.8"),
    tiers=(
        Tier(up_to=31_999, answer_up_to=199, input=Decimal(2), output=Decimal(8), cached=Decimal("0.4")),
        Tier(up_to=31_999, input=Decimal(3), output=Decimal(14), cached=Decimal("0.6")),
    ),
)


@st.composite
def rising(draw: st.DrawFn) -> Price:
    """A price as providers make them: longer prompts and answers are dearer, or cost the same."""
    ends = sorted(draw(st.sets(st.tuples(st.integers(0, 900), st.integers(0, 900)), min_size=1, max_size=4)))
    amounts = sorted(draw(st.lists(st.decimals(0, 50, places=2), min_size=len(ends) + 1, max_size=len(ends) + 1)))
    *lower, top = ({"input": amount, "output": amount * 3, "cached": amount / 4} for amount in amounts)
    longest, tiers = -1, []
    for (end, answer_end), rates in zip(ends, lower, strict=True):
        longest = max(longest, answer_end)  # each holds wherever one before it would
        tiers.append(Tier(up_to=end, answer_up_to=longest, **rates))
    return Price(tiers=tuple(tiers), **top)


def body(**fields: Any) -> str:
    return json.dumps({"model": "m", "messages": [{"role": "user", "content": "hi"}], **fields})


def test_usage_is_priced_by_its_kind() -> None:
    usage = Usage(prompt_tokens=1_000, cached_tokens=400, completion_tokens=100, reasoning_tokens=60)
    assert cost_of(usage, PRICE) == 600 * 2_000 + 400 * 400 + 100 * 8_000


def test_without_a_price_for_cached_tokens_they_cost_as_all_others() -> None:
    price = Price(input=Decimal(2), output=Decimal(8))
    assert cost_of(Usage(prompt_tokens=10, cached_tokens=10), price) == 20_000


def test_a_part_of_a_billionth_is_rounded_up() -> None:
    assert cost_of(Usage(prompt_tokens=1), Price(input=Decimal("0.0001"), output=Decimal(0))) == 1


@given(PRICES, st.integers(-5, 10**7), st.integers(-5, 10**7), st.integers(-5, 10**7))
def test_a_cost_is_never_negative(price: Price, prompt: int, out: int, cached: int) -> None:
    assert cost_of(Usage(prompt_tokens=prompt, completion_tokens=out, cached_tokens=cached), price) >= 0


@given(rising(), st.integers(0, 2_000), st.integers(0, 2_000), st.integers(0, 2_000), st.integers(0, 50))
def test_a_cost_grows_with_prompt_and_answer(price: Price, prompt: int, out: int, cached: int, more: int) -> None:
    """Across the ends of tiers too."""
    usage = Usage(prompt_tokens=prompt, completion_tokens=out, cached_tokens=min(cached, prompt))
    cost = cost_of(usage, price)
    assert cost <= cost_of(replace(usage, completion_tokens=out + more), price)
    assert cost <= cost_of(replace(usage, prompt_tokens=prompt + more), price)


@pytest.mark.parametrize(
    ("prompt", "answer", "nanos"),
    [
        (31_999, 199, 31_999 * 2_000 + 199 * 8_000),
        (31_999, 200, 31_999 * 3_000 + 200 * 14_000),
        (32_000, 199, 32_000 * 4_000 + 199 * 16_000),
    ],
)
def test_a_whole_request_is_priced_by_its_tier(prompt: int, answer: int, nanos: int) -> None:
    assert cost_of(Usage(prompt_tokens=prompt, completion_tokens=answer), TIERED) == nanos
    assert expected_cost(TIERED, prompt, answer) == pytest.approx(nanos)
    cached = Usage(prompt_tokens=prompt, completion_tokens=answer, cached_tokens=prompt)
    assert cost_of(cached, TIERED) < nanos


@given(PRICES, st.integers(0, 3_000), st.integers(0, 3_000))
def test_what_is_expected_of_known_lengths_is_what_they_cost(price: Price, prompt: int, out: int) -> None:
    cost = cost_of(Usage(prompt_tokens=prompt, completion_tokens=out), price)
    assert expected_cost(price, prompt, out) == pytest.approx(cost, abs=1)


def test_only_tiers_that_can_be_reached_are_reckoned_with() -> None:
    model = Model(context=200_000, max_output=100_000, price=TIERED)
    asked = body(max_tokens=100)
    size = len(asked) + FRAME
    assert most(model, CHAT, asked) == size * 2_000 + 100 * 8_000
    assert most(model, CHAT, body(max_tokens=200)) == size * 3_000 + 200 * 14_000
    assert most(model, CHAT, body(max_tokens=100, messages="x" * 40_000)) == pytest.approx(
        40_000 * 4_000 + 100 * 16_000, rel=0.01
    )


def test_a_tier_that_is_dearer_than_the_one_above_it_is_the_worst_case() -> None:
    """Nobody prices like that; a bound is a bound all the same."""
    price = Price(input=Decimal(1), output=Decimal(0), tiers=(Tier(up_to=300, input=Decimal(100), output=Decimal(0)),))
    asked = body(max_tokens=1, messages="x" * 1_000)
    assert most(Model(price=price), CHAT, asked) == 300 * 100_000


@given(
    price=PRICES,
    text=st.text(max_size=300),
    cap=st.integers(1, 4_096),
    n=st.integers(1, 5),
    ascii_only=st.booleans(),
    data=st.data(),
)
def test_no_reply_costs_more_than_was_reserved(
    price: Price, text: str, cap: int, n: int, ascii_only: bool, data: st.DataObject
) -> None:
    """Whatever the tokenizer: a token a byte of the text, plus the frame; and every answer as long as it may be."""
    request = {"model": "m", "messages": [{"role": "user", "content": text}], "max_tokens": cap, "n": n}
    asked = json.dumps(request, ensure_ascii=ascii_only)
    longest = len(text.encode("utf-8", "surrogatepass")) + FRAME
    ends = [tier.up_to for tier in price.tiers if tier.up_to is not None and tier.up_to <= longest]
    prompt = data.draw(st.sampled_from(ends) | st.integers(0, longest) if ends else st.integers(0, longest))
    usage = Usage(
        prompt_tokens=prompt,
        cached_tokens=data.draw(st.integers(0, prompt)),
        completion_tokens=data.draw(st.integers(0, cap * n)),
    )
    bound = most(Model(context=None, max_output=None, price=price), CHAT, asked)
    assert bound is not None
    assert cost_of(usage, price) <= bound


@pytest.mark.parametrize(
    ("fields", "tokens"),
    [
        ({}, 4_096),
        ({"max_tokens": 50}, 50),
        ({"max_completion_tokens": 60}, 60),
        ({"max_tokens": 50, "max_completion_tokens": 60}, 60),
        ({"max_tokens": 9_999}, 4_096),
        ({"max_tokens": None}, 4_096),
        ({"max_tokens": 1e3}, 4_096),
        ({"max_tokens": True}, 4_096),
        ({"max_tokens": 3e3, "max_completion_tokens": 60}, 4_096),  # nobody knows which of them counts
        ({"metadata": {"max_tokens": 5}}, 4_096),
        ({"max_tokens": 50, "n": 3}, 150),
        ({"max_tokens": 50, "n": 2, "best_of": 4}, 200),
    ],
)
def test_the_answer_is_bounded_by_the_request_or_else_the_model(fields: dict[str, Any], tokens: int) -> None:
    asked = body(**fields)
    assert most(MODEL, CHAT, asked) == (len(asked) + FRAME) * 2_000 + tokens * 8_000


def test_each_of_several_prompts_has_an_answer() -> None:
    asked = json.dumps({"model": "m", "prompt": ["a", "b", "c"], "max_tokens": 10})
    assert most(MODEL, "completions", asked) == (len(asked) + FRAME) * 2_000 + 30 * 8_000


def test_the_context_bounds_what_nothing_else_does() -> None:
    assert most(Model(context=100, price=PRICE), CHAT, body(max_tokens=None)) == 100 * 2_000 + 100 * 8_000
    image = body(messages=[{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://x"}}]}])
    assert most(MODEL, CHAT, image) == 128_000 * 2_000 + 4_096 * 8_000


def test_words_for_images_are_not_images() -> None:
    """Neither in a text, nor as the name of a tool's parameter."""
    tools = [{"type": "function", "function": {"parameters": {"properties": {"file": {"type": "string"}}}}}]
    asked = body(max_tokens=1, tools=tools, messages=[{"role": "user", "content": '{"type": "image"}'}])
    assert most(Model(price=PRICE), CHAT, asked) == (len(asked) + FRAME + TOOLS) * 2_000 + 8_000


def test_what_a_server_tells_its_model_of_tools_is_part_of_the_bound() -> None:
    """Anthropic's documentation: up to 530 tokens before the tools themselves; more than a short request has bytes."""
    tool = {"type": "function", "function": {"name": "now", "parameters": {}}}
    without, asked = body(max_tokens=1), body(max_tokens=1, tools=[tool])
    bound, plain = most(MODEL, CHAT, asked), most(MODEL, CHAT, without)
    assert bound is not None
    assert plain is not None
    assert bound - plain >= 530 * 2_000


def test_embeddings_have_no_output() -> None:
    asked = json.dumps({"model": "m", "input": "text"})
    assert most(MODEL, "embeddings", asked) == (len(asked) + FRAME) * 2_000


def test_a_price_for_cached_tokens_above_the_others_is_part_of_the_bound() -> None:
    dear = Model(price=Price(input=Decimal(1), output=Decimal(0), cached=Decimal(3)))
    assert most(dear, "embeddings", "{}") == (2 + FRAME) * 3_000


@pytest.mark.parametrize(
    ("model", "endpoint", "asked"),
    [
        (Model(context=128_000, max_output=4_096), CHAT, body()),  # no price
        (Model(price=PRICE), CHAT, body()),  # nothing bounds the answer
        (Model(price=PRICE), CHAT, body(max_tokens=5, tools=[{"type": "web_search"}])),
        (MODEL, CHAT, body(max_tokens=5, n=3.0)),  # lenient servers read a number in these
        (MODEL, CHAT, body(max_tokens=5, n="3")),
        (MODEL, "completions", body(max_tokens=5, best_of="3")),
        (Model(price=PRICE), "responses", body(max_output_tokens=5, previous_response_id="r")),
        (MODEL, "rerank", body()),
        (MODEL, CHAT, body(messages=[{"role": "user", "content": "x", "cache_control": {"type": "ephemeral"}}])),
    ],
)
def test_what_has_no_bound_is_not_guessed(model: Model, endpoint: str, asked: str) -> None:
    assert most(model, endpoint, asked) is None


@pytest.mark.parametrize(
    ("model", "endpoint", "asked", "wanted"),
    [
        (Model(max_output=100_000, price=PRICE), CHAT, body(), True),
        (Model(price=PRICE), CHAT, body(), True),  # nothing bounds it
        (Model(price=PRICE), CHAT, body(max_tokens=100_000), False),  # it is said, if large
        (Model(max_output=500, price=PRICE), CHAT, body(), False),  # the model's own bound is as good
        (Model(max_output=100_000, price=PRICE), "embeddings", body(), False),
        (Model(price=PRICE), "rerank", body(), False),  # nothing bounds it whatever it says
        (Model(price=PRICE), CHAT, body(n="3"), False),
        (Model(max_output=100_000, price=Price(input=Decimal(5), output=Decimal(0))), CHAT, body(), False),
        (Model(max_output=100_000), CHAT, body(), False),
    ],
)
def test_whether_max_tokens_would_help(model: Model, endpoint: str, asked: str, wanted: bool) -> None:
    assert wants_cap(model, endpoint, asked) is wanted


def test_a_free_model_costs_nothing_at_most() -> None:
    assert most(Model(price=Price(input=Decimal(0), output=Decimal(0))), CHAT, body()) == 0
