"""What the benchmarks share: job files, our command, the simulator and the references as processes, and the table.

Every program measured is a process of its own, so that none pays for another's memory or event loop. Rates are those
the simulator saw, from the first request that arrived to the last answer that left: starting up costs nobody anything.
"""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Protocol, Self
from urllib.request import urlopen

BATCHRUNNER = (sys.executable, "-m", "batchrunner")
FOLDER = Path(__file__).parent
FILLER = "It was a bright cold day in April, and the clocks were striking thirteen. " * 12
CALM = 0.5  # processors that others may keep busy while we measure
PATIENCE = 60.0  # seconds we wait for calm
BYTES_PER_MB = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Exit:
    """What a process came to. ``peak_mb``: its largest resident set; ``out``: what it printed."""

    seconds: float
    peak_mb: float
    out: str


COMPARED = ("ours", "reference", "ratio")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of a table. ``target`` says in words what ``met`` found; None = no target, for information."""

    what: str
    cells: tuple[str, ...]
    target: str = ""
    met: bool | None = None


class Server(Protocol):
    """What a client is sent to, and what is asked afterwards how it went."""

    @property
    def base_url(self) -> str: ...

    def score(self) -> dict[str, Any]:
        """What the client did there."""
        ...


class Simulator:
    """``batchrunner simulator`` in a process of its own, for as long as a ``with`` lasts."""

    def __init__(self, *options: str) -> None:
        self._options = options
        self.url = ""

    def __enter__(self) -> Self:
        command = (*BATCHRUNNER, "simulator", "--port", "0", *self._options)
        self._process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment())
        assert self._process.stderr is not None
        first = self._process.stderr.readline()
        found = re.search(r"http://[^/\s]+", first)
        if found is None:
            self._process.kill()
            sys.exit(f"the simulator did not start: {first}{self._process.stderr.read()}")
        self.url = found[0]
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()  # a bench in the background of a shell has SIGINT ignored, and so have its children
        self._process.communicate(timeout=30)

    @property
    def base_url(self) -> str:
        return f"{self.url}/v1"

    def score(self) -> dict[str, Any]:
        """The scoreboard; its instants are of the machine's monotonic clock, as ours are."""
        with urlopen(f"{self.url}/_score", timeout=60) as reply:  # noqa: S310  (it is our own, on this machine)
            return dict(json.load(reply))


def environment() -> dict[str, str]:
    """What a child sees: ours without any option, key or proxy of the user's; it imports what lies beside us."""
    unwanted = ("BATCHRUNNER_", "OPENAI_", "PYTHON")
    ours = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(unwanted) and not name.lower().endswith("_proxy")
    }
    return ours | {"PYTHONPATH": str(FOLDER.parent.parent)}


def start(*command: str | Path, folder: Path) -> "subprocess.Popen[str]":
    """Start a program whose output is kept in *folder*, so that a full pipe never holds it up."""
    with (folder / "out").open("w") as out, (folder / "err").open("w") as err:
        return subprocess.Popen(
            [str(part) for part in command], stdout=out, stderr=err, text=True, env=environment(), cwd=folder
        )


def finish(process: "subprocess.Popen[str]", started: float, *, folder: Path, within: float | None = None) -> Exit:
    """Wait for its end; a program that fails ends the benchmark, for its figures would mean nothing.

    One that is not done *within* so many seconds is killed, and what it did until then counts.
    """
    patience = threading.Timer(within or 0, os.kill, (process.pid, signal.SIGKILL))
    if within is not None:
        patience.start()
    _, status, usage = os.wait4(process.pid, 0)
    patience.cancel()
    seconds = time.monotonic() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    out, err = (folder / "out").read_text(), (folder / "err").read_text()
    if process.returncode and not (within is not None and process.returncode == -signal.SIGKILL):
        sys.exit(f"{process.args!r} ended with {process.returncode}:\n{err}")
    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, kilobytes elsewhere
    peak = usage.ru_maxrss * unit / BYTES_PER_MB
    return Exit(seconds=seconds, peak_mb=peak, out=out)


def call(*command: str | Path, within: float | None = None) -> Exit:
    """Run a program to its end, in an empty folder of its own."""
    with tempfile.TemporaryDirectory() as name:
        started = time.monotonic()
        return finish(start(*command, folder=Path(name)), started, folder=Path(name), within=within)


def ours(job: Path, simulator: Server, *options: str, within: float | None = None) -> dict[str, Any]:
    """Run *job* afresh with ``batchrunner run``, durably as always; returns the score."""
    with tempfile.TemporaryDirectory(dir=job.parent) as name:
        database = Path(name, "job.db")
        server = ("--base-url", simulator.base_url, "--no-learned")  # another one had the same port before, may be
        call(*BATCHRUNNER, "run", job, "--db", database, *server, "--exit-zero", *options, within=within)
    return simulator.score()


def reference(client: str, job: Path, simulator: Server, *options: str, within: float | None = None) -> dict[str, Any]:
    """Run *job* with one of clients.py; returns the score."""
    call(sys.executable, FOLDER / "clients.py", client, job, simulator.base_url, *options, within=within)
    return simulator.score()


def rate(score: dict[str, Any]) -> float:
    """Answers a second, from the first send to the last answer."""
    return float(score["answered"] / score["elapsed"])


def body(number: int, *, max_tokens: int = 64) -> dict[str, Any]:
    """A chat request of about 1 kB, different for each *number*."""
    return {
        "model": "sim-1",
        "messages": [{"role": "user", "content": f"{number}: {FILLER}"}],
        "max_tokens": max_tokens,
    }


def write_job(path: Path, count: int, *, max_tokens: int = 64) -> Path:
    """A job file of *count* lines of about 1 kB."""
    with path.open("w") as file:
        for number in range(count):
            line = {"custom_id": f"task-{number}", "method": "POST", "url": "/v1/chat/completions"}
            file.write(json.dumps(line | {"body": body(number, max_tokens=max_tokens)}) + "\n")
    return path


def bodies(path: Path) -> Iterator[bytes]:
    """The requests of a job file that ``write_job`` wrote, as they are sent."""
    with path.open() as file:
        for line in file:
            yield json.dumps(json.loads(line)["body"]).encode()


@contextmanager
def workspace() -> Iterator[Path]:
    """A folder for job files and databases, gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="batchrunner-bench-") as name:
        yield Path(name)


def calm() -> None:
    """Wait until others leave the processors alone, but not for ever."""
    deadline = time.monotonic() + PATIENCE
    while (load := _busy()) > CALM:
        if time.monotonic() > deadline:
            sys.stderr.write(f"measuring although other programs keep {load:.1f} processors busy\n")
            return


def _busy(seconds: float = 0.5) -> float:
    """How many processors are busy just now; 0 where the system does not say."""
    stat = Path("/proc/stat")
    if not stat.exists():
        return 0.0

    def spent() -> int:
        user, nice, system, *_ = (int(field) for field in stat.read_text().split(maxsplit=4)[1:4])
        return user + nice + system

    before = spent()
    time.sleep(seconds)
    return (spent() - before) / os.sysconf("SC_CLK_TCK") / seconds


def compare(rounds: int, a: Callable[[], float], b: Callable[[], float]) -> tuple[float, float, float]:
    """Measure two things in turn, A B A B; returns the median of each, and the median of a / b."""
    pairs = []
    for _ in range(rounds):
        calm()
        first = a()
        calm()
        pairs.append((first, b()))
    return median(x for x, _ in pairs), median(y for _, y in pairs), median(x / y for x, y in pairs)


def at_least(what: str, figures: tuple[float, float, float], target: float) -> Row:
    """The row of a comparison whose ratio should reach *target*."""
    mine, other, ratio = figures
    cells = (f"{mine:,.0f}", f"{other:,.0f}", f"{ratio:.2f}")
    return Row(what=what, cells=cells, target=f">= {target:g}", met=ratio >= target)


def report(title: str, heads: tuple[str, ...], rows: Sequence[Row]) -> int:
    """Print the table; returns the exit code: 1 if a target was missed."""
    verdicts = {True: "PASS", False: "MISSED", None: ""}
    table = [("", *heads, "target", "")]
    table += [(row.what, *row.cells, row.target, verdicts[row.met]) for row in rows]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    print(f"\n{title}")
    for what, *cells in table:
        padded = [cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=True)]
        print("  ".join([what.ljust(widths[0]), *padded]).rstrip())
    return 1 if any(row.met is False for row in rows) else 0
