"""Run a file of LLM requests as fast as the rate limits allow, and never pay twice for an answer."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from batchrunner.errors import BatchRunnerError, ConfigError, DatabaseBusy, JobFileError, StoreError
    from batchrunner.exits import ExitCode
    from batchrunner.library import Error, Interrupted, Job, Plan, Result, SomeFailed, Stopped, plan, run, run_async
    from batchrunner.simulator.server import Simulator
    from batchrunner.task import Counts, TaskState, Usage

__version__ = "0.1.0"

_HOMES = {
    "errors": ("BatchRunnerError", "ConfigError", "DatabaseBusy", "JobFileError", "StoreError"),
    "exits": ("ExitCode",),
    "library": ("Error", "Interrupted", "Job", "Plan", "Result", "SomeFailed", "Stopped", "plan", "run", "run_async"),
    "simulator.server": ("Simulator",),
    "task": ("Counts", "TaskState", "Usage"),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
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


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for, so that the command line starts without the rest."""
    if name not in _HOME:
        raise AttributeError(f"module 'batchrunner' has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f"batchrunner.{_HOME[name]}"), name)
    globals()[name] = value
    return value
