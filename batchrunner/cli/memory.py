"""What a job was told before: kept in its database, so that ``batchrunner run JOB`` alone goes on.

An option may be said on the command line, by a variable, to an earlier run, in a file. The first of these counts, and
options that belong together count together: who names an endpoint now does not send it the key of another.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any

import rich_click as click
from click.core import ParameterSource

from batchrunner.cli.place import STDIN, SUFFIX, check_name, near, source_of
from batchrunner.cli.settings import option_name
from batchrunner.errors import ConfigError

KEYS = frozenset(("key_env", "key_file", "key_cmd"))
REMEMBERED = (
    *("model", "prompt", "template", "system", "params", "id_column", "input_format", "on_bad_line"),
    *("provider", "provider_file", "base_url", "lane", "lanes_file"),
    *("key_env", "key_file", "key_cmd", "proxy", "ca_file"),
    *("rpm", "tpm", "concurrency", "headroom", "timeout", "attempts", "stream", "canary", "tokenizer"),
    *("budget", "alert", "unpriced_ok"),
    *("outputs", "errors_file", "layout", "extras", "prefix", "for_excel"),
)
# Of the first names those count that were said most directly; who said the others loses the second names as well.
BELONGING: tuple[tuple[frozenset[str], frozenset[str]], ...] = (
    (frozenset(("provider", "provider_file", "base_url", "lane", "lanes_file")), KEYS),
    (KEYS, frozenset()),
    (frozenset(("prompt", "template")), frozenset()),
    (frozenset(("outputs",)), frozenset(("errors_file", "layout", "extras", "prefix", "for_excel"))),
)
PATHS = (
    "template",
    "provider_file",
    "lanes_file",
    "key_file",
    "ca_file",
    "tokenizer",
    "errors_file",
    "outputs",
)  # kept absolute, so that any folder will do
NOTHING: Mapping[str, Any] = {  # else None
    "outputs": (),
    "lane": (),
    "prefix": "",
    **dict.fromkeys(("extras", "for_excel", "stream", "unpriced_ok"), False),
}
FROM_FILES = "from_files"
LONGEST = 40  # characters of a value in a sentence


class Layer(IntEnum):
    """Who says it; a smaller one wins. What an earlier run had from a file gives way to what the file says now."""

    LINE = 0
    VARIABLE = 1
    EARLIER = 2
    FILE = 3
    EARLIER_FILE = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """The options of a command, settled. ``kept``: what to remember, as JSON; ``changes``: what is not as it was."""

    given: dict[str, Any]
    kept: str
    changes: str


def earlier_settings(job: str, database: Path, *, named: bool) -> tuple[str, dict[str, Any]]:
    """The job file that is meant, and what its last run was told. Raises ConfigError. *named*: --db was given."""
    if not database.is_file():
        if Path(job).suffix == SUFFIX:
            raise ConfigError(f"{job}: there is no such database; give the job file first: batchrunner run FILE.jsonl")
        return job, {}
    from batchrunner.cli.older import open_up_to_date

    with open_up_to_date(database) as reader:
        jobs = reader.jobs()
    is_database = job == str(database)
    check_name(job, database, tuple(seen.source for seen in jobs), named=named or is_database)
    mine = [seen for seen in jobs if is_database or seen.source == source_of(job)]
    if not mine:
        if is_database:
            raise ConfigError(f"{job}: no job was loaded into it yet; batchrunner run FILE.jsonl --db {job}")
        return job, {}
    source = mine[-1].source
    job = job if not is_database else source if source == STDIN else near(source)
    return job, dict(json.loads(mine[-1].settings))


def settle(context: click.Context, given: Mapping[str, Any], earlier: Mapping[str, Any]) -> Told:
    """The options as they count, of those said now (*given*, by click) and *earlier*."""
    names = [name for name in REMEMBERED if name in given]
    origins = origins_of(_said(context, names, earlier))
    settled = dict(given)
    for name in names:
        settled[name] = _value(context, name, given, earlier, origins.get(name))
    kept = {name: _kept(name, settled[name]) for name in names if name in origins}
    changes = _changes(context, kept, earlier, names)
    if "@" in kept.get("proxy", ""):  # a password stands in it
        del kept["proxy"]
    kept |= {name: value for name, value in earlier.items() if name in REMEMBERED and name not in names}
    from_files = [name for name, layer in origins.items() if layer in (Layer.FILE, Layer.EARLIER_FILE)]
    kept |= {FROM_FILES: from_files} if from_files else {}
    return Told(given=settled, kept=json.dumps(kept, ensure_ascii=False), changes=changes)


def origins_of(said: Mapping[Layer, Collection[str]]) -> dict[str, Layer]:
    """For each option that anyone says, whose word counts. Options that belong together are not mixed."""
    left = {layer: set(said.get(layer, ())) for layer in Layer}
    for leads, followers in BELONGING:
        holders = [layer for layer in Layer if left[layer] & leads]
        for loser in holders[1:]:
            left[loser] -= leads | followers
    return {name: layer for layer in reversed(Layer) for name in left[layer]}


def _said(context: click.Context, names: Sequence[str], earlier: Mapping[str, Any]) -> dict[Layer, set[str]]:
    parameters = {parameter.name or "": parameter for parameter in context.command.params}
    from_files = set(earlier.get(FROM_FILES, ()))
    on_line = {name for name in names if context.get_parameter_source(name) is ParameterSource.COMMANDLINE}
    return {
        Layer.LINE: on_line,
        Layer.VARIABLE: {name for name in names if parameters[name].resolve_envvar_value(context) is not None},
        Layer.EARLIER: {name for name in names if name in earlier} - from_files,
        Layer.FILE: set(names) & (context.default_map or {}).keys(),
        Layer.EARLIER_FILE: {name for name in names if name in earlier} & from_files,
    }


def _value(
    context: click.Context, name: str, given: Mapping[str, Any], earlier: Mapping[str, Any], layer: Layer | None
) -> Any:
    source = context.get_parameter_source(name)
    if layer in (Layer.EARLIER, Layer.EARLIER_FILE):
        return _here(name, earlier[name])
    if layer is None:
        return given[name] if source is ParameterSource.DEFAULT else NOTHING.get(name)
    if layer is Layer.FILE and source is not ParameterSource.DEFAULT_MAP:
        return context.lookup_default(name)
    return given[name]


def _kept(name: str, value: Any) -> Any:
    """A value as it is kept."""
    if isinstance(value, tuple | list):
        return [_kept(name, each) for each in value]
    return str(Path(value).absolute()) if name in PATHS and value not in ("", STDIN) else value


def _here(name: str, value: Any) -> Any:
    """A kept value as it would be said here and now."""
    if isinstance(value, list):
        return tuple(_here(name, each) for each in value)
    return near(value) if name in PATHS else value


def _changes(context: click.Context, kept: Mapping[str, Any], earlier: Mapping[str, Any], names: Sequence[str]) -> str:
    """What is told otherwise than before: ``--rpm 150 (was 200), without --provider (was zhipu)``."""
    options = {parameter.name or "": option_name(parameter) for parameter in context.command.params}
    words = []
    for name in names:
        if name in earlier and kept.get(name) != earlier[name]:
            told = f"{options[name]} {_shown(name, kept[name])}" if name in kept else f"without {options[name]}"
            words.append(f"{told} (was {_shown(name, earlier[name])})")
    return ", ".join(words)


def _shown(name: str, value: Any) -> str:
    text = " ".join(str(_here(name, each)) for each in (value if isinstance(value, list) else [value]))
    if name == "proxy":
        text = text.rpartition("@")[2]
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"
