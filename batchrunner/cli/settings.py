"""Where an option's value comes from: command line, BATCHRUNNER_*, the project's file, the user's file, the default.

click does the work: options name their variable, and the files become the ``default_map``. A ``.env`` file in the
current folder is read too, for keys and variables, and never overrides what is set.
"""

import json
import os
import tomllib
from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import rich_click as click

from batchrunner.errors import ConfigError

PROJECT_FILE = "batchrunner.toml"
USER_FILE = "config.toml"
TABLES = ("providers", "prices")  # of provider files, not options
SECRETS = ("key", "api_key")


@dataclass(frozen=True, slots=True, kw_only=True)
class Files:
    """What the files say: options as they are written there, the tables ``[prices]``, and what came from which file."""

    options: dict[str, Any] = field(default_factory=dict)
    prices: dict[str, Any] = field(default_factory=dict)
    origins: dict[str, Path] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What was said apart from the command line: the files, and the variables that ``.env`` has set."""

    files: Files
    dotenv: frozenset[str]


def read_files(folder: Path, environ: Mapping[str, str]) -> Files:
    """Options from the user's file, overridden by the project's; names as on the command line, with ``_`` or ``-``."""
    config_home = Path(environ.get("XDG_CONFIG_HOME") or Path(environ.get("HOME") or Path.home()) / ".config")
    user, own, shared = config_home / "batchrunner" / USER_FILE, folder / PROJECT_FILE, folder / "pyproject.toml"
    found = Files()
    for path, data in ((user, _read(user)), (own, _read(own)) if own.is_file() else (shared, _table(_read(shared)))):
        options = {name.replace("-", "_"): value for name, value in data.items() if name not in TABLES}
        found.options.update(options)
        found.origins.update(dict.fromkeys(options, path))
        if isinstance(prices := data.get("prices"), dict):
            found.prices.update(prices)
            found.origins["prices"] = path
    return found


def read_dotenv(folder: Path, environ: MutableMapping[str, str]) -> frozenset[str]:
    """Take up variables that are not set from ``.env`` in *folder*; returns their names. Raises ConfigError."""
    path = folder / ".env"
    if not path.is_file():
        return frozenset()
    from dotenv import dotenv_values

    try:
        values = dotenv_values(path, interpolate=False)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: can't be read ({error})") from error
    taken = {name: value for name, value in values.items() if value is not None and name not in environ}
    environ.update(taken)
    return frozenset(taken)


def default_map(files: Files, commands: Sequence[click.Command]) -> dict[str, dict[str, Any]]:
    """The options of the files for each command that has them. Raises ConfigError for a name that no command has."""
    options = {command.name or "": _named(command) for command in commands}
    known = {name for named in options.values() for name in named}
    for name in files.options:
        if name in SECRETS:
            raise ConfigError(f"{files.origins[name]}: a key does not belong in it; say where it is: key_env = 'NAME'")
        if name not in known:
            raise ConfigError(f"{files.origins[name]}: there is no option {name!r}; see batchrunner run --help")
    return {
        command: {
            option.name or "": _value(files.options[name], option)
            for name, option in named.items()
            if name in files.options
        }
        for command, named in options.items()
    }


def option_name(parameter: click.Parameter) -> str:
    """The name as people write it: ``--base-url``."""
    return max(parameter.opts, key=len)


def _named(command: click.Command) -> dict[str, click.Option]:
    """The options of *command* by the names they have in a file: ``base_url`` for --base-url."""
    options = [parameter for parameter in command.params if isinstance(parameter, click.Option)]
    return {option_name(option).lstrip("-").replace("-", "_"): option for option in options}


def _value(value: Any, option: click.Option) -> Any:
    """A value as click wants it: one text stands for a list of one, a table for KEY=VALUE each."""
    if not option.multiple:
        return value
    if isinstance(value, Mapping):
        return [f"{name}={json.dumps(each, ensure_ascii=False)}" for name, each in value.items()]
    return list(value) if isinstance(value, list) else [value]


def _table(data: Mapping[str, Any]) -> dict[str, Any]:
    """``[tool.batchrunner]``."""
    tool = data.get("tool", {})
    own = tool.get("batchrunner", {}) if isinstance(tool, dict) else {}
    return own if isinstance(own, dict) else {}


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path}: can't be read as TOML ({error})") from error


def environment() -> MutableMapping[str, str]:
    """The process's environment; the command line is the only part that reads it."""
    return os.environ
