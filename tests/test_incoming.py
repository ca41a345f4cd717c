"""A reply as its bytes come in: a stream or not, whole or not; and the body that asked for it."""

import json
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchrunner.api.incoming import IncomingReply
from batchrunner.api.outgoing import outgoing
from batchrunner.config import RetrySettings
from batchrunner.retry import GiveUp, Retry, Snooze, decide
from batchrunner.task import Failure, FailureClass, Success, Usage

NOW = 1_790_000_000.0
EVENTS = [("Content-Type", "text/event-stream; charset=utf-8")]
RECORDED = [
    vector
    for path in sorted((Path(__file__).parent / "vectors").glob("*.json"))
    for vector in json.loads(path.read_text(encoding="utf-8"))
    if vector["headers"].get("content-type") == EVENTS[0][1].partition(";")[0] and isinstance(vector["body"], str)
]


def chunks(*deltas: dict[str, Any], finish: str | None = "stop", done: bool = True, **more: Any) -> bytes:
    values: list[dict[str, Any]] = [{"choices": [{"index": 0, "delta": each}]} for each in deltas]
    values.append({"choices": [{"index": 0, "delta": {}, "finish_reason": finish}], **more})
    lines = [json.dumps(value) for value in values] + ["[DONE]"] * done
    return "".join(f"data: {line}\n\n" for line in lines).encode()


def read(
    raw: bytes,
    headers: list[tuple[str, str]] = EVENTS,
    *,
    status: int = 200,
    cut: Failure | None = None,
    endpoint: str = "chat/completions",
) -> Success | Failure:
    reply = IncomingReply(status, headers, key=b"sk-canary-4711-0815")
    reply.feed(raw)
    return reply.outcome(endpoint=endpoint, now=NOW, cut=cut)


def test_a_stream_comes_to_an_answer() -> None:
    outcome = read(chunks({"content": "Hel"}, {"content": "lo"}, usage={"prompt_tokens": 3, "completion_tokens": 2}))
    assert isinstance(outcome, Success)
    assert (outcome.usage, outcome.finish_reason) == (Usage(prompt_tokens=3, completion_tokens=2), "stop")
    assert json.loads(outcome.body)["choices"][0]["message"]["content"] == "Hello"


@pytest.mark.parametrize(
    ("raw", "kind"),
    [
        (b"", FailureClass.TRUNCATED),
        (b": OPENROUTER PROCESSING\n\n", FailureClass.TRUNCATED),
        (chunks({"content": "a"}, finish=None, done=False), FailureClass.TRUNCATED),
        (chunks({"content": "a"}, finish=None, done=False) + b'data: {"choices": [{"ind', FailureClass.TRUNCATED),
        (b"data: [DONE]\n\n", FailureClass.MALFORMED_SUCCESS),
        (chunks({"content": ""}, finish="length"), FailureClass.EMPTY_REASONING),
        (chunks({"reasoning_content": "hm"}, finish="length"), FailureClass.EMPTY_REASONING),
        (chunks({"content": "par"}, finish="sensitive"), FailureClass.CONTENT_FILTER),
        (chunks({"content": "par"}, finish="network_error"), FailureClass.NETWORK),
        (b'data: {"error": {"code": "1302", "message": "x"}}\n\n', FailureClass.CONCURRENCY),
        (b'data: {"error": {"code": 429, "message": "x"}}\n\n', FailureClass.RATE_LIMIT),
        (b'data: {"error": {"code": 502, "message": "x"}}\n\n', FailureClass.SERVER_ERROR),
        (b'data: {"error": {"code": 400, "message": "x"}}\n\n', FailureClass.BAD_REQUEST),
        (b'data: {"error": {"message": "x"}}\n\n', FailureClass.SERVER_ERROR),
        (b'event: error\ndata: {"type": "overloaded_error", "message": "x"}\n\n', FailureClass.OVERLOADED),
        (b"event: error\ndata: upstream went away\n\n", FailureClass.SERVER_ERROR),
        (b'data: {"code": "DataInspectionFailed", "message": "x"}\n\n', FailureClass.CONTENT_FILTER),
        (b'data: {"code": 401, "msg": "x", "success": false}\n\n', FailureClass.AUTH),
    ],
)
def test_what_is_no_answer_has_its_class(raw: bytes, kind: FailureClass) -> None:
    """The same classes as without a stream, and one of its own for a stream that breaks off."""
    outcome = read(raw)
    assert isinstance(outcome, Failure)
    assert outcome.kind is kind


def test_a_stream_that_breaks_off_keeps_its_text() -> None:
    """And the usage that it told; it may have been charged."""
    raw = chunks({"content": "par"}, {"content": "tial"}, finish=None, done=False, usage={"prompt_tokens": 3})
    cut = Failure(kind=FailureClass.TIMEOUT, message="no answer within 5s", maybe_charged=True)
    for outcome, kind in ((read(raw), FailureClass.TRUNCATED), (read(raw, cut=cut), FailureClass.TIMEOUT)):
        assert isinstance(outcome, Failure)
        assert outcome.body is not None
        assert (outcome.kind, outcome.status, outcome.maybe_charged) == (kind, 200, True)
        assert outcome.usage == Usage(prompt_tokens=3)
        assert json.loads(outcome.body)["choices"][0]["message"]["content"] == "partial"


def test_an_answer_that_was_whole_stays_whole_whatever_comes_then() -> None:
    """A connection that breaks after the finish_reason took nothing away."""
    cut = Failure(kind=FailureClass.TRUNCATED, message="the reply broke off", maybe_charged=True)
    assert isinstance(read(chunks({"content": "a"}, done=False), cut=cut), Success)
    assert isinstance(read(chunks({"content": "a"}, finish=None)), Success)
    assert isinstance(read(chunks({"content": "a"}) + b"data: rubbish\n\n"), Success)


def test_an_error_after_the_first_token_may_have_been_charged() -> None:
    error = b'data: {"error": {"code": 400, "message": "no"}}\n\n'
    for raw, charged in ((error, False), (chunks({"content": "a"}, finish=None, done=False) + error, True)):
        outcome = read(raw)
        assert isinstance(outcome, Failure)
        assert (outcome.kind, outcome.maybe_charged) == (FailureClass.BAD_REQUEST, charged)


@pytest.mark.parametrize(
    ("status", "key", "is_kept"),
    [
        (200, "k", True),
        (200, "ollama", True),
        (200, "sk-4711-0815-2342", False),
        (401, "me", True),
        (401, "sk-471-x", False),
    ],
)
def test_a_key_that_is_a_word_is_not_taken_out_of_answers(status: int, key: str, is_kept: bool) -> None:
    """Servers of one's own are given any key, and their answers must not lose that word, or their usage its name."""
    value = {"choices": [{"message": {"content": f"about {key}"}}], "usage": {"prompt_tokens": 3}, "message": key}
    reply = IncomingReply(status, [], key=key.encode())
    reply.feed(json.dumps(value).encode())
    outcome = reply.outcome(endpoint="chat/completions", now=NOW)
    assert outcome.body is not None
    assert (key.encode() in outcome.body) is is_kept
    assert (outcome.usage is not None) is (status == 200)


@pytest.mark.parametrize("code", ["1113", "1302", "invalid_api_key", "insufficient_quota", "model_not_found"])
def test_who_was_turned_away_has_paid_nothing(code: str) -> None:
    """No balance, a bad key: a 200 with that in it is no charge."""
    outcome = read(json.dumps({"error": {"code": code, "message": "x"}}).encode())
    assert isinstance(outcome, Failure)
    assert outcome.kind is not FailureClass.SERVER_ERROR
    assert not outcome.maybe_charged


def test_an_overload_in_the_middle_of_an_answer_uses_up_a_try() -> None:
    """It may be paid for each time; one that comes before the answer costs nothing."""
    error = b'event: error\ndata: {"type": "overloaded_error", "message": "x"}\n\n'
    for raw, verdict in ((error, Snooze), (chunks({"content": "a"}, finish=None, done=False) + error, Retry)):
        outcome = read(raw)
        assert isinstance(outcome, Failure)
        assert outcome.kind is FailureClass.OVERLOADED
        assert outcome.maybe_charged is (verdict is Retry)
        assert isinstance(decide(outcome, failures=0, policy=RetrySettings(), rng=Random(1)), verdict)
        assert isinstance(decide(outcome, failures=2, policy=RetrySettings(), rng=Random(1)), GiveUp) is (
            verdict is Retry
        )


@pytest.mark.parametrize("vector", RECORDED, ids=lambda vector: vector["id"])
def test_recorded_streams(vector: dict[str, Any]) -> None:
    """What providers did send in the middle of a stream."""
    outcome = read(vector["body"].encode())
    assert isinstance(outcome, Failure)
    assert (outcome.kind, outcome.retry_after) == (vector["expected"]["class"], None)


@pytest.mark.parametrize("status", [400, 429])
def test_an_error_dressed_up_as_an_event_is_read(status: int) -> None:
    """Whatever its status; and kept as it came."""
    raw = 'event: error\ndata: {"error": {"code": "1261", "message": "Prompt 超长"}}\n\n'.encode()
    outcome = read(raw, status=status)
    assert isinstance(outcome, Failure)
    assert (outcome.code, outcome.message, outcome.body) == ("1261", "Prompt 超长", raw)


PLAIN = b'{"choices": [{"message": {"content": "yes"}, "finish_reason": "stop"}]}'


@pytest.mark.parametrize("headers", [EVENTS, [("content-type", "application/json")], []])
@pytest.mark.parametrize("space", [b"", b"\n "])
def test_a_plain_answer_is_taken_whatever_it_is_called(headers: list[tuple[str, str]], space: bytes) -> None:
    outcome = read(space + PLAIN, headers)
    assert isinstance(outcome, Success)
    assert outcome.body == space + PLAIN


@pytest.mark.parametrize("kind", ["application/json", "text/plain", "application/octet-stream"])
def test_a_stream_is_taken_whatever_it_is_called(kind: str) -> None:
    assert isinstance(read(b": hello\n\n" + chunks({"content": "a"}), [("content-type", kind)]), Success)


@pytest.mark.parametrize("kind", ["application/json", "text/plain"])
def test_the_first_token_of_a_stream_by_another_name_is_seen(kind: str) -> None:
    reply = IncomingReply(200, [("content-type", kind)])
    assert reply.feed(chunks({"content": "a"}))
    assert reply.is_over


@pytest.mark.parametrize(
    ("status", "raw", "kind"),
    [
        (200, b'{"error": {"code": "1113", "message": "x"}}', FailureClass.QUOTA_EXHAUSTED),
        (200, b"<html>", FailureClass.MALFORMED_SUCCESS),
        (401, b'{"error": {"message": "bad key sk-canary-4711-0815"}}', FailureClass.AUTH),
        (500, chunks({"content": "a"}), FailureClass.SERVER_ERROR),
    ],
)
def test_an_error_in_place_of_a_stream(status: int, raw: bytes, kind: FailureClass) -> None:
    """Read as any other error, whatever its content type; the key is not kept."""
    outcome = read(raw, status=status)
    assert isinstance(outcome, Failure)
    assert outcome.kind is kind
    assert outcome.body == raw.replace(b"sk-canary-4711-0815", b"***")


def test_a_key_echoed_by_a_stream_is_not_kept() -> None:
    """Not even one that came in two pieces."""
    outcome = read(chunks({"content": "it is sk-can"}, {"content": "ary-4711-0815"}))
    assert outcome.body is not None
    assert b"sk-canary-4711-0815" not in outcome.body


_WHOLE = chunks({"reasoning_content": "嗯"}, {"content": "Hel"}, {"content": "lo 😀"}, usage={"prompt_tokens": 3})


@given(st.lists(st.integers(0, len(_WHOLE))), st.integers(0, len(_WHOLE)))
def test_no_cut_of_the_bytes_changes_the_answer(cuts: list[int], end: int) -> None:
    """And a stream that ends anywhere before its finish_reason is told apart from one that is whole."""
    reply = IncomingReply(200, EVENTS)
    began = [reply.feed(_WHOLE[a:b]) for a, b in pairwise(sorted([0, *cuts, len(_WHOLE)]))]
    assert reply.outcome(endpoint="chat/completions", now=NOW) == read(_WHOLE)
    assert any(began)
    finished = _WHOLE.index(b'"stop"') + len(b'"stop"}], "usage": {"prompt_tokens": 3}}')
    assert isinstance(read(_WHOLE[:end]), Success) is (end >= finished)


@pytest.mark.parametrize("endpoint", ["tokenize", "images/generations", "v2/anything"])
@pytest.mark.parametrize(
    ("raw", "good"),
    [(b'{"tokens": [1]}', True), (b"[[0.5]]", True), (b"<html>", False), (b"", False), (b"null", False)],
)
def test_of_a_path_nobody_knows_any_json_is_an_answer(endpoint: str, raw: bytes, good: bool) -> None:
    assert isinstance(read(raw, [], endpoint=endpoint), Success) is good
    assert isinstance(read(raw, []), Failure)


@pytest.mark.parametrize("status", [201, 202])
def test_any_status_of_success_is_one(status: int) -> None:
    assert isinstance(read(b'{"id": "x"}', [], status=status, endpoint="images/generations"), Success)
    assert isinstance(read(PLAIN, [], status=status), Success)


@pytest.mark.parametrize(
    ("raw", "good"),
    [
        (b'{"code": 500, "msg": "404 NOT_FOUND", "success": false}', False),
        (b'{"code": "InvalidParameter", "message": "no", "success": false}', False),
        (b'{"code": 200, "msg": "ok", "data": {"url": "x"}}', True),
        (b'{"code": "ok", "message": "done"}', True),
    ],
)
def test_a_flat_error_is_no_answer_of_a_path_nobody_knows(raw: bytes, good: bool) -> None:
    """GLM's gateway says so, with a 200, of a path that it has not."""
    assert isinstance(read(raw, [], endpoint="images/generations"), Success) is good


START = (
    b'event: message_start\ndata: {"type": "message_start", "message": {"usage": {"input_tokens": 5}}}\n\n'
    b'event: message_delta\ndata: {"type": "message_delta", "usage": {"output_tokens": 2}}\n\n'
)


@pytest.mark.parametrize(
    ("endpoint", "raw", "events"),
    [
        ("messages", START + b'event: message_stop\ndata: {"type": "message_stop"}\n\n', 3),
        ("messages", START, None),
        ("generate_stream", b'data: {"token": "a"}\n\ndata: {"token": "b"}\n\n', 2),
        ("generate_stream", b'data: {"token": "a"}\n\ndata: {"error": "no"}\n\n', None),
        ("generate_stream", b'data: {"token": "a"}\n\ndata: {"tok', None),
        ("chat/completions", b'data: {"token": "a"}\n\n', None),
    ],
)
def test_a_stream_of_another_kind_is_its_events(endpoint: str, raw: bytes, events: int | None) -> None:
    """At a path nobody knows, where it ended by itself; with their usage, if they tell it."""
    outcome = read(raw, endpoint=endpoint)
    assert isinstance(outcome, Success) is (events is not None)
    assert isinstance(read(raw, endpoint=endpoint, cut=Failure(kind=FailureClass.TIMEOUT, message="")), Failure)
    if isinstance(outcome, Success):
        assert len(json.loads(outcome.body)["events"]) == events
        assert outcome.usage == (Usage(prompt_tokens=5, completion_tokens=2) if endpoint == "messages" else None)


@pytest.mark.parametrize(
    ("endpoint", "body", "usage"),
    [
        (
            "embeddings",
            {"data": [], "usage": {"prompt_tokens": 5, "total_tokens": 5}},
            Usage(prompt_tokens=5),
        ),
        (
            "responses",
            {
                "output": [{"type": "message", "content": []}],
                "status": "completed",
                "usage": {
                    "input_tokens": 5,
                    "output_tokens": 7,
                    "input_tokens_details": {"cached_tokens": 2},
                    "output_tokens_details": {"reasoning_tokens": 3},
                },
            },
            Usage(prompt_tokens=5, completion_tokens=7, cached_tokens=2, reasoning_tokens=3),
        ),
        ("rerank", {"results": [], "usage": {"total_tokens": 9}}, Usage(prompt_tokens=9)),
        (
            "rerank",
            {"results": [], "meta": {"billed_units": {"search_units": 1}, "tokens": {"input_tokens": 4}}},
            Usage(prompt_tokens=4),
        ),
        ("rerank", {"results": [], "meta": {"billed_units": {"search_units": 1}}}, None),
        ("moderations", {"results": [{"flagged": False}]}, None),
    ],
)
def test_each_endpoint_tells_its_usage_in_its_own_words(
    endpoint: str, body: dict[str, Any], usage: Usage | None
) -> None:
    outcome = read(json.dumps(body).encode(), [], endpoint=endpoint)
    assert isinstance(outcome, Success)
    assert outcome.usage == usage


@pytest.mark.parametrize(
    ("reason", "output", "kind"),
    [
        ("max_output_tokens", [{"type": "reasoning"}], FailureClass.EMPTY_REASONING),
        ("content_filter", [], FailureClass.CONTENT_FILTER),
        ("max_output_tokens", [{"type": "reasoning"}, {"type": "message", "content": []}], None),
    ],
)
def test_a_response_of_nothing_but_reasoning_is_empty(
    reason: str, output: list[dict[str, Any]], kind: FailureClass | None
) -> None:
    body = {"status": "incomplete", "incomplete_details": {"reason": reason}, "output": output, "error": None}
    outcome = read(json.dumps(body).encode(), [], endpoint="responses")
    assert (outcome.kind if isinstance(outcome, Failure) else None) is kind
    if isinstance(outcome, Success):
        assert outcome.finish_reason == reason


CHAT = "chat/completions"
ASKED = '{"model":"m","messages":[]}'


@pytest.mark.parametrize(
    ("body", "endpoint", "stream", "usage", "sent"),
    [
        (ASKED, CHAT, False, True, ASKED),
        (ASKED, "embeddings", True, True, ASKED),
        (ASKED, CHAT, True, False, '{"stream":true,"model":"m","messages":[]}'),
        (
            ASKED,
            CHAT,
            True,
            True,
            '{"stream":true,"stream_options":{"include_usage":true},"model":"m","messages":[]}',
        ),
        (ASKED, "responses", True, True, '{"stream":true,"model":"m","messages":[]}'),
        ('{"stream": true}', CHAT, False, False, '{"stream": true}'),
        ('{"stream": true}', CHAT, False, True, '{"stream_options":{"include_usage":true},"stream": true}'),
        ('{"stream": false}', CHAT, True, True, '{"stream": false}'),
        ('{"stream": true, "stream_options": {}}', CHAT, True, True, '{"stream": true, "stream_options": {}}'),
        (r'{"prompt": "\"stream\": 1"}', "completions", True, False, r'{"stream":true,"prompt": "\"stream\": 1"}'),
        (r'{"prompt": "\"stream\": 1"}', "completions", False, True, r'{"prompt": "\"stream\": 1"}'),
    ],
)
def test_a_body_is_touched_only_where_a_stream_needs_it(
    body: str, endpoint: str, stream: bool, usage: bool, sent: str
) -> None:
    """What the line says stays as it is, byte for byte."""
    assert outgoing(body, endpoint, stream=stream, usage=usage) == sent
    json.loads(sent)
