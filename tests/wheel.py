"""Tests once more, against the built wheel in a new virtual environment: what is installed is what was tested.

Those that depend on what is in the wheel: commands, data files, migrations, what can be imported, whole runs.
"""

import os
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).parents[1]
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


def run(*command: str | Path, **environment: str) -> None:
    """Run a command, and stop with its exit code if it fails."""
    done = subprocess.run([str(part) for part in command], cwd=ROOT, env={**os.environ, **environment}, check=False)
    if done.returncode:
        sys.exit(done.returncode)


def main() -> None:
    """Build, install beside the locked dependencies, test."""
    with tempfile.TemporaryDirectory() as folder:
        dist, home = Path(folder, "dist"), Path(folder, "venv")
        run(sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", dist)
        (wheel,) = dist.glob("*.whl")
        venv.create(home, with_pip=True)
        pip = (home / "bin" / "pip", "install", "--quiet", "--disable-pip-version-check")
        run(*pip, "--requirement", ROOT / "requirements.lock")
        run(*pip, "--no-deps", wheel)
        run(home / "bin" / "pytest", "-q", "-p", "no:cacheprovider", *(sys.argv[1:] or TESTS), BATCHRUNNER_WHEEL="1")


if __name__ == "__main__":
    main()
