"""What a model costs where it is asked: the user's own price if there is one, else the provider's."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from batchrunner.errors import ConfigError
from batchrunner.provider import Model, Price, Provider


class OwnPrice(Price, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table ``[prices."glm-x"]`` of batchrunner.toml. No currency: the provider's."""

    currency: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Priced:
    """A model whose price is known, and the currency of that price."""

    model: Model
    currency: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Prices:
    """``own``: those of the user, by the model's name as it is sent."""

    own: Mapping[str, OwnPrice] = field(default_factory=dict)

    def of(self, provider: Provider, name: str) -> Priced | None:
        """None: no price is known, which is never the same as a price of 0."""
        model, own = provider.model(name), self.own.get(name)
        if own is not None:
            price = Price(input=own.input, output=own.output, cached=own.cached, tiers=own.tiers)
            known = msgspec.structs.replace(model or Model(), price=price)
            return Priced(model=known, currency=own.currency or provider.currency)
        if model is None or model.price is None:
            return None
        return Priced(model=model, currency=provider.currency)


def read_prices(tables: Mapping[str, Any], where: str = "prices") -> Prices:
    """The tables ``[prices]``, which stand in *where*. Raises ConfigError that names the one that makes no sense."""
    own = {}
    for name, table in tables.items():
        try:
            price = msgspec.convert(table, OwnPrice, strict=False)
        except msgspec.ValidationError as error:
            raise ConfigError(f'{where}: [prices."{name}"]: {error}') from None
        if price.fault is not None:
            raise ConfigError(f'{where}: [prices."{name}"]: {price.fault}')
        if price.currency is not None:
            price = msgspec.structs.replace(price, currency=price.currency.upper())
        own[name] = price
    return Prices(own=own)
