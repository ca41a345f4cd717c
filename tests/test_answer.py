"""The text of an answer out of its body."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchrunner.answer import answer_text


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({"choices": [{"message": {"content": "好"}}]}, "好"),
        ({"choices": [{"message": {"content": [{"type": "text", "text": "a"}, {"type": "x"}, {"text": "b"}]}}]}, "ab"),
        ({"choices": [{"message": {"content": None, "tool_calls": [{"id": "1"}]}}]}, '[{"id":"1"}]'),
        ({"choices": [{"message": {"content": None, "refusal": "no"}}]}, "no"),
        ({"choices": [{"message": {"content": ""}}]}, ""),
        ({"choices": [{"text": "completion"}]}, "completion"),
        ({"output": [{"type": "reasoning"}, {"content": [{"type": "output_text", "text": "hi"}]}]}, "hi"),
        ({"output": [{"type": "reasoning", "content": [{"text": "hm"}]}, {"content": [{"text": "hi"}]}]}, "hi"),
        ({"output": [{"type": "message", "content": [{"type": "refusal", "refusal": "no"}]}]}, "no"),
        ({"output": [{"type": "function_call", "name": "f"}]}, '[{"type":"function_call","name":"f"}]'),
        ({"data": [{"embedding": [0.5, 1]}]}, "[0.5,1]"),
        ({"data": [{"embedding": [1]}, {"embedding": [2]}]}, "[[1],[2]]"),
        ({"data": [{"embedding": [1]}, None, {}]}, "[[1],null,null]"),
    ],
)
def test_the_answer_is_found(body: dict[str, Any], text: str) -> None:
    assert answer_text(json.dumps(body)) == text


@pytest.mark.parametrize("body", ["", "no json", "[1]", '{"results":[{"index":0}]}', '{"choices":[]}', "[" * 100_000])
def test_a_body_of_another_kind_is_its_own_answer(body: str) -> None:
    assert answer_text(body) == body


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["choices", "message", "content", "text", "output", "data", "embedding"]), inner, max_size=3
        )
    ),
    max_leaves=12,
)


@given(json_values)
def test_any_body_gives_a_text(value: Any) -> None:
    assert isinstance(answer_text(json.dumps(value)), str)


@given(st.binary())
def test_any_bytes_give_a_text(body: bytes) -> None:
    assert isinstance(answer_text(body), str)
