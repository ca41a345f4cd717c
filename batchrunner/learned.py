"""What all jobs of this user learned of limits: one small JSON file, so that a new job's name does not start cold.

It holds beliefs, never keys: a key is known by a short one-way fingerprint. Who writes last wins, for its own endpoint,
key and model; a file that can't be read is no reason not to run.
"""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from tempfile import NamedTemporaryFile

from batchrunner.record import Belief

FILE = "limits.json"
KEPT = 200  # the newest


def learned_path(environ: Mapping[str, str]) -> Path:
    """``$XDG_STATE_HOME/batchrunner/limits.json``, by default under ``~/.local/state``."""
    home = Path(environ.get("HOME") or Path.home())
    return Path(environ.get("XDG_STATE_HOME") or home / ".local" / "state") / "batchrunner" / FILE


def read_learned(path: Path) -> list[Belief]:
    """All that was learned, newest first; empty where there is no such file, or one that makes no sense."""
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))["limits"]
        beliefs = [Belief(**entry) for entry in entries]
        return sorted(beliefs, key=lambda belief: -belief.at)
    except (OSError, ValueError, TypeError, KeyError):
        return []


def find_learned(beliefs: Sequence[Belief], lane: tuple[str, str, str]) -> Belief | None:
    """What is believed of an endpoint, a key and a model."""
    return next((belief for belief in beliefs if (belief.endpoint, belief.key_label, belief.model) == lane), None)


def keep_learned(path: Path, belief: Belief) -> None:
    """Add *belief*, or put it in the place of the last one of its kind. Does nothing where nothing can be written."""
    lane = (belief.endpoint, belief.key_label, belief.model)
    others = [other for other in read_learned(path) if (other.endpoint, other.key_label, other.model) != lane]
    text = json.dumps({"v": 1, "limits": [asdict(each) for each in [belief, *others][:KEPT]]}, indent=1)
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with NamedTemporaryFile("w", dir=path.parent, delete=False, encoding="utf-8") as beside:
            beside.write(text)
            beside.flush()
            os.fsync(beside.fileno())
        Path(beside.name).replace(path)
    except OSError:
        return
