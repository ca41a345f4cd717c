"""Where a run sends to, out of the options: one endpoint, or the lanes of ``--lane`` and ``--lanes``."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from batchrunner.errors import ConfigError

if TYPE_CHECKING:
    from batchrunner.config import Endpoint, LimitSettings, Route

ONE = ("provider", "provider_file", "base_url", "key_env", "key_file", "key_cmd")


def routes_of(
    given: Mapping[str, Any], limits: "LimitSettings", environ: Mapping[str, str], *, keys: bool = True
) -> "tuple[Route, ...]":
    """The lanes that were named, with their keys if wanted; empty where none was. Raises ConfigError."""
    from batchrunner.routes import lane_of, read_lanes, resolve_routes

    if not given["lane"] and given["lanes_file"] is None:
        return ()
    for name in ONE:
        if given[name] is not None:
            option = "--" + name.replace("_", "-")
            raise ConfigError(f"{option} says where to send, and so do the lanes; keep one of them")
    tables = [] if given["lanes_file"] is None else read_lanes(Path(given["lanes_file"]))
    lanes = [*tables, *map(lane_of, given["lane"])]
    return resolve_routes(lanes, limits, environ, proxy=given["proxy"], ca_file=given["ca_file"], keys=keys)


def header(routes: "tuple[Route, ...]", from_dotenv: Collection[str]) -> str:
    """Key and address of each; never the key itself."""
    if len(routes) == 1:
        return _where(routes[0].endpoint, from_dotenv)
    return "; ".join(f"lane {route.name}: {_where(route.endpoint, from_dotenv)}" for route in routes)


def label(routes: "tuple[Route, ...]", model: str | None) -> str:
    """In a few words, for the display."""
    where = routes[0].endpoint.host if len(routes) == 1 else " + ".join(route.name for route in routes)
    return f"{model or 'model of each line'} @ {where}"


def _where(endpoint: "Endpoint", from_dotenv: Collection[str]) -> str:
    where = " (.env)" if endpoint.key_source in from_dotenv else ""
    key = f"key {endpoint.key_source}{where}" if endpoint.key is not None else "no key"
    return f"{key} · {endpoint.base_url}"
