"""The rows of strangers.py: servers nobody here wrote, the target of each, and the shortest time by its own rule."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from math import ceil
from typing import Any

from bench import body
from cases import IN_FLIGHT, SLIDING, UNTOLD, WINDOW, Target
from foreign import Foreign, Llmock, Npm, Pypi, haproxy, nginx

LIMIT, SECONDS = 300, 10
RATE = LIMIT // SECONDS
PLACES = 5
MAX_TOKENS = 64
TASKS, LONGER = 4 * LIMIT, 8 * LIMIT  # the longer ones are for servers that tell nothing
BODY = len(json.dumps(body(TASKS)))
CHARGED = BODY // 4 + MAX_TOKENS  # tokens, by llmock
EXPRESS_HEADERS = ("draft-6", "draft-7", "draft-8", "legacy")

Shortest = Callable[[int, dict[str, Any]], float]  # seconds for so many answers, given what the referee saw


@dataclass(frozen=True, slots=True, kw_only=True)
class Strange:
    """A row. ``paced``: what the fixed-rate client is told, always the right number."""

    what: str
    server: Foreign
    shortest: Shortest
    target: Target
    tasks: int = TASKS
    window: float = SECONDS
    paced: tuple[str, ...] = ("--limit", str(LIMIT), "--window", str(SECONDS), "--in-flight", IN_FLIGHT)


def windows(limit: int, seconds: float, *, on_grid: bool = False) -> Shortest:
    """A limit's worth at the start of each window, fixed or moving."""

    def shortest(tasks: int, score: dict[str, Any]) -> float:
        over = ceil(tasks / limit) - 1
        passed = score["first_at"] % seconds if on_grid and over else 0.0
        return float(over * seconds - passed + score["least_latency"])

    return shortest


def bucket(capacity: int, rate: float) -> Shortest:
    """All of a full bucket, then what comes back."""
    return lambda tasks, score: float(max(tasks - capacity, 0) / rate + score["least_latency"])


def counter(limit: int, seconds: float, *, on_grid: bool = False) -> Shortest:
    """Two windows' counts weighed by time: a limit's worth, nothing until that window ends, then a steady rate."""

    def shortest(tasks: int, score: dict[str, Any]) -> float:
        passed = score["first_at"] % seconds if on_grid else 0.0
        steady = max(tasks - limit, 0) * seconds / limit
        return float((seconds - passed if steady else 0.0) + steady + score["least_latency"])

    return shortest


def places(count: int) -> Shortest:
    """So many at a time, all the time."""
    return lambda _, score: float(score["latencies"] / count)


def cases() -> list[Strange]:
    """All rows: what tells its limits first."""
    return [*_windows_from_pypi(), *_throttled(), *_windows_from_npm(), *_llmock(), *_proxies()]


def _windows_from_pypi() -> list[Strange]:
    rules = {
        "fixed-window": (windows(LIMIT, SECONDS), WINDOW),
        "moving-window": (windows(LIMIT, SECONDS), SLIDING),
        "sliding-window-counter": (counter(LIMIT, SECONDS, on_grid=True), SLIDING),
    }
    return [
        Strange(
            what=f"slowapi, {strategy}",
            server=Pypi(("slowapi", "uvicorn"), "slowapi", f"slowapi-{strategy}", LIMIT, SECONDS),
            shortest=shortest,
            target=target,
        )
        for strategy, (shortest, target) in rules.items()
    ]


def _throttled() -> list[Strange]:
    rules = {
        "fixed-window": (windows(LIMIT, SECONDS, on_grid=True), WINDOW),
        "sliding-window": (counter(LIMIT, SECONDS, on_grid=True), SLIDING),
        "token-bucket": (bucket(LIMIT, RATE), SLIDING),
        "leaking-bucket": (bucket(LIMIT, RATE), SLIDING),
        "gcra": (bucket(LIMIT, RATE), SLIDING),
    }
    return [
        Strange(
            what=f"throttled-py, {algorithm}",
            server=Pypi(("throttled-py", "fastapi", "uvicorn"), "throttled", f"throttled-{algorithm}", LIMIT, SECONDS),
            shortest=shortest,
            target=target,
        )
        for algorithm, (shortest, target) in rules.items()
    ]


def _windows_from_npm() -> list[Strange]:
    express = ("express", "express-rate-limit")
    servers = {f"express-rate-limit, {kind}": (express, f"express-{kind}") for kind in EXPRESS_HEADERS} | {
        "@fastify/rate-limit": (("fastify", "@fastify/rate-limit"), "fastify"),
        "koa-ratelimit": (("koa", "koa-ratelimit"), "koa"),
        "rate-limiter-flexible": (("express", "rate-limiter-flexible"), "flexible"),
    }
    return [
        Strange(
            what=what,
            server=Npm(packages, kind, LIMIT, SECONDS),
            shortest=windows(LIMIT, SECONDS),
            target=WINDOW,
        )
        for what, (packages, kind) in servers.items()
    ]


def _llmock() -> list[Strange]:
    def row(what: str, rpm: int, tpm: int | None = None) -> Strange:
        """Minutes are the only windows it knows."""
        tokens = () if tpm is None else ("--tpm", str(tpm))
        return Strange(
            what=f"llmock, {what}",
            server=Llmock(("--rpm", str(rpm), *tokens)),
            shortest=bucket(rpm, rpm / 60) if tpm is None else _tokens(tpm),
            target=SLIDING,
            tasks=2 * rpm if tpm is None else 2 * tpm // CHARGED,
            window=60,
            paced=("--limit", str(rpm if tpm is None else tpm // CHARGED), "--window", "60", "--in-flight", IN_FLIGHT),
        )

    return [row("60 RPM", 60), row("600 RPM", 600), row("60,000 TPM", 5_000, 60_000), row("300 RPM", 300)]


def _tokens(tpm: int) -> Shortest:
    return bucket(tpm // CHARGED, tpm / CHARGED / 60)


def _proxies() -> list[Strange]:
    zone = f"limit_req_zone $binary_remote_addr zone=z:1m rate={RATE}r/s"
    conn = nginx("limit_conn_zone $binary_remote_addr zone=z:1m", f"limit_conn z {PLACES}")
    return [
        _proxy("nginx limit_req, burst=60 nodelay", nginx(zone, "limit_req zone=z burst=60 nodelay"), 61),
        _proxy("nginx limit_req, burst=20", nginx(zone, "limit_req zone=z burst=20"), 1, at_once=20),
        _proxy("nginx limit_req, no burst", nginx(zone, "limit_req zone=z"), 1),
        Strange(
            what=f"nginx limit_conn {PLACES}",
            server=conn,
            shortest=places(PLACES),
            target=UNTOLD,
            tasks=LONGER,
            paced=("--in-flight", str(PLACES)),
        ),
        Strange(
            what="HAProxy stick-table, counts refused",
            server=haproxy(LIMIT, SECONDS),
            shortest=counter(LIMIT, SECONDS),
            target=UNTOLD,
            tasks=LONGER,
        ),
    ]


def _proxy(what: str, server: Foreign, capacity: int, *, at_once: int | None = None) -> Strange:
    """A leaky bucket of *capacity*; with a queue in it, more may be sent *at_once* than pass."""
    burst = at_once or capacity
    return Strange(
        what=what,
        server=server,
        shortest=bucket(capacity, RATE),
        target=UNTOLD,
        tasks=LONGER,
        paced=("--limit", str(burst), "--window", f"{burst / RATE:.4f}", "--in-flight", IN_FLIGHT),
    )
