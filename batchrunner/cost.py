"""What a request costs: exactly, from the usage a reply reports; and at most, before it is sent. Pure.

The most a request can cost is what a budget reserves for it, so each part is a bound, not a guess. A prompt has no more
tokens than its body has bytes, for a token of a byte-level vocabulary is never less than one byte; the templates that
servers put around messages are shorter than the JSON around them, and ``FRAME`` is for the rest. What does not come
from the body's text (images, files, a search on the server) is bounded by the model's context alone. An answer has no
more tokens than the request allows, or else the model, or else its context. Where a price has tiers, the bound is that
of the dearest which a request can reach, at its end.
"""

import re
from collections.abc import Iterator
from decimal import ROUND_CEILING, Decimal
from typing import Any

import msgspec

from batchrunner.provider import Model, Price, Rates
from batchrunner.size import MEDIA
from batchrunner.task import Usage

FRAME = 64  # tokens a server may add to every prompt
TOOLS = 1024  # and to one with tools, to tell the model how to call them: Anthropic adds up to 530
ADVISED = 1000  # tokens of an answer, where advice needs a number
FAR = 2  # times
CHAT, TEXT, RESPONSES, EMBEDDINGS = "chat/completions", "completions", "responses", "embeddings"
_NANOS = Decimal(1000)  # 1 of a currency for a million tokens is a thousand billionths for one
# Parts and tools whose tokens are not in the body. Inside a JSON string the quotes would be escaped.
_FROM_ELSEWHERE = re.compile(
    MEDIA + r'|"type"\s*:\s*"(?:web_search\w*|web_browser|retrieval|file_search|code_interpreter|mcp)"'
    r'|"(?:previous_response_id|conversation|plugins|web_search_options|search_parameters|enable_search)"\s*:'
)
_WRITES_CACHE = re.compile(
    r'"cache_control"\s*:'
)  # for once or twice the prompt's price again; usage does not say which
_HAS_TOOLS = re.compile(r'"(?:tools|functions)"\s*:')


class _Asked(msgspec.Struct):
    """The fields of a body that say how long an answer may be; whatever stands in them is looked at later."""

    max_tokens: Any = None
    max_completion_tokens: Any = None
    max_output_tokens: Any = None
    n: Any = None
    best_of: Any = None
    prompt: Any = None


_READ = msgspec.json.Decoder(_Asked)


def cost_of(usage: Usage, price: Price) -> int:
    """Billionths for what a reply says it used, rounded up; all of it at the rates of its tier."""
    prompt, answer = max(usage.prompt_tokens, 0), max(usage.completion_tokens, 0)
    rates = price.rates(prompt, answer)
    cached = min(max(usage.cached_tokens, 0), prompt)
    at_cache = rates.input if rates.cached is None else rates.cached
    return _whole((prompt - cached) * rates.input + cached * at_cache + answer * rates.output)


def expected_cost(price: Price, prompt: float, answer: float, *, cached: float = 0.0) -> float:
    """Billionths for a request of about so many tokens, *cached* of the prompt's from a cache."""
    rates = price.rates(round(prompt), round(answer))
    at_cache = rates.input if rates.cached is None else rates.cached
    total = (prompt - cached) * float(rates.input) + cached * float(at_cache) + answer * float(rates.output)
    return total * float(_NANOS)


def most(model: Model, endpoint: str, body: str, *, cap: int | None = None) -> int | None:
    """Billionths that a request costs at most; None where no bound is known, or no price.

    *cap*: tokens of an answer, if it were said where the request does not.
    """
    price = model.price
    prompt = _prompt(model, endpoint, body)
    if price is None or prompt is None:
        return None
    answer = 0 if endpoint == EMBEDDINGS else _output(model, endpoint, body, cap)
    costs = [_most(*reached) for reached in _reachable(price, prompt, answer)]
    known = [cost for cost in costs if cost is not None]
    return _whole(max(known)) if len(known) == len(costs) else None


def _reachable(price: Price, prompt: int, answer: int | None) -> Iterator[tuple[Rates, int, int | None]]:
    """The rates at which a request of at most so many tokens may be charged, and its most tokens there."""
    for tier in price.tiers:
        yield tier, prompt if tier.up_to is None else min(prompt, tier.up_to), _least(answer, tier.answer_up_to)
        if tier.holds(prompt, answer):
            return
    yield price, prompt, answer


def _most(rates: Rates, prompt: int, answer: int | None) -> Decimal | None:
    if answer is None and rates.output:
        return None
    return prompt * max(rates.input, rates.cached or rates.input) + (answer or 0) * rates.output


def _least(*bounds: int | None) -> int | None:
    return min((bound for bound in bounds if bound is not None), default=None)


def wants_cap(model: Model, endpoint: str, body: str, *, cap: int = ADVISED) -> bool:
    """Whether nothing bounds the request, or a bound that is far larger, only because it does not say max_tokens."""
    worst, capped = most(model, endpoint, body), most(model, endpoint, body, cap=cap)
    return capped is not None and (worst is None or worst > FAR * capped)


def longest(endpoint: str, body: str) -> int | None:
    """Tokens of all the answers that a request asks for, as it says itself; None where it does not."""
    if endpoint == EMBEDDINGS:
        return 0
    asked = _read(body)
    each, count = (None, None) if asked is None else (_cap(asked), _answers(endpoint, asked))
    return None if each is None or count is None else each * count


def _read(body: str) -> _Asked | None:
    try:
        return _READ.decode(body)
    except msgspec.DecodeError:
        return None


def _cap(asked: _Asked) -> int | None:
    """The largest where several names are given; None where one of them is no count, for it may be what is obeyed."""
    names = (asked.max_tokens, asked.max_completion_tokens, asked.max_output_tokens)
    caps = [cap for cap in names if cap is not None]
    return max(caps) if caps and all(map(_is_count, caps)) else None


def _prompt(model: Model, endpoint: str, body: str) -> int | None:
    if endpoint not in (CHAT, TEXT, RESPONSES, EMBEDDINGS):
        return None  # what others count is not known: a rerank pays for its query with every document
    if _WRITES_CACHE.search(body):
        return None
    if _FROM_ELSEWHERE.search(body):
        return model.context
    size = len(body.encode("utf-8", "surrogatepass")) + FRAME + (TOOLS if _HAS_TOOLS.search(body) else 0)
    is_one = endpoint in (CHAT, RESPONSES)  # lists of prompts and inputs have a context each
    return size if model.context is None or not is_one else min(size, model.context)


def _output(model: Model, endpoint: str, body: str, cap: int | None) -> int | None:
    asked = _read(body)
    if asked is None:
        return None
    said = _cap(asked)
    each = _least(cap if said is None else said, model.max_output)
    each, count = model.context if each is None else each, _answers(endpoint, asked)
    return None if each is None or count is None else each * count


def _answers(endpoint: str, asked: _Asked) -> int | None:
    """How many; None where one of the counts is none."""
    counts = [count for count in (asked.n, asked.best_of) if count is not None]
    if not all(map(_is_count, counts)):
        return None
    prompts = len(asked.prompt) if endpoint == TEXT and isinstance(asked.prompt, list) else 1
    return max(counts, default=1) * max(prompts, 1)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _whole(thousandths: Decimal) -> int:
    """Tokens times money for a million, in billionths."""
    return int((thousandths * _NANOS).to_integral_value(ROUND_CEILING))
