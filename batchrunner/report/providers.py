"""Providers as text and as JSON: the list, and all that is known of one."""

from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any

from batchrunner.provider import Model, Price, Provider, Rates, Tier

COLUMNS = ("model", "context", "output", "in", "out", "cached in")


def providers_text(providers: Sequence[Provider], environ: Mapping[str, str], *, ascii_only: bool = False) -> str:
    """One line each: name, address, the variable that holds a key, models and how many of them have a price."""
    rows = [("name", "address", "key", "models", "priced")]
    for each in providers:
        priced = sum(model.price is not None for model in each.models.values())
        models = str(len(each.models)) if each.models else _none(ascii_only=ascii_only)
        rows.append(
            (
                each.name,
                each.base_url or "your own: --base-url",
                _key(each, environ),
                models,
                str(priced) if priced else _none(ascii_only=ascii_only),
            )
        )
    return f"{_table(rows)}\n\nAll that is known of one: batchrunner providers NAME"


def provider_text(provider: Provider, environ: Mapping[str, str], *, ascii_only: bool = False) -> str:
    """All that is known of one."""
    lines = [f"{provider.name}: {provider.title}", *_facts(provider, environ)]
    if provider.models:
        lines += ["", _prices_of(provider), ""]
        models = provider.models.items()
        rows = [COLUMNS, *(row for name, model in models for row in _model(name, model, ascii_only=ascii_only))]
        lines.append(_table(rows, right=range(1, len(COLUMNS))))
    return "\n".join(lines)


def provider_json(provider: Provider, environ: Mapping[str, str]) -> dict[str, Any]:
    """The same as one object; ``key_from`` is the variable that holds a key, null where none does."""
    checked = provider.prices_checked
    return {
        "name": provider.name,
        "title": provider.title,
        "base_url": provider.base_url or None,
        "base_urls": provider.base_urls,
        "key_variables": provider.key_variables,
        "key_from": _found(provider, environ),
        "currency": provider.currency,
        "prices_checked": None if checked is None else checked.isoformat(),
        "models": {
            name: {
                "context": model.context,
                "max_output": model.max_output,
                "price": None if model.price is None else _price_json(model.price),
            }
            for name, model in provider.models.items()
        },
    }


def _facts(provider: Provider, environ: Mapping[str, str]) -> Iterator[str]:
    yield f"  address     {provider.base_url or 'your own: --base-url'}"
    for name, url in provider.base_urls.items():
        yield f"              {url}  ({name})"
    variables = ", ".join(provider.key_variables) or "none of its own"
    yield f"  key         {_key(provider, environ)}; tried: {variables}"
    if provider.console:
        yield f"  limits      {provider.console}"
    if provider.batch_discount:
        yield f"  batch API   its own, {provider.batch_discount:.0%} cheaper, done within a day"
    if provider.errors:
        yield f"  errors      {len(provider.errors)} rules of its own"
    for part, text in provider.warnings.items():
        yield f"  mind        {part}: {text}"


def _prices_of(provider: Provider) -> str:
    if provider.currency is None or all(model.price is None for model in provider.models.values()):
        return "no price is known"
    checked = "" if provider.prices_checked is None else f", checked {provider.prices_checked:%Y-%m-%d}"
    return f"{provider.currency} for a million tokens{checked}"


def _model(name: str, model: Model, *, ascii_only: bool) -> Iterator[tuple[str, ...]]:
    """A row; where its price has tiers, one below it for each of them."""
    none = _none(ascii_only=ascii_only)
    tokens = (none if count is None else f"{count:,}" for count in (model.context, model.max_output))
    yield name, *tokens, *_rates(model.price, none)
    for tier in () if model.price is None else model.price.tiers:
        yield f"  {_lengths(tier)}", "", "", *_rates(tier, none)


def _rates(rates: Rates | None, none: str) -> tuple[str, ...]:
    amounts = (None, None, None) if rates is None else (rates.input, rates.output, rates.cached)
    return tuple(none if amount is None else _amount(amount) for amount in amounts)


def _lengths(tier: Tier) -> str:
    """prompt to 32,000, answer to 200."""
    ends = (("prompt", tier.up_to), ("answer", tier.answer_up_to))
    return ", ".join(f"{what} to {end:,}" for what, end in ends if end is not None)


def _price_json(price: Price) -> dict[str, Any]:
    tiers = [{"up_to": each.up_to, "answer_up_to": each.answer_up_to, **_rates_json(each)} for each in price.tiers]
    return {**_rates_json(price), "tiers": tiers}


def _rates_json(rates: Rates) -> dict[str, Any]:
    cached = None if rates.cached is None else float(rates.cached)
    return {"input": float(rates.input), "output": float(rates.output), "cached": cached}


def _amount(amount: Decimal) -> str:
    return f"{amount.normalize():f}" if amount else "free"


def _key(provider: Provider, environ: Mapping[str, str]) -> str:
    found = _found(provider, environ)
    if found is not None:
        return f"in {found}"
    return "not set" if provider.key_needed else "none needed"


def _found(provider: Provider, environ: Mapping[str, str]) -> str | None:
    return next((name for name in provider.key_variables if environ.get(name)), None)


def _none(*, ascii_only: bool) -> str:
    return "-" if ascii_only else "–"


def _table(rows: Sequence[tuple[str, ...]], *, right: Sequence[int] = ()) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  "
        + "  ".join(
            cell.rjust(width) if column in right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )
