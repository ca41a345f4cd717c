"""A bug of ours: one sentence on the screen, and the whole story in a file that only its owner can read."""

import os
import platform
import re
import sys
import tempfile
import traceback
from collections.abc import Mapping
from pathlib import Path

from batchrunner import __version__

SECRET_NAMES = re.compile(r"KEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIAL", re.IGNORECASE)
SHORTEST = 6  # characters; what is shorter is no key, and may be part of any word
# keys as providers make them ("sk-…", Zhipu's "id.secret"), what follows Bearer, and passwords in URLs
SECRETS = re.compile(r"\bsk-[\w-]{6,}|\b[0-9a-f]{32}\.\w{8,}|(?<=Bearer )\S+|(?<=://)[^/@\s]+(?=@)")


def report(error: BaseException, environ: Mapping[str, str]) -> Path:
    """Write what happened, without the values of variables or any secret, and return where."""
    story = "".join(traceback.format_exception(error))
    handle, name = tempfile.mkstemp(prefix="batchrunner-crash-", suffix=".txt")  # mode 0600
    with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as file:
        file.write(f"batchrunner {__version__}, Python {platform.python_version()}, {platform.platform()}\n")
        file.write(f"{' '.join(Path(part).name for part in sys.argv[:2])}\n\n")
        file.write(scrub(story, environ))
    return Path(name)


def scrub(text: str, environ: Mapping[str, str]) -> str:
    """*text* without what looks like a key, or stands in a variable that is called so."""
    for name, value in environ.items():
        if SECRET_NAMES.search(name) and len(value) >= SHORTEST:
            text = text.replace(value, "***")
    return SECRETS.sub("***", text)
