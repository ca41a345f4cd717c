"""Lanes as the user names them: words, a file, tables; each with its key and no other."""

from pathlib import Path

import pytest

from batchrunner.config import LimitSettings, Route
from batchrunner.errors import ConfigError
from batchrunner.routes import lane_of, lanes_of, read_lanes, resolve_routes

ENVIRON = {"OPENAI_API_KEY": "one", "OPENAI_KEY_2": "two", "ZAI_KEY": "three", "BATCHRUNNER_API_KEY": "any"}
FILE = """
[[lane]]
provider = "openai"
rpm = 60
concurrency = 4

[[lane]]
name = "b"
base_url = "https://b.example/v1"
key_env = "ZAI_KEY"
models = { "glm-4.6" = "z-ai/glm-4.6" }

[[lane]]
base_url = "http://127.0.0.1:8642/v1"
models = ["glm-4.6"]
"""


def resolve(*words: str, limits: LimitSettings | None = None) -> tuple[Route, ...]:
    return resolve_routes([lane_of(word) for word in words], limits or LimitSettings(), ENVIRON)


def write(folder: Path, text: str) -> Path:
    path = folder / "lanes.toml"
    path.write_text(text, encoding="utf-8")
    return path


def key(route: Route) -> str | None:
    return None if route.endpoint.key is None else route.endpoint.key.reveal()


def test_a_word_is_a_provider_a_provider_with_a_key_or_an_address() -> None:
    """The variable that names no provider is not looked at: that key would go to several places."""
    routes = resolve("openai", "openai:OPENAI_KEY_2", "http://127.0.0.1:8642/v1")
    assert [(route.name, key(route)) for route in routes] == [
        ("openai", "one"),
        ("openai:OPENAI_KEY_2", "two"),
        ("127.0.0.1:8642", None),
    ]
    assert all(route.serves("any") and route.name_of("any") == "any" for route in routes)


def test_a_file_says_all_of_it(tmp_path: Path) -> None:
    limits = LimitSettings(rpm=10, concurrency=64, headroom=0.1)
    first, second, third = resolve_routes(read_lanes(write(tmp_path, FILE)), limits, ENVIRON)
    assert (first.name, first.limits.rpm, first.limits.concurrency) == ("openai", 60, 4)
    assert first.limits.stated_concurrency
    assert (second.limits.rpm, second.limits.concurrency, second.limits.headroom) == (10, 64, 0.1)
    assert not second.limits.stated_concurrency
    assert (second.name, key(second), second.name_of("glm-4.6")) == ("b", "three", "z-ai/glm-4.6")
    assert not second.serves("other")
    assert third.name_of("glm-4.6") == "glm-4.6"


def test_files_that_it_names_lie_beside_it(tmp_path: Path) -> None:
    secret = tmp_path / "key"
    secret.write_text("four\n", encoding="utf-8")
    secret.chmod(0o600)
    text = '[[lane]]\nbase_url = "https://b.example/v1"\nkey_file = "key"\n'
    (route,) = resolve_routes(read_lanes(write(tmp_path, text)), LimitSettings(), {})
    assert key(route) == "four"


def test_python_says_words_tables_and_files(tmp_path: Path) -> None:
    tables = lanes_of(["openai", {"base_url": "http://127.0.0.1:1/v1", "rpm": 5}])
    assert [table.label for table in tables] == ["openai", "127.0.0.1:1"]
    assert len(lanes_of(write(tmp_path, FILE))) == 3
    with pytest.raises(ConfigError, match="rpm"):
        lanes_of([{"base_url": "http://127.0.0.1:1/v1", "rpm": "five"}])


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[[lane]]\nprovidr = 'openai'", "lanes.toml: .*providr"),
        ("[[lane]]\nprovider = 'nobody'", "lane 'nobody': provider 'nobody' is not known"),
        ("[[lane]]\nprovider = 'openai'\nrpm = 0", "lane 'openai': --rpm must be more than 0"),
        ("[[lane]]\nprovider = 'openai'\n[[lane]]\nprovider = 'openai'", "two lanes are named 'openai'"),
        ("[[lane]]\nname = 'a/b'\nprovider = 'openai'", "lane 'a/b': give it a name"),
        ("[[lane]]\nprovider = 'openai'\n[[lane]]\nname = 'x'\nprovider = 'openai'", "are one endpoint and key"),
        ("[[lane]]\nbase_url = 'https://c.example/v1'", "lane 'c.example': no key"),
        ("[[lane]]\nprovider = 'openai'\nkey_env = 'NONE'", "lane 'openai': --key-env NONE"),
        ("[[lane]]\nname = 'a'", "lane 'a': where does it go"),
        ("[[lane]]\nprovider = 'openai'\nmodels = { a = '' }", "lane 'openai': models holds an empty name"),
        ("lane = 5", "lanes.toml: "),
        ("[[lane", "lanes.toml: "),
        ("", "lanes.toml: "),
        ("lane = []", "no lane is named"),
    ],
)
def test_what_makes_no_sense_is_told_with_its_place(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        resolve_routes(read_lanes(write(tmp_path, text)), LimitSettings(), ENVIRON)


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="can't be read"):
        read_lanes(tmp_path / "none.toml")


@pytest.mark.parametrize(
    ("others", "environ", "same"),
    [
        ({}, ENVIRON, True),
        ({"key_env": "OPENAI_API_KEY"}, ENVIRON, True),
        ({"key_env": "OTHER"}, {**ENVIRON, "OTHER": ENVIRON["OPENAI_API_KEY"]}, True),
        ({"key_env": "OTHER"}, {**ENVIRON, "OTHER": "two"}, False),
        ({"key_env": "OTHER"}, ENVIRON, False),
        ({}, {}, True),
        ({"key_env": "OTHER"}, {}, False),
        ({"key_cmd": "exit 1"}, ENVIRON, False),
        ({"key_file": "nowhere"}, ENVIRON, False),
        ({"models": ["n"]}, ENVIRON, False),
    ],
)
def test_a_plan_refuses_the_lanes_that_a_run_would(
    others: dict[str, object], environ: dict[str, str], *, same: bool
) -> None:
    """As far as it is known which key they have, where none is needed; and no command is asked for one."""
    tables = lanes_of(
        [{"provider": "openai", "models": ["m"]}, {"name": "b", "provider": "openai", "models": ["m"]} | others]
    )
    if not same:
        assert len(resolve_routes(tables, LimitSettings(), environ, keys=False)) == 2
        return
    with pytest.raises(ConfigError, match="the lanes 'openai' and 'b' are one endpoint and key"):
        resolve_routes(tables, LimitSettings(), environ, keys=False)


def test_a_plan_knows_two_commands_that_are_one() -> None:
    tables = lanes_of([{"name": name, "provider": "openai", "key_cmd": "exit 1"} for name in "ab"])
    with pytest.raises(ConfigError, match="are one endpoint and key"):
        resolve_routes(tables, LimitSettings(), {}, keys=False)


def test_one_key_may_be_two_lanes_for_different_models() -> None:
    """Their limits are apart, and so each may have its own stated."""
    tables = lanes_of([{"name": n, "provider": "openai", "models": [n]} for n in ("m", "n")])
    assert len(resolve_routes(tables, LimitSettings(), ENVIRON)) == 2
