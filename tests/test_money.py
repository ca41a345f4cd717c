"""Money: what people write is read, what is shown can be read again, and nothing known shows as nothing."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchrunner.errors import ConfigError
from batchrunner.money import BILLION, MOST, Money, money_text, parse_money


@pytest.mark.parametrize(
    ("text", "nanos", "currency"),
    [
        ("5.00", 5 * BILLION, None),
        ("5CNY", 5 * BILLION, "CNY"),
        ("5 usd", 5 * BILLION, "USD"),
        ("$2", 2 * BILLION, "USD"),
        ("¥20", 20 * BILLION, "CNY"),
        ("20元", 20 * BILLION, "CNY"),
        ("￥0.5", BILLION // 2, "CNY"),
        ("CHF 1.25", 1_250_000_000, "CHF"),
        (" .000000001 ", 1, None),
    ],
)
def test_amounts_are_read_as_people_write_them(text: str, nanos: int, currency: str | None) -> None:
    assert parse_money(text) == Money(nanos=nanos, currency=currency)


@pytest.mark.parametrize(
    "text", ["", "five", "-5", "0", "0.00", "$5 USD", "1,000", "5 dollars", "1e3", "nan", "10" * 9]
)
def test_anything_else_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ConfigError, match="amount of money"):
        parse_money(text)


@pytest.mark.parametrize(
    ("nanos", "currency", "text"),
    [
        (3_876_000_000, "CNY", "¥3.88"),
        (2_100_000, "USD", "$0.0021"),
        (1, "USD", "$0.000000001"),
        (0, "USD", "$0.00"),
        (1_234 * BILLION, None, "1,234.00"),
        (5 * BILLION, "CHF", "5.00 CHF"),
        (500_000_000, "EUR", "€0.50"),
        (-20_000_000, "USD", "$-0.020"),
    ],
)
def test_amounts_are_shown_with_two_digits_that_say_something(nanos: int, currency: str | None, text: str) -> None:
    assert money_text(nanos, currency) == text


@given(st.integers(1, MOST), st.sampled_from(["CNY", "USD", "EUR", "CHF"]))
def test_what_is_shown_can_be_read_again_and_is_within_a_hundredth(nanos: int, currency: str) -> None:
    shown = parse_money(money_text(nanos, currency).replace(",", ""))
    assert shown.currency == currency
    assert abs(shown.nanos - nanos) <= max(nanos, BILLION) // 100
    assert shown.nanos > 0
