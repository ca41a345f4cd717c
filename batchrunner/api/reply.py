"""A reply, whole, into an outcome: status, headers and bytes in; Success or Failure out. Never raises.

The bytes are kept as they came, whatever becomes of their reading. A 200 is an answer only if there is one in it:
HTML from a gateway, an ``error`` object, no choices, or a reasoning that used up ``max_tokens`` are classes of their
own.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import msgspec

from batchrunner.api.classify import classify
from batchrunner.api.headers import quota, retry_after
from batchrunner.task import Failure, FailureClass, Success, Usage

SIMULATED = "x-batchrunner-simulated"
MESSAGE_LENGTH = 500  # characters of a provider's message that are kept beside its raw body
TOKENS_MAX = 10**9  # more in one reply is nonsense
OK = 200
_Tokens = Usage | None


class _Details(msgspec.Struct):
    cached_tokens: int | None = None
    reasoning_tokens: int | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    total_tokens: int | None = None
    prompt_tokens_details: _Details | None = None
    completion_tokens_details: _Details | None = None


class _Message(msgspec.Struct):
    content: Any = None
    tool_calls: Any = None
    refusal: Any = None
    function_call: Any = None


class _Choice(msgspec.Struct):
    message: _Message | None = None
    text: Any = None
    finish_reason: Any = None


class _Answer(msgspec.Struct):
    choices: list[_Choice] | None = None
    usage: Any = None
    error: Any = None
    data: Any = msgspec.UNSET
    output: Any = msgspec.UNSET
    results: Any = msgspec.UNSET


_EMPTY = {
    "length": (FailureClass.EMPTY_REASONING, "the answer is empty: the reasoning used up max_tokens"),
    "sensitive": (FailureClass.CONTENT_FILTER, "the provider withheld the answer (finish_reason: sensitive)"),
    "content_filter": (FailureClass.CONTENT_FILTER, "the provider withheld the answer (finish_reason: content_filter)"),
    "network_error": (FailureClass.NETWORK, "the provider broke off (finish_reason: network_error)"),
}
_decode = msgspec.json.Decoder(_Answer).decode
_decode_any = msgspec.json.Decoder().decode


def read_reply(status: int, headers: Sequence[tuple[str, str]], body: bytes, *, now: float) -> Success | Failure:
    """What a complete reply means. *now*: UTC seconds at its receipt."""
    named = {name.lower(): value for name, value in headers}
    told = quota(named, now=now)
    request_id = named.get("x-request-id") or named.get("request-id")
    answer = _answer(body) if status == OK else None
    failure = _failure(status, answer, body, named, now)
    if failure is not None:
        return replace(failure, quota=told, request_id=request_id or failure.request_id)
    assert answer is not None
    return Success(
        status=status,
        body=body,
        usage=_usage(answer.usage),
        finish_reason=_string(answer.choices[0].finish_reason) if answer.choices else None,
        request_id=request_id,
        quota=told,
        simulated=SIMULATED in named,
    )


def _answer(body: bytes) -> _Answer | None:
    try:
        return _decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def _failure(
    status: int, answer: _Answer | None, body: bytes, headers: Mapping[str, str], now: float
) -> Failure | None:
    """Why this reply is not an answer; None if it is one."""
    if status != OK:
        return _refusal(status, body, headers, now)
    if answer is None:
        return _malformed(body, "HTTP 200, but the body is no answer")
    if answer.error is not None:
        return _refusal(status, body, headers, now)
    if answer.choices:
        return _empty(answer.choices[0], body, answer.usage)
    if not any(isinstance(part, list) for part in (answer.data, answer.output, answer.results)):
        return _malformed(body, "HTTP 200, but there is no answer in it", _usage(answer.usage))
    return None


def _empty(choice: _Choice, body: bytes, usage: Any) -> Failure | None:
    """What an empty choice means by its finish reason; None if it holds anything."""
    message = choice.message
    if choice.text or (message and (message.content or message.tool_calls or message.refusal or message.function_call)):
        return None
    meaning = _EMPTY.get(_string(choice.finish_reason) or "")
    if meaning is None:
        return None  # an empty answer, but an answer
    kind, text = meaning
    return Failure(kind=kind, message=text, status=OK, body=body, usage=_usage(usage), maybe_charged=True)


def _malformed(body: bytes, what: str, usage: _Tokens = None) -> Failure:
    message = f"{what}: {_excerpt(body)}"
    kind = FailureClass.MALFORMED_SUCCESS
    return Failure(kind=kind, message=message, status=OK, body=body, usage=usage, maybe_charged=True)


def _refusal(status: int, body: bytes, headers: Mapping[str, str], now: float) -> Failure:
    error = _error(body)
    code, kind = _string(error.get("code")), _string(error.get("type"))
    message = _string(error.get("message")) or _string(error.get("msg")) or _excerpt(body) or "no reason given"
    assumed = 500 if status == OK else status  # an error inside a 200 speaks through its code alone
    wait = retry_after(headers, now=now)
    if wait is None:
        wait = _seconds(error.get("retry_after"))
    return Failure(
        kind=classify(assumed, code=code, kind=kind, message=message),
        message=message[:MESSAGE_LENGTH],
        status=status,
        code=code,
        body=body,
        retry_after=wait,
        request_id=_string(error.get("request_id")),
        maybe_charged=assumed >= 500,  # noqa: PLR2004
    )


def _error(body: bytes) -> Mapping[str, Any]:
    """The error object, in whichever shape: ``error{}``, ``error: "…"``, flat, ``detail``, ``errors[]``, a list."""
    try:
        value = _decode_any(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return {}
    if isinstance(value, list) and value:
        value = value[0]
    if not isinstance(value, dict):
        return {"message": value} if isinstance(value, str) else {}
    for key in ("error", "errors", "detail"):
        inner = value.get(key)
        if isinstance(inner, list) and inner:
            inner = inner[0]
        if isinstance(inner, dict):
            return inner
        if isinstance(inner, str):
            return {**value, "message": inner}
    return value


def _usage(value: Any) -> _Tokens:
    try:
        seen = msgspec.convert(value, _Usage)
    except msgspec.ValidationError:
        return None
    prompt = _count(seen.prompt_tokens, seen.input_tokens)
    completion = _count(seen.completion_tokens, seen.output_tokens)
    if prompt is None and completion is None:
        prompt = _count(seen.total_tokens)
        if prompt is None:
            return None
    cached, reasoning = seen.prompt_tokens_details or _Details(), seen.completion_tokens_details or _Details()
    return Usage(
        prompt_tokens=prompt or 0,
        completion_tokens=completion or 0,
        cached_tokens=_count(cached.cached_tokens) or 0,
        reasoning_tokens=_count(reasoning.reasoning_tokens) or 0,
    )


def _count(*candidates: int | None) -> int | None:
    """The first that can be a number of tokens."""
    return next((value for value in candidates if value is not None and 0 <= value <= TOKENS_MAX), None)


def _seconds(value: Any) -> float | None:
    """The body's own ``retry_after``: a number, or a number as text."""
    return retry_after({"retry-after": str(value)}, now=0.0) if isinstance(value, int | float | str) else None


def _string(value: Any) -> str | None:
    """Text, or a number that should have been text (some codes are)."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        return None
    return str(value) or None


def _excerpt(body: bytes) -> str:
    return " ".join(body[:MESSAGE_LENGTH].decode(errors="replace").split())
