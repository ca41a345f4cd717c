"""Cost: exact from usage, and before the send a bound that no reply can pass."""

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchrunner.cost import FRAME, TOOLS, cost_of, most
from batchrunner.provider import Model, Price
from batchrunner.task import Usage

PRICE = Price(input=Decimal(2), output=Decimal(8), cached=Decimal("0.4"))
MODEL = Model(context=128_000, max_output=4_096, price=PRICE)
CHAT = "chat/completions"
PRICES = st.builds(
    Price,
    input=st.decimals(0, 500, places=4),
    output=st.decimals(0, 500, places=4),
    cached=st.none() | st.decimals(0, 500, places=4),
)


def body(**fields: Any) -> str:
    return json.dumps({"model": "m", "messages": [{"role": "user", "content": "hi"}], **fields})


def test_usage_is_priced_by_its_kind() -> None:
    usage = Usage(prompt_tokens=1_000, cached_tokens=400, completion_tokens=100, reasoning_tokens=60)
    assert cost_of(usage, PRICE) == 600 * 2_000 + 400 * 400 + 100 * 8_000


def test_without_a_price_for_cached_tokens_they_cost_as_all_others() -> None:
    price = Price(input=Decimal(2), output=Decimal(8))
    assert cost_of(Usage(prompt_tokens=10, cached_tokens=10), price) == 20_000


def test_a_part_of_a_billionth_is_rounded_up() -> None:
    assert cost_of(Usage(prompt_tokens=1), Price(input=Decimal("0.0001"))) == 1


@given(PRICES, st.integers(0, 10**7), st.integers(0, 10**7), st.integers(-5, 10**7))
def test_a_cost_is_never_negative_and_grows_with_the_answer(price: Price, prompt: int, out: int, cached: int) -> None:
    usage = Usage(prompt_tokens=prompt, completion_tokens=out, cached_tokens=cached)
    more = Usage(prompt_tokens=prompt, completion_tokens=out + 1, cached_tokens=cached)
    assert 0 <= cost_of(usage, price) <= cost_of(more, price)


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
    prompt = data.draw(st.integers(0, len(text.encode("utf-8", "surrogatepass")) + FRAME))
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
    dear = Model(price=Price(input=Decimal(1), cached=Decimal(3)))
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
    ],
)
def test_what_has_no_bound_is_not_guessed(model: Model, endpoint: str, asked: str) -> None:
    assert most(model, endpoint, asked) is None


def test_a_free_model_costs_nothing_at_most() -> None:
    assert most(Model(price=Price(input=Decimal(0))), CHAT, body()) == 0
