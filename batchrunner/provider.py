"""What is known of a provider: addresses, key variables, error table, quirks, models and prices. Values read from TOML.

A provider is one file in ``providers/``; adding one is adding a file, and a user's own file has the same form
(``--provider-file``), or adds to a known one: ``extends = "zai"``. A field that is not there means "not known": nothing
is assumed from it, and a price that is not known is never 0.
"""

import re
import tomllib
from datetime import date
from decimal import Decimal
from difflib import get_close_matches
from fnmatch import fnmatch
from functools import cache
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import msgspec

from batchrunner.errors import ConfigError
from batchrunner.task import FailureClass

FOLDER = Path(__file__).parent / "providers"

Range = tuple[float, float]  # from, to; both belong to it


class Rates(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Money for a million tokens, in the provider's currency. ``cached``: for prompt tokens read from its cache.

    One that is not stated is not known, and never 0; an embedding's answer costs 0.
    """

    input: Decimal
    output: Decimal
    cached: Decimal | None = None  # None: as ``input``


class Tier(Rates, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Rates of a whole request, where its prompt and its answer have no more tokens than this; None: any number."""

    up_to: int | None = None
    answer_up_to: int | None = None

    def holds(self, prompt: int | None, answer: int | None) -> bool:
        """For a request of so many tokens; None: of any number."""
        return _is_within(prompt, self.up_to) and _is_within(answer, self.answer_up_to)


class Price(Rates, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The rates of the first tier that holds for a request; its own where none does."""

    tiers: tuple[Tier, ...] = ()

    def rates(self, prompt: int | None, answer: int | None) -> Rates:
        return next((tier for tier in self.tiers if tier.holds(prompt, answer)), self)

    @property
    def fault(self) -> str | None:
        """What makes no sense in it."""
        for place, rates in enumerate((self, *self.tiers)):
            amounts = (rates.input, rates.output, rates.cached or Decimal(0))
            if not all(amount.is_finite() and amount >= 0 for amount in amounts):
                return f"{f'tier {place}: ' if place else ''}a price is 0 or more"
        for place, tier in enumerate(self.tiers, start=1):
            if self.rates(tier.up_to, tier.answer_up_to) is not tier:
                return f"tier {place} never holds: those before it do wherever it would"
            ends = [end for end in (tier.up_to, tier.answer_up_to) if end is not None]
            if not ends or min(ends) < 0:
                return f"tier {place} ends nowhere: it needs up_to or answer_up_to, tokens of the prompt or the answer"
        return None


class Model(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a model takes, and costs. ``context`` and ``max_output`` are tokens; a free model has a price of 0."""

    context: int | None = None
    max_output: int | None = None
    temperature: Range | None = None
    top_p: Range | None = None
    price: Price | None = None


class ErrorRule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The class of replies for which all that is named here is so. ``message`` is a regular expression to search for.

    ``hint`` is one sentence for the user, where the class's own says too little.
    """

    kind: FailureClass = msgspec.field(name="class")
    status: int | None = None
    code: str | None = None
    type: str | None = None
    message: str | None = None
    hint: str | None = None


class Provider(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One provider. ``key_variables`` are tried in order; ``key_format`` is the value of ``key_header``.

    ``base_urls``: its other addresses by name; ``warnings``: a part of a base URL, and what its user should know.
    ``charges``: what its token limit is charged with when a request arrives (``max_tokens``: prompt and max_tokens;
    ``estimate``: the prompt alone; ``usage``: what was really used, afterwards). ``stream_usage``: a stream tells its
    usage only where ``stream_options.include_usage`` asks for it. ``misreports``: classes it also gives to what is one
    request's fault, so that a second task has to confirm them before the run stops. ``batch_id_least``: characters a
    ``custom_id`` needs in its own batch API; ``batch_discount``: the share of the price that API saves.
    ``one_of_sampling``: it advises to set temperature or top_p, not both. ``hosts``: patterns of further host names.
    """

    title: str
    name: str = ""
    base_url: str = ""
    base_urls: dict[str, str] = {}
    key_variables: tuple[str, ...] = ()
    key_needed: bool = True
    key_header: str = "authorization"
    key_format: str = "Bearer {key}"
    charges: Literal["max_tokens", "estimate", "usage"] | None = None
    stream_usage: bool = True
    misreports: tuple[FailureClass, ...] = ()
    batch_id_least: int | None = None
    batch_discount: float | None = None
    one_of_sampling: bool = False
    hosts: tuple[str, ...] = ()
    console: str | None = None
    currency: str | None = None
    prices_checked: date | None = None
    warnings: dict[str, str] = {}
    errors: tuple[ErrorRule, ...] = ()
    models: dict[str, Model] = {}

    def is_elsewhere_at(self, host: str) -> bool:
        """Whether one of its other addresses has this host."""
        named = {urlsplit(url).hostname for url in self.base_urls.values()}
        return host in named or any(fnmatch(host, pattern) for pattern in self.hosts)

    def model(self, name: str) -> Model | None:
        """The model of this name, or of its dated versions (``gpt-4o-2024-08-06`` is a ``gpt-4o``); None: not known."""
        found = self.models.get(name)
        return found or self.models.get(re.sub(r"[-@](\d{4}-?\d{2}-?\d{2}|\d{4}|latest)$", "", name))


def provider_names() -> tuple[str, ...]:
    return tuple(sorted(path.stem for path in FOLDER.glob("*.toml")))


@cache
def load_provider(name: str) -> Provider:
    """By its name, or from a file of the user's own (``./mine.toml``). Raises ConfigError for what is not known.

    A name may be written as others write it: llama.cpp, Z.ai, OpenAI.
    """
    if name.endswith(".toml"):
        return read_provider(Path(name))
    if name in provider_names():
        return read_provider(FOLDER / f"{name}.toml")
    meant = [known for known in provider_names() if _letters(known) == _letters(name)]
    if not meant:
        raise ConfigError(_unknown(name))
    return load_provider(meant[0])


def provider_at(host: str) -> Provider | None:
    """Whose host this is, if it is exactly one provider's."""
    known = [load_provider(name) for name in provider_names()]
    main = [each for each in known if urlsplit(each.base_url).hostname == host]
    found = main or [each for each in known if each.is_elsewhere_at(host)]
    return found[0] if len(found) == 1 else None


def read_provider(path: Path) -> Provider:
    """A provider's file. Raises ConfigError that says what is wrong in it, and where."""
    try:
        provider = msgspec.convert({"name": path.stem, **_read(path)}, Provider)
    except OSError as error:
        raise ConfigError(f"{path}: can't be read ({error.strerror})") from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise ConfigError(f"{path}: {error}") from None
    if fault := _header_fault(provider):
        raise ConfigError(f"{path}: {fault}")
    for place, rule in enumerate(provider.errors, start=1):
        if fault := _fault(rule):
            raise ConfigError(f"{path}: error rule {place} {fault}")
    for name, model in provider.models.items():
        if model.price is not None and (fault := model.price.fault):
            raise ConfigError(f'{path}: [models."{name}"] price: {fault}')
    return provider


def _read(path: Path) -> dict[str, Any]:
    """What the file says; where it extends another, over what that one says: its models and rules come first."""
    data = tomllib.loads(path.read_text(encoding="utf-8"), parse_float=Decimal)
    base = data.pop("extends", None)
    if base is None:
        return data
    if base not in provider_names():
        raise ConfigError(f"{path}: extends: {_unknown(str(base))}")
    known = _read(FOLDER / f"{base}.toml")
    models = {**known.get("models", {}), **data.get("models", {})}
    errors = [*data.get("errors", []), *known.get("errors", [])]
    return {**known, **data, "models": models, "errors": errors}


def _is_within(count: int | None, end: int | None) -> bool:
    return end is None or (count is not None and count <= end)


def _letters(name: str) -> str:
    return re.sub(r"[\W_]", "", name).lower()


def _unknown(name: str) -> str:
    close = get_close_matches(name, provider_names(), n=2)
    near = f"; did you mean {' or '.join(close)}?" if close else f"; there are {', '.join(provider_names())}."
    return f"provider {name!r} is not known{near} Any other: --base-url https://host/v1, or --provider-file FILE"


def _header_fault(provider: Provider) -> str | None:
    """Why no key can be sent so."""
    if not re.fullmatch(r"[\w!#$%&'*+.^`|~-]+", provider.key_header, re.ASCII):
        return f"key_header = {provider.key_header!r} is no name of a header"
    left = provider.key_format.replace("{key}", "", 1)
    if left == provider.key_format or not re.fullmatch(r"[ -z|~]*", left):
        return f"key_format = {provider.key_format!r} should hold {{key}} once, such as 'Bearer {{key}}'"
    return None


def _fault(rule: ErrorRule) -> str | None:
    """What makes it useless."""
    if all(named is None for named in (rule.status, rule.code, rule.type, rule.message)):
        return "fits every reply; name a status, code, type or message"
    try:
        re.compile(rule.message or "")
    except re.error as error:
        return f"can't be searched for: message = {rule.message!r} is no regular expression ({error})"
    return None


GENERIC = load_provider("generic")
