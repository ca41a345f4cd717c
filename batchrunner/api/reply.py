"""A reply, whole, into an outcome: status, headers and bytes in; Success or Failure out. Never raises.

The bytes are kept as they came, whatever becomes of their reading. A 200 is an answer only if there is one in it:
HTML from a gateway, an ``error`` object, no choices, or a reasoning that used up ``max_tokens`` are classes of their
own.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from batchrunner.api import classify
from batchrunner.api.errors import error_in, message_of, string
from batchrunner.api.headers import quota, retry_hint, server_time
from batchrunner.api.prose import Told, read_error
from batchrunner.api.sse import EventParser
from batchrunner.provider import GENERIC, Provider
from batchrunner.quota import Quota, Window
from batchrunner.task import Failure, FailureClass, Success, Usage

SIMULATED = "x-batchrunner-simulated"
MESSAGE_LENGTH = 500  # characters of a provider's message that are kept beside its raw body
TOKENS_MAX = 10**9  # more in one reply is nonsense
OK, TOO_LARGE, TOO_MANY = 200, 413, 429
FAR_OFF = 3600.0  # seconds; a reset that OpenRouter names this far ahead is of a day's allowance
LONG = 3600.0  # seconds; a longer window is an allowance
_TURNED_AWAY = frozenset(  # before anything was computed, whatever the status
    {
        FailureClass.RATE_LIMIT,
        FailureClass.CONCURRENCY,
        FailureClass.OVERLOADED,
        FailureClass.QUOTA_WINDOW,
        FailureClass.QUOTA_EXHAUSTED,
        FailureClass.AUTH,
        FailureClass.PERMISSION,
        FailureClass.MODEL_NOT_FOUND,
        FailureClass.WRONG_ENDPOINT,
    }
)
_LIMITED = frozenset({FailureClass.RATE_LIMIT, FailureClass.REQUEST_TOO_LARGE, FailureClass.QUOTA_EXHAUSTED})
_Tokens = Usage | None


@dataclass(frozen=True, slots=True)
class _Head:
    """A reply before its body: headers by lower-case name, what they told of limits, UTC seconds at its receipt."""

    headers: Mapping[str, str]
    quota: Quota
    now: float
    provider: Provider


class _Details(msgspec.Struct):
    cached_tokens: Any = None
    reasoning_tokens: Any = None


class _Usage(msgspec.Struct):
    """Whatever stands in a field is looked at later: one that makes no sense spoils no other."""

    prompt_tokens: Any = None
    completion_tokens: Any = None
    input_tokens: Any = None
    output_tokens: Any = None
    total_tokens: Any = None
    cached_tokens: Any = None  # Moonshot's place
    prompt_cache_hit_tokens: Any = None  # DeepSeek's
    cache_read_input_tokens: Any = None  # Anthropic's, also behind a gateway
    cache_creation_input_tokens: Any = None
    prompt_tokens_details: Any = None
    completion_tokens_details: Any = None
    input_tokens_details: Any = None
    output_tokens_details: Any = None


class _Message(msgspec.Struct):
    content: Any = None
    tool_calls: Any = None
    refusal: Any = None
    function_call: Any = None


class _Choice(msgspec.Struct):
    message: _Message | None = None
    text: Any = None
    finish_reason: Any = None
    error: Any = None


class _Answer(msgspec.Struct):
    choices: list[_Choice] | None = None
    usage: Any = None
    error: Any = None
    code: Any = None
    message: Any = None
    msg: Any = None
    success: Any = None
    data: Any = msgspec.UNSET
    output: Any = msgspec.UNSET
    results: Any = msgspec.UNSET
    meta: Any = None
    status: Any = None
    incomplete_details: Any = None


_STATUS = re.compile("[45][0-9][0-9]")
_OKS = range(200, 300)
SHAPED = frozenset({"chat/completions", "completions", "embeddings", "responses", "rerank", "moderations"})
_BROKEN_OFF = frozenset({"sensitive", "network_error", "error"})  # what there is of such an answer is not the answer
_USED_UP = FailureClass.EMPTY_REASONING
_FILTERED = (FailureClass.CONTENT_FILTER, "the provider withheld the answer")
_EMPTY = {
    "length": (_USED_UP, "the answer is empty: the reasoning used up max_tokens"),
    "max_tokens": (_USED_UP, "the answer is empty: the reasoning used up max_tokens"),
    "max_output_tokens": (_USED_UP, "the answer is empty: the reasoning used up max_output_tokens"),
    **dict.fromkeys(("sensitive", "content_filter", "safety", "prohibited_content", "recitation"), _FILTERED),
    "model_context_window_exceeded": (FailureClass.CONTEXT_LENGTH, "prompt and answer are longer than the context"),
    "network_error": (FailureClass.NETWORK, "the provider broke off"),
    "error": (FailureClass.SERVER_ERROR, "the provider broke off"),
}
_THOUGHTS = frozenset({"thinking", "reasoning"})  # parts of a content that are no answer
_decode = msgspec.json.Decoder(_Answer).decode
_decode_any = msgspec.json.Decoder().decode
_UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


def is_ok(status: int) -> bool:
    return status in _OKS


def read_reply(
    status: int,
    headers: Sequence[tuple[str, str]],
    body: bytes,
    *,
    now: float,
    endpoint: str = "chat/completions",
    provider: Provider = GENERIC,
) -> Success | Failure:
    """What a complete reply of *provider* to *endpoint* means. *now*: UTC seconds at its receipt."""
    named = {name.lower(): value for name, value in headers}
    told = quota(named, now=now)
    request_id = named.get("x-request-id") or named.get("request-id")
    answer = _answer(body, endpoint) if is_ok(status) else None
    failure = _failure(status, answer, body, _Head(named, told, now, provider))
    if failure is not None:
        return replace(failure, request_id=request_id or failure.request_id)
    assert answer is not None
    return Success(
        status=status,
        body=body,
        usage=_told_usage(answer),
        finish_reason=_finish_reason(answer),
        request_id=request_id,
        quota=told,
        simulated=SIMULATED in named,
    )


def _answer(body: bytes, endpoint: str) -> _Answer | None:
    """What the body holds; None where there is no answer to a question of this kind in it."""
    try:
        answer = _decode(body)
    except _UNREADABLE:
        answer = None
    if endpoint in SHAPED or (answer is not None and (answer.choices or answer.error or _is_plainly_error(answer))):
        return answer
    try:  # of a path that we do not know, any JSON is an answer
        is_json = isinstance(_decode_any(body), dict | list)
    except _UNREADABLE:
        is_json = False
    return _Answer(data=[], usage=None if answer is None else answer.usage) if is_json else None


def _failure(status: int, answer: _Answer | None, body: bytes, head: _Head) -> Failure | None:
    """Why this reply is not an answer; None if it is one."""
    if not is_ok(status) or (answer is not None and (answer.error or _is_flat_error(answer))):
        return _refusal(status, _error(body), body, head)
    if answer is None:
        failure: Failure | None = _malformed(body, "HTTP 200, but the body is no answer")
    elif answer.choices and isinstance(answer.choices[0].error, dict):  # OpenRouter's, where a provider broke off
        failure = _refusal(status, answer.choices[0].error, body, head)
        failure = replace(failure, usage=_usage(answer.usage), maybe_charged=True)
    elif answer.choices:
        failure = _empty(answer.choices[0], body, answer.usage)
    elif isinstance(answer.output, list) and all(map(_is_reasoning, answer.output)):
        failure = _withheld(_finish_reason(answer), body, answer.usage)
    elif not any(isinstance(part, list) for part in (answer.data, answer.output, answer.results)):
        failure = _malformed(body, "HTTP 200, but there is no answer in it", _usage(answer.usage))
        failure = replace(failure, maybe_charged=answer.usage is not None)
    else:
        failure = None
    return None if failure is None else replace(failure, quota=head.quota)


def _is_plainly_error(answer: _Answer) -> bool:
    """A flat error that no answer of an unknown path is taken for: GLM's gateway's to a path that it has not."""
    return _is_flat_error(answer) and (answer.success is False or bool(_STATUS.fullmatch(string(answer.code) or "")))


def _is_flat_error(answer: _Answer) -> bool:
    """A code and a text where the answer should be: DashScope, SiliconFlow and GLM's gateway send them with a 200."""
    there = (answer.choices, answer.data, answer.output, answer.results)
    return bool(answer.code and (answer.message or answer.msg)) and not any(isinstance(part, list) for part in there)


def _empty(choice: _Choice, body: bytes, usage: Any) -> Failure | None:
    """What an empty choice means by its finish reason, or one that was broken off; None if it is an answer."""
    message, reason = choice.message, _ending(choice.finish_reason)
    held = choice.text or (
        message and (_says(message.content) or message.tool_calls or message.refusal or message.function_call)
    )
    return None if held and reason not in _BROKEN_OFF else _withheld(reason, body, usage)


def _says(content: Any) -> bool:
    """Whether there is an answer in it; it may be parts, of which the thoughts are none."""
    if isinstance(content, list):
        parts = [part for part in content if not isinstance(part, dict) or part.get("type") not in _THOUGHTS]
        return any(_says(part.get("text", part)) if isinstance(part, dict) else _says(part) for part in parts)
    return bool(content.strip() if isinstance(content, str) else content)


def _ending(finish_reason: Any) -> str:
    """Gemini's "content_filter: PROHIBITED_CONTENT" and "MAX_TOKENS" are what others write in small letters."""
    return (string(finish_reason) or "").partition(":")[0].lower()


def _withheld(reason: str | None, body: bytes, usage: Any) -> Failure | None:
    meaning = _EMPTY.get(reason or "")
    if meaning is None:
        return None  # an empty answer, but an answer
    kind, text = meaning
    text = text if kind in (_USED_UP, FailureClass.CONTEXT_LENGTH) else f"{text} (finish_reason: {reason})"
    return Failure(kind=kind, message=text, status=OK, body=body, usage=_usage(usage), maybe_charged=True)


def _is_reasoning(item: Any) -> bool:
    return isinstance(item, dict) and item.get("type") == "reasoning"


def _finish_reason(answer: _Answer) -> str | None:
    if answer.choices:
        return string(answer.choices[0].finish_reason)
    if not isinstance(answer.output, list):
        return None
    details = answer.incomplete_details  # of the responses API
    return (string(details.get("reason")) if isinstance(details, dict) else None) or string(answer.status)


def _malformed(body: bytes, what: str, usage: _Tokens = None) -> Failure:
    message = f"{what}: {_excerpt(body)}"
    kind = FailureClass.MALFORMED_SUCCESS
    return Failure(kind=kind, message=message, status=OK, body=body, usage=usage, maybe_charged=True)


def _refusal(status: int, error: Mapping[str, Any], body: bytes, head: _Head) -> Failure:
    code, kind = string(error.get("code")), string(error.get("type"))
    message = message_of(error) or _excerpt(body) or "no reason given"
    assumed = _inner_status(error) if is_ok(status) else status
    clock = server_time(head.headers, now=head.now)
    told = read_error(error, message, now=clock)
    hint = retry_hint(head.headers, status=assumed, now=head.now)
    said = _merged(head.quota, told, clock)
    seen = classify.Told(status=assumed, code=code, type=kind, message=message)
    found, advice = classify.classify(seen, provider=head.provider, should_retry=hint.should)
    found = _by_limits(found, status, said, told, head.headers)
    waits = [wait for wait in (hint.after, told.after) if wait is not None and status != TOO_LARGE]
    gone = next(filter(_is_gone, head.quota.windows), None)
    if found is FailureClass.RATE_LIMIT and not waits and gone is not None:
        found, message = FailureClass.QUOTA_WINDOW, f"{gone.words}: {message}"
    return Failure(
        kind=found,
        message=message[:MESSAGE_LENGTH],
        status=status,
        code=code,
        body=body,
        retry_after=max(waits, default=None),
        dimension=told.dimension,
        hint=advice,
        request_id=string(error.get("request_id")),
        maybe_charged=assumed >= 500 and found not in _TURNED_AWAY,  # noqa: PLR2004
        quota=said,
    )


def _error(body: bytes) -> Mapping[str, Any]:
    """Of a body, or of an event that it is dressed up as: some answer whoever asked for a stream so."""
    parser = EventParser()
    for text in (body, *(event.data for event in (*parser.feed(body), *parser.close()))):
        try:
            return error_in(_decode_any(text))
        except _UNREADABLE:
            continue
    return {}


def _inner_status(error: Mapping[str, Any]) -> int:
    """The HTTP status of an error inside a 200: its code, where that is one (OpenRouter), or what it says beside it."""
    told = (string(error.get("code")), string(error.get("status_code")))  # Groq's, in a stream
    is_bad = error.get("type") == "invalid_request_error"  # DashScope streams it so
    return next((int(code) for code in told if code is not None and _STATUS.fullmatch(code)), 400 if is_bad else 500)


def _merged(quota_told: Quota, told: Told, now: float) -> Quota:
    """What the headers told, and what the body adds to it: more windows, and how much was requested of one."""
    inner = quota(told.inner, now=now).windows if told.inner else ()
    asked = {(window.dimension, window.period): window.requested for window in told.windows}
    seen = {(window.dimension, window.period) for window in quota_told.windows}
    known = (replace(w, requested=asked.get((w.dimension, w.period), w.requested)) for w in quota_told.windows)
    more = (window for window in (*inner, *told.windows) if (window.dimension, window.period) not in seen)
    return replace(quota_told, windows=(*known, *more))


def _by_limits(found: FailureClass, status: int, said: Quota, told: Told, headers: Mapping[str, str]) -> FailureClass:
    """What the limits themselves say of a refusal, where that is more than its class."""
    if found is FailureClass.PERMISSION and any(w.remaining is not None and w.remaining <= 0 for w in said.windows):
        return FailureClass.RATE_LIMIT  # GitHub's way
    if found not in _LIMITED:
        return found
    if told.none or (status == TOO_MANY and any(window.limit == 0 for window in said.windows)):
        return FailureClass.QUOTA_EXHAUSTED
    if any(window.never for window in said.windows):
        return FailureClass.REQUEST_TOO_LARGE
    far_off = bool(told.inner) and any((window.reset_after or 0.0) > FAR_OFF for window in said.windows)
    if told.daily or far_off or headers.get("anthropic-ratelimit-unified-status") == "rejected":
        return FailureClass.QUOTA_WINDOW
    return found


def _is_gone(window: Window) -> bool:
    """Whether a day's or a month's allowance is used up, and it is not said until when (Mistral)."""
    is_empty = window.remaining is not None and window.remaining <= 0
    return is_empty and window.reset_after is None and (window.period or 0.0) > LONG


def _told_usage(answer: _Answer) -> _Tokens:
    usage = _usage(answer.usage)
    if usage is None and isinstance(answer.meta, dict):  # Cohere tells a rerank's usage there
        usage = _usage(answer.meta.get("tokens")) or _usage(answer.meta.get("billed_units"))
    return usage


def _usage(value: Any) -> _Tokens:
    try:
        seen = msgspec.convert(value, _Usage)
    except msgspec.ValidationError:
        return None
    completion = _count(seen.completion_tokens, seen.output_tokens)
    total = _count(seen.total_tokens)
    prompt = _prompt(seen, total)
    if prompt is None and completion is None and total is None:
        return None
    if prompt is None:
        prompt_told = total if completion is None else _rest(total, completion)
    else:
        prompt_told = prompt
        rest = _rest(total, prompt)  # xAI's and Gemini's total has the reasoning in it, which is paid
        completion = rest if completion is None else max(completion, rest or 0)
    cached = _details(seen.prompt_tokens_details, seen.input_tokens_details)
    reasoning = _details(seen.completion_tokens_details, seen.output_tokens_details)
    hits = (seen.cached_tokens, seen.prompt_cache_hit_tokens, seen.cache_read_input_tokens)
    return Usage(
        prompt_tokens=prompt_told or 0,
        completion_tokens=completion or 0,
        cached_tokens=_count(cached.cached_tokens, *hits) or 0,
        reasoning_tokens=_count(reasoning.reasoning_tokens) or 0,
        is_whole=prompt_told is not None and completion is not None,
    )


def _prompt(seen: _Usage, total: int | None) -> int | None:
    """Anthropic counts what came from its cache, or went into it, beside the prompt; gateways mostly within it."""
    prompt = _count(seen.prompt_tokens, seen.input_tokens)
    beside = (_count(seen.cache_read_input_tokens) or 0) + (_count(seen.cache_creation_input_tokens) or 0)
    if prompt is None:
        return None
    is_its_own = seen.prompt_tokens is None and total is None
    return prompt + beside if is_its_own or beside > prompt else prompt


def _rest(total: int | None, part: int) -> int | None:
    return None if total is None or total < part else total - part


def _details(*candidates: Any) -> _Details:
    """The first that is an object; a list stands for none where PHP wrote it."""
    return next((msgspec.convert(each, _Details) for each in candidates if isinstance(each, dict)), _Details())


def _count(*candidates: Any) -> int | None:
    """The first that can be a number of tokens."""
    numbers = (each for each in candidates if isinstance(each, int | float) and not isinstance(each, bool))
    return next((int(each) for each in numbers if 0 <= each <= TOKENS_MAX and each == int(each)), None)


def _excerpt(body: bytes) -> str:
    return " ".join(body[:MESSAGE_LENGTH].decode(errors="replace").split())
