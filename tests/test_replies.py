"""What a reply means: recorded ones of real providers, and whatever else a server may send."""

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchrunner.api.headers import WAIT_MAX, duration, quota, retry_after
from batchrunner.api.reply import read_reply
from batchrunner.quota import Dimension
from batchrunner.task import Failure, FailureClass, Success

VECTORS = Path(__file__).parent / "vectors"
PROSE = {  # what these say of a limit or a wait stands in their text only, which is not read yet
    "openai-429-tpm-1.78s",
    "openai-429-tpm-308ms",
    "zai-1308-5h-2026-09",
    "zhipu-1309-plan-expired",
    "zhipu-1310-weekly",
    "zhipu-429-weekly-anthropic-route",
    "groq-413-with-retry-after",
    "groq-429-tpm-requested-over-limit",
}
RECORDED = [
    vector
    for name in ("openai", "zhipu-zai", "groq")
    for vector in json.loads((VECTORS / f"{name}.json").read_text(encoding="utf-8"))
    if vector["status"] is not None and vector["id"] not in PROSE
]
NOW = 1_790_000_000.0
ANSWER = b'{"choices": [{"message": {"content": "yes"}, "finish_reason": "stop"}], "usage": {"prompt_tokens": 7}}'


def read(vector: dict[str, Any]) -> Success | Failure:
    body = vector["body"]
    raw = ANSWER if body is None and vector["status"] == 200 else json.dumps(body).encode()
    now = 0.0 if vector["now"] is None else datetime.fromisoformat(vector["now"]).timestamp()
    return read_reply(vector["status"], [(name, str(value)) for name, value in vector["headers"].items()], raw, now=now)


@pytest.mark.parametrize("vector", RECORDED, ids=lambda vector: vector["id"])
def test_a_recorded_reply_is_read_as_it_was_meant(vector: dict[str, Any]) -> None:
    """Class, windows and wait of every recording whose dialect we claim."""
    outcome, expected = read(vector), vector["expected"]
    kind = "ok" if isinstance(outcome, Success) else str(outcome.kind)
    assert kind == expected.get("class", kind)
    windows = {str(window.dimension): window for window in outcome.quota.windows}
    for dimension in ("requests", "tokens"):
        if expected.get(dimension) is not None:
            window = windows[dimension]
            assert (window.limit, window.remaining) == (expected[dimension]["limit"], expected[dimension]["remaining"])
            if expected[dimension].get("reset_s") is not None:
                assert window.reset_after == pytest.approx(expected[dimension]["reset_s"], abs=0.01)
    if isinstance(outcome, Failure) and expected.get("retry_after_s") is not None:
        assert outcome.retry_after == pytest.approx(expected["retry_after_s"], abs=0.01)


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
    read = duration(text, now=NOW)
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
    ],
)
def test_a_200_without_an_answer_is_not_a_success(body: bytes, kind: FailureClass) -> None:
    """Each of these is a class of its own, and the bytes are kept as they came."""
    outcome = read_reply(200, [], body, now=NOW)
    assert isinstance(outcome, Failure)
    assert (outcome.kind, outcome.body) == (kind, body)


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


_TEXT = st.text(st.characters(codec="latin-1"), max_size=40)
_NAMES = st.sampled_from(
    [
        "x-ratelimit-limit-requests",
        "x-ratelimit-remaining-requests",
        "X-RateLimit-Requests-Reset",
        "X-RateLimit-Tokens-Limit",
        "retry-after",
        "retry-after-ms",
        "date",
    ]
)


@given(st.integers(100, 599), st.lists(st.tuples(_NAMES | _TEXT, _TEXT), max_size=8), st.binary(max_size=300))
def test_no_reply_whatever_raises(status: int, headers: list[tuple[str, str]], body: bytes) -> None:
    """Any status, headers and bytes come to an outcome whose body is what came and whose waits are sensible."""
    outcome = read_reply(status, headers, body, now=NOW)
    assert outcome.body == body
    if isinstance(outcome, Failure) and outcome.retry_after is not None:
        assert 0 <= outcome.retry_after <= WAIT_MAX
    for window in outcome.quota.windows:
        assert window.reset_after is None or 0 <= window.reset_after <= WAIT_MAX


@given(st.integers(1, 10**6), st.integers(0, 10**6), st.integers(0, 10**7))
def test_windows_come_back_as_they_were_told(limit: int, remaining: int, milliseconds: int) -> None:
    """Both orders of the names, any case, Go durations."""
    seconds = milliseconds / 1000
    told = {"limit": str(limit), "remaining": str(remaining), "reset": f"{seconds:.3f}s"}
    for name in ("x-ratelimit-{}-tokens", "x-ratelimit-tokens-{}"):
        (window,) = quota({name.format(field): value for field, value in told.items()}, now=NOW).windows
        assert (window.dimension, window.limit, window.remaining) == (Dimension.TOKENS, limit, remaining)
        assert window.reset_after == pytest.approx(seconds, abs=1e-6)
