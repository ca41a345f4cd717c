"""The simulator's streams: what comes in pieces is the whole answer, told as the dialect and the provider have it."""

import json
from hashlib import blake2b
from typing import Any

import pytest
from tools import WEATHER

from batchrunner.api.incoming import IncomingReply
from batchrunner.simulator.answers import make_answer
from batchrunner.simulator.dialects import DIALECTS, StreamManner
from batchrunner.simulator.faults import Fault
from batchrunner.simulator.questions import Endpoint, read_question
from batchrunner.simulator.streams import make_events
from batchrunner.task import Failure, Success


def streamed(endpoint: Endpoint, body: dict[str, Any], *, fault: Fault | None = None, dialect: Any = "openai") -> Any:
    """The answer to *body*, and what an assembler makes of its stream."""
    raw = json.dumps({**body, "stream": True}).encode()
    question = read_question(endpoint, raw)
    answer = make_answer(question, blake2b(raw, digest_size=16).digest(), seed=0).body
    reply = IncomingReply(200, [("content-type", "text/event-stream")])
    for event in make_events(question, answer, manner=DIALECTS[dialect].manner.stream, fault=fault):
        reply.feed(event)
    return json.loads(answer), reply.outcome(endpoint=endpoint, now=0.0)


TEXT = {"model": "m", "messages": [{"role": "user", "content": "物流很快"}], "n": 2}
USAGE = {"stream_options": {"include_usage": True}}


@pytest.mark.parametrize("fault", [None, Fault.COMMENTS, Fault.CRLF, Fault.NO_DONE])
@pytest.mark.parametrize(
    ("endpoint", "body"),
    [
        (Endpoint.CHAT, {**TEXT, **USAGE}),
        (Endpoint.CHAT, {**TEXT, **USAGE, "tools": [WEATHER]}),
        (Endpoint.COMPLETIONS, {"model": "m", "prompt": ["a", "b"], **USAGE}),
        (Endpoint.RESPONSES, {"model": "m", "input": "hello"}),
        (Endpoint.RESPONSES, {"model": "m", "input": "hello", "max_output_tokens": 3}),
    ],
)
def test_a_stream_comes_to_the_same_answer(endpoint: Endpoint, body: dict[str, Any], fault: Fault | None) -> None:
    """However the events are dressed, the object is the one that comes without a stream."""
    answer, outcome = streamed(endpoint, body, fault=fault)

    assert isinstance(outcome, Success)
    assert json.loads(outcome.body) == answer


@pytest.mark.parametrize(
    ("dialect", "options", "told"),
    [("openai", {}, False), ("openai", USAGE, True), ("glm", {}, True), ("zhipu", {}, True), ("none", {}, False)],
)
def test_a_stream_tells_its_usage_as_its_dialect_does(dialect: str, options: dict[str, Any], told: bool) -> None:
    _, outcome = streamed(Endpoint.CHAT, {**TEXT, **options}, dialect=dialect)

    assert (outcome.usage is not None) is told


@pytest.mark.parametrize(("fault", "kind"), [(Fault.CUT, "truncated"), (Fault.ERROR_MID, "server_error")])
def test_a_stream_that_goes_wrong_in_the_middle(fault: Fault, kind: str) -> None:
    """What came until then is there."""
    answer, outcome = streamed(Endpoint.CHAT, TEXT, fault=fault)

    assert isinstance(outcome, Failure)
    assert outcome.kind == kind
    assert outcome.body is not None
    text = json.loads(outcome.body)["choices"][0]["message"]["content"]
    assert 0 < len(text) <= len(answer["choices"][0]["message"]["content"])


STYLES = {
    "asked": StreamManner(),
    "own": StreamManner(usage="own"),
    "last": StreamManner(usage="last"),
    "each": StreamManner(usage="each"),
}


@pytest.mark.parametrize(("style", "places"), [("asked", "none"), ("own", "after"), ("last", "last"), ("each", "all")])
def test_usage_stands_where_the_provider_has_it(style: str, places: str) -> None:
    question = read_question(Endpoint.CHAT, json.dumps({**TEXT, "stream": True}).encode())
    answer = make_answer(question, b"key", seed=0).body
    events = make_events(question, answer, manner=STYLES[style], fault=None)
    chunks = [json.loads(event.removeprefix(b"data: ")) for event in events[:-1]]
    told = [chunk.get("usage") is not None for chunk in chunks]
    assert (
        told
        == {
            "none": [False] * len(chunks),
            "after": [*[False] * (len(chunks) - 1), True],
            "last": [*[False] * (len(chunks) - 1), True],
            "all": [True] * len(chunks),
        }[places]
    )
    assert (chunks[-1]["choices"] == []) is (places == "after")


def test_a_stream_is_dressed_as_the_provider_has_it() -> None:
    question = read_question(Endpoint.CHAT, json.dumps({**TEXT, "stream": True}).encode())
    answer = make_answer(question, b"key", seed=0).body
    manner = StreamManner(done=False, crlf=True, comment="WAIT")
    for fault in (None, Fault.CRLF):
        events = make_events(question, answer, manner=manner, fault=fault)
        assert events[0] == b": WAIT\r\n\r\n"
        assert not any(b"[DONE]" in event or b"\r\r" in event for event in events)
        assert all(event.endswith(b"\r\n\r\n") for event in events)
