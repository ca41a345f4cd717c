"""Error rules: which of a table's fits, whose table comes first, and what every provider's file says."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchrunner.api.classify import Told, classify
from batchrunner.errors import ConfigError
from batchrunner.provider import GENERIC, Provider, load_provider, provider_names, read_provider
from batchrunner.task import FailureClass as F

OWN = """
title = "Ours"
errors = [
    { class = "concurrency", code = "slow", message = "at once" },
    { class = "rate_limit", code = "slow", hint = "wait for a minute" },
    { class = "overloaded", message = "busy" },
    { class = "auth", status = 418 },
]
"""


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Provider:
    path = tmp_path_factory.mktemp("providers") / "ours.toml"
    path.write_text(OWN, encoding="utf-8")
    return read_provider(path)


@pytest.mark.parametrize(
    ("told", "kind"),
    [
        (Told(status=429, code="slow", message="busy"), F.RATE_LIMIT),  # the first that fits
        (Told(status=429, code="slow", message="too many AT ONCE"), F.CONCURRENCY),  # all that a rule names must fit
        (Told(status=429, code="other", type="slow"), F.RATE_LIMIT),  # some put the code into the type
        (Told(status=500, message="we are busy"), F.OVERLOADED),
        (Told(status=418), F.AUTH),
        (Told(status=418, code="context_length_exceeded"), F.AUTH),  # its own table before the generic one
        (Told(status=400, code="context_length_exceeded"), F.CONTEXT_LENGTH),
        (Told(status=429, code="77"), F.RATE_LIMIT),  # at last the status
        (Told(status=501), F.SERVER_ERROR),
        (Told(status=399), F.WRONG_ENDPOINT),
        (Told(status=422), F.BAD_REQUEST),
    ],
)
def test_a_providers_own_rules_come_first(own: Provider, told: Told, kind: F) -> None:
    assert classify(told, provider=own)[0] is kind


def test_a_rule_brings_its_hint(own: Provider) -> None:
    assert classify(Told(status=429, code="slow"), provider=own)[1] == "wait for a minute"
    assert classify(Told(status=429), provider=own)[1] is None


@pytest.mark.parametrize(
    ("name", "kind"), [("dashscope", F.RATE_LIMIT), ("openai", F.QUOTA_EXHAUSTED), ("generic", F.QUOTA_EXHAUSTED)]
)
def test_one_code_may_mean_two_things(name: str, kind: F) -> None:
    """A minute's throttle here, no balance there."""
    assert classify(Told(status=429, code="insufficient_quota"), provider=load_provider(name))[0] is kind


@pytest.mark.parametrize(
    ("name", "kind"), [("mistral", F.SERVER_ERROR), ("zhipu", F.AUTH), ("generic", F.SERVER_ERROR)]
)
def test_a_number_may_mean_two_things(name: str, kind: F) -> None:
    """1000 is a server error at Mistral, a bad key at GLM, and to whoever is not known what its status says."""
    assert classify(Told(status=500, code="1000"), provider=load_provider(name))[0] is kind


def test_a_server_that_asks_for_a_retry_gets_one_where_nothing_else_is_known() -> None:
    assert classify(Told(status=418), should_retry=True)[0] is F.SERVER_ERROR
    assert classify(Told(status=401), should_retry=True)[0] is F.AUTH


@pytest.mark.parametrize("name", provider_names())
def test_what_a_file_says_makes_sense(name: str) -> None:
    """A price has its currency and the day it was looked at; no answer is longer than its context."""
    known = load_provider(name)
    assert known.base_url.startswith("https://") or not (known.base_url and known.key_needed)
    assert known.key_variables or name == "generic"
    prices = [model.price for model in known.models.values() if model.price is not None]
    assert bool(prices) == (known.currency is not None) == (known.prices_checked is not None)
    assert all(price.input > 0 or price.output == 0 for price in prices)
    assert all(price.cached is None or price.cached < price.input for price in prices)
    sizes = [(model.max_output, model.context) for model in known.models.values()]
    assert all(cap <= context for cap, context in sizes if cap is not None and context is not None)


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ('class = "auth"', "error rule 2 fits every reply"),
        ('class = "auth", message = "("', "'(' is no regular expression"),
        ('class = "lost", status = 400', "Invalid enum value 'lost'"),
        ('class = "auth", status = "400"', "Expected `int | null`, got `str`"),
        ('class = "auth", statsu = 400', "unknown field `statsu`"),
    ],
)
def test_a_rule_that_makes_no_sense_is_told(tmp_path: Path, rule: str, message: str) -> None:
    path = tmp_path / "ours.toml"
    path.write_text(f'title = "Ours"\nerrors = [{{ class = "auth", code = "x" }}, {{ {rule} }}]\n', encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        read_provider(path)
    assert str(path) in str(caught.value)
    assert message in str(caught.value)


@given(
    st.sampled_from(provider_names()),
    st.builds(
        Told,
        status=st.integers(300, 599),
        code=st.none() | st.text(max_size=20),
        type=st.none() | st.text(max_size=20),
        message=st.text(),
    ),
)
def test_any_error_has_a_class(name: str, told: Told) -> None:
    assert isinstance(classify(told, provider=load_provider(name))[0], F)


def test_generic_is_what_stands_behind_all_others() -> None:
    assert load_provider("generic") is GENERIC
