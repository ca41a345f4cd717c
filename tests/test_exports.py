"""The public names are pinned: adding or losing one is a decision."""

import subprocess
import sys
from pathlib import Path

import batchrunner


def test_the_public_names() -> None:
    """Sorted, complete, and each one there."""
    assert batchrunner.__all__ == [
        "BatchRunnerError",
        "ConfigError",
        "Counts",
        "DatabaseBusy",
        "Error",
        "ExitCode",
        "Interrupted",
        "Job",
        "JobFileError",
        "Plan",
        "Result",
        "Simulator",
        "SomeFailed",
        "Stopped",
        "StoreError",
        "TaskState",
        "Usage",
        "__version__",
        "plan",
        "run",
        "run_async",
    ]
    for name in batchrunner.__all__:
        assert getattr(batchrunner, name) is not None


def test_no_module_hides_a_public_name() -> None:
    """``br.plan`` would be the module, once somebody imports ``batchrunner/plan.py``."""
    folder = Path(batchrunner.__file__).parent
    hidden = [name for name in batchrunner.__all__ if (folder / name).exists() or (folder / f"{name}.py").exists()]
    assert not hidden


def test_importing_the_package_imports_nothing_heavy() -> None:
    """The command line starts with it, so it must cost nothing."""
    code = "import batchrunner, sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"sqlalchemy", "aiohttp", "httpx", "rich", "click"} & set(done.stdout.split())
