"""Tests once more, against the built wheel: what would be installed is what was tested.

First the wheel alone (alone.py), then the tests that depend on what is in it: commands, data files, migrations, what
can be imported, whole runs. For these it is unpacked into a folder of its own, which comes before the tree; its
dependencies are those it was tested with.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import alone

ROOT = Path(__file__).parents[1]
PYTEST = Path(sys.executable).with_name("pytest")  # not python -m pytest, which would import from the tree
WHERE = "import batchrunner; print(batchrunner.__file__)"
NAMES = [
    "commands",
    "demo",
    "exports",
    "jobs",
    "layers",
    "library",
    "migrations",
    "provider",
    "resume",
    "settings",
    "simulator_voices",
    "streaming",
]
TESTS = [f"tests/test_{name}.py" for name in NAMES]


def run(*command: str | Path) -> None:
    """Run a command, and stop with its exit code if it fails."""
    done = subprocess.run([str(part) for part in command], cwd=ROOT, check=False)
    if done.returncode:
        sys.exit(done.returncode)


def main() -> None:
    """Build, unpack, test."""
    with tempfile.TemporaryDirectory() as folder:
        dist, home = Path(folder, "dist"), Path(folder, "home")
        run(sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", dist)
        (wheel,) = dist.glob("*.whl")
        pip = (sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
        run(*pip, "--no-deps", "--target", home, wheel)
        if lacks := alone.missing(home):
            sys.exit(f"the wheel lacks {', '.join(lacks)}")
        site, empty = Path(folder, "site"), Path(folder, "empty")
        empty.mkdir()
        alone.lay_out(home, site)
        alone.try_out(site, empty)
        os.environ["PYTHONPATH"] = str(home)
        found = subprocess.check_output([sys.executable, "-P", "-c", WHERE], cwd=ROOT, text=True)
        assert Path(found).is_relative_to(home), f"not the wheel is tested, but {found}"
        run(PYTEST, "-q", *sys.argv[1:], *TESTS)


if __name__ == "__main__":
    main()
