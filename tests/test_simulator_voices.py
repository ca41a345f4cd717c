"""Every provider that is known can be played, and what is said in its words is understood as what it is."""

import json
import re
from collections.abc import Mapping
from math import inf
from random import Random

import anyio
import pytest

import batchrunner as br
from batchrunner.api.client import Client
from batchrunner.api.headers import quota
from batchrunner.api.reply import read_reply
from batchrunner.config import Endpoint, RetrySettings, Secret
from batchrunner.errors import ConfigError
from batchrunner.provider import GENERIC, load_provider, provider_names
from batchrunner.quota import Dimension, Window
from batchrunner.retry import GiveUp, Retry, Snooze, Stop, Verdict, decide
from batchrunner.simulator.gate import Levels
from batchrunner.simulator.rules import Bound, Refusal, State
from batchrunner.simulator.templates import FIELDS
from batchrunner.simulator.voices import voice_names, voice_of
from batchrunner.task import Failure, FailureClass, Lease, Outcome, Success

NAMES = voice_names()
EVERY = [(name, kind) for name in NAMES for kind in voice_of(name).errors]
NOW = 1_790_000_000.0
F = FailureClass
ACTIONS: Mapping[F, type[Verdict]] = {
    **dict.fromkeys((F.RATE_LIMIT, F.CONCURRENCY, F.OVERLOADED), Snooze),
    **dict.fromkeys((F.AUTH, F.PERMISSION, F.MODEL_NOT_FOUND, F.WRONG_ENDPOINT, F.QUOTA_EXHAUSTED), Stop),
    **dict.fromkeys((F.BAD_REQUEST, F.CONTEXT_LENGTH, F.REQUEST_TOO_LARGE, F.CONTENT_FILTER), GiveUp),
    **dict.fromkeys((F.SERVER_ERROR, F.TIMEOUT, F.NO_VALID_RESPONSE), Retry),
    F.QUOTA_WINDOW: Stop,  # later=True
}
PAUSES = {F.RATE_LIMIT, F.CONCURRENCY, F.OVERLOADED}
LEVELS = Levels(
    State(limit=60, remaining=12, reset=48.0), State(limit=30_000, remaining=15_000, reset=30.0), utc=NOW, window=60.0
)
REFUSALS = {
    "requests": Refusal(bound=Bound.REQUESTS, limit=60, used=60, requested=1, wait=1.4),
    "tokens": Refusal(bound=Bound.TOKENS, limit=30_000, used=29_990, requested=700, wait=1.4),
    "concurrency": Refusal(bound=Bound.CONCURRENCY, limit=5, used=5, requested=1, wait=None),
    "too_large": Refusal(bound=Bound.TOKENS, limit=30_000, used=10, requested=40_000, wait=inf),
}
SILENT = {
    *("baseten", "dashscope", "dashscope-intl", "deepinfra", "deepseek", "gemini", "generic", "huggingface"),
    *("llamacpp", "moonshot", "moonshot-cn", "nvidia", "ollama", "openrouter", "perplexity", "siliconflow"),
    *("vllm", "zai", "zhipu"),
}
TELLING = sorted(set(NAMES) - SILENT)
REQUESTS_ONLY = {"cohere", "fireworks", "sambanova"}  # of tokens their headers tell nothing that can be used
RESETS = {"anthropic", "azure", "groq", "nebius", "openai", "sambanova", "together"}
WAITS = {  # seconds that a refusal for 1.4 s asks to wait, where it asks
    **dict.fromkeys(("anthropic", "azure", "cerebras", "github-models", "groq", "together"), 2.0),
    **dict.fromkeys(("openai", "gemini"), 1.4),
    **dict.fromkeys(("moonshot", "moonshot-cn"), 1.0),  # whatever the limit
    "litellm": 60.0,  # its window
}


def heard(name: str, status: int, headers: Mapping[str, str], body: bytes) -> Failure:
    outcome = read_reply(status, list(headers.items()), body, provider=load_provider(name), now=NOW)
    assert isinstance(outcome, Failure)
    return outcome


def refused(name: str, occasion: str) -> tuple[F, Failure]:
    """What a refusal is meant to be, and what is heard of it."""
    dialect, refusal = voice_of(name).dialect, REFUSALS[occasion]
    headers, body = dialect.refuse(refusal, LEVELS)
    table = dialect.refused_as(refusal)
    return table.kind, heard(name, table.status, dialect.refusal_headers(LEVELS) | headers, body)


def verdict(failure: Failure) -> type[Verdict]:
    return type(decide(failure, failures=0, policy=RetrySettings(), rng=Random(1)))


def told(name: str, dimension: Dimension) -> list[Window]:
    headers = {key.lower(): value for key, value in voice_of(name).dialect.headers(LEVELS).items()}
    return [window for window in quota(headers, now=NOW).windows if window.dimension is dimension]


def test_every_provider_has_a_voice() -> None:
    assert provider_names() == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_there_is_an_error_of_each_class_that_the_providers_table_knows(name: str) -> None:
    assert {rule.kind for rule in load_provider(name).errors} <= voice_of(name).errors.keys()


@pytest.mark.parametrize("name", sorted(set(NAMES) - {"generic"}))
def test_a_voice_says_where_its_words_are_from(name: str) -> None:
    """And what it has no words for itself, it has by statement."""
    voice = voice_of(name)
    assert voice.source.endswith(".")
    assert ("generic" in voice.source) is (voice.extends == "generic")


@pytest.mark.parametrize(("name", "kind"), EVERY)
def test_an_error_is_of_its_class(name: str, kind: FailureClass) -> None:
    error = voice_of(name).error(kind, 'a"model')
    assert error is not None
    status, body = error
    assert body.startswith(b"<html>") or json.loads(body)
    failure = heard(name, status, {}, body)
    assert failure.kind is kind
    assert verdict(failure) is ACTIONS[kind]


@pytest.mark.parametrize(("name", "kind"), [pair for pair in EVERY if pair[0] in ("openai", "anthropic", "zai")])
def test_it_is_understood_behind_a_proxy_too(name: str, kind: FailureClass) -> None:
    """By the rules for everyone, where the provider is not known; what stops a run is never mistaken for a pause."""
    status, body = voice_of(name).errors[kind]
    outcome = read_reply(status, [], body.encode(), provider=GENERIC, now=NOW)
    assert isinstance(outcome, Failure)
    if kind in PAUSES | {F.AUTH}:
        assert outcome.kind is kind


@pytest.mark.parametrize("occasion", REFUSALS)
@pytest.mark.parametrize("name", NAMES)
def test_a_refusal_is_understood(name: str, occasion: str) -> None:
    """As what it is meant to be: a pause, or where the provider can say so, one request that is too large."""
    meant, failure = refused(name, occasion)
    assert failure.kind is meant
    assert failure.kind in (PAUSES | {F.REQUEST_TOO_LARGE} if occasion == "too_large" else PAUSES)
    assert verdict(failure) is ACTIONS[meant]


@pytest.mark.parametrize("occasion", REFUSALS)
@pytest.mark.parametrize("name", NAMES)
def test_no_field_of_a_refusal_stays_empty(name: str, occasion: str) -> None:
    headers, body = voice_of(name).dialect.refuse(REFUSALS[occasion], LEVELS)
    assert json.loads(body)
    for text in (*headers.values(), body.decode()):
        assert text
        assert not re.search("<(" + "|".join(FIELDS) + "|[a-z]+_[a-z_]+)>", text)


@pytest.mark.parametrize("occasion", ["requests", "tokens"])
@pytest.mark.parametrize("name", NAMES)
def test_what_a_refusal_asks_to_wait_is_read(name: str, occasion: str) -> None:
    _, failure = refused(name, occasion)
    names_no_time = name.startswith("moonshot") and occasion == "tokens"
    assert failure.retry_after == (None if names_no_time else pytest.approx(WAITS.get(name)))


@pytest.mark.parametrize("name", TELLING)
def test_headers_tell_limit_and_remaining(name: str) -> None:
    """Of a minute, whatever the name says: by the day at Groq, by the second at Together."""
    (requests, *rest) = told(name, Dimension.REQUESTS)
    assert not rest or name == "cohere"  # a month's, too
    scale = {"groq": 1440.0, "together": 1 / 60}.get(name, 1.0)
    assert requests.limit == pytest.approx(60 * scale)
    assert requests.remaining == (86_400 - 48 if name == "groq" else 12)
    tokens = told(name, Dimension.TOKENS)
    assert len(tokens) == (0 if name in REQUESTS_ONLY else 1)
    for window in tokens:
        assert window.limit == pytest.approx(500 if name == "together" else 30_000)
        assert window.remaining == 15_000


@pytest.mark.parametrize("name", TELLING)
def test_headers_tell_a_reset_where_the_provider_does(name: str) -> None:
    assert told(name, Dimension.REQUESTS)[0].reset_after == (48.0 if name in RESETS else None)


@pytest.mark.parametrize("name", sorted(SILENT))
def test_who_sends_no_headers_sends_none(name: str) -> None:
    assert voice_of(name).dialect.headers(LEVELS) == {}


def test_headers_are_missing_where_the_provider_leaves_them_out() -> None:
    mistral, cerebras = voice_of("mistral").dialect, voice_of("cerebras").dialect
    assert mistral.headers(LEVELS)
    assert mistral.headers(LEVELS, stream=True) == {}
    assert cerebras.headers(LEVELS, stream=True)
    assert cerebras.refusal_headers(LEVELS) == {}


def test_a_full_bucket_at_nebius_has_no_reset() -> None:
    full = Levels(State(limit=60, remaining=60, reset=0.0), None)
    headers = voice_of("nebius").dialect.headers(full)
    assert "x-ratelimit-reset-requests" not in headers
    assert quota(headers, now=NOW).windows[0].reset_after == 0.0


def lease(body: Mapping[str, object]) -> Lease:
    return Lease(
        attempt_id=1,
        task_id=1,
        custom_id="one",
        endpoint="chat/completions",
        body=json.dumps({"model": "x", **body}),
        attempt=1,
        failures=0,
        cost=1,
        send_at=0,
        permit=None,
    )


def ask(server: br.Simulator, prompt: str, provider: str, *, key: str = "", **body: object) -> Outcome:
    async def send() -> Outcome:
        secret = Secret(key) if key else None
        async with Client(Endpoint(base_url=server.base_url, provider=load_provider(provider), key=secret)) as client:
            return await client.send(lease({"messages": [{"role": "user", "content": prompt}], **body}), now=NOW)

    return anyio.run(send)


def kind_of(outcome: Outcome) -> FailureClass:
    assert isinstance(outcome, Failure)
    return outcome.kind


@pytest.mark.parametrize("name", NAMES)
def test_a_server_speaks_as_its_provider(name: str) -> None:
    """Over HTTP: an answer, a stream, a refusal, a wrong key, another model, a body that makes no sense."""
    with br.Simulator(voice=name, rpm=2, key="right", models=("x",)) as server:
        answer = ask(server, "a", name, key="right")
        stream = ask(server, "b", name, key="right", stream=True)
        refusal = ask(server, "c", name, key="right")
        wrong_key = ask(server, "c", name, key="wrong")
        no_model = ask(server, "c", name, key="right", model="another")
        bad_body = ask(server, "c", name, key="right", messages=[])
    assert isinstance(answer, Success)
    assert isinstance(stream, Success)
    assert stream.usage is not None  # asked for, where the provider wants that
    assert kind_of(refusal) is voice_of(name).dialect.refused_as(REFUSALS["requests"]).kind
    assert kind_of(wrong_key) is FailureClass.AUTH
    assert kind_of(no_model) is FailureClass.MODEL_NOT_FOUND
    assert kind_of(bad_body) is FailureClass.BAD_REQUEST
    assert isinstance(bad_body, Failure)
    assert "messages" in bad_body.message


def test_a_prompt_asks_for_an_error() -> None:
    with br.Simulator(voice="groq") as server:
        outcome = ask(server, "please [[error:request_too_large]]", "groq")
        assert isinstance(outcome, Failure)
        assert (outcome.kind, outcome.status) == (FailureClass.REQUEST_TOO_LARGE, 413)
        unknown = ask(server, "please [[error:certificate]]", "groq")
        assert isinstance(unknown, Failure)
        assert "groq has no error of class 'certificate'" in unknown.message


def test_who_cannot_be_played_is_told() -> None:
    with pytest.raises(ConfigError, match="'nobody' can't be played; there are anthropic, azure"):
        br.Simulator(voice="nobody")


def test_a_dialect_that_is_asked_for_counts_more_than_the_voice() -> None:
    with br.Simulator(voice="zhipu", dialect="openai", rpm=60) as server:
        outcome = ask(server, "a", "zhipu")
    assert isinstance(outcome, Success)
    assert outcome.quota.windows[0].limit == 60
