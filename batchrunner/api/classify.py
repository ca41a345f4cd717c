"""An error reply into its class: the body's code first, then its type, then the text, then the HTTP status.

Providers disagree with HTTP and with each other: a 429 at GLM has twenty meanings told apart only by the body's code,
and "insufficient_quota" is not a rate limit though it comes as one. GLM's codes: docs.bigmodel.cn/cn/api/api-code.
"""

import re

from batchrunner.task import FailureClass as F

_CODES: dict[str, F] = {
    # GLM (BigModel, Z.ai)
    **dict.fromkeys(("1000", "1001", "1002", "1003", "1004", "1005"), F.AUTH),
    **dict.fromkeys(("1110", "1111", "1112", "1121", "1220", "434"), F.PERMISSION),
    **dict.fromkeys(("1311", "1313", "1314", "1315"), F.PERMISSION),
    **dict.fromkeys(("1113", "1309"), F.QUOTA_EXHAUSTED),
    **dict.fromkeys(("1200", "1230", "1234"), F.SERVER_ERROR),
    **dict.fromkeys(("1210", "1212", "1213", "1214", "1215", "435"), F.BAD_REQUEST),
    "1211": F.MODEL_NOT_FOUND,
    **dict.fromkeys(("1221", "1222"), F.WRONG_ENDPOINT),
    "1261": F.CONTEXT_LENGTH,
    "1301": F.CONTENT_FILTER,
    "1302": F.CONCURRENCY,
    "1303": F.RATE_LIMIT,
    **dict.fromkeys(("1305", "1312"), F.OVERLOADED),
    **dict.fromkeys(("1304", "1308", "1310", "1316", "1317", "1318", "1319", "1320", "1321"), F.QUOTA_WINDOW),
    # OpenAI and those who speak like it
    "rate_limit_exceeded": F.RATE_LIMIT,
    "insufficient_quota": F.QUOTA_EXHAUSTED,
    "billing_hard_limit_reached": F.QUOTA_EXHAUSTED,
    "invalid_api_key": F.AUTH,
    "wrong_api_key": F.AUTH,
    "account_deactivated": F.PERMISSION,
    "unsupported_country_region_territory": F.PERMISSION,
    "model_not_found": F.MODEL_NOT_FOUND,
    "model_not_available": F.MODEL_NOT_FOUND,
    "context_length_exceeded": F.CONTEXT_LENGTH,
    "content_filter": F.CONTENT_FILTER,
    "content_policy_violation": F.CONTENT_FILTER,
    "queue_exceeded": F.OVERLOADED,
    "request_quota_exceeded": F.RATE_LIMIT,
    "token_quota_exceeded": F.RATE_LIMIT,
    # DashScope
    **dict.fromkeys(("Throttling", "Throttling.RateQuota", "Throttling.BurstRate", "limit_requests"), F.RATE_LIMIT),
    "Throttling.AllocationQuota": F.RATE_LIMIT,
    "Arrearage": F.QUOTA_EXHAUSTED,
    "DataInspectionFailed": F.CONTENT_FILTER,
    "InvalidApiKey": F.AUTH,
}
_TYPES: dict[str, F] = {
    "authentication_error": F.AUTH,
    "permission_error": F.PERMISSION,
    "insufficient_quota": F.QUOTA_EXHAUSTED,
    "exceeded_current_quota_error": F.QUOTA_EXHAUSTED,
    "rate_limit_error": F.RATE_LIMIT,
    "rate_limit_reached_error": F.RATE_LIMIT,
    "overloaded_error": F.OVERLOADED,
    "engine_overloaded_error": F.OVERLOADED,
    "request_too_large": F.REQUEST_TOO_LARGE,
    "internal_server_error": F.SERVER_ERROR,
    "invalid_model": F.MODEL_NOT_FOUND,
}
_TEXTS: tuple[tuple[re.Pattern[str], F], ...] = tuple(
    (re.compile(pattern, re.IGNORECASE), kind)
    for pattern, kind in (
        (r"request too large", F.REQUEST_TOO_LARGE),
        (r"token rate limit.*retry after 86400 seconds", F.REQUEST_TOO_LARGE),  # Azure
        (r"(invalid|incorrect|wrong|check).{0,20}api[- _]?key|api[- _]?key.{0,20}(not valid|invalid)", F.AUTH),
        (
            r"context (length|size|window)|maximum context|available context|prompt is too long|max_prompt_tokens",
            F.CONTEXT_LENGTH,
        ),
        (r"insufficient (balance|funds|credit)|余额不足|used all available credits", F.QUOTA_EXHAUSTED),
        (
            r"model .{0,80}(does not|doesn't|not) (exist|found)|模型不存在|unknown model|supported API model names",
            F.MODEL_NOT_FOUND,
        ),
        (r"too many concurrent|concurrency|并发", F.CONCURRENCY),
    )
)
_STATUSES: dict[int, F] = {
    401: F.AUTH,
    402: F.QUOTA_EXHAUSTED,
    403: F.PERMISSION,
    404: F.WRONG_ENDPOINT,
    405: F.WRONG_ENDPOINT,
    408: F.TIMEOUT,
    409: F.SERVER_ERROR,
    410: F.WRONG_ENDPOINT,
    413: F.REQUEST_TOO_LARGE,
    425: F.SERVER_ERROR,
    429: F.RATE_LIMIT,
    503: F.OVERLOADED,
    529: F.OVERLOADED,
}
_TEXT_LIMIT = 2000  # characters of a message that are searched


def classify(status: int, *, code: str | None, kind: str | None, message: str, should_retry: bool | None = None) -> F:
    """The class of an error reply. *code* and *kind* (its ``type``) are the body's, *message* its text.

    *should_retry* (``x-should-retry``) decides only where nothing else is known.
    """
    for table, key in ((_CODES, code), (_TYPES, code), (_TYPES, kind), (_CODES, kind)):
        if key is None or (found := table.get(key)) is None:
            continue
        if found is not F.AUTH or status < 500:  # noqa: PLR2004  (Mistral's 1000 is a server error, GLM's a bad key)
            return _narrow(found, message)
    for pattern, found in _TEXTS:
        if pattern.search(message[:_TEXT_LIMIT]):
            return found
    if status in _STATUSES:
        return _STATUSES[status]
    if 300 <= status < 400:  # noqa: PLR2004  (never followed: the key is bound to its origin)
        return F.WRONG_ENDPOINT
    return F.SERVER_ERROR if status >= 500 or should_retry else F.BAD_REQUEST  # noqa: PLR2004


def _narrow(found: F, message: str) -> F:
    """A rate limit's text may say more than its code: too many at once, or one that is larger than the whole limit."""
    if found is not F.RATE_LIMIT:
        return found
    text = message[:_TEXT_LIMIT].lower()
    if "request too large" in text:
        return F.REQUEST_TOO_LARGE
    return F.CONCURRENCY if "concurren" in text or "并发" in text else found
