"""The purse of a run: knows what each lane charges, lets a request go only if its worst case fits, books what it cost.

All lanes share one budget, and it is the job's: what earlier runs spent counts. What a request did cost is taken from
the usage that its reply reports; a refusal costs nothing; where no reply told, the worst case stays counted.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from batchrunner.budget import Budget
from batchrunner.config import Route
from batchrunner.cost import ADVISED, CHAT, RESPONSES, TEXT, cost_of, most, wants_cap
from batchrunner.errors import ConfigError
from batchrunner.money import Money, money_text
from batchrunner.prices import Priced, Prices
from batchrunner.provider import Model
from batchrunner.record import Spending
from batchrunner.retry import Limit
from batchrunner.task import Abandoned, Failure, FailureClass, Lease, Outcome, Released, Success

ALERT = 0.8  # of the budget
SHARE = 100  # a request that may take a hundredth of the budget is worth a word before the first goes
CAP = f"--param max_tokens={ADVISED}"
UNCAPPED = f", for it does not say max_tokens ({CAP})"
# What such a reply says of its usage may not be all of it.
CUT_OFF = frozenset({FailureClass.TRUNCATED, FailureClass.TIMEOUT, FailureClass.NETWORK})
WRITES = frozenset({CHAT, TEXT, RESPONSES})  # an answer, which is paid for: without its length the cost is not known


@dataclass(frozen=True, slots=True, kw_only=True)
class SpendSettings:
    """``alert``: the share of the budget to be told at. ``unpriced_ok``: send even what can't be counted."""

    budget: Money | None = None
    alert: float = ALERT
    unpriced_ok: bool = False
    prices: Prices = field(default_factory=Prices)

    def __post_init__(self) -> None:
        if not 0 < self.alert <= 1:
            raise ConfigError(f"--alert must be a share of the budget, more than 0 and at most 1, not {self.alert}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Tariff:
    """What each lane's model takes and costs, by the lane's name. ``others``: lanes whose cost is not known."""

    currency: str | None = None
    models: Mapping[str, Model] = field(default_factory=dict)
    others: tuple[str, ...] = ()


def tariff_of(routes: Sequence[Route], models: Sequence[str], settings: SpendSettings) -> Tariff:
    """Of what the job's *models* cost at *routes*, in one currency. Raises ConfigError where a budget can't be kept."""
    priced: dict[str, Priced | None] = {}
    for route in routes:
        for name in (route.name_of(model) for model in models if route.serves(model)):
            priced[f"{route.name}/{name}"] = settings.prices.of(route.endpoint.provider, name)
    known = {lane: price for lane, price in priced.items() if price is not None}
    currencies = list(dict.fromkeys(price.currency for price in known.values()))
    budget = settings.budget
    currency = currencies[0] if currencies else None
    if budget is not None:
        _check_currency(budget, {lane: price.currency for lane, price in known.items()})
    counted = {lane: price.model for lane, price in known.items() if price.currency == currency}
    others = tuple(lane for lane in priced if lane not in counted)
    if budget is not None and others and not settings.unpriced_ok:
        model = others[0].partition("/")[2]
        raise ConfigError(
            f"--budget {budget}: no price is known for {', '.join(others)}, so it can't be kept. Give one in "
            f'batchrunner.toml ([prices."{model}"], input and output for a million tokens), or send it uncounted with '
            "--unpriced-ok"
        )
    return Tariff(currency=currency, models=counted, others=others)


def _check_currency(budget: Money, bills: Mapping[str, str | None]) -> None:
    """*bills*: each lane and its currency, None where its provider's file names none. Nothing is converted."""
    currencies = list(dict.fromkeys(bills.values()))
    if len(currencies) > 1:
        each = ", ".join(f"{lane} bills in {_named(currency)}" for lane, currency in bills.items())
        wanted = budget.currency or "one currency"
        others = [lane for lane, currency in bills.items() if currency != (budget.currency or currencies[0])]
        model = others[0].partition("/")[2]
        raise ConfigError(
            f"--budget {budget}: {each}, and nothing is converted. Leave out what is not in {wanted}, or give it a "
            f'price in that: [prices."{model}"] in batchrunner.toml, with its currency'
        )
    if currencies and budget.currency is not None and budget.currency != currencies[0]:
        who = ", ".join(bills)
        verb = "bills" if len(bills) == 1 else "bill"
        raise ConfigError(
            f"--budget {budget}: {who} {verb} in {_named(currencies[0])}; give the budget in that, nothing is converted"
        )


def _named(currency: str | None) -> str:
    return currency or "a currency that its provider's file does not name"


class Purse:
    """``before``: what earlier runs of the job cost, in the same currency."""

    def __init__(
        self, tariff: Tariff, *, settings: SpendSettings | None = None, before: Spending | None = None
    ) -> None:
        settings = settings or SpendSettings()
        before = before or Spending()
        limit = None if settings.budget is None else settings.budget.nanos
        self._tariff, self._settings = tariff, settings
        self._budget = Budget(limit=limit, spent=before.spent or 0, unsettled=before.unsettled)
        self._is_known = bool(tariff.models) or before.spent is not None
        self._unknown = before.unknown
        self._is_short = self._alerted = self._overran = False
        self._words: list[str] = []

    def affords(self, lane: str, endpoint: str, body: str) -> bool:
        """Whether a request may go by *lane* now."""
        if self._budget.limit is None:
            return True
        worst = self._most(lane, endpoint, body)
        return self._settings.unpriced_ok if worst is None else self._budget.fits(worst)

    def has_bound(self, lane: str, endpoint: str, body: str) -> bool:
        """Whether it is known what a request may cost at most, where there is a budget to be kept."""
        is_free = self._budget.limit is None or self._settings.unpriced_ok
        return is_free or self._most(lane, endpoint, body) is not None

    def reserve(self, lane: str, endpoint: str, body: str) -> int | None:
        """Keep back the most that a request can cost; None where that is not known. It was asked whether it fits."""
        self._is_short = False
        worst = self._most(lane, endpoint, body)
        if worst is not None:
            self._budget.reserve(worst)
        return worst

    def settle(self, lease: Lease, outcome: Outcome) -> int | None:
        """Book what came of a lease; returns what it did cost, None where nobody knows."""
        spent = self._spent(lease, outcome)
        if lease.reserved is not None:
            self._budget.settle(lease.reserved, spent)
            self._doubt(lease, spent)
        elif spent is not None:
            self._budget.settle(0, spent)
        elif isinstance(outcome, Success | Abandoned) or (isinstance(outcome, Failure) and outcome.maybe_charged):
            self._unknown += 1
        return spent

    def too_little(self, lanes: Sequence[str], endpoint: str, body: str, custom_id: str) -> Limit:
        """Why the next request does not go, for someone who reads it the next morning."""
        budget, currency = self._budget, self._tariff.currency
        amounts = [amount for lane in lanes if (amount := self._most(lane, endpoint, body)) is not None]
        if not amounts:
            return Limit(self.unbounded(lanes, endpoint, body, custom_id))
        perhaps = f", {money_text(budget.unsettled, currency)} possibly charged" if budget.unsettled else ""
        advice = UNCAPPED if any(self._wants_cap(lane, endpoint, body, 1) for lane in lanes) else ""
        return Limit(
            f"the budget of {money_text(budget.limit or 0, currency)} leaves too little: "
            f"{money_text(budget.spent, currency)} spent{perhaps}, {money_text(budget.left or 0, currency)} left, and "
            f"the next request ({custom_id}) may cost {money_text(min(amounts), currency)}{advice}"
        )

    def unbounded(self, lanes: Sequence[str], endpoint: str, body: str, custom_id: str) -> str:
        """Why a request can't be part of a budget, and what would help."""
        would_help = any(self._wants_cap(lane, endpoint, body, ADVISED) for lane in lanes)
        remedy = f"give it max_tokens ({CAP}), or --unpriced-ok" if would_help else "--unpriced-ok sends it uncounted"
        return (
            f"nothing bounds what the request {custom_id} may cost, so the budget of {self._settings.budget} can't be "
            f"kept: {remedy}"
        )

    def first_word(self, lanes: Sequence[str], endpoint: str, body: str, custom_id: str) -> str | None:
        """What to know before the first request goes: how much it may cost, only because it does not say max_tokens."""
        left, currency = self._budget.left, self._tariff.currency
        amounts = [
            self._most(lane, endpoint, body) or 0 for lane in lanes if self._wants_cap(lane, endpoint, body, ADVISED)
        ]
        if left is None or max(amounts, default=0) * SHARE <= left:
            return None
        cost, rest = money_text(max(amounts), currency), money_text(left, currency)
        return (
            f"the request {custom_id} may cost {cost} of the {rest} that are left{UNCAPPED}: few go at once, and the "
            "run ends while so much is left"
        )

    def words(self) -> list[str]:
        """What the user should know now; each of it once."""
        self._alert()
        words, self._words = self._words, []
        return words

    def wait(self) -> None:
        """Nothing goes until something comes back: the headroom is short."""
        self._is_short = True

    @property
    def state(self) -> Spending:
        budget = self._budget
        return Spending(
            currency=self._tariff.currency,
            spent=budget.spent if self._is_known else None,
            unsettled=budget.unsettled,
            unknown=self._unknown,
            limit=budget.limit,
            is_short=self._is_short,
        )

    def _alert(self) -> None:
        """So much of the budget is gone as the user wanted to be told of."""
        budget, currency = self._budget, self._tariff.currency
        gone = budget.spent + budget.unsettled
        if self._alerted or budget.limit is None or gone < budget.limit * self._settings.alert:
            return
        self._alerted = True
        amounts = f"{money_text(gone, currency)} of {money_text(budget.limit, currency)}"
        self._words.append(f"{gone * 100 // budget.limit}% of the budget is gone: {amounts}")

    def _doubt(self, lease: Lease, spent: int | None) -> None:
        """Where a provider charges more than was asked for, no bound of ours can keep a budget."""
        if self._overran or self._budget.limit is None or lease.reserved is None or (spent or 0) <= lease.reserved:
            return
        self._overran = True
        cost, bound = (money_text(amount, self._tariff.currency) for amount in (spent or 0, lease.reserved))
        self._words.append(
            f"{lease.custom_id} cost {cost}, more than the {bound} it could: the provider does not keep to max_tokens "
            "or adds to prompts, so the budget may be passed"
        )

    def _wants_cap(self, lane: str, endpoint: str, body: str, cap: int) -> bool:
        model = self._tariff.models.get(lane)
        return model is not None and wants_cap(model, endpoint, body, cap=cap)

    def _most(self, lane: str, endpoint: str, body: str) -> int | None:
        model = self._tariff.models.get(lane)
        return None if model is None else most(model, endpoint, body)

    def _spent(self, lease: Lease, outcome: Outcome) -> int | None:
        model = self._tariff.models.get(lease.lane)
        if model is None or model.price is None or isinstance(outcome, Abandoned):
            return None
        if isinstance(outcome, Released):
            return 0
        usage = outcome.usage
        is_cut = isinstance(outcome, Failure) and outcome.kind in CUT_OFF
        if usage is not None and usage.total and not is_cut and (usage.is_whole or lease.endpoint not in WRITES):
            return cost_of(usage, model.price)
        return None if isinstance(outcome, Success) or outcome.maybe_charged else 0
