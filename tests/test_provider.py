"""Endpoints and keys: where they come from, and what is said where they are missing."""

import os
from pathlib import Path

import pytest

from batchrunner.config import Endpoint
from batchrunner.credentials import KeySource, find_key, resolve_endpoint
from batchrunner.errors import ConfigError
from batchrunner.provider import ErrorRule, load_provider, provider_names
from batchrunner.task import FailureClass

KEY = "sk-canary-4711"


def resolve(provider: str | None = None, base_url: str | None = None, **environ: str) -> Endpoint:
    return resolve_endpoint(provider=provider, base_url=base_url, source=KeySource(), environ=environ)


@pytest.mark.parametrize("name", [name for name in provider_names() if load_provider(name).base_url])
def test_a_provider_brings_its_address_and_its_variables(name: str) -> None:
    known = load_provider(name)
    for variable in (*known.key_variables, "BATCHRUNNER_API_KEY"):
        endpoint = resolve(name, None, **{variable: KEY})
        assert endpoint.base_url == known.base_url
        assert endpoint.key is not None
        assert endpoint.key.reveal() == KEY
        assert endpoint.key_source == variable
        assert KEY not in repr(endpoint)


def test_the_variables_are_tried_in_order() -> None:
    assert resolve("zhipu", ZAI_API_KEY="b", ZHIPUAI_API_KEY="a").key_source == "ZHIPUAI_API_KEY"
    assert resolve("zhipu", ZHIPUAI_API_KEY="a", BATCHRUNNER_API_KEY="c").key_source == "BATCHRUNNER_API_KEY"
    assert resolve("zhipu", ZHIPUAI_API_KEY="", ZHIPUAI_KEY="a").key_source == "ZHIPUAI_KEY"


def test_a_base_url_wins_over_the_providers_and_keeps_its_variables() -> None:
    """For a provider's second endpoint, such as the one of a coding plan."""
    endpoint = resolve("zhipu", "https://other.example/v4/", ZHIPUAI_API_KEY=KEY)
    assert endpoint.base_url == "https://other.example/v4"
    assert endpoint.key is not None


def test_a_providers_variable_is_not_looked_at_for_another_endpoint() -> None:
    with pytest.raises(ConfigError, match=r"tried BATCHRUNNER_API_KEY\. "):
        resolve(None, "https://other.example/v1", OPENAI_API_KEY=KEY)


def test_without_a_provider_three_ways_to_name_one_are_told() -> None:
    with pytest.raises(ConfigError) as caught:
        resolve()
    assert all(way in str(caught.value) for way in ("-p zhipu", "--base-url", "batchrunner.toml"))


def test_an_unknown_provider_is_told_with_those_there_are() -> None:
    with pytest.raises(ConfigError, match=r"did you mean openai\?"):
        resolve("openia")


def test_a_missing_key_is_told_with_what_was_tried() -> None:
    with pytest.raises(ConfigError, match=r"BATCHRUNNER_API_KEY, OPENAI_API_KEY.*--key-env"):
        resolve("openai")


@pytest.mark.parametrize("url", ["http://127.0.0.1:8000/v1", "https://localhost/v1", "http://10.0.0.5:8000/v1"])
def test_servers_of_ones_own_need_no_key(url: str) -> None:
    """Over plain http no key could be sent anyway."""
    assert resolve(None, url).key is None


def test_no_key_goes_over_plain_http() -> None:
    with pytest.raises(ConfigError, match="unencrypted"):
        resolve(None, "http://10.0.0.5:8000/v1", BATCHRUNNER_API_KEY=KEY)


def test_a_key_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text(f" {KEY}\n", encoding="utf-8")
    path.chmod(0o600)
    key, where = find_key(KeySource(file=path), (), {})
    assert key is not None
    assert (key.reveal(), where) == (KEY, f"file {path}")
    path.chmod(0o640)
    with pytest.raises(ConfigError, match="chmod 600"):
        find_key(KeySource(file=path), (), {})
    with pytest.raises(ConfigError, match=r"can't be read \(No such file"):
        find_key(KeySource(file=tmp_path / "nothing"), (), {})


def test_a_key_from_a_command_is_its_first_line() -> None:
    key, where = find_key(KeySource(command=f"echo {KEY}; echo more"), (), {})
    assert key is not None
    assert (key.reveal(), where) == (KEY, "--key-cmd")


def test_the_command_does_not_read_our_standard_input() -> None:
    """It may be the job file."""
    ours, writer = os.pipe()
    os.write(writer, b"a line of the job\n")
    os.close(writer)
    before = os.dup(0)
    os.dup2(ours, 0)
    try:
        with pytest.raises(ConfigError, match="--key-cmd: the API key is empty"):
            find_key(KeySource(command="cat"), (), {})
        assert os.read(0, 100) == b"a line of the job\n"
    finally:
        os.dup2(before, 0)
        os.close(before)
        os.close(ours)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (KeySource(command="exit 3"), "--key-cmd: the command failed with exit code 3"),
        (KeySource(command="printf '\\377\\n'"), "--key-cmd: the command did not give a key"),
        (KeySource(command="true"), "--key-cmd: the API key is empty"),
        (KeySource(variable="NOT_SET"), "--key-env NOT_SET: the variable is not set"),
        (KeySource(variable="ODD"), "ODD: the API key holds a character"),
    ],
)
def test_a_source_without_a_key_is_named(source: KeySource, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        find_key(source, (), {"ODD": "two words"})
    assert message in str(caught.value)
    assert "two words" not in str(caught.value)


def test_only_one_source_may_be_given() -> None:
    with pytest.raises(ConfigError, match="keep one"):
        KeySource(variable="A", command="b")


def provider_file(folder: Path, text: str) -> str:
    path = folder / "mine.toml"
    path.write_text(text, encoding="utf-8")
    return str(path)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('key_format = "Bearer"', "key_format = 'Bearer' should hold {key} once"),
        ('key_format = "Bearer {kee}"', "should hold {key} once"),
        ('key_format = "{key}\\n"', "should hold {key} once"),
        ('key_header = "x key"', "key_header = 'x key' is no name of a header"),
        ('[models."m"]\nprice = { input = 1 }', "missing required field `output`"),
    ],
)
def test_a_file_that_would_send_no_key_or_forgets_half_a_price_is_told(tmp_path: Path, line: str, message: str) -> None:
    path = provider_file(tmp_path, f'extends = "zai"\n{line}\n')
    with pytest.raises(ConfigError) as caught:
        load_provider(path)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("written", "name"),
    [("llama.cpp", "llamacpp"), ("Z.ai", "zai"), ("OpenAI", "openai"), ("Hugging Face", "huggingface")],
)
def test_a_name_may_be_written_as_others_write_it(written: str, name: str) -> None:
    assert load_provider(written) is load_provider(name)


@pytest.mark.parametrize("nobody", ["", ".", "llama", "open ai!x"])
def test_a_name_that_is_near_to_one_is_not_it(nobody: str) -> None:
    with pytest.raises(ConfigError, match="is not known"):
        load_provider(nobody)


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://api.groq.com/openai/v1", "groq"),
        ("https://api.z.ai/api/paas/v4", "zai"),
        ("https://api.z.ai/api/coding/paas/v4", "zai"),
        ("https://api.moonshot.cn/v1", "moonshot-cn"),
        ("https://mine.openai.azure.com/openai/v1", "azure"),
    ],
)
def test_whose_address_it_is_is_known(url: str, name: str) -> None:
    known = load_provider(name)
    endpoint = resolve(None, url, **{known.key_variables[0]: KEY})
    assert endpoint.provider is known
    assert endpoint.key_source == known.key_variables[0]


@pytest.mark.parametrize(
    "url",
    [
        "https://h.example/v1",
        "https://h.example/v1/",
        " https://h.example/v1// ",
        "https://h.example/v1/chat/completions",
        "https://h.example/v1/chat/completions/?",
    ],
)
def test_a_base_url_as_people_paste_it(url: str) -> None:
    assert resolve(None, url, BATCHRUNNER_API_KEY=KEY).base_url == "https://h.example/v1"


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("https://h.example:abc/v1", "is no base URL"),
        ("https://h.example:99999/v1", "is no base URL"),
        ("https://[::1/v1", "is no base URL"),
        ("https://h.example/a b/v1", "is no base URL"),
        (
            "https://x.openai.azure.com/openai?api-version=1",
            "leave out what comes after https://x.openai.azure.com/openai",
        ),
        ("https://me:secret@h.example/v1", "no user and no password"),
    ],
)
def test_a_url_that_can_be_no_base_is_told(url: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        resolve(None, url, BATCHRUNNER_API_KEY=KEY)
    assert "secret" not in str(caught.value)


def test_the_address_in_a_file_of_ones_own_is_read_like_any_other(tmp_path: Path) -> None:
    path = provider_file(tmp_path, 'title = "Mine"\nbase_url = "https://h.example/v1/chat/completions/"\n')
    assert resolve(path, BATCHRUNNER_API_KEY=KEY).base_url == "https://h.example/v1"


def test_a_server_of_ones_own_needs_no_key() -> None:
    assert resolve("ollama").key is None
    assert resolve("vllm", "https://gpu.example/v1").key is None


def test_a_provider_without_a_common_address_asks_for_one() -> None:
    with pytest.raises(ConfigError, match="Azure OpenAI has no address that is everybody's: give yours by --base-url"):
        resolve("azure", AZURE_API_KEY=KEY)


def test_the_coding_plans_address_is_warned_of() -> None:
    endpoint = resolve("zai", "https://api.z.ai/api/coding/paas/v4", ZAI_API_KEY=KEY)
    assert "Coding Plan" in endpoint.warnings[0]
    assert resolve("zai", ZAI_API_KEY=KEY).warnings == ()


def test_a_file_of_ones_own_adds_to_a_known_provider(tmp_path: Path) -> None:
    """Its models and rules come first; the rest stays."""
    path = provider_file(
        tmp_path,
        'extends = "zai"\nerrors = [{ class = "overloaded", code = "1302" }]\n'
        '[models."glm-x"]\nprice = { input = 0.1, output = 0.2 }\n',
    )
    mine, known = load_provider(path), load_provider("zai")
    assert mine.base_url == known.base_url
    assert mine.errors == (ErrorRule(kind=FailureClass.OVERLOADED, code="1302"), *known.errors)
    assert mine.models.keys() == {"glm-x", *known.models}


def priced(price: str) -> str:
    return f'title = "x"\n[models."m"]\nprice = {{ {price} }}'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("title = 1", "Expected `str`, got `int` - at `$.title`"),
        ('title = "x"\nbase_ulr = "y"', "unknown field `base_ulr`"),
        ('title = "x"\nerrors = [{ class = "angry" }]', "Invalid enum value 'angry'"),
        ('title = "x"\nerrors = [{ class = "auth", message = "(" }]', "is no regular expression"),
        ('extends = "zia"', "provider 'zia' is not known; did you mean zai"),
        ("title = ", "mine.toml: Invalid value"),
        (priced("input = -1, output = 0"), '[models."m"] price: a price is 0 or more'),
        (
            priced("input = 1, output = 0, tiers = [{ input = 1, output = 0 }]"),
            "tier 1 ends nowhere: it needs up_to or answer_up_to",
        ),
        (priced("input = 1, output = 0, tiers = [{ up_to = -1, input = 1, output = 0 }]"), "tier 1 ends nowhere"),
        (
            priced("input = 1, output = 0, tiers = [{ up_to = 5, input = nan, output = 0 }]"),
            "tier 1: a price is 0 or more",
        ),
        (
            priced("input = 3, output = 0, tiers=[{up_to=9, input = 2, output=0}, {up_to=5, input = 1, output=0}]"),
            "tier 2 never holds",
        ),
        (priced("input = 1, output = 0, tiers = [{ upto = 5, input = 1, output = 0 }]"), "unknown field `upto`"),
    ],
)
def test_what_is_wrong_in_a_file_is_told(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_provider(provider_file(tmp_path, text))
    assert "mine.toml" in str(caught.value)
    assert said in str(caught.value)


def test_no_price_is_made_up() -> None:
    """Every price has a date and a currency; what is free is said to be."""
    for provider in map(load_provider, provider_names()):
        if any(model.price for model in provider.models.values()):
            assert provider.currency in ("USD", "CNY")
            assert provider.prices_checked is not None
    free = load_provider("zai").models["glm-4.7-flash"].price
    assert free is not None
    assert free.output == 0
    assert load_provider("dashscope").models["qwen-plus"].price is None  # it depends on whether the model thinks


@pytest.mark.parametrize(
    ("prompt", "answer", "rates"),
    [
        (0, 0, (2, 8)),
        (31_999, 199, (2, 8)),  # [0, 32) thousand of prompt and [0, 0.2) of answer
        (31_999, 200, (3, 14)),
        (32_000, 1, (4, 16)),
        (200_000, 100_000, (4, 16)),
    ],
)
def test_a_glm_model_is_priced_by_its_lengths(prompt: int, answer: int, rates: tuple[int, int]) -> None:
    price = load_provider("zhipu").models["glm-4.6"].price
    assert price is not None
    found = price.rates(prompt, answer)
    assert [found.input, found.output] == [*rates]


def test_every_model_of_the_first_provider_has_a_price_and_a_cap() -> None:
    """So that ``--budget`` holds there without a word of the user's."""
    models = load_provider("zhipu").models
    assert not [name for name, model in models.items() if model.price is None or model.max_output is None]


@pytest.mark.parametrize("name", provider_names())
def test_no_answer_is_longer_than_the_context(name: str) -> None:
    """What bounds an answer, and so a budget's reservation, is the cap where one is known."""
    for model in load_provider(name).models.values():
        assert (model.max_output or 1) <= (model.context or model.max_output or 1)


def test_a_dated_version_is_the_model() -> None:
    openai = load_provider("openai")
    assert openai.model("gpt-4o-2024-08-06") is not None
    assert openai.model("gpt-unknown") is None
