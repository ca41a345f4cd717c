"""The official OpenAI client takes the simulator for the real thing."""

from collections.abc import Iterator

import openai
import pytest
from openai import OpenAI

from batchrunner.simulator.server import Simulator


@pytest.fixture(scope="module")
def simulator() -> Iterator[Simulator]:
    with Simulator(key="sk-canary", models=("sim-1",)) as running:
        yield running


@pytest.fixture
def client(simulator: Simulator) -> Iterator[OpenAI]:
    with OpenAI(base_url=simulator.base_url, api_key="sk-canary", max_retries=0) as made:
        yield made


def ask(client: OpenAI, text: str, *, model: str = "sim-1", stream: bool = False) -> None:
    client.chat.completions.create(model=model, messages=[{"role": "user", "content": text}], stream=stream)


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


def test_streaming_is_refused_in_words(client: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="streaming is not simulated yet"):
        ask(client, "hello", stream=True)


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
