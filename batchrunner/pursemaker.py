"""Makes the purse of a run: what its lanes charge for the models that wait, and what earlier runs of the job spent."""

from collections.abc import Callable, Sequence

from batchrunner.config import Route, serving
from batchrunner.db.store import Store
from batchrunner.db.sums import spending
from batchrunner.db.waiting import Waiting
from batchrunner.errors import ConfigError
from batchrunner.record import Spending
from batchrunner.report.cost import cost_text
from batchrunner.spending import Purse, SpendSettings, tariff_of


def make_purse(
    store: Store, job_id: int, routes: Sequence[Route], settings: SpendSettings, warn: Callable[[str], None]
) -> Purse:
    """Each model that waits is taken by some lane, and a budget can be kept there. Raises ConfigError.

    Call it when what a crash left open is closed, for that may have been charged.
    """
    waiting = Waiting(store, job_id)
    models = [model for model in waiting.models if waiting.has(model)]
    taken = {model: serving(routes, model) for model in models}
    tariff = tariff_of(routes, models, settings)
    if tariff.models and tariff.others:
        warn(f"not counted in the cost, for want of a price in {tariff.currency}: {', '.join(tariff.others)}")
    with store.transaction() as connection:
        earlier = spending(connection, job_id)
    before = next((one for one in earlier if one.currency == tariff.currency), None)
    if models and settings.budget is not None and (uncounted := _uncounted(earlier, tariff.currency)):
        warn(f"earlier runs are not all in the budget: {uncounted}")
    purse = Purse(tariff, settings=settings, before=before)
    words = []
    for model in models:
        # Told before anything is sent, if all lines are alike.
        for first in waiting.fresh(model, after=waiting.start, limit=1)[0]:
            lanes = [f"{route.name}/{route.name_of(model)}" for route in taken[model]]
            if not any(purse.has_bound(lane, first.endpoint, first.body) for lane in lanes):
                raise ConfigError(purse.unbounded(lanes, first.endpoint, first.body, first.custom_id))
            words.append(purse.first_word(lanes, first.endpoint, first.body, first.custom_id))
    if word := next(filter(None, words), None):
        warn(word)
    return purse


def _uncounted(earlier: Sequence[Spending], currency: str | None) -> str:
    """What was sent while no price was known, or paid in another currency, in words."""
    paid = [cost_text([one]) for one in earlier if one.currency != currency]
    unknown = sum(one.unknown for one in earlier if one.currency == currency or not (one.spent or one.unsettled))
    sends = [f"{unknown:,} {'send' if unknown == 1 else 'sends'} of unknown cost"] if unknown else []
    return ", ".join([*filter(None, paid), *sends])
