"""Where an option's value comes from: command line, BATCHRUNNER_*, the project's file, the user's file, the default.

click does the work: options name their variable, and the files become the ``default_map``. A ``.env`` file in the
current folder is read too, for keys and variables, and never overrides what is set.
"""

import os
import tomllib
from collections.abc import Mapping, MutableMapping
from pathlib import Path
from typing import Any

from batchrunner.errors import ConfigError

PROJECT_FILE = "batchrunner.toml"
TABLES = ("providers", "prices")  # of provider files, not options


def read_files(folder: Path, environ: Mapping[str, str]) -> dict[str, Any]:
    """Options from the user's file, overridden by the project's; names as on the command line, with ``_`` or ``-``."""
    config_home = Path(environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    merged: dict[str, Any] = {}
    merged |= _options(_read(config_home / "batchrunner" / "config.toml"))
    own = folder / PROJECT_FILE
    merged |= _options(_read(own) if own.is_file() else _pyproject(folder / "pyproject.toml"))
    return merged


def read_dotenv(folder: Path, environ: MutableMapping[str, str]) -> Path | None:
    """Take up variables that are not set from ``.env`` in *folder*; returns the file if there is one."""
    path = folder / ".env"
    if not path.is_file():
        return None
    from dotenv import dotenv_values

    for name, value in dotenv_values(path, interpolate=False).items():
        if value is not None:
            environ.setdefault(name, value)
    return path


def default_map(options: Mapping[str, Any], commands: Mapping[str, set[str]]) -> dict[str, dict[str, Any]]:
    """The options of the files for each command that has them. Raises ConfigError for a name that no command has."""
    known = set().union(*commands.values())
    for name in options:
        if name not in known:
            raise ConfigError(f"{PROJECT_FILE}: there is no option {name!r}; see batchrunner run --help")
    return {
        command: {name: value for name, value in options.items() if name in parameters}
        for command, parameters in commands.items()
    }


def _options(data: Mapping[str, Any]) -> dict[str, Any]:
    return {name.replace("-", "_"): value for name, value in data.items() if name not in TABLES}


def _pyproject(path: Path) -> dict[str, Any]:
    tool = _read(path).get("tool", {})
    return dict(tool.get("batchrunner", {})) if isinstance(tool, dict) else {}


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
