"""A canned answer in pieces: the same object as without a stream, as the events a provider would send. Pure.

Chat and text completions end with ``[DONE]``, mostly; the responses API has events with names instead. Where usage
comes, and what else a provider does with its streams, its dialect tells (StreamManner).
"""

import json
import re
from collections.abc import Iterator
from itertools import zip_longest
from typing import Any

from batchrunner.simulator.dialects import StreamManner
from batchrunner.simulator.faults import Fault
from batchrunner.simulator.questions import Endpoint, Question

DONE = b"data: [DONE]\n\n"
_PIECE = re.compile(r"\s*\S{1,8}\s*|\s+")
_BROKEN = {"code": 502, "message": "Simulated fault: the provider failed in the middle.", "type": "server_error"}
_Value = dict[str, Any]


def make_events(question: Question, body: bytes, *, manner: StreamManner, fault: Fault | None) -> tuple[bytes, ...]:
    """The answer *body* as server-sent events, in the provider's *manner*, with what *fault* makes of them."""
    answer = json.loads(body)
    if question.endpoint is Endpoint.RESPONSES:
        events = list(_response(answer))
    else:
        chunks = _with_usage(list(_chunks(answer)), answer["usage"], question, manner)
        events = [*map(_event, chunks), DONE] if manner.done else [*map(_event, chunks)]
    return _dressed(_spoiled(events, fault), manner)


def _dressed(events: list[bytes], manner: StreamManner) -> tuple[bytes, ...]:
    """A comment before the first event, as of those who wait for a model; line ends as the provider has them."""
    if manner.comment:
        events = [f": {manner.comment}\n\n".encode(), *events]
    return tuple(map(_with_crlf, events)) if manner.crlf else tuple(events)


def _with_crlf(event: bytes) -> bytes:
    return event.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")


def _spoiled(events: list[bytes], fault: Fault | None) -> list[bytes]:
    half = len(events) // 2
    match fault:
        case Fault.CUT:
            events = events[:half]
        case Fault.ERROR_MID:
            events = [*events[:half], _event({"choices": [], "error": _BROKEN})]
        case Fault.NO_DONE:
            events = [event for event in events if event != DONE]
        case Fault.COMMENTS:
            events = [part for event in events for part in (b": keep-alive\n\n", event)]
        case Fault.CRLF:
            events = list(map(_with_crlf, events))
        case _:
            pass
    return events


def _event(value: _Value, name: str = "") -> bytes:
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return (f"event: {name}\n" if name else "").encode() + f"data: {text}\n\n".encode()


def _chunks(answer: _Value) -> Iterator[_Value]:
    head = {name: value for name, value in answer.items() if name not in ("choices", "usage")}
    is_chat = head["object"] == "chat.completion"
    if is_chat:
        head["object"] = "chat.completion.chunk"
    parts = map(_chat_parts if is_chat else _text_parts, answer["choices"])
    for together in zip_longest(*parts):  # all choices are written at once
        yield from ({**head, "choices": [part]} for part in together if part is not None)


def _chat_parts(choice: _Value) -> Iterator[_Value]:
    for delta in _deltas(choice["message"]):
        yield {"index": choice["index"], "delta": delta, "logprobs": None, "finish_reason": None}
    yield {"index": choice["index"], "delta": {}, "logprobs": None, "finish_reason": choice["finish_reason"]}


def _text_parts(choice: _Value) -> Iterator[_Value]:
    for piece in _pieces(choice["text"]):
        yield {"index": choice["index"], "text": piece, "logprobs": None, "finish_reason": None}
    yield {"index": choice["index"], "text": "", "logprobs": None, "finish_reason": choice["finish_reason"]}


def _deltas(message: _Value) -> Iterator[_Value]:
    """The role first, then the text or the call's arguments, piece by piece."""
    calls = message.get("tool_calls")
    if not calls:
        yield {"role": "assistant", "content": ""}
        yield from ({"content": piece} for piece in _pieces(message["content"]))
        return
    for index, call in enumerate(calls):
        function = {"name": call["function"]["name"], "arguments": ""}
        begun = {"index": index, "id": call["id"], "type": "function", "function": function}
        yield {"role": "assistant", "content": None, "tool_calls": [begun]}
        for piece in _pieces(call["function"]["arguments"]):
            yield {"tool_calls": [{"index": index, "function": {"arguments": piece}}]}


def _pieces(text: str) -> list[str]:
    """About a token each."""
    return _PIECE.findall(text)


def _with_usage(chunks: list[_Value], usage: _Value, question: Question, manner: StreamManner) -> list[_Value]:
    match manner.usage:
        case "each":
            return [{**chunk, "usage": usage} for chunk in chunks]
        case "last":
            chunks[-1]["usage"] = usage
            return chunks
        case "asked" if not question.include_usage:
            return chunks
        case _:
            chunks = [{**chunk, "usage": None} for chunk in chunks]
            return [*chunks, {**chunks[-1], "choices": [], "usage": usage}]


def _response(answer: _Value) -> Iterator[bytes]:
    """The events of the responses API, each with its name and its place in the order."""
    begun = {**answer, "status": "in_progress", "output": [], "usage": None, "incomplete_details": None}
    (item,) = answer["output"]
    (part,) = item["content"]
    place = {"item_id": item["id"], "output_index": 0, "content_index": 0}
    end = "response.completed" if answer["status"] == "completed" else "response.incomplete"
    told: list[tuple[str, _Value]] = [
        ("response.created", {"response": begun}),
        ("response.in_progress", {"response": begun}),
        ("response.output_item.added", {"output_index": 0, "item": {**item, "status": "in_progress", "content": []}}),
        ("response.content_part.added", {**place, "part": {**part, "text": ""}}),
        *(("response.output_text.delta", {**place, "delta": piece, "logprobs": []}) for piece in _pieces(part["text"])),
        ("response.output_text.done", {**place, "text": part["text"], "logprobs": []}),
        ("response.content_part.done", {**place, "part": part}),
        ("response.output_item.done", {"output_index": 0, "item": item}),
        (end, {"response": answer}),
    ]
    for number, (name, value) in enumerate(told):
        yield _event({"type": name, "sequence_number": number, **value}, name)
