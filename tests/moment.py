"""A run at one moment, for tests of what shows it."""

from typing import Any

from batchrunner.report.progress import Progress

NOW = 1_763_908_291.0  # 2025-11-23 14:31:31 UTC
KNOWN: dict[str, Any] = {
    "job": "reviews",
    "label": "gpt-4o-mini @ api.openai.com",
    "run": 2,
    "done_before": 4150,
    "succeeded": 6280,
    "failed": 50,
    "left": 3670,
    "total": 10_000,
    "in_flight": 7,
    "slots": 64,
    "sent_1m": 196,
    "tokens_1m": 76_400,
    "rpm_limit": 200.0,
    "tpm_limit": 200_000.0,
    "retries": 31,
    "p50": 1.9,
    "p95": 6.4,
    "limiting": "rpm",
    "eta": 1123.0,
    "last_problem": "timeout after 120s, row-004512, 3s ago, attempt 1 of 5",
}


def progress(**changed: Any) -> Progress:
    return Progress(**(KNOWN | changed))
