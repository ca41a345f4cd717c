"""An error reply into its class, by the provider's own rules first, then by those that hold for everyone.

Providers disagree with HTTP and with each other: a 429 at GLM has twenty meanings told apart only by the body's code,
and "insufficient_quota" is the end of the money at one and a throttle at another. So the rules are data
(``providers/*.toml``); the first that fits counts, and what none fits is told by its status.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from batchrunner.provider import GENERIC, ErrorRule, Provider
from batchrunner.task import FailureClass as F

_TEXT_LIMIT = 2000  # characters of a message that are searched
_BRACKETED = re.compile(r"\[(\d{4})\]")  # where GLM's Anthropic route keeps its code: "[1305][The service …"
_LARGE = ("request too large",)
_AT_ONCE = ("concurren", "并发")


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What an error reply says of itself. ``code`` and ``type`` are the body's, ``message`` its text."""

    status: int
    code: str | None = None
    type: str | None = None
    message: str = ""


def classify(told: Told, *, provider: Provider = GENERIC, should_retry: bool | None = None) -> tuple[F, str | None]:
    """The class of an error reply, and what the provider's rule advises.

    *should_retry* (``x-should-retry``) decides only where nothing else is known.
    """
    codes = _codes(told)
    for rule in (*provider.errors, *(() if provider is GENERIC else GENERIC.errors)):
        if _fits(rule, told, codes):
            return _narrowed(rule.kind, told.message), rule.hint
    if 300 <= told.status < 400:  # noqa: PLR2004  (never followed: the key is bound to its origin)
        return F.WRONG_ENDPOINT, None
    return (F.SERVER_ERROR if told.status >= 500 or should_retry else F.BAD_REQUEST), None  # noqa: PLR2004


def _codes(told: Told) -> frozenset[str]:
    """The code, wherever it stands: some put it into ``type``, some at the beginning of the text."""

    def found() -> Iterator[str | None]:
        yield told.code
        yield told.type
        if (bracketed := _BRACKETED.match(told.message)) is not None:
            yield bracketed[1]

    return frozenset(code for code in found() if code is not None)


def _fits(rule: ErrorRule, told: Told, codes: frozenset[str]) -> bool:
    return (
        (rule.status is None or rule.status == told.status)
        and (rule.code is None or rule.code in codes)
        and (rule.type is None or rule.type in (told.type, told.code))
        and (rule.message is None or re.search(rule.message, told.message[:_TEXT_LIMIT], re.IGNORECASE) is not None)
    )


def _narrowed(found: F, message: str) -> F:
    """A rate limit's text may say more than its code: too many at once, or one that is larger than the whole limit."""
    if found is not F.RATE_LIMIT:
        return found
    text = message[:_TEXT_LIMIT].lower()
    if any(words in text for words in _LARGE):
        return F.REQUEST_TOO_LARGE
    return F.CONCURRENCY if any(words in text for words in _AT_ONCE) else found
