"""What all jobs of this user learned of limits: one small JSON file, so that a new job's name does not start cold.

It holds beliefs, never keys: a key is known by a short one-way fingerprint. Who writes last wins, for its own endpoint,
key and model; what others wrote meanwhile stays, for one at a time adds to the file. One that can't be used is no
reason not to run; one that holds something else is left as it is.
"""

import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, fields
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

from batchrunner.record import Belief

FILE = "limits.json"
VERSION = 1
KEPT = 200  # the newest
PATIENCE = 2.0  # seconds to wait for another process that writes
PAUSE = 0.005
TEXTS = ("endpoint", "key_label", "model")

Warn = Callable[[str], None]


def _unheard(_: str) -> None:
    """For who does not listen to warnings."""


def learned_path(environ: Mapping[str, str]) -> Path:
    """``$XDG_STATE_HOME/batchrunner/limits.json``, by default under ``~/.local/state``."""
    home = Path(environ.get("HOME") or Path.home())
    return Path(environ.get("XDG_STATE_HOME") or home / ".local" / "state") / "batchrunner" / FILE


def read_learned(path: Path, *, warn: Warn = _unheard) -> list[Belief]:
    """All that was learned, newest first; empty where there is no such file, or one that can't be used."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return []
    except (OSError, ValueError, RecursionError) as error:
        warn(f"{path}: what was learned of limits can't be read ({_reason(error)}), so this starts without it")
        return []
    if not _is_ours(data):
        warn(f"{path}: holds something else, so it is neither read nor written; to learn for all jobs, remove it")
        return []
    return sorted(_beliefs(data["limits"]), key=lambda belief: -belief.at)


def find_learned(beliefs: Sequence[Belief], lane: tuple[str, str, str]) -> Belief | None:
    """What is believed of an endpoint, a key and a model."""
    return next((belief for belief in beliefs if (belief.endpoint, belief.key_label, belief.model) == lane), None)


def keep_learned(path: Path, *beliefs: Belief, warn: Warn = _unheard, patience: float = PATIENCE) -> None:
    """Add *beliefs*, or put them in the place of the last ones of their kind; nothing where nothing can be written."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _alone(path, patience):
            if _may_write(path):
                _add(path, beliefs)
    except OSError as error:
        warn(f"{path}: what was learned of limits can't be kept for other jobs ({_reason(error)})")


def _add(path: Path, beliefs: Sequence[Belief]) -> None:
    lanes = {(belief.endpoint, belief.key_label, belief.model) for belief in beliefs}
    others = [other for other in read_learned(path) if (other.endpoint, other.key_label, other.model) not in lanes]
    text = json.dumps({"v": VERSION, "limits": [asdict(each) for each in [*beliefs, *others][:KEPT]]}, indent=1)
    _write(path, text)


@contextmanager
def _alone(path: Path, patience: float) -> Iterator[None]:
    """Between reading and writing, no other process adds to the file.

    An advisory lock on a side file, as for a database. It is held for milliseconds; who has it for longer is stopped,
    or the file system knows no locks, and then a belief that is lost does less harm than a run that never ends.
    """
    file = os.open(path.with_name(path.name + ".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        until = time.monotonic() + patience
        while _is_taken(file) and time.monotonic() < until:
            time.sleep(PAUSE)
        yield
    finally:
        os.close(file)


def _is_taken(file: int) -> bool:
    """Whether another has the lock; else it is ours now, or there are no locks here."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _write(path: Path, text: str) -> None:
    """The whole new file or the whole old one, whatever happens; readable by its owner alone."""
    with NamedTemporaryFile("w", dir=path.parent, delete=False, encoding="utf-8") as beside:
        try:
            beside.write(text)
            beside.flush()
            os.fsync(beside.fileno())
            Path(beside.name).replace(path)
        except OSError:
            Path(beside.name).unlink(missing_ok=True)
            raise


def _may_write(path: Path) -> bool:
    """Not over what is someone else's, or a newer version's; what is no JSON was a broken one of ours."""
    try:
        return _is_ours(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, RecursionError):
        return True


def _is_ours(data: Any) -> bool:
    return isinstance(data, dict) and data.get("v") == VERSION and isinstance(data.get("limits"), list)


def _beliefs(entries: Sequence[Any]) -> Iterator[Belief]:
    """Those entries that are beliefs; one that is none does not cost the others."""
    names = {field.name for field in fields(Belief)}
    for entry in entries:
        if not isinstance(entry, dict) or entry.keys() != names:
            continue
        texts = all(isinstance(entry[name], str) for name in TEXTS)
        if texts and isinstance(entry["value"], dict) and isinstance(entry["at"], int | float):
            yield Belief(**entry)


def _reason(error: Exception) -> str:
    return (isinstance(error, OSError) and error.strerror) or "it is no JSON"
