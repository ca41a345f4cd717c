"""A file that takes its place only when it is whole: written beside it, synced, renamed. Never half a file.

Only our own earlier exports are replaced; anything else needs force.
"""

import os
import tempfile
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from batchrunner.errors import ConfigError
from batchrunner.jobfile.flat import STATUS
from batchrunner.jobfile.openai import ID_START

HEAD = 1 << 20  # bytes of a first line that are looked at
BUFFER = 1 << 20


class Replacement:
    """A context manager around ``stream``. Leaving it well puts the file in place, leaving it by an error drops it.

    Raises ConfigError where the place can't be taken, before anything is written, and where the disk refuses.
    """

    def __init__(self, path: str, *, force: bool = False) -> None:
        self.name = path
        self._path = Path(os.path.realpath(path))  # a symbolic link stays one
        check_place(path, force=force)
        self.stream: BinaryIO
        self._beside: Path

    def __enter__(self) -> Self:
        try:
            # mkstemp's mode is 0600, whatever the umask: answers may be private
            descriptor, beside = tempfile.mkstemp(dir=self._path.parent, prefix=f".{self._path.name}.", suffix=".tmp")
        except OSError as error:
            raise _refusal(self.name, error) from error
        self._beside = Path(beside)
        self.stream = open(descriptor, "wb", buffering=BUFFER)  # noqa: PTH123  (a descriptor, closed in __exit__)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self._put_in_place()
            else:
                self.drop()
        except OSError as failure:
            self.drop()
            raise _refusal(self.name, failure) from failure

    def write(self, line: bytes) -> None:
        try:
            self.stream.write(line)
        except OSError as error:
            raise _refusal(self.name, error) from error

    def drop(self) -> None:
        """Leave the place as it is."""
        with suppress(OSError):  # a full disk refuses the last buffer; the file goes anyway
            self.stream.close()
        self._beside.unlink(missing_ok=True)

    def clear(self) -> None:
        """There is nothing to write: an earlier export of ours must not stay and mislead."""
        self.drop()
        if not self._path.exists() or not is_ours(self._path):
            return
        self._path.unlink()
        _sync_folder(self._path.parent)

    def _put_in_place(self) -> None:
        if self.stream.closed:
            return
        self.stream.flush()
        os.fsync(self.stream.fileno())
        self.stream.close()
        self._beside.replace(self._path)
        _sync_folder(self._path.parent)


def is_ours(path: Path) -> bool:
    """Is this file an export of ours, by its first line? An empty one is, too: nothing is lost with it."""
    with path.open("rb") as stream:
        head = stream.readline(HEAD)
    return not head or head.startswith(f'{{"id":"{ID_START}'.encode()) or STATUS.encode() in head


def check_place(name: str, *, force: bool) -> None:
    """Raises ConfigError where a file called *name* can't be put in place, or must not be."""
    path = Path(os.path.realpath(name))
    if not path.parent.is_dir():
        raise ConfigError(f"{name}: there is no folder {path.parent}; make it first")
    if not path.exists():
        return
    if not path.is_file():
        raise ConfigError(f"{name}: not a regular file; use -o - for standard output")
    try:
        ours = is_ours(path)
    except OSError as error:
        raise _refusal(name, error) from error
    if not ours and not force:
        raise ConfigError(f"{name}: exists and is no export of ours; name another file, or replace it with --force")


def _refusal(name: str, error: OSError) -> ConfigError:
    return ConfigError(
        f"{name}: can't be written ({error.strerror or error}); the answers are safe in the database, "
        "'batchrunner results' writes them again"
    )


def _sync_folder(folder: Path) -> None:
    """A rename survives a power cut only once its folder is synced."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
