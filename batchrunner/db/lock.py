"""One owner for a database: an advisory lock on a side file, which the kernel frees the moment its holder dies.

``flock`` on ``<database>.lock``, never on the database itself: SQLite keeps its own locks there. Unlike a lease it
survives a stopped process and needs no heartbeat.
"""

import fcntl
import json
import os
import socket
from pathlib import Path
from typing import Self

from batchrunner.errors import DatabaseBusy, StoreError


class OwnerLock:
    """Held from construction to ``release``.

    Raises DatabaseBusy, naming the holder, if another process has it; StoreError if it can't be locked at all.
    """

    def __init__(self, database: Path, *, started_at: str) -> None:
        path = _beside(database)
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StoreError(f"{path}: can't be made: {error.strerror}. Name another place with --db") from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.read(self._file, 4096)
            os.close(self._file)
            raise DatabaseBusy(f"{database}: {_name(holder)} is running this job; wait for it or stop it") from error
        except OSError as error:
            os.close(self._file)
            raise StoreError(f"{path}: can't be locked ({error.strerror}); put the database on a local disk") from error
        os.ftruncate(self._file, 0)
        os.write(self._file, json.dumps(_holder(started_at)).encode())

    def release(self) -> None:
        """Let go. The file stays: removing it would let two others each lock a different file of the same name."""
        os.ftruncate(self._file, 0)
        os.close(self._file)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def _beside(database: Path) -> Path:
    """The lock's file, one and the same under whatever name the database is reached."""
    real = database.resolve()
    return real.with_name(real.name + ".lock")


def _holder(started_at: str) -> dict[str, object]:
    return {"pid": os.getpid(), "host": socket.gethostname(), "since": started_at}


def _name(holder: bytes) -> str:
    try:
        seen = json.loads(holder)
        return f"process {seen['pid']} on {seen['host']} (since {seen['since']})"
    except (ValueError, KeyError, TypeError):
        return "another process"


def is_owned(database: Path) -> bool:
    """Whether a runner holds *database* just now."""
    try:
        file = os.open(_beside(database), os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    else:
        return False
    finally:
        os.close(file)
