"""Headers and refusals read as the providers' own."""

import json
import re
from math import inf
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchrunner.simulator.config import DialectName
from batchrunner.simulator.dialects import DIALECTS
from batchrunner.simulator.gate import Levels
from batchrunner.simulator.rules import Bound, Refusal, State
from batchrunner.simulator.templates import go_duration

LEVELS = Levels(
    State(limit=60, remaining=12, reset=47.5004), State(limit=30_000, remaining=-3, reset=60.006), utc=1_767_225_600.7
)
UNITS = {"h": 3_600_000, "m": 60_000, "s": 1000, "ms": 1}


def refusal(bound: Bound = Bound.REQUESTS, wait: float | None = 1.0) -> Refusal:
    return Refusal(bound=bound, limit=60, used=60, requested=1, wait=wait)


def refused(dialect: DialectName, why: Refusal) -> tuple[dict[str, str], dict[str, Any]]:
    headers, body = DIALECTS[dialect].refuse(why)
    error: dict[str, Any] = json.loads(body)["error"]
    return headers, error


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0s"),
        (0.0004, "0s"),
        (0.12, "120ms"),
        (1.0, "1s"),
        (1.606, "1.606s"),
        (59.9999, "59.999s"),
        (60.0, "1m0s"),
        (360.0, "6m0s"),
        (977.764, "16m17.764s"),
        (4147.077, "1h9m7.077s"),
        (86_400.0, "24h0m0s"),
    ],
)
def test_durations_are_written_as_go_writes_them(seconds: float, text: str) -> None:
    assert go_duration(seconds) == text


@given(st.floats(0, 1e6))
def test_duration_loses_less_than_a_millisecond(seconds: float) -> None:
    parts = re.findall(r"([\d.]+)(ms|h|m|s)", go_duration(seconds))
    milliseconds = sum(float(number) * UNITS[unit] for number, unit in parts)

    assert seconds * 1000 - 1.001 <= milliseconds <= seconds * 1000 + 0.001


def test_openai_headers() -> None:
    assert DIALECTS["openai"].headers(LEVELS) == {
        "x-ratelimit-limit-requests": "60",
        "x-ratelimit-remaining-requests": "12",
        "x-ratelimit-reset-requests": "47.5s",
        "x-ratelimit-limit-tokens": "30000",
        "x-ratelimit-remaining-tokens": "-3",
        "x-ratelimit-reset-tokens": "1m0.006s",
    }


def test_zhipu_headers_round_resets_up() -> None:
    assert DIALECTS["zhipu"].headers(LEVELS) == {
        "X-RateLimit-Requests-Limit": "60",
        "X-RateLimit-Requests-Remaining": "12",
        "X-RateLimit-Requests-Reset": "48",
        "X-RateLimit-Tokens-Limit": "30000",
        "X-RateLimit-Tokens-Remaining": "-3",
        "X-RateLimit-Tokens-Reset": "61",
    }


def test_anthropic_headers_tell_resets_as_instants() -> None:
    assert DIALECTS["anthropic"].headers(LEVELS) == {
        "anthropic-ratelimit-requests-limit": "60",
        "anthropic-ratelimit-requests-remaining": "12",
        "anthropic-ratelimit-requests-reset": "2026-01-01T00:00:49Z",
        "anthropic-ratelimit-tokens-limit": "30000",
        "anthropic-ratelimit-tokens-remaining": "-3",
        "anthropic-ratelimit-tokens-reset": "2026-01-01T00:01:01Z",
    }


def test_ietf_headers_do_not_say_what_they_count() -> None:
    assert DIALECTS["ietf"].headers(LEVELS) == {
        "RateLimit-Limit": "60",
        "RateLimit-Remaining": "12",
        "RateLimit-Reset": "48",
    }


@pytest.mark.parametrize("dialect", ["glm", "none", "retry-after"])
def test_silent_dialects_tell_nothing(dialect: DialectName) -> None:
    assert DIALECTS[dialect].headers(LEVELS) == {}


@pytest.mark.parametrize("dialect", ["openai", "zhipu", "anthropic", "ietf"])
def test_what_has_no_limit_has_no_header(dialect: DialectName) -> None:
    assert DIALECTS[dialect].headers(Levels(None, None)) == {}


def test_openai_refusal_has_the_numbers_in_its_prose() -> None:
    headers, error = refused("openai", refusal(wait=0.3076))

    assert headers == {"retry-after-ms": "308", "retry-after": "1"}
    assert error == {
        "message": "Rate limit reached for requests: Limit 60, Used 60, Requested 1. Please try again in 308ms.",
        "type": "requests",
        "param": None,
        "code": "rate_limit_exceeded",
    }


def test_request_larger_than_the_limit_is_not_told_to_wait() -> None:
    headers, error = refused("openai", refusal(Bound.TOKENS, inf))

    assert headers == {}
    assert error["message"].startswith("Request too large for tokens: Limit 60, Requested 1.")


def test_zhipu_refusal_has_its_wait_in_the_body() -> None:
    headers, error = refused("zhipu", refusal(wait=11.2))

    assert headers == {}
    assert (error["code"], error["type"], error["retry_after"]) == ("rate_limit_exceeded", "rate_limit_error", 12)


def test_glm_tells_concurrency_from_rate_by_code_only() -> None:
    assert refused("glm", refusal(Bound.CONCURRENCY, None)) == (
        {},
        {"code": "1302", "message": "Rate limit reached for requests"},
    )
    assert refused("glm", refusal(Bound.TOKENS))[1]["code"] == "1303"


def test_plain_refusal_names_no_number() -> None:
    headers, error = refused("none", refusal())

    assert headers == {}
    assert not re.search(r"\d", error["message"])


@pytest.mark.parametrize(("wait", "told"), [(0.2, "1"), (1.0, "1"), (11.01, "12"), (None, "1")])
def test_retry_after_is_whole_seconds_rounded_up(wait: float | None, told: str) -> None:
    for dialect in ("retry-after", "anthropic", "ietf"):
        assert refused(dialect, refusal(wait=wait))[0] == {"Retry-After": told}
