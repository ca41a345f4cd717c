"""Would the provider take this request? Looked at before it is sent; nothing is rewritten. Pure.

Only what the provider's file knows is held against a request: a model that is not in it passes with a notice, a range
that is not in it is none. Findings are counted by what they are, each with its first line as the example.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import msgspec

from batchrunner.config import Route, serving
from batchrunner.provider import Model, Provider
from batchrunner.size import Measure, Size, by_bytes
from batchrunner.task import Request

FAR_OVER = 1.25  # times the context, where tokens are guessed by bytes: then it is surely too long
BODY_MOST = 20 << 20  # bytes; servers take less


class Level(StrEnum):
    """How sure it is that the provider refuses."""

    ERROR = "error"  # it will
    WARNING = "warning"  # it may, or it advises otherwise
    NOTICE = "notice"  # nothing is known


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """The same of ``count`` lines; ``line`` and ``custom_id`` are those of the first."""

    level: Level
    what: str
    count: int
    line: int
    custom_id: str


class _Asked(msgspec.Struct):
    temperature: Any = None
    top_p: Any = None
    max_tokens: Any = None
    max_completion_tokens: Any = None
    max_output_tokens: Any = None

    @property
    def cap(self) -> int | float | None:
        """The largest where several names are given."""
        caps = (self.max_tokens, self.max_completion_tokens, self.max_output_tokens)
        return max(filter(_is_number, caps), default=None)


_read = msgspec.json.Decoder(_Asked).decode


class Checker:
    """Shown each request once. A line that several lanes take is held against each of them."""

    def __init__(self, routes: Sequence[Route], measure: Measure = by_bytes) -> None:
        self._routes, self._measure = routes, measure
        self._seen: dict[tuple[Level, str], list[Any]] = {}
        self._lines = self._bad = 0

    @property
    def findings(self) -> list[Finding]:
        """Errors first, then in the order in which they were met."""
        order = list(Level)
        found = sorted(self._seen.items(), key=lambda item: order.index(item[0][0]))
        return [
            Finding(level=level, what=what, count=count, line=line, custom_id=custom_id)
            for (level, what), (count, line, custom_id) in found
        ]

    @property
    def all_fail(self) -> bool:
        """Whether every single line would be refused, wherever it goes."""
        return 0 < self._lines == self._bad

    def see(self, request: Request) -> None:
        self._lines += 1
        found, refusing = dict[tuple[Level, str], None](), []
        for route in serving(self._routes, request.model or ""):
            name = request.model and route.name_of(request.model)
            these = list(_findings(request, name, route.endpoint.provider, self._measure))
            refusing.append(any(level is Level.ERROR for level, _ in these))
            found.update(dict.fromkeys(these))
        self._bad += all(refusing)
        for key in found:
            known = self._seen.setdefault(key, [0, request.line, request.custom_id])
            known[0] += 1


def _findings(request: Request, name: str | None, provider: Provider, measure: Measure) -> Iterator[tuple[Level, str]]:
    least = provider.batch_id_least
    if least is not None and len(request.custom_id) < least:
        yield Level.WARNING, f"custom_id is shorter than the {least} characters that {provider.title}'s batch API wants"
    size = len(request.body.encode("utf-8", "surrogatepass"))
    if size > BODY_MOST:
        yield Level.WARNING, f"the request is larger than {BODY_MOST >> 20} MiB; servers usually take less"
    if name is None or not provider.models:
        return
    model = provider.model(name)
    if model is None:
        yield Level.NOTICE, f"model {name!r} is not in what is known of {provider.title}; it is sent as it is"
        return
    try:
        asked = _read(request.body)
    except msgspec.MsgspecError:
        return
    yield from _sampling(asked, model, name, provider)
    yield from _output(asked, model, name)
    cap = asked.cap or 0
    if model.context is not None and size + cap > model.context:  # no token is less than a byte: few need be measured
        yield from _length(measure(request.body), cap, model.context, name)


def _sampling(asked: _Asked, model: Model, name: str, provider: Provider) -> Iterator[tuple[Level, str]]:
    for field, value, allowed in (
        ("temperature", asked.temperature, model.temperature),
        ("top_p", asked.top_p, model.top_p),
    ):
        if _is_number(value) and allowed is not None and not allowed[0] <= value <= allowed[1]:
            yield Level.ERROR, f"{field} {value:g} is not from {allowed[0]:g} to {allowed[1]:g}, as {name} wants it"
    if provider.one_of_sampling and asked.temperature is not None and asked.top_p is not None:
        yield Level.WARNING, f"temperature and top_p are both set; {provider.title} advises to set one"


def _output(asked: _Asked, model: Model, name: str) -> Iterator[tuple[Level, str]]:
    cap = asked.cap
    if cap is None:
        return
    if model.max_output is not None and cap > model.max_output:
        yield Level.ERROR, f"max_tokens {cap:,} is more than the {model.max_output:,} that {name} may answer with"
    if cap < 1:
        yield Level.ERROR, f"max_tokens {cap:,} leaves no answer"


def _length(prompt: Size, cap: float, context: int, name: str) -> Iterator[tuple[Level, str]]:
    if prompt.tokens > (context if prompt.counted else FAR_OVER * context):
        yield Level.ERROR, f"the prompt is longer than the {context:,} tokens of {name}'s context"
    elif prompt.tokens + cap > context:
        yield Level.WARNING, f"prompt and max_tokens may be longer than the {context:,} tokens of {name}'s context"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
