"""Money as whole billionths of a currency, so that sums are exact; read from what people write, and shown to them."""

import re
from dataclasses import dataclass
from decimal import Decimal

from batchrunner.errors import ConfigError

BILLION = 1_000_000_000
MOST = 10**9 * BILLION  # far beyond any budget, and its sums still fit SQLite's integers
SYMBOLS = {"CNY": "¥", "USD": "$", "EUR": "€", "GBP": "£"}
_ASCII = str.maketrans({symbol: f"{currency} " for currency, symbol in SYMBOLS.items() if not symbol.isascii()})
_CURRENCIES = {symbol: currency for currency, symbol in SYMBOLS.items()} | {"￥": "CNY", "RMB": "CNY", "元": "CNY"}
_SIGN = r"[A-Za-z]{3}|[¥￥$€£元]"
_MONEY = re.compile(
    rf"(?P<before>{_SIGN})?\s*(?P<amount>\d+(\.\d{{1,9}})?|\.\d{{1,9}})\s*(?P<after>{_SIGN})?", re.ASCII
)
_LEAST_DIGITS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Money:
    """An amount in billionths. ``currency`` is an ISO code, None = that in which the provider bills."""

    nanos: int
    currency: str | None = None

    @property
    def amount(self) -> Decimal:
        """In the currency, exact."""
        return Decimal(self.nanos) / BILLION

    def __str__(self) -> str:
        return money_text(self.nanos, self.currency)


def parse_money(text: str) -> Money:
    """``5.00``, ``5CNY``, ``$2``, ``5 USD``, ``¥20``. Raises ConfigError."""
    found = _MONEY.fullmatch(text.strip())
    if found is None or (found["before"] and found["after"]):
        raise ConfigError(f"{text!r} is no amount of money; write it like 5.00, 5CNY, 5 USD or $5")
    nanos = int(Decimal(found["amount"]) * BILLION)
    if not 0 < nanos <= MOST:
        raise ConfigError(f"{text!r}: an amount of money must be more than 0 and at most {MOST // BILLION:,}")
    sign = (found["before"] or found["after"] or "").upper()
    return Money(nanos=nanos, currency=_CURRENCIES.get(sign, sign) or None)


def money_text(nanos: int, currency: str | None) -> str:
    """Two decimals, and of less than 1 two digits that say something: ¥3.88, $0.0021, 5.00 CHF."""
    units, rest = divmod(abs(nanos), BILLION)
    decimals = f"{rest:09d}"
    zeros = 0 if units else len(decimals) - len(decimals.lstrip("0"))
    shown = min(max(_LEAST_DIGITS, zeros + _LEAST_DIGITS if rest else 0), 9)
    amount = f"{'-' if nanos < 0 else ''}{Decimal(abs(nanos)) / BILLION:,.{shown}f}"
    symbol = SYMBOLS.get(currency or "")
    return f"{symbol}{amount}" if symbol else f"{amount} {currency or ''}".rstrip()


def in_ascii(text: str) -> str:
    """*text* for a terminal that knows no more: CNY 3.88."""
    return text.translate(_ASCII).encode("ascii", "replace").decode()
