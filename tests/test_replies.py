"""What a reply means: recorded ones of real providers, and whatever else a server may send."""

import json
from datetime import datetime
from random import Random
from time import process_time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from recorded import RECORDED, now_of, read

from batchrunner.api.headers import quota, retry_after
from batchrunner.api.reply import read_reply
from batchrunner.api.times import WAIT_MAX, seconds_until
from batchrunner.config import RetrySettings
from batchrunner.provider import load_provider
from batchrunner.quota import Dimension
from batchrunner.retry import GiveUp, Retry, Snooze, Stop, decide
from batchrunner.task import Failure, FailureClass, Success, Usage

ACTIONS: dict[str, tuple[type, ...]] = {
    "wait": (Snooze,),
    "wait_to_minute_boundary": (Snooze,),
    "retry_soon_and_lower_concurrency": (Snooze,),
    "backoff": (Snooze, Retry),
    "retry_item_limited": (Retry,),
    "fail_item": (GiveUp,),
    "stop_run": (Stop,),
    "park_until_reset": (Stop,),
    "park_or_stop": (Stop, Snooze),
}
NOW = 1_790_000_000.0


@pytest.mark.parametrize("vector", RECORDED, ids=lambda vector: vector["id"])
def test_a_recorded_reply_is_read_as_it_was_meant(vector: dict[str, Any]) -> None:
    """Class, windows, waits and charge of every recording."""
    outcome, expected = read(vector), vector["expected"]
    kind = "ok" if isinstance(outcome, Success) else str(outcome.kind)
    assert kind == expected.get("class", kind)
    for name in ("requests", "tokens"):
        if name in expected:
            check_window(outcome, name, expected[name])
    for name, values in (expected.get("other") or {}).items():
        check_window(outcome, name, values)
    if isinstance(outcome, Failure) and "retry_after_s" in expected:
        asked = expected["retry_after_s"]
        assert outcome.retry_after == (None if asked is None else pytest.approx(asked, abs=0.01))
    if "action" in expected and isinstance(outcome, Failure):
        check_action(outcome, expected, now_of(vector))
    if "cost_tokens" in expected:
        assert outcome.quota.charged == expected["cost_tokens"]
    if isinstance(outcome, Failure) and "dimension" in expected and outcome.dimension is not None:
        assert outcome.dimension == expected["dimension"].removesuffix("-day")


def check_action(failure: Failure, expected: dict[str, Any], now: float) -> None:
    """What the vector says to do is what is done, and whether its task may go again."""
    verdict = decide(failure, failures=0, policy=RetrySettings(), rng=Random(1))
    allowed = ACTIONS[expected["action"]]
    assert isinstance(verdict, allowed)
    again = isinstance(verdict, Retry | Snooze) or (isinstance(verdict, Stop) and verdict.later)
    assert again == expected["retryable"]
    if (reset_at := expected.get("reset_at")) is not None:
        assert failure.retry_after is not None
        assert now + failure.retry_after == pytest.approx(datetime.fromisoformat(reset_at).timestamp(), abs=1)


def check_window(outcome: Success | Failure, name: str, values: dict[str, Any] | None) -> None:
    """The window a vector names: ``tokens``, ``tokens-day``; None: there is none."""
    dimension, _, unit = name.partition("-") if name.startswith(("requests-", "tokens-")) else (name, "", "")
    period = {"month": 2592000.0, "day": 86400.0, "hour": 3600.0}.get(unit)
    seen = [
        window
        for window in outcome.quota.windows
        if window.dimension == dimension and window.scope != "usage_based" and (unit == "" or window.period == period)
    ]
    if values is None or (values["limit"] is None and values["remaining"] is None and "requested" not in values):
        assert seen == []
        return
    window = seen[0]
    assert (window.limit, window.remaining) == (values["limit"], values["remaining"])
    assert window.reset_after == (None if values["reset_s"] is None else pytest.approx(values["reset_s"], abs=0.01))
    if window.period is not None:
        assert window.period == values["window_s"]
    assert window.scope == values.get("scope", window.scope)
    assert window.requested == values.get("requested")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0s", 0.0),
        ("120ms", 0.12),
        ("1.606s", 1.606),
        ("6m0s", 360.0),
        ("1h9m7.077s", 4147.077),
        ("59", 59.0),
        ("58.28", 58.28),
        (str(int(NOW) + 30), 30.0),
        (str(int(NOW * 1000) + 30_000), 30.0),
        ("2026-09-21T14:13:50Z", 30.0),
        ("soon", None),
        ("", None),
        ("nan", None),
        ("-5", None),
        ("1e300", None),
        ("1_000", None),
    ],
)
def test_a_reset_in_any_of_its_forms(text: str, seconds: float | None) -> None:
    """Go durations, numbers, instants and epochs; None for what makes no sense."""
    read = seconds_until(text, now=NOW)
    assert read == (None if seconds is None else pytest.approx(seconds, abs=0.01))


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "2"}, 2.0),
        ({"retry-after": "600"}, 600.0),
        ({"retry-after": "1.5"}, 1.5),
        ({"retry-after": "2", "retry-after-ms": "308"}, 0.308),
        ({"retry-after": "Wed, 21 Oct 2026 07:28:30 GMT", "date": "Wed, 21 Oct 2026 07:28:00 GMT"}, 30.0),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0.0),
        ({"retry-after": "1m30s"}, 90.0),
        ({"retry-after": str(int(NOW) + 30)}, 30.0),
        ({"retry-after": "3", "retry-after-ms": "-5"}, 3.0),
        ({"retry-after": "3", "retry-after-ms": "1e99"}, 3.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "inf"}, None),
        ({}, None),
    ],
)
def test_retry_after_in_any_of_its_forms(headers: dict[str, str], seconds: float | None) -> None:
    """Milliseconds first; a date is relative to the server's own clock."""
    assert retry_after(headers, now=NOW) == seconds


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"<html>Welcome to the hotel</html>", FailureClass.MALFORMED_SUCCESS),
        (b"", FailureClass.MALFORMED_SUCCESS),
        (b"null", FailureClass.MALFORMED_SUCCESS),
        (b'{"id": "", "choices": null, "usage": null}', FailureClass.MALFORMED_SUCCESS),
        (b'{"choices": []}', FailureClass.MALFORMED_SUCCESS),
        (b'{"error": {"code": "1302", "message": "x"}}', FailureClass.CONCURRENCY),
        (
            b'{"choices": [{"message": {"content": ""}, "finish_reason": "length"}]}',
            FailureClass.EMPTY_REASONING,
        ),
        (b'{"choices": [{"message": {"content": null}, "finish_reason": "sensitive"}]}', FailureClass.CONTENT_FILTER),
        (b'{"choices": [{"message": {}, "finish_reason": "content_filter: RECITATION"}]}', FailureClass.CONTENT_FILTER),
        (
            b'{"choices": [{"message": {"content": " \\n"}, "finish_reason": "MAX_TOKENS"}]}',
            FailureClass.EMPTY_REASONING,
        ),
        (
            b'{"choices": [{"message": {"content": [{"type": "thinking"}]}, "finish_reason": "length"}]}',
            FailureClass.EMPTY_REASONING,
        ),
        (
            b'{"choices": [{"message": {"content": "half an ans"}, "finish_reason": "error"}]}',
            FailureClass.SERVER_ERROR,
        ),
        (
            b'{"choices": [{"message": {"content": "half"}, "error": {"code": 429, "message": "slow"}}]}',
            FailureClass.RATE_LIMIT,
        ),
        (b'{"code": "Throttling.RateQuota", "message": "Requests rate limit exceeded"}', FailureClass.RATE_LIMIT),
        (b'{"code": 401, "msg": "the token has expired", "success": false}', FailureClass.AUTH),
        (b'{"error": ""}', FailureClass.MALFORMED_SUCCESS),
        (
            b'{"error": {"code": "invalid_parameter_error", "message": "x", "type": "invalid_request_error"}}',
            FailureClass.BAD_REQUEST,
        ),
        (b'{"error": {"message": "no tool", "type": "x", "code": "y", "status_code": 400}}', FailureClass.BAD_REQUEST),
    ],
)
def test_a_200_without_an_answer_is_not_a_success(body: bytes, kind: FailureClass) -> None:
    """Each of these is a class of its own, and the bytes are kept as they came."""
    outcome = read_reply(200, [], body, now=NOW)
    assert isinstance(outcome, Failure)
    assert (outcome.kind, outcome.body) == (kind, body)


@pytest.mark.parametrize("nothing", ["null", "{}", '""', "false", "[]"])
def test_an_error_that_says_nothing_never_costs_the_answer(nothing: str) -> None:
    """Some servers have the field in every reply."""
    answer = f'{{"error": {nothing}, "code": "", "choices": [{{"message": {{"content": "yes"}}}}]}}'
    assert isinstance(read_reply(200, [], answer.encode(), now=NOW), Success)


@pytest.mark.parametrize("content", ['"half"', '[{"type": "text", "text": "half"}]', '[{"type": "image_url"}]'])
def test_an_answer_that_was_cut_short_by_max_tokens_is_an_answer(content: str) -> None:
    body = f'{{"choices": [{{"message": {{"content": {content}}}, "finish_reason": "length"}}]}}'
    assert isinstance(read_reply(200, [], body.encode(), now=NOW), Success)


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (401, b"Unauthorized", FailureClass.AUTH),
        (403, b"{}", FailureClass.PERMISSION),
        (404, b'{"error": {"code": "model_not_found", "message": "no"}}', FailureClass.MODEL_NOT_FOUND),
        (404, b"<html>404</html>", FailureClass.WRONG_ENDPOINT),
        (302, b"", FailureClass.WRONG_ENDPOINT),
        (400, b'{"error": {"code": "1211", "message": "x"}}', FailureClass.MODEL_NOT_FOUND),
        (400, b'{"detail": [{"message": "bad field"}]}', FailureClass.BAD_REQUEST),
        (429, b'{"error": {"code": "1113", "message": "x"}}', FailureClass.QUOTA_EXHAUSTED),
        (429, b'{"error": {"code": "insufficient_quota", "message": "x"}}', FailureClass.QUOTA_EXHAUSTED),
        (429, b'{"error": {"message": "too many concurrent requests"}}', FailureClass.CONCURRENCY),
        (429, b"<html>429</html>", FailureClass.RATE_LIMIT),
        (500, b'{"error": "the request exceeds the available context size"}', FailureClass.CONTEXT_LENGTH),
        (502, b"", FailureClass.SERVER_ERROR),
        (529, b"", FailureClass.OVERLOADED),
        (418, b"", FailureClass.BAD_REQUEST),
    ],
)
def test_an_error_is_classed_by_its_code_before_its_status(status: int, body: bytes, kind: FailureClass) -> None:
    """Body code, type, text, status: in this order."""
    outcome = read_reply(status, [], body, now=NOW)
    assert isinstance(outcome, Failure)
    assert outcome.kind is kind


@pytest.mark.parametrize("usage", ["null", "[]", '"x"', '{"prompt_tokens": -5}', '{"prompt_tokens": 1e99}', "{}"])
def test_a_strange_usage_never_costs_the_answer(usage: str) -> None:
    """The answer is stored whatever its usage says."""
    body = f'{{"choices": [{{"message": {{"content": "yes"}}}}], "usage": {usage}}}'.encode()
    outcome = read_reply(200, [], body, now=NOW)
    assert isinstance(outcome, Success)
    assert outcome.usage is None


@pytest.mark.parametrize(
    ("usage", "read"),
    [
        (
            {
                "prompt_tokens": 10120,
                "completion_tokens": 1499,
                "total_tokens": 14428,
                "prompt_tokens_details": {"cached_tokens": 128},
                "completion_tokens_details": {"reasoning_tokens": 2809},
            },
            Usage(prompt_tokens=10120, completion_tokens=4308, cached_tokens=128, reasoning_tokens=2809),
        ),
        (
            {"prompt_tokens": 20, "completion_tokens": 151, "total_tokens": 553},
            Usage(prompt_tokens=20, completion_tokens=533),
        ),
        (
            {"prompt_tokens": 20, "completion_tokens": 30, "total_tokens": 0},
            Usage(prompt_tokens=20, completion_tokens=30),
        ),
        ({"prompt_tokens": 20, "total_tokens": 20}, Usage(prompt_tokens=20)),
        ({"total_tokens": 20}, Usage(prompt_tokens=20)),
        (
            {"prompt_tokens": 20, "completion_tokens": 1, "cached_tokens": 16},
            Usage(prompt_tokens=20, completion_tokens=1, cached_tokens=16),
        ),
        (
            {"prompt_tokens": 20, "completion_tokens": 1, "prompt_cache_hit_tokens": 16, "prompt_cache_miss_tokens": 4},
            Usage(prompt_tokens=20, completion_tokens=1, cached_tokens=16),
        ),
        ({"input_tokens": 5, "output_tokens": 7}, Usage(prompt_tokens=5, completion_tokens=7)),
        (
            {"input_tokens": 10, "output_tokens": 5, "cache_read_input_tokens": 1000, "cache_creation_input_tokens": 9},
            Usage(prompt_tokens=1019, completion_tokens=5, cached_tokens=1000),
        ),
        (
            {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15, "cache_read_input_tokens": 1000},
            Usage(prompt_tokens=1010, completion_tokens=5, cached_tokens=1000),
        ),
        (  # a gateway's, which counts it within the prompt
            {"prompt_tokens": 1010, "completion_tokens": 5, "total_tokens": 1015, "cache_read_input_tokens": 1000},
            Usage(prompt_tokens=1010, completion_tokens=5, cached_tokens=1000),
        ),
        ({"prompt_tokens": 20, "total_tokens": 27}, Usage(prompt_tokens=20, completion_tokens=7)),
        ({"completion_tokens": 7, "total_tokens": 27}, Usage(prompt_tokens=20, completion_tokens=7)),
        ({"prompt_tokens": 20.0, "completion_tokens": 7.0}, Usage(prompt_tokens=20, completion_tokens=7)),
        (
            {
                "prompt_tokens": 20,
                "completion_tokens": 7,
                "total_tokens": "27",
                "prompt_tokens_details": [],
                "completion_tokens_details": {"reasoning_tokens": None},
            },
            Usage(prompt_tokens=20, completion_tokens=7),
        ),
    ],
)
def test_usage_in_each_providers_way(usage: dict[str, Any], read: Usage) -> None:
    """Where the total is more than its parts, the rest is reasoning, which is paid like any answer."""
    answer = {"choices": [{"message": {"content": "yes"}}], "usage": usage}
    outcome = read_reply(200, [], json.dumps(answer).encode(), now=NOW)
    assert isinstance(outcome, Success)
    assert outcome.usage == read


@pytest.mark.parametrize(
    "usage",
    [
        {"prompt_tokens": 20},
        {"prompt_tokens": 20, "completion_tokens": None},
        {"prompt_tokens": 20, "completion_tokens": -1, "total_tokens": 19},
        {"prompt_tokens": -20, "completion_tokens": 7},
        {"prompt_tokens": "20", "completion_tokens": 7},
        {"completion_tokens": 7},
        {"total_tokens": 27},
    ],
)
def test_a_usage_that_tells_of_one_side_only_says_so(usage: dict[str, Any]) -> None:
    """What it does not tell of is no 0."""
    answer = {"choices": [{"message": {"content": "yes"}}], "usage": usage}
    outcome = read_reply(200, [], json.dumps(answer).encode(), now=NOW)
    assert outcome.usage is not None
    assert not outcome.usage.is_whole


_TEXT = st.text(st.characters(codec="latin-1"), max_size=40)
_NAMES = st.sampled_from(
    [
        "x-ratelimit-limit-requests",
        "x-ratelimit-remaining-requests",
        "x-ratelimit-renewalperiod-requests",
        "x-ratelimit-limit-tokens-5-minute",
        "ratelimit",
        "ratelimit-policy",
        "ratelimit-limit",
        "ratelimit-reset",
        "X-RateLimit-Requests-Reset",
        "X-RateLimit-Tokens-Limit",
        "retry-after",
        "retry-after-ms",
        "date",
    ]
)


_ERRORS = st.fixed_dictionaries(
    {
        "message": st.text(max_size=60)
        | st.from_regex(r"(requests|tokens) per (min|day): Limit \d+, Used \d+, Requested ~?\d+", fullmatch=True)
        | st.from_regex(r"try again in \d{1,20}(\.\d+)?(ms|s|m|h| seconds)", fullmatch=True)
        | st.from_regex(r"reset at \d{4}-\d\d-\d\d \d\d:\d\d:\d\d", fullmatch=True),
        "details": st.none()
        | st.lists(st.dictionaries(st.sampled_from(["retryDelay", "violations"]), st.text() | st.none())),
        "metadata": st.none()
        | st.dictionaries(st.just("headers"), st.none() | st.dictionaries(_NAMES, st.text() | st.integers())),
        "retry_after": st.none() | st.integers() | st.floats() | st.text(),
    }
)


@given(st.integers(400, 599), _ERRORS)
def test_no_error_whatever_raises(status: int, error: dict[str, Any]) -> None:
    """Prose, details and inner headers of any kind come to windows and waits that make sense."""
    outcome = read_reply(status, [], json.dumps({"error": error}).encode(errors="replace"), now=NOW)
    assert isinstance(outcome, Failure)
    assert outcome.retry_after is None or 0 <= outcome.retry_after <= WAIT_MAX


@given(st.integers(100, 599), st.lists(st.tuples(_NAMES | _TEXT, _TEXT), max_size=8), st.binary(max_size=300))
def test_no_reply_whatever_raises(status: int, headers: list[tuple[str, str]], body: bytes) -> None:
    """Any status, headers and bytes come to an outcome whose body is what came and whose waits are sensible."""
    outcome = read_reply(status, headers, body, now=NOW)
    assert outcome.body == body
    if isinstance(outcome, Failure) and outcome.retry_after is not None:
        assert 0 <= outcome.retry_after <= WAIT_MAX
    for window in outcome.quota.windows:
        assert window.reset_after is None or 0 <= window.reset_after <= WAIT_MAX


@pytest.mark.parametrize(
    ("message", "told"),
    [
        (
            "on requests per min. Limit: 3 / min. Please try again in 20s. Contact us",
            (20.0, ("requests", 3, 0, 60, None)),
        ),
        ("on requests per day (RPD): Limit 200, Used 200, Requested 1.", (None, ("requests", 200, 0, 86400, 1))),
        (
            "your organization's rate limit of 40,000 input tokens per minute",
            (None, ("input-tokens", 40000, 0, 60, None)),
        ),
        ("a Trial key, which is limited to 20 API calls / minute.", (None, ("requests", 20, 0, 60, None))),
        ("Limit of 5 concurrent requests reached", (None, ("in-flight", 5, 0, None, None))),
        ("Rate limit: 100 requests/min exceeded. Retry after 12s", (12.0, ("requests", 100, 0, 60, None))),
        (
            "Rate limit reached for tokens: Limit 87600, Used 87048, Requested 736. Please try again in 22ms.",
            (0.022, ("tokens", 87600, 552, None, 736)),
        ),
        ("Too many concurrent requests: Limit 3, Used 3, Requested 1.", (None, None)),
        ("max TPM limit: 32000, please try again after 3 seconds", (3.0, ("tokens", 32000, 0, 60, None))),
        ("reached project TPM rate limit, current: 1410, limit: 100, see", (None, ("tokens", 100, 0, 60, None))),
        ("reached organization TPD rate limit, current: 1526210, limit: 1500000", (None, None)),
        (
            "Rate limit of 40000 per 60s exceeded for UserByModelByMinuteTokens. Please wait 60 seconds",
            (60.0, ("tokens", 40000, 0, 60, None)),
        ),
        (
            "Rate limit of 15 per 60s exceeded for UserByModelByMinute. Please wait 9 seconds",
            (9.0, ("requests", 15, 0, 60, None)),
        ),
        (
            "Rate limit of 5 per 0s exceeded for UserConcurrentRequests. Please wait 0 seconds",
            (0.0, None),
        ),
        ("Please retry in 1h2m.", (3720.0, None)),
        ("maximum 3 tokens", (None, None)),
        (  # chatboxai/chatbox#1361: an organization without any
            "Rate limit exceeded for images per minute in organization org-AyDwMnLc1cwJwrRyWW1JuKig. Limit: 0/1min.",
            (None, ("input-images", 0, 0, 60, None)),
        ),
    ],
)
def test_what_stands_in_prose_only_is_read_too(message: str, told: tuple[float | None, tuple[Any, ...] | None]) -> None:
    """The wait, and the window that refused."""
    outcome = read_reply(429, [], json.dumps({"error": {"message": message}}).encode(), now=NOW)
    assert isinstance(outcome, Failure)
    seen = [(w.dimension, w.limit, w.remaining, w.period, w.requested) for w in outcome.quota.windows]
    assert (outcome.retry_after, *seen) == (told[0], *([] if told[1] is None else [told[1]]))


def test_what_was_requested_is_known_of_a_window_in_the_headers_too() -> None:
    """552 are left, more than we reckoned, and less than what was asked for: it is this window that refused."""
    headers = [("x-ratelimit-limit-tokens", "87600"), ("x-ratelimit-remaining-tokens", "552")]
    error = {"message": "Rate limit reached for tokens: Limit 87600, Used 87048, Requested 736.", "type": "tokens"}
    outcome = read_reply(429, headers, json.dumps({"error": error}).encode(), now=NOW)
    assert isinstance(outcome, Failure)
    (window,) = outcome.quota.windows
    assert window.lacks(300.0)


@pytest.mark.parametrize(("kind", "dimension"), [("tokens", "tokens"), ("requests", None)])
def test_an_error_of_the_type_of_tokens_is_of_their_limit(kind: str, dimension: str | None) -> None:
    """The other is said of anything, also of too many in flight."""
    body = json.dumps({"error": {"message": "Rate limit reached", "type": kind}}).encode()
    outcome = read_reply(429, [], body, now=NOW)
    assert isinstance(outcome, Failure)
    assert outcome.dimension == dimension


@pytest.mark.parametrize(
    ("limit", "quota_id", "kind"),
    [
        ("0", "GenerateContentInputTokensPerModelPerMinute-FreeTier", FailureClass.QUOTA_EXHAUSTED),
        ("0", "GenerateRequestsPerDayPerProjectPerModel-FreeTier", FailureClass.QUOTA_EXHAUSTED),
        ("0.5", "GenerateContentInputTokensPerModelPerMinute-FreeTier", FailureClass.RATE_LIMIT),
        ("20", "GenerateRequestsPerDayPerProjectPerModel-FreeTier", FailureClass.QUOTA_WINDOW),
        ("20", "GenerateContentInputTokensPerModelPerMinute-FreeTier", FailureClass.RATE_LIMIT),
    ],
)
def test_what_google_has_no_allowance_of_is_not_waited_for(limit: str, quota_id: str, kind: FailureClass) -> None:
    """Be it of a minute: waiting brings nothing. continuedev/continue#12643."""
    error = {
        "code": 429,
        "message": f"* Quota exceeded for metric: x/tokens, limit: {limit}, model: m\nPlease retry in 11.6s.",
        "status": "RESOURCE_EXHAUSTED",
        "details": [{"violations": [{"quotaId": quota_id}]}],
    }
    outcome = read_reply(429, [], json.dumps({"error": error}).encode(), now=NOW, provider=load_provider("gemini"))
    assert isinstance(outcome, Failure)
    assert outcome.kind is kind


def test_a_day_that_google_names_is_seen_through_a_proxy_too() -> None:
    """LiteLLM passes Google's whole body on as text; "retry in 9s" is not to be trusted then."""
    theirs = {"error": {"message": "Please retry in 9s", "details": [{"violations": [{"quotaId": "RequestsPerDayX"}]}]}}
    message = f"litellm.RateLimitError: VertexAIException - {json.dumps(theirs, indent=2)}"
    body = json.dumps({"error": {"message": message, "code": "429"}}).encode()
    outcome = read_reply(429, [], body, now=NOW, provider=load_provider("litellm"))
    assert isinstance(outcome, Failure)
    assert outcome.kind is FailureClass.QUOTA_WINDOW


@pytest.mark.parametrize(
    ("headers", "message"),
    [
        ([], " " * 4000),
        ([], "\n" * 100_000),
        ([("RateLimit", '\\"' * 3500), ("RateLimit-Policy", '\\"' * 3500)], "slow down"),
    ],
    ids=["blanks", "lines", "quotes that never end"],
)
def test_a_hostile_reply_costs_no_time(headers: list[tuple[str, str]], message: str) -> None:
    """Some took a fifth of a second and more, in which nothing else goes on; now a few milliseconds."""
    body = json.dumps({"error": {"message": message}}).encode()

    def seconds() -> float:
        began = process_time()
        read_reply(500, headers, body, now=NOW)
        return process_time() - began

    assert min(seconds() for _ in range(3)) < 0.05


@pytest.mark.parametrize(
    ("headers", "told"),
    [
        ({"ratelimit-policy": '"m"; q=100; w=60; pk=:MTI3:', "ratelimit": '"m"; r=99; t=60'}, (100, 99, 60, 60)),
        ({"ratelimit-policy": "100;w=60", "ratelimit": "limit=100, remaining=50, reset=5"}, (100, 50, 5, 60)),
        (
            {"ratelimit-limit": "60", "ratelimit-remaining": "1", "ratelimit-reset": str(int(NOW) + 30)},
            (60, 1, 30, None),
        ),
        ({"x-ratelimit-limit-1h": "10", "x-ratelimit-remaining-1h": "3"}, (10, 3, None, 3600)),
        (
            {"x-ratelimit-limit": "30", "x-ratelimit-remaining": "9", "x-ratelimit-reset": f"{NOW + 10.5}"},
            (30, 9, 10.5, None),
        ),
        ({"x-rate-limit-reset-requests": "55"}, (None, None, 55, None)),
    ],
)
def test_headers_of_those_without_a_recording(headers: dict[str, str], told: tuple[float | None, ...]) -> None:
    """Express's drafts, epochs, windows named in short, Azure's lone reset: limit, remaining, reset, period."""
    (window,) = quota(headers, now=NOW).windows
    assert (window.limit, window.remaining, window.reset_after, window.period) == told


@given(st.integers(1, 10**6), st.integers(0, 10**6), st.integers(0, 10**7))
def test_windows_come_back_as_they_were_told(limit: int, remaining: int, milliseconds: int) -> None:
    """Both orders of the names, any case, Go durations."""
    seconds = milliseconds / 1000
    told = {"limit": str(limit), "remaining": str(remaining), "reset": f"{seconds:.3f}s"}
    for name in ("x-ratelimit-{}-tokens", "x-ratelimit-tokens-{}"):
        (window,) = quota({name.format(field): value for field, value in told.items()}, now=NOW).windows
        assert (window.dimension, window.limit, window.remaining) == (Dimension.TOKENS, limit, remaining)
        assert window.reset_after == pytest.approx(seconds, abs=1e-6)
