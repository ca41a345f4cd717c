"""Rate limiters that nobody here wrote: how much of them is used and how often overrun, beside two other clients.

    .venv/bin/python tests/bench/strangers.py [--row PATTERN] [--ours] [--shelf FOLDER]

The rows are those of strange_cases.py: limiters of web frameworks from PyPI and npm, llmock, nginx and HAProxy, each in
its own process, as its documentation shows it, and with nothing said to our command. What is not installed has a row
that says how to get it. A referee between client and server counts; efficiency is the shortest possible time by that
limiter's own rule over the time a client took. "late" are the refusals among what was sent after the first window; a
task given up is "lost", and of ours none may be.
"""

import argparse
import json
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from bench import FOLDER, Row, Simulator, calm, environment, ours, reference, report, workspace, write_job
from cases import IN_FLIGHT
from foreign import LATENCY, Start
from strange_cases import Strange, cases

PATIENCE = 180.0  # seconds for one client
STARTING = 30.0  # seconds that a server may take to listen
HEADS = ("client", "seconds", "efficiency", "429s", "late", "lost")
SHELF = Path(tempfile.gettempdir()) / "batchrunner-strangers"


@dataclass(frozen=True, slots=True)
class Watched:
    """A foreign server behind its referee."""

    url: str

    @property
    def base_url(self) -> str:
        return f"{self.url}/v1"

    def score(self) -> dict[str, Any]:
        """What the referee counted."""
        with urlopen(f"{self.url}/_score", timeout=60) as reply:  # noqa: S310  (it is our own, on this machine)
            return dict(json.load(reply))


@contextmanager
def watched(case: Strange, shelf: Path, folder: Path) -> Iterator[Watched]:
    """The server of *case*, for as long as a ``with`` lasts."""
    with Simulator("--latency", str(LATENCY), "--dialect", "none") as upstream:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        start = Start(shelf=shelf, port=port, upstream=upstream.url.removeprefix("http://"), folder=folder)
        variables = environment() | case.server.environment(start)
        with _running(*case.server.command(start), env=variables) as server:
            _wait_until_it_listens(server, port)
            command = (sys.executable, str(FOLDER / "referee.py"), f"http://127.0.0.1:{port}", str(case.window))
            with _running(*command, env=environment()) as referee:
                assert referee.stderr is not None
                yield Watched(referee.stderr.readline().strip())


@contextmanager
def _running(*command: str, env: dict[str, str]) -> Iterator["subprocess.Popen[str]"]:
    process = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.terminate()
        process.communicate(timeout=30)


def _wait_until_it_listens(server: "subprocess.Popen[str]", port: int) -> None:
    deadline = time.monotonic() + STARTING
    while server.poll() is None and time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    server.kill()
    raise RuntimeError(f"did not start: {server.communicate()[1].strip()}")


def measure(case: Strange, shelf: Path, folder: Path, *, alone: bool) -> list[Row]:
    """A row for each client, ours first."""
    if missing := case.server.missing(shelf):
        return [Row(what=case.what, cells=("-",) * len(HEADS), target=f"not installed: {missing}")]
    folder.mkdir()
    job = write_job(folder / "job.jsonl", case.tasks)
    sdk = ("--in-flight", IN_FLIGHT, "--retries", "2")
    clients: Mapping[str, Callable[[Watched], dict[str, Any]]] = {
        "batchrunner": lambda server: ours(job, server, within=PATIENCE),
        "fixed rate, told": lambda server: reference("bare", job, server, *case.paced, within=PATIENCE),
        "openai package": lambda server: reference("sdk", job, server, *sdk, within=PATIENCE),
    }
    names = list(clients)[: 1 if alone else None]

    def score(name: str) -> dict[str, Any]:
        place = folder / str(names.index(name))  # no spaces, which some configurations do not take
        place.mkdir()
        with watched(case, shelf, place) as server:
            return clients[name](server)

    try:
        with ThreadPoolExecutor(len(names)) as pool:
            scores = list(pool.map(score, names))
    except RuntimeError as error:
        return [Row(what=case.what, cells=("-",) * len(HEADS), target=str(error), met=False)]
    sys.stderr.write(".")
    sys.stderr.flush()
    mine, *others = (_row(case, name, score) for name, score in zip(names, scores, strict=True))
    return [_judged(case, mine, scores[0]), *others]


def _row(case: Strange, name: str, score: dict[str, Any]) -> Row:
    cells = (
        name,
        f"{score['elapsed'] or 0:.1f}",
        f"{_efficiency(case, score):.3f}",
        f"{_refused(score):.2%}",
        f"{_late(score):.2%}",
        f"{case.tasks - score['answered']:,}",
    )
    return Row(what="", cells=cells)


def _efficiency(case: Strange, score: dict[str, Any]) -> float:
    return float(case.shortest(score["answered"], score) / score["elapsed"]) if score["answered"] else 0.0


def _refused(score: dict[str, Any]) -> float:
    return float(sum(score["refusals"].values()) / max(1, score["sends"]))


def _late(score: dict[str, Any]) -> float:
    return float(score["late_refusals"] / max(1, score["late_sends"]))


def _judged(case: Strange, row: Row, score: dict[str, Any]) -> Row:
    """Ours has a target."""
    target = case.target
    assert target.efficiency is not None
    refused = _late(score) if target.late else _refused(score)
    used = _efficiency(case, score) >= target.efficiency
    met = used and refused <= target.refused and score["answered"] == case.tasks
    return Row(what=case.what, cells=row.cells, target=str(target), met=met)


def main() -> int:
    """Measure all, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--row", metavar="PATTERN", default="", help="only rows that match this regular expression")
    parser.add_argument("--ours", action="store_true", help="without the other two clients")
    parser.add_argument("--at-once", type=int, default=2, metavar="N", help="rows measured at the same moment [2]")
    parser.add_argument(
        "--shelf", type=Path, default=SHELF, metavar="FOLDER", help="what pip and npm installed for this [%(default)s]"
    )
    options = parser.parse_args()
    chosen = [case for case in cases() if re.search(options.row, case.what, re.IGNORECASE)]
    if not chosen:
        parser.error(f"no row matches {options.row!r}")
    shelf = options.shelf.absolute()
    calm()
    started = time.monotonic()
    with workspace() as folder, ThreadPoolExecutor(options.at_once) as pool:
        rows = pool.map(
            lambda numbered: measure(numbered[1], shelf, folder / str(numbered[0]), alone=options.ours),
            enumerate(chosen),
        )
        table = [row for group in rows for row in group]
    return report(f"Strangers: {len(chosen)} rows in {time.monotonic() - started:.0f} s", HEADS, table)


if __name__ == "__main__":
    sys.exit(main())
