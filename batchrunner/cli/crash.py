"""A bug of ours: one sentence on the screen, and the whole story in a file that only its owner can read."""

import os
import platform
import sys
import tempfile
import traceback
from pathlib import Path

from batchrunner import __version__


def report(error: BaseException) -> Path:
    """Write what happened, without any values of variables, and return where."""
    handle, name = tempfile.mkstemp(prefix="batchrunner-crash-", suffix=".txt")  # mode 0600
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(f"batchrunner {__version__}, Python {platform.python_version()}, {platform.platform()}\n")
        file.write(f"{' '.join(Path(part).name for part in sys.argv[:2])}\n\n")
        file.writelines(traceback.format_exception(error))
    return Path(name)
