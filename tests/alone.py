"""What a user installs and nothing else: a wheel's files, and the packages it asks for, without the tree.

The packages are those of this environment, so nothing is downloaded. What is found here and nowhere else is a file
that the wheel lacks, and a package that is used but not asked for.
"""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PathDistribution, distribution
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
PLACES = {"batchrunner": "batchrunner", "migrations": "batchrunner/migrations", "jobs": "batchrunner/jobs"}
COMMAND = (sys.executable, "-S", "-P", "-m", "batchrunner")  # with neither this environment nor the folder it is in


def missing(home: Path) -> list[str]:
    """The tree's files that are not in the wheel unpacked in *home*."""
    ours = {
        Path(place, file.relative_to(ROOT / folder))
        for folder, place in PLACES.items()
        for file in (ROOT / folder).rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }
    return sorted(str(file) for file in ours if not (home / file).is_file())


def asked_for(home: Path) -> set[str]:
    """The packages that the wheel unpacked in *home* asks for, and those that they ask for."""
    (wheel,) = home.glob("*.dist-info")
    found = set[str]()
    left = [*(PathDistribution(wheel).requires or ())]
    while left:
        requirement = Requirement(left.pop())
        is_meant = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        if is_meant and requirement.name not in found:
            found.add(requirement.name)
            left += distribution(requirement.name).requires or ()
    return found


def lay_out(home: Path, site: Path) -> None:
    """Fill the folder *site* with links to the wheel in *home* and to the packages it asks for."""
    site.mkdir()
    entries = [*home.iterdir(), *(entry for name in asked_for(home) for entry in _entries(name))]
    for entry in dict.fromkeys(entries):
        (site / entry.name).symlink_to(entry)


def try_out(site: Path, folder: Path) -> None:
    """Run commands from an empty *folder*, with *site* to import from; one that fails ends the program."""
    environ = {"PATH": os.environ["PATH"], "HOME": str(folder), "PYTHONPATH": str(site)}

    def run(*arguments: str) -> None:
        done = subprocess.run((*COMMAND, *arguments), cwd=folder, env=environ, capture_output=True, check=False)
        if done.returncode:
            sys.exit(f"batchrunner {' '.join(arguments)}: {done.returncode}\n{done.stderr.decode()}")

    job = str(site / "batchrunner" / "jobs" / "reviews-zh.jsonl")
    run("--help")
    run("demo", "--job", job)
    run("providers")
    run("plan", job, "--provider", "zhipu")
    with _simulator(environ, folder) as base_url:
        run("run", job, "--db", "job.db", "--base-url", base_url)
    for look in ("status", "limits", "results"):
        run(look, "job.db")


def _entries(name: str) -> Iterator[Path]:
    """The files and folders that a package has at the top."""
    package = distribution(name)
    for top in {file.parts[0] for file in package.files or ()} - {"..", "__pycache__"}:
        yield Path(str(package.locate_file(top)))


@contextmanager
def _simulator(environ: dict[str, str], folder: Path) -> Iterator[str]:
    """A provider's voice, from the wheel's data, at a base URL."""
    command = (*COMMAND, "simulator", "--as", "groq", "--port", "0")
    with subprocess.Popen(command, cwd=folder, env=environ, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        said = process.stderr.readline()
        found = re.search(r"http://\S+", said)
        if found is None:
            sys.exit(f"batchrunner simulator: {said}{process.stderr.read()}")
        try:
            yield found[0]
        finally:
            process.terminate()
