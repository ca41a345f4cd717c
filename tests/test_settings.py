"""Settings: from files, from .env, and from what a job was told before."""

from collections.abc import Collection
from pathlib import Path

import pytest
import rich_click as click

from batchrunner.cli.main import WORK
from batchrunner.cli.memory import Layer, origins_of
from batchrunner.cli.settings import default_map, read_dotenv, read_files
from batchrunner.errors import ConfigError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "here").mkdir()
    (tmp_path / "home" / "batchrunner").mkdir(parents=True)
    return tmp_path / "here"


def environ(folder: Path) -> dict[str, str]:
    return {"XDG_CONFIG_HOME": str(folder.parent / "home")}


def read(folder: Path) -> dict[str, object]:
    return read_files(folder, environ(folder)).options


def of_run(folder: Path) -> dict[str, object]:
    return default_map(read_files(folder, environ(folder)), WORK)["run"]


def test_prices_are_tables_of_the_files_and_no_options(folder: Path) -> None:
    """The user's file and the project's together; for one model the project's wins."""
    (folder.parent / "home" / "batchrunner" / "config.toml").write_text(
        "[prices.a]\ninput = 1\n[prices.b]\ninput = 2\n"
    )
    (folder / "batchrunner.toml").write_text("[prices.b]\ninput = 3\n")
    found = read_files(folder, environ(folder))
    assert found.prices == {"a": {"input": 1}, "b": {"input": 3}}
    assert found.origins["prices"] == folder / "batchrunner.toml"
    assert found.options == {}


def test_the_project_wins_over_the_user_and_its_own_file_over_pyproject(folder: Path) -> None:
    (folder.parent / "home" / "batchrunner" / "config.toml").write_text('rpm = 1\nmodel = "user"', encoding="utf-8")
    assert read(folder) == {"rpm": 1, "model": "user"}
    (folder / "pyproject.toml").write_text('[tool.batchrunner]\nmodel = "pyproject"', encoding="utf-8")
    assert read(folder) == {"rpm": 1, "model": "pyproject"}
    (folder / "batchrunner.toml").write_text('model = "own"', encoding="utf-8")
    assert read(folder) == {"rpm": 1, "model": "own"}
    assert read_files(folder, environ(folder)).origins["model"] == folder / "batchrunner.toml"


def test_names_are_those_of_the_command_line(folder: Path) -> None:
    """With - or _; --output and --format are called so, whatever they are called inside."""
    text = 'base-url = "u"\nid_column = "n"\noutput = "x.csv"\nformat = "flat"\nerrors = "e"\nascii = true'
    (folder / "batchrunner.toml").write_text(text, encoding="utf-8")
    assert of_run(folder) == {
        "base_url": "u",
        "id_column": "n",
        "outputs": ["x.csv"],
        "layout": "flat",
        "errors_file": "e",
        "ascii_only": True,
    }


@pytest.mark.parametrize(
    "text",
    ['param = ["temperature=0", "user=\\"me\\""]', '[param]\ntemperature = 0\nuser = "me"'],
    ids=["list", "table"],
)
def test_params_are_a_list_or_a_table(text: str, folder: Path) -> None:
    (folder / "batchrunner.toml").write_text(text, encoding="utf-8")
    assert of_run(folder) == {"params": ["temperature=0", 'user="me"']}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rmp = 5", r"batchrunner\.toml: there is no option 'rmp'"),
        ('job = "x"', "no option 'job'"),
        ('key = "sk-1"', "key_env"),
        ("rpm = ", "can't be read as TOML"),
    ],
)
def test_what_makes_no_sense_in_a_file_names_the_file(text: str, message: str, folder: Path) -> None:
    (folder / "batchrunner.toml").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=message):
        of_run(folder)


def test_tables_of_provider_files_are_no_options(folder: Path) -> None:
    (folder / "batchrunner.toml").write_text("[providers.zhipu]\nconcurrency = 8", encoding="utf-8")
    assert of_run(folder) == {}


def test_dotenv_fills_in_what_is_not_set(tmp_path: Path) -> None:
    told = {"SET": "before"}
    assert read_dotenv(tmp_path, told) == frozenset()
    (tmp_path / ".env").write_text("SET=after\nNEW='a b'\nexport THIRD=$SET\nBARE\n", encoding="utf-8")
    assert read_dotenv(tmp_path, told) == {"NEW", "THIRD"}
    assert told == {"SET": "before", "NEW": "a b", "THIRD": "$SET"}
    (tmp_path / ".env").write_bytes(b"A=\xff\n")
    with pytest.raises(ConfigError, match=r"\.env: can't be read"):
        read_dotenv(tmp_path, told)


LINE, VARIABLE, EARLIER, FILE = Layer.LINE, Layer.VARIABLE, Layer.EARLIER, Layer.FILE


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (
            {LINE: {"rpm"}, EARLIER: {"rpm", "tpm"}, FILE: {"tpm", "model"}},
            {"rpm": LINE, "tpm": EARLIER, "model": FILE},
        ),
        # another endpoint gets neither the provider nor the key of the one before
        ({LINE: {"base_url"}, EARLIER: {"provider", "key_file"}}, {"base_url": LINE}),
        ({LINE: {"provider"}, EARLIER: {"base_url"}, FILE: {"provider", "key_cmd"}}, {"provider": LINE}),
        ({LINE: {"provider"}, VARIABLE: {"base_url"}}, {"provider": LINE}),
        # a key that is said by itself is for any endpoint
        ({LINE: {"provider"}, FILE: {"key_cmd"}}, {"provider": LINE, "key_cmd": FILE}),
        ({LINE: {"key_env"}, EARLIER: {"provider", "key_file"}}, {"key_env": LINE, "provider": EARLIER}),
        ({EARLIER: {"provider", "base_url", "key_env"}}, dict.fromkeys(("provider", "base_url", "key_env"), EARLIER)),
        ({LINE: {"prompt"}, EARLIER: {"template"}}, {"prompt": LINE}),
        ({LINE: {"outputs"}, EARLIER: {"outputs", "extras", "errors_file"}}, {"outputs": LINE}),
        ({LINE: {"outputs"}, FILE: {"for_excel"}}, {"outputs": LINE, "for_excel": FILE}),
        ({FILE: {"rpm"}, Layer.EARLIER_FILE: {"rpm", "model"}}, {"rpm": FILE, "model": Layer.EARLIER_FILE}),
    ],
)
def test_who_says_it_most_directly_counts_and_belongings_are_not_mixed(
    said: dict[Layer, Collection[str]], expected: dict[str, Layer]
) -> None:
    assert origins_of(said) == expected


def test_every_option_that_is_remembered_exists() -> None:
    """A name of memory.py that no option has would silently be forgotten."""
    from batchrunner.cli.memory import BELONGING, PATHS, REMEMBERED

    run = next(command for command in WORK if command.name == "run")
    names = {parameter.name for parameter in run.params if isinstance(parameter, click.Option)}
    assert names.issuperset(REMEMBERED)
    assert set(REMEMBERED).issuperset(PATHS)
    assert all(set(REMEMBERED) >= leads | followers for leads, followers in BELONGING)
