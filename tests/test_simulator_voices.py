"""Every error that the simulator can say in a provider's words is understood as what it is."""

import json

import anyio
import pytest

import batchrunner as br
from batchrunner.api.client import Client
from batchrunner.api.reply import read_reply
from batchrunner.config import Endpoint
from batchrunner.errors import ConfigError
from batchrunner.provider import GENERIC, load_provider, provider_names
from batchrunner.simulator.config import Rules
from batchrunner.simulator.desk import Desk
from batchrunner.simulator.questions import Endpoint as Asked
from batchrunner.simulator.rules import Bound
from batchrunner.simulator.voices import voice_of, voices
from batchrunner.task import Failure, FailureClass, Lease, Outcome

EVERY = [(name, kind) for name, voice in voices().items() for kind in voice.errors]
NOW = 1_790_000_000.0


@pytest.mark.parametrize(("name", "kind"), EVERY)
def test_an_error_is_of_its_class(name: str, kind: FailureClass) -> None:
    status, body = voice_of(name).errors[kind]
    assert body.startswith("<html>") or json.loads(body)
    outcome = read_reply(status, [], body.encode(), provider=load_provider(name), now=NOW)
    assert isinstance(outcome, Failure)
    assert outcome.kind is kind


@pytest.mark.parametrize(("name", "kind"), [pair for pair in EVERY if pair[0] in ("openai", "anthropic", "zai")])
def test_it_is_understood_behind_a_proxy_too(name: str, kind: FailureClass) -> None:
    """By the rules for everyone, where the provider is not known; what stops a run is never mistaken for a pause."""
    status, body = voice_of(name).errors[kind]
    outcome = read_reply(status, [], body.encode(), provider=GENERIC, now=NOW)
    assert isinstance(outcome, Failure)
    if kind in (FailureClass.AUTH, FailureClass.CONCURRENCY, FailureClass.RATE_LIMIT, FailureClass.OVERLOADED):
        assert outcome.kind is kind


def test_every_provider_that_is_known_can_be_played() -> None:
    assert voices().keys() == set(provider_names())


@pytest.mark.parametrize("bound", list(Bound))
@pytest.mark.parametrize("name", list(voices()))
def test_what_a_limit_refuses_waits_for_the_limit(name: str, bound: Bound) -> None:
    """In the words and headers of each: never a request's fault, never a reason to stop."""
    rpm, tpm = (1 if bound is Bound.REQUESTS else None), (400 if bound is Bound.TOKENS else None)
    places = 1 if bound is Bound.CONCURRENCY else None
    rules = Rules(dialect=voice_of(name).dialect, voice=name, rpm=rpm, tpm=tpm, concurrency=places)
    desk = Desk(rules, now=0.0, origin=NOW)
    question = json.dumps({"model": "x", "messages": [{"role": "user", "content": "word " * 240}]}).encode()
    desk.receive(Asked.CHAT, question, 0.0)
    reply = desk.receive(Asked.CHAT, question, 0.1).reply
    assert reply is not None
    headers = [(key, str(value)) for key, value in reply.headers.items()]
    outcome = read_reply(reply.status, headers, reply.body, provider=load_provider(name), now=NOW)
    assert isinstance(outcome, Failure)
    assert outcome.kind in (FailureClass.RATE_LIMIT, FailureClass.CONCURRENCY)
    assert b"<limit>" not in reply.body
    assert b"<seconds>" not in reply.body


def ask(server: br.Simulator, prompt: str, provider: str) -> Outcome:
    body = json.dumps({"model": "x", "messages": [{"role": "user", "content": prompt}]})
    lease = Lease(
        attempt_id=1,
        task_id=1,
        custom_id="one",
        endpoint="chat/completions",
        body=body,
        attempt=1,
        failures=0,
        cost=1,
        send_at=0,
        permit=None,
    )

    async def send() -> Outcome:
        async with Client(Endpoint(base_url=server.base_url, provider=load_provider(provider))) as client:
            return await client.send(lease, now=NOW)

    return anyio.run(send)


def test_a_prompt_asks_for_an_error() -> None:
    with br.Simulator(voice="groq") as server:
        outcome = ask(server, "please [[error:request_too_large]]", "groq")
        assert isinstance(outcome, Failure)
        assert (outcome.kind, outcome.status) == (FailureClass.REQUEST_TOO_LARGE, 413)
        unknown = ask(server, "please [[error:certificate]]", "groq")
        assert isinstance(unknown, Failure)
        assert "groq has no error of class 'certificate'" in unknown.message


def test_who_cannot_be_played_is_told() -> None:
    with pytest.raises(ConfigError, match="'nobody' can't be played; there are zhipu, zai"):
        br.Simulator(voice="nobody")
