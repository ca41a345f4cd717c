"""Several places to send to, as the user names them: a file ``lanes.toml``, or words like ``openai:OPENAI_KEY_2``.

    [[lane]]
    name = "a"                                # by default the provider or the host
    provider = "zhipu"                        # or base_url = "https://host/v1", or both
    key_env = "ZHIPU_KEY_1"                   # or key_file, key_cmd; by default the provider's variables
    rpm = 60                                  # tpm, concurrency, headroom: where you know better
    models = { "glm-4.6" = "z-ai/glm-4.6" }   # taken, by the name they have there; or a list; by default all

A key goes to the lane it is named for and nowhere else; so ``BATCHRUNNER_API_KEY``, which names none, is not looked at.
"""

import re
import tomllib
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from batchrunner.config import LimitSettings, Route
from batchrunner.credentials import KEY_VARIABLE, KeySource, resolve_endpoint
from batchrunner.errors import ConfigError

_NAME = re.compile(r"[\w.:@-]{1,60}")


class LaneTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One ``[[lane]]``."""

    name: str = ""
    provider: str | None = None
    base_url: str | None = None
    key_env: str | None = None
    key_file: str | None = None
    key_cmd: str | None = None
    proxy: str | None = None
    ca_file: str | None = None
    rpm: float | None = None
    tpm: float | None = None
    concurrency: int | None = None
    headroom: float | None = None
    models: dict[str, str] | list[str] | None = None

    @property
    def label(self) -> str:
        return self.name or self.provider or urlsplit(self.base_url or "").netloc


class LaneFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The file: its lanes in order of preference, where all else is equal."""

    lane: list[LaneTable]


def read_lanes(path: Path) -> list[LaneTable]:
    """Raises ConfigError that says what is wrong in the file, and where. Files that it names are beside it."""
    try:
        lanes = msgspec.convert(tomllib.loads(path.read_text(encoding="utf-8")), LaneFile).lane
    except OSError as error:
        raise ConfigError(f"{path}: can't be read ({error.strerror})") from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise ConfigError(f"{path}: {error}") from None
    return [
        msgspec.structs.replace(lane, **{name: str(path.parent / file) for name, file in _files(lane).items()})
        for lane in lanes
    ]


def lane_of(text: str) -> LaneTable:
    """A lane in one word: a provider, ``provider:KEY_VARIABLE``, or a base URL."""
    if text.startswith(("http://", "https://")):
        return LaneTable(base_url=text)
    provider, _, variable = text.partition(":")
    return LaneTable(name=text, provider=provider, key_env=variable or None)


def lanes_of(lanes: str | Path | Sequence[str | Mapping[str, object]]) -> list[LaneTable]:
    """Lanes as Python says them: the file's path, or a list of words and of the file's tables. Raises ConfigError."""
    if isinstance(lanes, str | Path):
        return read_lanes(Path(lanes))
    try:
        return [lane_of(one) if isinstance(one, str) else msgspec.convert(one, LaneTable) for one in lanes]
    except msgspec.ValidationError as error:
        raise ConfigError(f"lanes: {error}") from None


def resolve_routes(
    lanes: Sequence[LaneTable],
    limits: LimitSettings,
    environ: Mapping[str, str],
    *,
    proxy: str | None = None,
    ca_file: str | None = None,
    keys: bool = True,
) -> tuple[Route, ...]:
    """The lanes with their keys, or without, where nothing is to be sent. Raises ConfigError that names the lane.

    *limits*, *proxy* and *ca_file* are those of each lane that says nothing of its own.
    """
    if not lanes:
        raise ConfigError("no lane is named")
    lanes = [
        msgspec.structs.replace(lane, proxy=lane.proxy or proxy, ca_file=lane.ca_file or ca_file) for lane in lanes
    ]
    environ = {name: value for name, value in environ.items() if name != KEY_VARIABLE}
    routes = tuple(_resolve(lane, limits, environ, keys=keys) for lane in lanes)
    quotas = [_quota(route, lane, environ) for route, lane in zip(routes, lanes, strict=True)]
    for (one, its), (other, theirs) in combinations(zip(routes, quotas, strict=True), 2):
        if one.name == other.name:
            raise ConfigError(f"two lanes are named {one.name!r}; give each a name of its own")
        if its == theirs and _overlap(one, other):
            raise ConfigError(f"the lanes {one.name!r} and {other.name!r} are one endpoint and key; keep one of them")
    return routes


def _resolve(lane: LaneTable, limits: LimitSettings, environ: Mapping[str, str], *, keys: bool) -> Route:
    name = lane.label
    if lane.provider is None and lane.base_url is None:
        raise ConfigError(f"lane {name!r}: where does it go? It needs a provider or a base_url")
    if not all((_models(lane) or {}).values()):
        raise ConfigError(f"lane {name!r}: models holds an empty name")
    if not _NAME.fullmatch(name):
        raise ConfigError(f"lane {name!r}: give it a name of letters, digits and . : @ _ - (and no more than 60)")
    try:
        key_file = None if lane.key_file is None else Path(lane.key_file)
        source = KeySource(variable=lane.key_env, file=key_file, command=lane.key_cmd)
        endpoint = resolve_endpoint(
            provider=lane.provider,
            base_url=lane.base_url,
            source=source if keys else None,
            environ=environ,
            proxy=lane.proxy,
            ca_file=lane.ca_file,
        )
        return Route(name=name, endpoint=endpoint, limits=_limits(lane, limits), models=_models(lane))
    except ConfigError as error:
        raise ConfigError(f"lane {name!r}: {error}") from None


def _limits(lane: LaneTable, general: LimitSettings) -> LimitSettings:
    return LimitSettings(
        rpm=general.rpm if lane.rpm is None else lane.rpm,
        tpm=general.tpm if lane.tpm is None else lane.tpm,
        concurrency=general.concurrency if lane.concurrency is None else lane.concurrency,
        stated_concurrency=general.stated_concurrency or lane.concurrency is not None,
        headroom=general.headroom if lane.headroom is None else lane.headroom,
    )


def _models(lane: LaneTable) -> Mapping[str, str] | None:
    if isinstance(lane.models, list):
        return {model: model for model in lane.models}
    return lane.models


def _files(lane: LaneTable) -> dict[str, str]:
    return {name: file for name in ("key_file", "ca_file") if (file := getattr(lane, name)) is not None}


def _quota(route: Route, lane: LaneTable, environ: Mapping[str, str]) -> tuple[str, str | None]:
    """Whose limits it uses: the address, and the key, or what tells it apart where no key was looked for."""
    return route.endpoint.base_url, _key(route, lane, environ)


def _key(route: Route, lane: LaneTable, environ: Mapping[str, str]) -> str | None:
    if route.endpoint.key is not None:
        return route.endpoint.key.reveal()
    if (place := lane.key_cmd or lane.key_file) is not None:
        return place
    if lane.key_env is not None:
        return environ.get(lane.key_env, "").strip() or lane.key_env
    return next((key for name in route.endpoint.provider.key_variables if (key := environ.get(name, "").strip())), None)


def _overlap(one: Route, other: Route) -> bool:
    """Whether both would send some model there."""
    if one.models is None or other.models is None:
        return True
    return not set(one.models.values()).isdisjoint(other.models.values())
