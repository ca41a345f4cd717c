"""batchrunner from Python: plan a job, run it, and read what a database holds.

    import batchrunner as br

    job = br.run("reviews.jsonl", provider="zhipu", model="glm-4.5-air")
    for result in job.failed():
        print(result.custom_id, result.error)

A task that fails never raises. What can't start raises ConfigError, JobFileError or StoreError; a run that stops
before its end raises Stopped or Interrupted, whose ``job`` holds what is there. Nothing is printed, and ``.env`` is
not read.
"""

import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypedDict, Unpack

import anyio
from anyio import from_thread, to_thread

from batchrunner.config import (
    ATTEMPTS,
    CANARY,
    CONCURRENCY,
    GRACE,
    TIMEOUT,
    Endpoint,
    LimitSettings,
    RetrySettings,
    Route,
    RunSettings,
)
from batchrunner.credentials import KeySource, resolve_endpoint
from batchrunner.errors import BatchRunnerError, ConfigError
from batchrunner.exits import ExitCode
from batchrunner.job import Error, Job, Result
from batchrunner.jobfile.options import ReadOptions
from batchrunner.learned import learned_path
from batchrunner.logbook import Standing
from batchrunner.money import parse_money
from batchrunner.planmaker import make_plan
from batchrunner.plans import Plan
from batchrunner.prices import read_prices
from batchrunner.routes import lanes_of, resolve_routes
from batchrunner.runner import Ended, Runner, RunOptions
from batchrunner.spending import ALERT, SpendSettings
from batchrunner.tokenizer import measure_of

Rows = Iterable[Mapping[str, Any]]


class Options(TypedDict, total=False):
    """What ``run`` and ``plan`` may be told; the names and defaults of ``batchrunner run``.

    Rows need ``db``, the database that remembers them, and ``prompt``, made from each; a job file has its own database
    beside it. ``key`` is looked for in the provider's environment variables where it is not given. ``lanes``: several
    places to send to, a file or a list of its tables or of words like ``openai:KEY_2``. ``tokenizer``: the model's
    tokenizer.json, to count prompts by. ``limit``: only the first N tasks. ``canary``: so many of them go alone.
    ``learned``: start from what all your jobs learned of the limits, and add to it. ``changed``: what becomes of lines
    that were edited or removed since they were loaded. ``budget``: the most the job may cost, such as "5 CNY";
    ``alert``: the share of it at which you are told. ``prices``: your own, by model, as in batchrunner.toml.
    ``on_progress`` is told where the run stands, four times a second.
    """

    db: str | Path | None
    provider: str | None
    base_url: str | None
    key: str | None
    lanes: str | Path | Sequence[str | Mapping[str, Any]] | None
    model: str | None
    prompt: str | None
    system: str | None
    params: Mapping[str, Any]
    id_column: str | None
    rpm: float | None
    tpm: float | None
    concurrency: int | None
    tokenizer: str | Path | None
    timeout: float
    attempts: int
    limit: int | None
    stream: bool
    canary: int
    wait: bool
    grace: float
    learned: bool
    on_bad_line: Literal["stop", "skip"]
    changed: Literal["redo", "keep", "stop"]
    in_flight: Literal["retry", "hold"]
    check: bool
    budget: str | float | None
    alert: float
    unpriced_ok: bool
    prices: Mapping[str, Mapping[str, Any]]
    on_progress: Callable[[Standing], None] | None


_DEFAULTS: dict[str, Any] = {
    **dict.fromkeys(
        ("db", "provider", "base_url", "key", "lanes", "model", "prompt", "system", "id_column", "on_progress")
    ),
    **dict.fromkeys(("rpm", "tpm", "concurrency", "tokenizer", "limit")),
    "params": {},
    "timeout": TIMEOUT,
    "attempts": ATTEMPTS,
    "canary": CANARY,
    "wait": True,
    "grace": GRACE,
    "learned": True,
    "on_bad_line": "stop",
    "changed": "stop",
    "in_flight": "retry",
    "stream": False,
    "check": False,
    "budget": None,
    "alert": ALERT,
    "unpriced_ok": False,
    "prices": {},
}


class Stopped(BatchRunnerError):  # noqa: N818  (what happened, not what is wrong)
    """The run stopped before its end, because no task could succeed. ``job`` holds what is there."""

    def __init__(self, message: str, job: Job, exit_code: ExitCode) -> None:
        super().__init__(message)
        self.job = job
        self.exit_code = exit_code


class Interrupted(Stopped):
    """A signal stopped the run; running again goes on."""


class SomeFailed(Stopped):
    """The run came to its end and some tasks failed; raised only with ``check=True``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Call:
    options: RunOptions
    changed: Literal["redo", "keep", "stop"]
    check: bool
    on_progress: Callable[[Standing], None] | None

    def runner(self) -> Runner:
        return Runner(self.options, decide=lambda _: self.changed, on_standing=self.on_progress)

    def finish(self, ended: Ended) -> Job:
        job = Job(self.options.database)
        code = ended.exit_code
        if ended.stop is not None:
            raise Stopped(ended.stop.message, job, code)
        if code in (ExitCode.INTERRUPTED, ExitCode.TERMINATED):
            raise Interrupted(f"stopped by a signal: {job!r}; run it again to go on", job, code)
        if self.check and code is ExitCode.SOME_FAILED:
            raise SomeFailed(repr(job), job, code)
        return job


def run(job: str | Path | Rows, **options: Unpack[Options]) -> Job:
    """Run a job to its end, or go on with it, and return it: ``run_async`` for where no event loop is.

    Works in a notebook too: where a loop is running already, the run has one of its own in another thread.
    """
    call = _call(job, options)
    if _loop_is_running():
        with from_thread.start_blocking_portal() as portal:
            return portal.call(_run, call)
    with call.runner() as runner:
        runner.prepare()
        return call.finish(runner.run())


async def run_async(job: str | Path | Rows, **options: Unpack[Options]) -> Job:
    """Run *job*, a job file or rows (mappings), inside a running event loop (asyncio). See ``Options``.

    Raises what the module's docstring says; SomeFailed only with ``check``.
    """
    return await _run(_call(job, options))


async def _run(call: _Call) -> Job:
    with call.runner() as runner:
        await to_thread.run_sync(runner.prepare)
        return call.finish(await runner.drive())


def plan(job: str | Path | Rows, **options: Unpack[Options]) -> Plan:
    """What ``run`` would do with the same options, and nothing is sent: requests, tokens, cost, time. Needs no key."""
    asked = _asked("plan", options)
    return make_plan(_told(asked, job, keys=False), keep=asked["changed"] == "keep")


def _call(job: str | Path | Rows, options: Options) -> _Call:
    asked = _asked("run", options)
    told = _told(asked, job, keys=True)
    return _Call(options=told, changed=asked["changed"], check=asked["check"], on_progress=asked["on_progress"])


def _asked(name: str, options: Options) -> Mapping[str, Any]:
    """With the defaults. Raises TypeError for a name that is none, as any call does."""
    unknown = options.keys() - _DEFAULTS.keys()
    if unknown:
        raise TypeError(f"{name}() got an unexpected keyword argument {min(unknown)!r}")
    return {**_DEFAULTS, **options}


def _told(asked: Mapping[str, Any], job: str | Path | Rows, *, keys: bool) -> RunOptions:
    """The options as values; without *keys* where nothing is to be sent. Raises ConfigError."""
    database = _database(job, asked["db"])
    path = str(job) if isinstance(job, str | Path) else _store_rows(job, database)
    limits = LimitSettings(
        rpm=asked["rpm"],
        tpm=asked["tpm"],
        concurrency=asked["concurrency"] or CONCURRENCY,
        stated_concurrency=asked["concurrency"] is not None,
    )
    lanes = _lanes(asked, limits, keys=keys)
    return RunOptions(
        job=path,
        database=database,
        endpoint=lanes[0].endpoint if lanes else _endpoint(asked, keys=keys),
        lanes=lanes,
        read=ReadOptions(
            model=asked["model"],
            prompt=asked["prompt"],
            system=asked["system"],
            id_column=asked["id_column"],
            params=tuple(asked["params"].items()),
        ),
        limits=limits,
        retry=RetrySettings(attempts=asked["attempts"]),
        run=RunSettings(
            timeout=asked["timeout"],
            grace=asked["grace"],
            in_flight=asked["in_flight"],
            max_tasks=asked["limit"],
            learned=asked["learned"],
            stream=asked["stream"],
            canary=asked["canary"],
            waits=asked["wait"],
        ),
        on_bad_line=asked["on_bad_line"],
        learned=learned_path(os.environ) if asked["learned"] else None,
        spend=SpendSettings(
            budget=None if asked["budget"] is None else parse_money(str(asked["budget"])),
            alert=asked["alert"],
            unpriced_ok=asked["unpriced_ok"],
            prices=read_prices(asked["prices"], "prices"),
        ),
        measure=measure_of(asked["tokenizer"]),
    )


def _lanes(asked: Mapping[str, Any], limits: LimitSettings, *, keys: bool) -> tuple[Route, ...]:
    if asked["lanes"] is None:
        return ()
    if any(asked[name] is not None for name in ("provider", "base_url", "key")):
        raise ConfigError("provider, base_url and key say where to send, and so do the lanes; keep one of them")
    return resolve_routes(lanes_of(asked["lanes"]), limits, os.environ, keys=keys)


def _endpoint(asked: Mapping[str, Any], *, keys: bool) -> Endpoint:
    environ = dict(os.environ) if asked["key"] is None else {"key": asked["key"]}
    source = KeySource(variable=None if asked["key"] is None else "key") if keys else None
    return resolve_endpoint(provider=asked["provider"], base_url=asked["base_url"], source=source, environ=environ)


def _database(job: str | Path | Rows, db: str | Path | None) -> Path:
    if db is not None:
        return Path(db)
    if not isinstance(job, str | Path):
        raise ConfigError('rows need a database that remembers them: run(rows, db="reviews.db", prompt=…)')
    path = Path(job)
    while path.suffix == ".gz":
        path = path.with_suffix("")
    return path.with_suffix(".db")


def _store_rows(rows: Rows, database: Path) -> str:
    """Rows as a job file beside the database, so that they are streamed, compared and resumed like any other."""
    path = database.with_suffix(".rows.jsonl")
    with path.open("w", encoding="utf-8") as stream:
        for row in rows:
            stream.write(json.dumps(dict(row), ensure_ascii=False) + "\n")
    return str(path)


def _loop_is_running() -> bool:
    try:
        anyio.get_current_task()
    except (RuntimeError, anyio.NoEventLoopError):
        return False
    return True


__all__ = ["Error", "Interrupted", "Job", "Plan", "Result", "SomeFailed", "Stopped", "plan", "run", "run_async"]
