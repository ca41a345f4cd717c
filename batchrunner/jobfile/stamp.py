"""Tell in constant time whether a job file is still the one that was loaded."""

import os
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from stat import S_ISREG
from typing import BinaryIO

from batchrunner.errors import JobFileError

SAMPLE = 64 * 2**10


@dataclass(frozen=True, slots=True, kw_only=True)
class Stamp:
    """What a file looked like from outside, plus a hash of its first and last 64 KiB.

    Equal stamps: the same file, unless someone took care to deceive. If only the times or the inode differ, it was
    touched or copied; ``size`` and ``sample`` say whether that matters.
    """

    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int
    sample: bytes


def stamp(path: str) -> Stamp | None:
    """The file's stamp; None for what can't be read twice (``-``, a pipe). Raises JobFileError."""
    if path == "-":
        return None
    try:
        with Path(path).open("rb") as stream:
            status = os.fstat(stream.fileno())
            if not S_ISREG(status.st_mode):
                return None
            return Stamp(
                size=status.st_size,
                mtime_ns=status.st_mtime_ns,
                ctime_ns=status.st_ctime_ns,
                inode=status.st_ino,
                sample=_sample(stream, status.st_size),
            )
    except OSError as error:
        raise JobFileError(path, f"can't be read: {error.strerror}") from error


def _sample(stream: BinaryIO, size: int) -> bytes:
    digest = blake2b(stream.read(SAMPLE), digest_size=16)
    stream.seek(max(0, size - SAMPLE))
    digest.update(stream.read(SAMPLE))
    return digest.digest()
