"""The official OpenAI client takes the simulator for the real thing."""

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from batchrunner.simulator.server import Simulator

if TYPE_CHECKING:
    import openai
    from openai import OpenAI
    from openai.types.chat import ChatCompletionFunctionToolParam, ChatCompletionUserMessageParam
else:
    openai = pytest.importorskip("openai", reason="the openai package is not installed")
    OpenAI = openai.OpenAI


@pytest.fixture(scope="module")
def simulator() -> Iterator[Simulator]:
    with Simulator(key="sk-canary", models=("sim-1",)) as running:
        yield running


@pytest.fixture
def client(simulator: Simulator) -> Iterator[OpenAI]:
    with OpenAI(base_url=simulator.base_url, api_key="sk-canary", max_retries=0) as made:
        yield made


def ask(client: OpenAI, text: str, *, model: str = "sim-1") -> None:
    client.chat.completions.create(model=model, messages=[{"role": "user", "content": text}])


def test_chat(client: OpenAI) -> None:
    answer = client.chat.completions.create(
        model="sim-1",
        messages=[
            {"role": "system", "content": "Answer with one of: good, bad"},
            {"role": "user", "content": "The parcel came early."},
        ],
        max_completion_tokens=20,
    )

    assert answer.choices[0].message.content in ("good", "bad")
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert answer.system_fingerprint == "simulated"


def test_completions(client: OpenAI) -> None:
    answer = client.completions.create(model="sim-1", prompt="Once upon a time", max_tokens=3)

    assert answer.choices[0].text
    assert answer.choices[0].finish_reason == "length"


@pytest.mark.parametrize("encoding", ["float", "base64"])
def test_embeddings(client: OpenAI, encoding: str) -> None:
    plain = client.embeddings.create(model="sim-1", input=["a", "b"], dimensions=16, encoding_format="float")
    # Left out, the client asks for base64 and decodes it itself.
    answer = plain if encoding == "float" else client.embeddings.create(model="sim-1", input=["a", "b"], dimensions=16)

    for entry in answer.data:
        assert len(entry.embedding) == 16
        assert sum(number**2 for number in entry.embedding) == pytest.approx(1)
    assert answer.usage.prompt_tokens == answer.usage.total_tokens > 0


def test_models(client: OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["sim-1"]


def test_wrong_key(simulator: Simulator) -> None:
    with (
        OpenAI(base_url=simulator.base_url, api_key="wrong", max_retries=0) as stranger,
        pytest.raises(openai.AuthenticationError) as caught,
    ):
        ask(stranger, "hello")
    assert caught.value.code == "invalid_api_key"


def test_unknown_model(client: OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        ask(client, "hello", model="nobody")
    assert caught.value.code == "model_not_found"


def test_bad_request(client: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model="sim-1", messages=[])
    assert caught.value.param == "messages"


def test_stream(client: OpenAI) -> None:
    """Role first, then text, then the reason; put together, it is the answer that comes without a stream."""
    messages: list[ChatCompletionUserMessageParam] = [{"role": "user", "content": "hello"}]
    with client.chat.completions.create(model="sim-1", messages=messages, stream=True) as stream:
        chunks = list(stream)

    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert all(chunk.object == "chat.completion.chunk" and chunk.usage is None for chunk in chunks)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    with client.chat.completions.stream(model="sim-1", messages=messages) as helper:
        assert helper.get_final_completion().choices[0].message.content == text


def test_stream_with_usage(client: OpenAI) -> None:
    """In a last chunk of its own, without choices, and null in all others."""
    chunks = list(
        client.chat.completions.create(
            model="sim-1",
            messages=[{"role": "user", "content": "hello"}],
            stream=True,
            stream_options={"include_usage": True},
        )
    )

    *others, last = chunks
    assert (last.choices, {chunk.usage for chunk in others}) == ([], {None})
    assert last.usage is not None
    assert last.usage.total_tokens == last.usage.prompt_tokens + last.usage.completion_tokens > 0


WEATHER: "ChatCompletionFunctionToolParam" = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


def test_tool_calls_with_and_without_a_stream(client: OpenAI) -> None:
    """The client's own assembly of the stream is a call with the same arguments."""
    messages: list[ChatCompletionUserMessageParam] = [{"role": "user", "content": "Weather?"}]
    plain = client.chat.completions.create(model="sim-1", messages=messages, tools=[WEATHER])
    with client.chat.completions.stream(model="sim-1", messages=messages, tools=[WEATHER]) as stream:
        streamed = stream.get_final_completion()

    for choice in (plain.choices[0], streamed.choices[0]):
        assert choice.finish_reason == "tool_calls"
        (call,) = choice.model_dump()["message"]["tool_calls"]
        assert (call["type"], call["function"]["name"]) == ("function", "weather")
        assert json.loads(call["function"]["arguments"]).keys() == {"city"}


def test_completions_stream(client: OpenAI) -> None:
    chunks = list(client.completions.create(model="sim-1", prompt="Once", max_tokens=3, stream=True))

    assert "".join(chunk.choices[0].text for chunk in chunks)
    assert chunks[-1].choices[0].finish_reason == "length"


def test_the_limits_of_a_stream_are_in_its_head() -> None:
    with (
        Simulator(rpm=60, latency=5.0) as limited,
        OpenAI(base_url=limited.base_url, api_key="any", max_retries=0) as client,
        client.chat.completions.with_streaming_response.create(
            model="m", messages=[{"role": "user", "content": "hello"}], stream=True
        ) as response,
    ):
        assert response.headers["x-ratelimit-remaining-requests"] == "59"
        assert limited.score().answers == 0


def test_raw_headers(client: OpenAI) -> None:
    raw = client.chat.completions.with_raw_response.create(model="sim-1", messages=[{"role": "user", "content": "a"}])

    assert raw.headers["x-batchrunner-simulated"] == "1"
    assert raw.parse().choices[0].message.content


def test_an_error_in_the_middle_of_a_stream_is_raised(client: OpenAI) -> None:
    with pytest.raises(openai.APIError, match="failed in the middle"):
        list(
            client.chat.completions.create(
                model="sim-1", messages=[{"role": "user", "content": "[[fault:error_mid]]"}], stream=True
            )
        )


def test_responses(client: OpenAI) -> None:
    answer = client.responses.create(model="sim-1", input="hello", instructions="Answer with one of: good, bad")

    assert answer.output_text in ("good", "bad")
    assert (answer.status, answer.error) == ("completed", None)
    assert answer.usage is not None
    assert answer.usage.total_tokens == answer.usage.input_tokens + answer.usage.output_tokens


def test_responses_stream(client: OpenAI) -> None:
    """Events in order, with the whole at the end."""
    with client.responses.stream(model="sim-1", input="hello") as stream:
        events = list(stream)
        final = stream.get_final_response()

    assert [events[0].type, events[-1].type] == ["response.created", "response.completed"]
    text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert final.output_text == text != ""


def test_moderations(simulator: Simulator) -> None:
    with OpenAI(base_url=simulator.base_url, api_key="sk-canary", max_retries=0) as client:
        answer = client.moderations.create(model="sim-1", input=["a", "b"])

    assert len(answer.results) == 2
    assert isinstance(answer.results[0].flagged, bool)
    assert 0 <= answer.results[0].category_scores.violence <= 1


def test_server_error(client: OpenAI) -> None:
    with pytest.raises(openai.InternalServerError):
        ask(client, "[[fault:500]]")


def test_dropped_connection(client: OpenAI) -> None:
    with pytest.raises(openai.APIConnectionError):
        ask(client, "[[fault:drop]]")


@pytest.mark.parametrize(("rpm", "tpm", "kind"), [(2, None, "requests"), (None, 2, "tokens")])
def test_rate_limit(rpm: int | None, tpm: int | None, kind: str) -> None:
    with (
        Simulator(rpm=rpm, tpm=tpm, window=3600) as limited,
        OpenAI(base_url=limited.base_url, api_key="any", max_retries=0) as client,
    ):
        for _ in range(2 if rpm else 1):
            ask(client, "hello")
        with pytest.raises(openai.RateLimitError) as caught:
            ask(client, "hello")
        assert (caught.value.code, caught.value.type) == ("rate_limit_exceeded", kind)
        assert f"Rate limit reached for {kind}: Limit 2, Used 2, Requested" in caught.value.message
        assert int(caught.value.response.headers["retry-after-ms"]) > 1_000_000
        assert caught.value.response.headers[f"x-ratelimit-remaining-{kind}"] == "0"
