"""A stream's chunks come to the object that would have come without a stream."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchrunner.api.assemble import Assembler
from batchrunner.api.sse import Event

HEAD = {"id": "c1", "object": "chat.completion.chunk", "created": 7, "model": "m", "system_fingerprint": "f"}


def event(value: Any, name: bytes = b"") -> Event:
    return Event(value if isinstance(value, bytes) else json.dumps(value).encode(), name)


def chunk(*choices: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {**HEAD, "choices": list(choices), **more}


def delta(index: int = 0, finish: str | None = None, **parts: Any) -> dict[str, Any]:
    return {"index": index, "delta": parts, "logprobs": None, "finish_reason": finish}


def taken(*chunks: Any) -> Assembler:
    assembler = Assembler()
    for each in chunks:
        assembler.add(each if isinstance(each, Event) else event(each))
    return assembler


def assembled(*chunks: Any) -> Any:
    return json.loads(taken(*chunks).body())


def message(*deltas: dict[str, Any]) -> Any:
    return assembled(*(chunk(delta(**each)) for each in deltas))["choices"][0]["message"]


def test_a_chat_is_what_it_would_have_been() -> None:
    """Text, reasoning, finish reason, usage and names; nothing of the stream is left in it."""
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    assert assembled(
        chunk(delta(role="assistant", content=""), usage=None, obfuscation="x"),
        chunk(delta(reasoning_content="hm")),
        chunk(delta(content="Hel"), usage=None),
        chunk(delta(content="lo")),
        chunk(delta(finish="stop")),
        chunk(usage=usage),
        event(b"[DONE]"),
    ) == {
        **HEAD,
        "object": "chat.completion",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Hello", "reasoning_content": "hm"},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": usage,
    }


def test_tool_calls_are_put_together_by_index() -> None:
    """Interleaved parts find their call; the index is the stream's own."""
    made = message(
        {"role": "assistant", "content": None},
        {"tool_calls": [{"index": 0, "id": "a", "type": "function", "function": {"name": "f", "arguments": ""}}]},
        {"tool_calls": [{"index": 1, "id": "b", "type": "function", "function": {"name": "g", "arguments": ""}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": '{"x":'}}]},
        {"tool_calls": [{"index": 1, "function": {"arguments": "{}"}}, {"index": 0, "function": {"arguments": " 1}"}}]},
    )
    assert made["tool_calls"] == [
        {"id": "a", "type": "function", "function": {"name": "f", "arguments": '{"x": 1}'}},
        {"id": "b", "type": "function", "function": {"name": "g", "arguments": "{}"}},
    ]
    assert made["content"] is None


@pytest.mark.parametrize(
    ("deltas", "calls"),
    [
        ([[{"id": "a", "function": {"name": "f"}}], [{"id": "b", "function": {"name": "g"}}]], ["f", "g"]),
        (
            [
                [{"index": 0, "id": "a", "function": {"name": "f"}}],
                [{"index": 0, "id": "b", "function": {"name": "g"}}],
            ],
            ["f", "g"],
        ),
        ([[{"id": "a", "function": {"name": "f"}}, {"id": "b", "function": {"name": "g"}}]], ["f", "g"]),
        ([[{"index": 0, "id": "a", "function": {"name": "f"}}], [{"index": 0, "function": {"name": "f"}}]], ["f"]),
        ([[{"index": 0, "id": "a", "function": {"name": "f"}}], [{"index": 0, "id": "a", "function": {}}]], ["f"]),
        ([[{"id": "a", "function": {"name": "get_"}}], [{"function": {"name": "time"}}]], ["get_time"]),
        ([[{"index": 0, "id": "a", "function": {"name": "f"}}], [{"id": "a", "function": {}}]], ["f"]),
        (
            [
                [{"index": 1, "id": "b", "function": {"name": "g"}}],
                [{"index": 0, "id": "a", "function": {"name": "f"}}],
            ],
            ["f", "g"],
        ),
    ],
    ids=[
        "no index",
        "one index for all",
        "all at once",
        "name repeated",
        "id repeated",
        "name in parts",
        "index once",
        "second first",
    ],
)
def test_tool_calls_of_careless_servers(deltas: list[list[dict[str, Any]]], calls: list[str]) -> None:
    made = message(*({"tool_calls": each} for each in deltas))
    assert [call["function"]["name"] for call in made["tool_calls"]] == calls


def test_several_choices_and_their_logprobs() -> None:
    """Each by its index, whatever the order; logprobs are one list."""
    first, second = {"content": [{"token": "a"}]}, {"content": [{"token": "b"}]}
    made = assembled(
        chunk(delta(1, content="B")),
        chunk({**delta(0, content="a"), "logprobs": first}),
        chunk({**delta(0, content="b"), "logprobs": second}, delta(1, finish="length")),
        chunk(delta(0, finish="stop", refusal=None)),
    )
    assert [choice["index"] for choice in made["choices"]] == [0, 1]
    assert [choice["message"]["content"] for choice in made["choices"]] == ["ab", "B"]
    assert [choice["finish_reason"] for choice in made["choices"]] == ["stop", "length"]
    assert made["choices"][0]["logprobs"] == {"content": [{"token": "a"}, {"token": "b"}]}


def test_choices_without_an_index_are_told_apart_by_their_place() -> None:
    parts = [{"delta": {"content": "A"}}, {"delta": {"content": "B"}}]
    made = assembled(chunk(*parts), chunk(*parts))
    assert [choice["message"]["content"] for choice in made["choices"]] == ["AA", "BB"]


def test_tokens_are_no_names() -> None:
    """In a text completion's logprobs they are keys, "index", "id" and "function" among them."""
    tops = [{"def": -0.1}, {"function": -0.2}, {"index": -0.3}, {"id": -0.4}, {"id": -0.4}]
    chunks = [
        {"choices": [{"index": 0, "text": "x", "logprobs": {"tokens": ["x"], "top_logprobs": [t]}}]} for t in tops
    ]
    assert assembled(*chunks)["choices"][0]["logprobs"] == {"tokens": ["x"] * 5, "top_logprobs": tops}


def test_what_no_json_has_is_null() -> None:
    """The logarithm of 0, as Python's servers write it; the answer beside it was paid for."""
    made = assembled(event(b'{"choices": [{"index": 0, "text": "x", "logprobs": {"token_logprobs": [-Infinity]}}]}'))
    assert made["choices"][0]["logprobs"] == {"token_logprobs": [None]}


def test_text_completions() -> None:
    made = assembled(
        {"id": "t", "object": "text_completion", "choices": [{"index": 0, "text": "a", "finish_reason": None}]},
        {"id": "t", "object": "text_completion", "choices": [{"index": 0, "text": "b", "finish_reason": "stop"}]},
    )
    assert made["object"] == "text_completion"
    assert made["choices"] == [{"index": 0, "text": "ab", "finish_reason": "stop", "logprobs": None}]


@pytest.mark.parametrize(
    "chunks",
    [
        [chunk(delta(content="a"), usage={"total_tokens": 1}), chunk(delta(finish="stop"), usage={"total_tokens": 2})],
        [chunk(delta(content="a")), chunk(usage={"total_tokens": 2}), chunk(usage=None)],
        [chunk(delta(content="a"), x_groq={"id": "r"}), chunk(x_groq={"id": "r", "usage": {"total_tokens": 2}})],
        [chunk({**delta(content="a", finish="stop"), "usage": {"total_tokens": 2}})],
        [chunk(delta(content="a"), usage={"total_tokens": 2}), chunk(delta(finish="stop"), usage={})],
    ],
    ids=["in every chunk", "in the last", "Groq's place", "Moonshot's place", "empty at last"],
)
def test_usage_is_the_last_that_was_told(chunks: list[dict[str, Any]]) -> None:
    assert assembled(*chunks)["usage"] == {"total_tokens": 2}


def test_usage_may_come_in_two_parts() -> None:
    made = assembled(chunk(usage={"prompt_tokens": 5}), chunk(delta(finish="stop"), usage={"completion_tokens": 2}))
    assert made["usage"] == {"prompt_tokens": 5, "completion_tokens": 2}


def test_the_whole_so_far_beside_each_part_is_not_added_twice() -> None:
    """Perplexity sends both, and its citations with every chunk."""
    made = assembled(
        chunk({**delta(content="a"), "message": {"role": "assistant", "content": "a"}}, citations=["x"]),
        chunk({**delta(content="b", finish="stop"), "message": {"content": "ab"}}, citations=["x"]),
    )
    assert made["choices"][0]["message"]["content"] == "ab"
    assert made["citations"] == ["x"]


def test_a_whole_message_without_a_delta_is_the_answer() -> None:
    made = assembled(chunk({"index": 0, "delta": None, "message": {"content": "ab"}, "finish_reason": "stop"}))
    assert made["choices"][0]["message"] == {"role": "assistant", "content": "ab"}


def test_content_in_parts() -> None:
    """Mistral thinks in parts of a list, and answers in text."""
    made = message(
        {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}]}, {"content": "yes"}
    )
    assert made["content"] == [
        {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]},
        {"type": "text", "text": "yes"},
    ]


def test_the_halves_of_a_character_become_one() -> None:
    """Escaped halves in two chunks, as servers that count in UTF-16 send them."""
    assembler = taken(
        event(b'{"choices":[{"index":0,"delta":{"content":"\\ud83d"}}]}'),
        event(b'{"choices":[{"index":0,"delta":{"content":"\\ude00"},"finish_reason":"stop"}]}'),
    )
    assert json.loads(assembler.body())["choices"][0]["message"]["content"] == "😀"


@pytest.mark.parametrize(
    ("chunks", "whole"),
    [
        ([], False),
        ([chunk(delta(content="a"))], False),
        ([chunk(delta(content="a", finish="stop"))], True),
        ([chunk(delta(content="a")), event(b" [DONE] ")], True),
        ([chunk(delta(content="a", finish="stop"), delta(1, content="b"))], False),
        ([chunk(delta(content="a", finish=""))], False),
        ([chunk(delta(content="a", finish="stop")), chunk(delta(finish=""))], True),
        ([chunk(delta(content="a")), event(b""), event(b" "), chunk(delta(finish="stop"))], True),
        ([event({"type": "response.created", "response": {"output": []}})], False),
        ([event({"type": "response.completed", "response": {"output": []}})], True),
        ([event({"type": "response.incomplete", "response": {"output": []}})], True),
        ([chunk(delta(content="a")), event(b'{"id": "c1", "cho'), chunk(delta(finish="stop"))], False),
    ],
)
def test_a_stream_is_whole_only_if_it_says_so(chunks: list[Any], whole: bool) -> None:
    """A finish_reason in each choice, or [DONE]; what can't be read ends it."""
    assert taken(*chunks).is_whole is whole


@pytest.mark.parametrize(
    ("last", "error"),
    [
        (event({"error": {"code": 502, "message": "down"}, "choices": []}), {"code": 502, "message": "down"}),
        (event({"error": "down"}), "down"),
        (event({"object": "error", "code": 400, "message": "no"}), {"object": "error", "code": 400, "message": "no"}),
        (event({"message": "down"}, b"error"), {"message": "down"}),
        (event({"type": "error", "error": {"message": "down"}}, b"error"), {"message": "down"}),
        (event(b"down", b"error"), "down"),
    ],
)
def test_an_error_in_the_middle_ends_it(last: Event, error: Any) -> None:
    """In each of its shapes; what came before is kept, what comes after is not read."""
    assembler = taken(chunk(delta(content="par")), last, chunk(delta(content="tial")), event(b"[DONE]"))
    made = json.loads(assembler.body())
    assert (made["error"], made["choices"][0]["message"]["content"]) == (error, "par")
    assert (assembler.has_error, assembler.is_over, assembler.is_whole) == (True, True, False)


def test_an_error_takes_nothing_away_from_a_whole_answer() -> None:
    """It was paid for, and is never asked for again."""
    assembler = taken(chunk(delta(content="all", finish="stop")), {"error": {"code": 500, "message": "no usage"}})
    assert (assembler.has_error, assembler.is_over, assembler.is_whole) == (False, True, True)


def test_the_responses_api_sends_the_whole_at_its_end() -> None:
    """Before its end, the text so far stands in the object that began it."""
    created = {"type": "response.created", "response": {"id": "r", "status": "in_progress", "output": []}}
    text = [{"type": "response.output_text.delta", "delta": part} for part in ("Hel", "lo")]
    end = {"type": "response.completed", "response": {"id": "r", "status": "completed", "output": [{"type": "x"}]}}
    assert assembled(created, *text, end) == end["response"]
    partial = assembled(created, *text)
    assert (partial["status"], partial["output"][0]["content"][0]["text"]) == ("in_progress", "Hello")


def test_a_response_whose_end_leaves_its_output_out() -> None:
    """What was done by then is the output, calls too."""
    call = {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}
    done = {"type": "response.output_item.done", "output_index": 0, "item": call}
    end = {"type": "response.completed", "response": {"status": "completed", "output": []}}
    assert assembled(done, end)["output"] == [call]
    text = {"type": "response.output_text.delta", "delta": "Hello"}
    output = assembled(done, text, {**end, "type": "response.failed", "response": {"status": "failed"}})["output"]
    assert [item["type"] for item in output] == ["function_call", "message"]
    assert output[1]["status"] == "incomplete"


@pytest.mark.parametrize(
    ("parts", "began"),
    [
        ({"role": "assistant", "content": ""}, False),
        ({"role": "assistant"}, False),
        ({"content": "a"}, True),
        ({"reasoning_content": "a"}, True),
        ({"tool_calls": [{"index": 0, "id": "a"}]}, True),
        ({}, False),
    ],
)
def test_the_first_token_is_the_first_that_says_anything(parts: dict[str, Any], began: bool) -> None:
    assert Assembler().add(event(chunk(delta(**parts)))) is began


_TEXTS = st.lists(st.text(max_size=4), max_size=6)


@given(st.lists(st.tuples(_TEXTS, _TEXTS, _TEXTS), min_size=1, max_size=3), st.randoms(use_true_random=False))
def test_any_answer_in_any_pieces_comes_out_as_it_was(choices: list[tuple[list[str], ...]], rng: Any) -> None:
    """Texts, reasoning and a call's arguments, in pieces, the choices' chunks shuffled among one another."""
    queues = []
    for index, (text, thought, arguments) in enumerate(choices):
        parts: list[dict[str, Any]] = [{"reasoning_content": piece} for piece in thought]
        parts += [{"content": piece} for piece in text]
        parts += [{"tool_calls": [{"index": 0, "function": {"arguments": piece}}]} for piece in arguments]
        queues.append([delta(index, **each) for each in parts] + [delta(index, finish="stop")])
    chunks = []
    while any(queues):
        chunks.append(chunk(rng.choice([queue for queue in queues if queue]).pop(0)))
    made = assembled(*chunks)
    assert [choice["index"] for choice in made["choices"]] == list(range(len(choices)))
    for choice, (text, thought, arguments) in zip(made["choices"], choices, strict=True):
        assert (choice["message"]["content"] or "") == "".join(text)
        assert choice["message"].get("reasoning_content", "") == "".join(thought)
        calls = choice["message"].get("tool_calls", [])
        assert "".join(call["function"]["arguments"] for call in calls) == "".join(arguments)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "choices",
                    "delta",
                    "index",
                    "id",
                    "content",
                    "tool_calls",
                    "function",
                    "text",
                    "usage",
                    "error",
                    "type",
                    "message",
                    "logprobs",
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=14,
)


@given(st.lists(_JSON.map(event) | st.binary(max_size=8).map(Event) | st.just(event({"type": "response.x"}))))
def test_no_event_whatever_raises(events: list[Event]) -> None:
    """Any JSON and any bytes come to an object."""
    assert isinstance(json.loads(taken(*events).body()), dict)


@pytest.mark.parametrize("first", [{"message": "x"}, {"logprobs": []}, {"text": [1]}])
def test_no_kind_where_another_was_raises(first: dict[str, Any]) -> None:
    made = assembled(chunk({"index": 0, **first}), chunk({**delta(content="a"), "logprobs": {"content": []}}))
    assert made["choices"][0]["message"]["content"] == "a"


@pytest.mark.parametrize("opened", [b"[", b'{"a":'])
@pytest.mark.parametrize("levels", [300, 900, 5000])
def test_no_depth_raises(opened: bytes, levels: int) -> None:
    closed = b"]" if opened == b"[" else b"}"
    deep = opened * levels + b"1" + closed * levels
    assembler = taken(chunk(delta(content="a")), event(b'{"choices": [{"delta": {"x": %s}}]}' % deep))
    assert (assembler.is_over, assembler.is_whole) == (True, False)
    assert json.loads(assembler.body())["choices"][0]["message"]["content"] == "a"
