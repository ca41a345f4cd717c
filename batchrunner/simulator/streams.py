"""A canned answer in pieces: the same object as without a stream, as the events a provider would send. Pure.

Chat and text completions end with ``[DONE]``; the responses API has events with names instead. Usage comes in a chunk
of its own and only where ``include_usage`` asks for it (OpenAI), or unasked in the last chunk that has choices (GLM).
"""

import json
import re
from collections.abc import Iterator
from itertools import zip_longest
from typing import Any

from batchrunner.simulator.config import DialectName
from batchrunner.simulator.faults import Fault
from batchrunner.simulator.questions import Endpoint, Question

DONE = b"data: [DONE]\n\n"
_UNASKED: frozenset[DialectName] = frozenset({"zhipu", "glm"})
_PIECE = re.compile(r"\s*\S{1,8}\s*|\s+")
_BROKEN = {"code": 502, "message": "Simulated fault: the provider failed in the middle.", "type": "server_error"}
_Value = dict[str, Any]


def make_events(question: Question, body: bytes, *, dialect: DialectName, fault: Fault | None) -> tuple[bytes, ...]:
    """The answer *body* as server-sent events, with what *fault* makes of them."""
    answer = json.loads(body)
    if question.endpoint is Endpoint.RESPONSES:
        events = list(_response(answer))
    else:
        chunks = _with_usage(list(_chunks(answer)), answer["usage"], question, unasked=dialect in _UNASKED)
        events = [*map(_event, chunks), DONE]
    return _spoiled(events, fault)


def _spoiled(events: list[bytes], fault: Fault | None) -> tuple[bytes, ...]:
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
            events = [event.replace(b"\n", b"\r\n") for event in events]
        case _:
            pass
    return tuple(events)


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


def _with_usage(chunks: list[_Value], usage: _Value, question: Question, *, unasked: bool) -> list[_Value]:
    if unasked:
        chunks[-1]["usage"] = usage
    elif question.include_usage:
        chunks = [{**chunk, "usage": None} for chunk in chunks]
        chunks.append({**chunks[-1], "choices": [], "usage": usage})
    return chunks


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
