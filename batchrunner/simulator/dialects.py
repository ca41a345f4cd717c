"""How a provider tells of its limits: the state after admission, or a refusal, as headers and an error body."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from math import ceil, inf

import msgspec

from batchrunner.simulator.config import DialectName
from batchrunner.simulator.gate import Levels
from batchrunner.simulator.rules import Bound, Refusal, State

Headers = dict[str, str]
_ENCODER = msgspec.json.Encoder()


@dataclass(frozen=True, slots=True)
class Dialect:
    """``headers`` go with every reply of an endpoint that has limits; ``refuse`` makes the rest of a 429."""

    headers: Callable[[Levels], Headers]
    refuse: Callable[[Refusal], tuple[Headers, bytes]]


def error_body(message: str, *, kind: str, code: str | None = None, param: str | None = None) -> bytes:
    """An error in OpenAI's form."""
    return _ENCODER.encode({"error": {"message": message, "type": kind, "param": param, "code": code}})


def go_duration(seconds: float) -> str:
    """*seconds* as Go prints them, cut to milliseconds: ``0s``, ``120ms``, ``1.606s``, ``6m0s``, ``1h9m7.077s``."""
    milliseconds = int(seconds * 1000 + 1e-6)
    if milliseconds <= 0:
        return "0s"
    if milliseconds < 1000:  # noqa: PLR2004  (a second)
        return f"{milliseconds}ms"
    minutes, rest = divmod(milliseconds, 60_000)
    tail = f"{rest // 1000}.{rest % 1000:03}".rstrip("0").rstrip(".") + "s"
    if not minutes:
        return tail
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes}m{tail}" if hours else f"{minutes}m{tail}"


def _up(seconds: float) -> int:
    """Whole units, rounded up, but not for float noise."""
    return ceil(seconds - 1e-6)


def _silent(levels: Levels) -> Headers:  # noqa: ARG001  (the signature of all dialects)
    return {}


def _openai(levels: Levels) -> Headers:
    headers: Headers = {}
    for name, state in (("requests", levels.requests), ("tokens", levels.tokens)):
        if state is not None:
            headers[f"x-ratelimit-limit-{name}"] = str(state.limit)
            headers[f"x-ratelimit-remaining-{name}"] = str(state.remaining)
            headers[f"x-ratelimit-reset-{name}"] = go_duration(state.reset)
    return headers


def _openai_refusal(refusal: Refusal) -> tuple[Headers, bytes]:
    counts = f"Limit {refusal.limit}, Used {refusal.used}, Requested {refusal.requested}."
    if refusal.wait is None:
        text = f"Too many concurrent requests: {counts} Please wait for some of them to finish."
        return {}, error_body(text, kind=refusal.bound, code="rate_limit_exceeded")
    if refusal.wait == inf:
        text = (
            f"Request too large for {refusal.bound}: Limit {refusal.limit}, Requested {refusal.requested}. "
            "The input or output tokens must be reduced in order to run successfully."
        )
        return {}, error_body(text, kind=refusal.bound, code="rate_limit_exceeded")
    milliseconds = max(1, _up(refusal.wait * 1000))
    text = f"Rate limit reached for {refusal.bound}: {counts} Please try again in {go_duration(milliseconds / 1000)}."
    headers = {"retry-after-ms": str(milliseconds), "retry-after": str(_up(milliseconds / 1000))}
    return headers, error_body(text, kind=refusal.bound, code="rate_limit_exceeded")


def _zhipu(levels: Levels) -> Headers:
    return _zhipu_window("Requests", levels.requests) | _zhipu_window("Tokens", levels.tokens)


def _zhipu_window(name: str, state: State | None) -> Headers:
    if state is None:
        return {}
    return {
        f"X-RateLimit-{name}-Limit": str(state.limit),
        f"X-RateLimit-{name}-Remaining": str(state.remaining),
        f"X-RateLimit-{name}-Reset": str(_up(state.reset)),
    }


def _zhipu_refusal(refusal: Refusal) -> tuple[Headers, bytes]:
    error: dict[str, object] = {
        "code": "rate_limit_exceeded",
        "message": f"Rate limit reached for {refusal.bound}",
        "type": "rate_limit_error",
    }
    if refusal.wait is not None and refusal.wait != inf:
        error["retry_after"] = max(1, _up(refusal.wait))
    return {}, _ENCODER.encode({"error": error})


def _anthropic(levels: Levels) -> Headers:
    """Resets are instants, in whole seconds."""
    headers: Headers = {}
    for name, state in (("requests", levels.requests), ("tokens", levels.tokens)):
        if state is not None:
            reset = datetime.fromtimestamp(_up(levels.utc + state.reset), UTC)
            headers[f"anthropic-ratelimit-{name}-limit"] = str(state.limit)
            headers[f"anthropic-ratelimit-{name}-remaining"] = str(state.remaining)
            headers[f"anthropic-ratelimit-{name}-reset"] = reset.strftime("%Y-%m-%dT%H:%M:%SZ")
    return headers


def _anthropic_refusal(refusal: Refusal) -> tuple[Headers, bytes]:
    text = f"This request would exceed your account's rate limit for {refusal.bound}. Please try again later."
    return _retry_after(refusal), _ENCODER.encode(
        {"type": "error", "error": {"type": "rate_limit_error", "message": text}}
    )


def _ietf(levels: Levels) -> Headers:
    """The draft's three fields, which do not say what they count: requests, or tokens where only those are limited."""
    state = levels.requests or levels.tokens
    if state is None:
        return {}
    return {
        "RateLimit-Limit": str(state.limit),
        "RateLimit-Remaining": str(state.remaining),
        "RateLimit-Reset": str(_up(state.reset)),
    }


def _glm_refusal(refusal: Refusal) -> tuple[Headers, bytes]:
    if refusal.bound is Bound.CONCURRENCY:
        error = {"code": "1302", "message": "Rate limit reached for requests"}
    else:
        error = {"code": "1303", "message": "The frequency of your requests is too high, please slow down"}
    return {}, _ENCODER.encode({"error": error})


def _plain_refusal(refusal: Refusal) -> tuple[Headers, bytes]:  # noqa: ARG001  (the signature of all dialects)
    body = error_body("Rate limit reached. Please try again later.", kind="rate_limit", code="rate_limit_exceeded")
    return {}, body


def _retry_after_refusal(refusal: Refusal) -> tuple[Headers, bytes]:
    return _retry_after(refusal), _plain_refusal(refusal)[1]


def _retry_after(refusal: Refusal) -> Headers:
    return {} if refusal.wait == inf else {"Retry-After": str(max(1, _up(refusal.wait or 0)))}


DIALECTS: dict[DialectName, Dialect] = {
    "openai": Dialect(_openai, _openai_refusal),
    "zhipu": Dialect(_zhipu, _zhipu_refusal),
    "anthropic": Dialect(_anthropic, _anthropic_refusal),
    "ietf": Dialect(_ietf, _retry_after_refusal),
    "glm": Dialect(_silent, _glm_refusal),
    "none": Dialect(_silent, _plain_refusal),
    "retry-after": Dialect(_silent, _retry_after_refusal),
}
