"""Open a job file, or standard input, plain or gzip, and give its lines from any place reached before."""

import gzip
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from batchrunner.errors import JobFileError
from batchrunner.jobfile.lines import LINE_CAP, RawLine, split_lines

GZIP = b"\x1f\x8b"
BOM = b"\xef\xbb\xbf"
FOREIGN = {  # longest first: UTF-32's little-endian mark begins like UTF-16's
    b"\xff\xfe\x00\x00": "it is UTF-32; convert it: iconv -f UTF-32 -t UTF-8",
    b"\x00\x00\xfe\xff": "it is UTF-32; convert it: iconv -f UTF-32 -t UTF-8",
    b"\x28\xb5\x2f\xfd": "it is packed with zstd; unpack it: zstd -d",
    b"PK\x03\x04": "it is a ZIP archive or an Excel file; unpack it, or save it as CSV",
    b"PAR1": "it is a Parquet file; save it as CSV or JSON Lines",
    b"\xff\xfe": "it is UTF-16 (little-endian); convert it: iconv -f UTF-16 -t UTF-8",
    b"\xfe\xff": "it is UTF-16 (big-endian); convert it: iconv -f UTF-16 -t UTF-8",
}
HEAD = 4  # bytes that tell all of the above apart


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """A place between records: ``offset`` (decompressed) bytes, ``line`` lines and ``record`` records came before."""

    offset: int = 0
    line: int = 0
    record: int = 0


class Source:
    """An opened job file. It is read forward; only a plain file on disk can begin anywhere without reading up to it."""

    def __init__(self, path: str, *, stdin: BinaryIO | None = None, cap: int = LINE_CAP) -> None:
        self.path = path
        self._cap = cap
        self._file = self._open(stdin)
        self._mine = self._file is not stdin
        self._done = 0  # decompressed bytes read so far
        try:
            self._unpack()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; standard input is left as it is."""
        if self._mine:
            self._file.close()

    def peek(self) -> Iterator[RawLine]:
        """Lines from the beginning, at every call, to look at: those taken from here still come out of ``lines``."""
        yield from tuple(self._ahead)
        for each in self._lines:
            self._ahead.append(each)
            yield each

    def lines(self, start: Position) -> Iterator[RawLine]:
        """All lines from ``start`` on, blank ones too; call it once, after any peeking."""
        if start.offset and self._seekable:
            return self._jump(start)
        lines = chain(self._ahead, self._lines)
        return self._skip(lines, start.offset) if start.offset else lines

    def _open(self, stdin: BinaryIO | None) -> BinaryIO:
        if self.path == "-":
            if stdin is None:
                raise JobFileError("-", "there is no standard input to read")
            return stdin
        try:
            return Path(self.path).open("rb")
        except IsADirectoryError as error:
            raise JobFileError(self.path, "it is a directory; name one file in it") from error
        except FileNotFoundError as error:
            raise JobFileError(self.path, "there is no such file") from error
        except (OSError, ValueError) as error:
            raise JobFileError(self.path, f"can't be opened: {_words(error)}") from error

    def _unpack(self) -> None:
        """Look at the first bytes, and choose how to read on."""
        self._stream: BinaryIO | gzip.GzipFile | _Joined = self._file
        self._head = b""
        head = self._fill()
        packed = head.startswith(GZIP)
        if packed:
            self._stream = gzip.GzipFile(fileobj=_Joined(head, self._file), mode="rb")
            head = self._fill()
        for mark, reason in FOREIGN.items():
            if head.startswith(mark):
                raise JobFileError(self.path, reason)
        self._seekable = self._mine and not packed and self._file.seekable()
        bom = len(BOM) if head.startswith(BOM) else 0
        self._head = head[bom:]
        self._done = len(head)
        self._ahead: list[RawLine] = []
        self._lines = split_lines(self._read, offset=bom, cap=self._cap)

    def _fill(self) -> bytes:
        head = b""
        while len(head) < HEAD and (more := self._read(HEAD - len(head))):
            head += more
        return head

    def _read(self, size: int) -> bytes:
        if self._head:
            head, self._head = self._head, b""
            return head
        try:
            # read1, where there is one, gives what was unpacked before the damage is met
            block = self._stream.read1(size) if isinstance(self._stream, gzip.GzipFile) else self._stream.read(size)
        except EOFError as error:
            raise self._broken("the gzip data ends early, the file is truncated; fetch it again") from error
        except (OSError, zlib.error, ValueError) as error:
            raise self._broken(f"can't be read on: {_words(error)}") from error
        self._done += len(block)
        return block

    def _broken(self, reason: str) -> JobFileError:
        return JobFileError(self.path, reason, offset=self._done)

    def _jump(self, start: Position) -> Iterator[RawLine]:
        size = self._file.seek(0, 2)
        self._file.seek(start.offset - 1)
        before = self._file.read(1)
        if start.offset > size or (before != b"\n" and start.offset != size):
            raise self._moved(start.offset)
        self._head = b""
        self._done = start.offset
        return split_lines(self._read, offset=start.offset, line=start.line, cap=self._cap)

    def _skip(self, lines: Iterator[RawLine], offset: int) -> Iterator[RawLine]:
        reached = 0
        for each in lines:
            if reached < offset:
                reached = each[2]
                if reached > offset:
                    break
            else:
                yield each
        if reached != offset:
            raise self._moved(offset)

    def _moved(self, offset: int) -> JobFileError:
        return JobFileError(
            self.path, "no line begins here any more: the file has changed since it was loaded", offset=offset
        )


class _Joined:
    """Bytes already taken from a stream, then the stream: lets a pipe be looked at and still be read whole."""

    def __init__(self, head: bytes, rest: BinaryIO) -> None:
        self._head = head
        self._rest = rest

    def read(self, size: int) -> bytes:
        """All of ``size`` bytes, unless the end is met: gzip relies on it."""
        taken, self._head = self._head[:size], self._head[size:]
        while len(taken) < size and (more := self._rest.read(size - len(taken))):
            taken += more
        return taken

    def seek(self, _offset: int, /) -> int:
        raise OSError("a pipe can't be read again")


def _words(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
