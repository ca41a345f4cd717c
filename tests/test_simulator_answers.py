"""Canned answers, faults and latencies come from the body alone."""

import json
from collections import Counter
from hashlib import blake2b
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tools import WEATHER

from batchrunner.errors import ConfigError
from batchrunner.simulator.answers import make_answer, models_answer
from batchrunner.simulator.faults import AskedFault, Fault, asked_fault, parse_faults
from batchrunner.simulator.latency import parse_latency
from batchrunner.simulator.questions import BadBodyError, Endpoint, find_labels, read_question


def ask(endpoint: Endpoint, body: dict[str, Any], *, seed: int = 0) -> dict[str, Any]:
    raw = json.dumps(body).encode()
    answer = make_answer(read_question(endpoint, raw), blake2b(raw, digest_size=16).digest(), seed=seed)
    decoded: dict[str, Any] = json.loads(answer.body)
    assert decoded["usage"]["total_tokens"] == answer.tokens
    return decoded


def chat(text: str, **more: Any) -> dict[str, Any]:
    return ask(Endpoint.CHAT, {"model": "m", "messages": [{"role": "user", "content": text}], **more})


@given(st.text(), st.integers(1, 500))
def test_chat_keeps_within_max_tokens_and_is_marked(text: str, most: int) -> None:
    answer = chat(text, max_tokens=most)

    assert answer["object"] == "chat.completion"
    assert answer["system_fingerprint"] == "simulated"
    assert answer["id"].startswith("chatcmpl-sim-")
    assert 1 <= answer["usage"]["completion_tokens"] <= most
    assert answer["choices"][0]["finish_reason"] in ("stop", "length")
    assert answer == chat(text, max_tokens=most)


def test_answer_cut_by_max_tokens_says_so() -> None:
    answer = chat("hello", max_tokens=2)

    assert answer["choices"][0]["finish_reason"] == "length"
    assert len(answer["choices"][0]["message"]["content"].split()) == 2


def test_seed_changes_the_answer() -> None:
    body = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}

    assert ask(Endpoint.CHAT, body, seed=1) != ask(Endpoint.CHAT, body, seed=2)


def test_prompt_tokens_grow_with_the_prompt() -> None:
    assert 225 <= chat("word " * 200)["usage"]["prompt_tokens"] <= 325
    assert chat("物流很快" * 100)["usage"]["prompt_tokens"] >= 270


def test_listed_options_are_what_is_answered() -> None:
    answers = [
        chat(f"Classify {n}. Answer with one of: positive, negative, or neutral.\nThanks")["choices"][0]["message"][
            "content"
        ]
        for n in range(60)
    ]

    assert set(answers) == {"positive", "negative", "neutral"}
    assert min(Counter(answers).values()) > 5


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("One of: a, b, c", ("a", "b", "c")),
        ("ONE OF:yes,no", ("yes", "no")),
        ("只答以下之一：正面、负面、中性。谢谢", ("正面", "负面", "中性")),
        ('one of: "x y", "z"; nothing else', ("x y", "z")),
        ("one of these days", ()),
        ("one of: ", ()),
    ],
)
def test_options_are_found_in_both_languages(text: str, labels: tuple[str, ...]) -> None:
    assert find_labels(text) == labels


def test_text_parts_count_like_text() -> None:
    parts = [{"type": "text", "text": "one of: a, b"}, {"type": "image_url", "image_url": {"url": "data:,"}}]
    answer = ask(Endpoint.CHAT, {"model": "m", "messages": [{"role": "user", "content": parts}]})

    assert answer["choices"][0]["message"]["content"] in ("a", "b")


def test_several_choices_are_numbered() -> None:
    assert [choice["index"] for choice in chat("hello", n=3)["choices"]] == [0, 1, 2]


@pytest.mark.parametrize("given_input", ["hello", ["hello", "you"], [1, 2, 3], [[1, 2], [3]]])
def test_embeddings_have_unit_length(given_input: object) -> None:
    answer = ask(Endpoint.EMBEDDINGS, {"model": "m", "input": given_input})

    for index, entry in enumerate(answer["data"]):
        assert entry["index"] == index
        assert len(entry["embedding"]) == 8
        assert sum(number**2 for number in entry["embedding"]) == pytest.approx(1)


def test_embeddings_have_the_dimensions_asked_for() -> None:
    answer = ask(Endpoint.EMBEDDINGS, {"model": "m", "input": "hello", "dimensions": 100})

    assert len(answer["data"][0]["embedding"]) == 100


def test_completions_answer_each_prompt() -> None:
    answer = ask(Endpoint.COMPLETIONS, {"model": "m", "prompt": ["a", "b"]})

    assert answer["object"] == "text_completion"
    assert len(answer["choices"]) == 2


def test_responses_tell_where_they_were_cut() -> None:
    answer = ask(Endpoint.RESPONSES, {"model": "m", "input": "hello", "max_output_tokens": 2})

    assert (answer["status"], answer["incomplete_details"]) == ("incomplete", {"reason": "max_output_tokens"})
    assert len(answer["output"][0]["content"][0]["text"].split()) == 2


def test_rerank_names_the_best_first() -> None:
    body = {"model": "m", "query": "q", "documents": ["a", {"text": "b"}, "c"], "top_n": 2}
    results = ask(Endpoint.RERANK, body)["results"]

    assert len(results) == 2
    assert results[0]["relevance_score"] >= results[1]["relevance_score"]


def test_moderations_judge_each_text_and_tell_no_usage() -> None:
    raw = json.dumps({"input": ["a", "b"]}).encode()
    answer = json.loads(make_answer(read_question(Endpoint.MODERATIONS, raw), raw, seed=0).body)

    assert len(answer["results"]) == 2
    assert "usage" not in answer
    assert all(result["flagged"] is any(result["categories"].values()) for result in answer["results"])


@pytest.mark.parametrize(
    ("more", "calls"),
    [
        ({"tools": [WEATHER]}, True),
        ({"tools": [WEATHER], "tool_choice": {"type": "function", "function": {"name": "weather"}}}, True),
        ({"tools": [WEATHER], "tool_choice": {"type": "function", "function": {"name": "nobody"}}}, False),
        ({"tools": [WEATHER], "tool_choice": "none"}, False),
        ({"tools": []}, False),
        ({"tools": [{"type": "function", "function": 7}]}, False),
    ],
)
def test_a_tool_is_called_with_arguments_that_fit(more: dict[str, Any], calls: bool) -> None:
    (choice,) = chat("hello", **more)["choices"]

    assert (choice["finish_reason"] == "tool_calls") is calls
    if calls:
        (call,) = choice["message"]["tool_calls"]
        arguments = json.loads(call["function"]["arguments"])
        assert (call["function"]["name"], arguments.keys()) == ("weather", {"city", "unit", "days"})
        assert arguments["unit"] in ("C", "F")
        assert all(isinstance(day, int) for day in arguments["days"])


def test_models_are_listed() -> None:
    assert [entry["id"] for entry in json.loads(models_answer(("a", "b")))["data"]] == ["a", "b"]


@pytest.mark.parametrize(
    ("endpoint", "body", "says"),
    [
        (Endpoint.CHAT, b"{", "could not parse"),
        (Endpoint.CHAT, b"\xff\xfe", "could not parse"),
        (Endpoint.CHAT, b"[" * 100_000, "nvalid|could not parse"),
        (Endpoint.CHAT, b"[]", "Expected `object`"),
        (Endpoint.CHAT, b'{"model":"m"}', "messages"),
        (Endpoint.CHAT, b'{"messages":[{"role":"user","content":"x"}]}', "model"),
        (Endpoint.CHAT, b'{"model":"m","messages":[{"role":"user","content":"x"}],"max_tokens":0}', "max_tokens"),
        (Endpoint.CHAT, b'{"model":"m","messages":[{"role":"user","content":"x"}],"n":0}', "'n'"),
        (Endpoint.COMPLETIONS, b'{"model":"m"}', "prompt"),
        (Endpoint.EMBEDDINGS, b'{"model":"m"}', "input"),
        (Endpoint.EMBEDDINGS, b'{"model":"m","input":"a","stream":true}', "streamed"),
        (Endpoint.RESPONSES, b'{"model":"m"}', "input"),
        (Endpoint.RESPONSES, b'{"model":"m","input":"a","max_output_tokens":0}', "max_output_tokens"),
        (Endpoint.RERANK, b'{"model":"m","query":"a"}', "documents"),
        (Endpoint.RERANK, b'{"model":"m","documents":["a"]}', "query"),
        (Endpoint.MODERATIONS, b'{"input":[]}', "input"),
        (Endpoint.EMBEDDINGS, b'{"model":"m","input":["a",1]}', "mixes"),
        (Endpoint.EMBEDDINGS, b'{"model":"m","input":"a","dimensions":0}', "dimensions"),
        (Endpoint.EMBEDDINGS, b'{"model":"m","input":"a","encoding_format":"x"}', "encoding_format"),
    ],
)
def test_body_that_can_not_be_answered_is_explained(endpoint: Endpoint, body: bytes, says: str) -> None:
    with pytest.raises(BadBodyError, match=says):
        read_question(endpoint, body)


@given(st.binary())
def test_no_body_breaks_the_reader(body: bytes) -> None:
    for endpoint in set(Endpoint) - {Endpoint.MODELS}:
        with pytest.raises(BadBodyError):
            read_question(endpoint, body)


def test_faults_come_as_often_as_their_share() -> None:
    faults = parse_faults("500:0.1, drop:0.2,slow:0.3:7")

    drawn = Counter(faults.draw((n + 0.5) / 1000) for n in range(1000))

    assert drawn == {Fault.SERVER_ERROR: 100, Fault.DROP: 200, Fault.SLOW: 300, None: 400}
    assert faults.slow_for == 7


def test_truncated_is_another_name_of_reset_mid() -> None:
    assert parse_faults("truncated:1").shares == ((Fault.RESET, 1.0),)


@pytest.mark.parametrize(
    "spec", ["500", "500:x", "500:-1", "500:nan", "bang:0.1", "500:0.6,drop:0.6", "500:0.1:3", "500:0.1,500:0.1"]
)
def test_bad_fault_spec_is_refused(spec: str) -> None:
    with pytest.raises(ConfigError):
        parse_faults(spec)


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        (b"..[[fault:500]]..", AskedFault(Fault.SERVER_ERROR, None)),
        (b"[[fault:500x2]]", AskedFault(Fault.SERVER_ERROR, 2)),
        (b"[[fault:dropx1]]", AskedFault(Fault.DROP, 1)),
        (b"[[fault:reset_mid]]", AskedFault(Fault.RESET, None)),
        (b"fault:500", None),
    ],
)
def test_prompt_asks_for_a_fault(body: bytes, fault: AskedFault | None) -> None:
    assert asked_fault(body) == fault


def test_unknown_fault_in_a_prompt_is_refused() -> None:
    with pytest.raises(ConfigError, match="no fault 'bang'"):
        asked_fault(b"[[fault:bang]]")


@pytest.mark.parametrize(
    ("spec", "mean"), [(0.25, 0.25), ("0.5", 0.5), ("uniform:0.1:0.3", 0.2), ("lognormal:0.8:0.5", 0.8)]
)
def test_latencies_have_the_mean_they_were_given(spec: str | float, mean: float) -> None:
    latency = parse_latency(spec)

    assert sum(latency.draw((n + 0.5) / 2000) for n in range(2000)) / 2000 == pytest.approx(mean, rel=0.01)


@given(st.floats(0, 1))
def test_latency_is_never_negative(chance: float) -> None:
    assert 0 < parse_latency("lognormal:0.8:0.5").draw(chance) < 60
