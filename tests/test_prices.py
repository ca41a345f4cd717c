"""Prices: the user's own before the provider's, and what is not known is not 0."""

from decimal import Decimal

import pytest

from batchrunner.errors import ConfigError
from batchrunner.prices import Prices, read_prices
from batchrunner.provider import Model, Price, Provider, Tier

PROVIDER = Provider(
    title="x",
    currency="CNY",
    models={"m": Model(context=100, price=Price(input=Decimal(1), output=Decimal(0))), "unpriced": Model(context=5)},
)
TIERLESS = {"input": 1, "output": 1, "tiers": [{"input": 1, "output": 1}]}


def test_the_providers_price_is_in_its_currency() -> None:
    found = Prices().of(PROVIDER, "m")
    assert found is not None
    assert (found.model.price, found.currency) == (Price(input=Decimal(1), output=Decimal(0)), "CNY")


@pytest.mark.parametrize("name", ["unpriced", "unheard-of"])
def test_no_price_is_not_a_price_of_nothing(name: str) -> None:
    assert Prices().of(PROVIDER, name) is None


def test_the_users_own_price_wins_and_the_rest_of_the_model_stays() -> None:
    own = read_prices({"m": {"input": 0.1, "output": 2, "cached": "0.05", "currency": "usd"}})
    found = own.of(PROVIDER, "m")
    assert found is not None
    assert found.currency == "USD"
    assert found.model.context == 100
    assert found.model.price == Price(input=Decimal("0.1"), output=Decimal(2), cached=Decimal("0.05"))


def test_an_own_price_without_a_currency_is_in_the_providers() -> None:
    found = read_prices({"new": {"input": 1, "output": 0}}).of(PROVIDER, "new")
    assert found is not None
    assert found.currency == "CNY"


def test_an_own_price_may_have_tiers() -> None:
    tiers = [{"up_to": 31_999, "input": 0.5, "output": 0}]
    found = read_prices({"m": {"input": 1, "output": 0, "tiers": tiers}}).of(PROVIDER, "m")
    assert found is not None
    cheap = Tier(up_to=31_999, input=Decimal("0.5"), output=Decimal(0))
    assert found.model.price == Price(input=Decimal(1), output=Decimal(0), tiers=(cheap,))


@pytest.mark.parametrize(
    "table",
    [
        {"output": 1},
        {"input": 1},
        {"input": -1, "output": 1},
        {"input": "much", "output": 1},
        {"input": float("nan"), "output": 1},
        {"input": 1, "output": 1, "outptu": 2},
        TIERLESS,
        5,
    ],
)
def test_a_price_that_makes_no_sense_is_named(table: object) -> None:
    with pytest.raises(ConfigError, match=r'batchrunner\.toml: \[prices\."m"\]'):
        read_prices({"m": table}, "batchrunner.toml")
