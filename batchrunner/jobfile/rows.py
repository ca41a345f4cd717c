"""CSV and TSV: records of one or more lines, each with its place in the file."""

import csv
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from batchrunner.errors import JobFileError
from batchrunner.jobfile.lines import LINE_CAP, RawLine
from batchrunner.jobfile.prompts import decode
from batchrunner.jobfile.refusal import Refused
from batchrunner.jobfile.source import Position

RECORD_LINES = 10_000  # a quote that nobody closes must not swallow the file


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One record: its cells, or why it can't be used.

    ``line`` and ``offset`` are where it begins, ``last`` and ``end`` its last line and the first byte after it.
    """

    cells: list[str]
    refused: Refused | None
    line: int
    offset: int
    last: int
    end: int


def read_header(lines: Iterable[RawLine], delimiter: str, path: str) -> tuple[list[str], Position]:
    """The names of the columns, and where the first record begins. Raises JobFileError."""
    header = next(records(lines, delimiter), None)
    if header is None:
        raise JobFileError(path, "the file is empty")
    if header.refused is not None:
        raise JobFileError(path, f"the header can't be read: {header.refused}", line=header.line, offset=header.offset)
    twice = {name for name in header.cells if header.cells.count(name) > 1}
    if twice:
        raise JobFileError(path, f"two columns are called {min(twice)!r}; rename one", line=header.line)
    return header.cells, Position(offset=header.end, line=header.last)


def records(lines: Iterable[RawLine], delimiter: str) -> Iterator[Record]:
    """Every record that is not blank. One that can't be read costs its first line only: reading goes on at the next."""
    csv.field_size_limit(max(csv.field_size_limit(), LINE_CAP))  # a global of the module; its default is 128 KiB
    feed = _Feed(iter(lines))
    reader = csv.reader(feed, delimiter=delimiter, strict=True)
    while True:
        cells: list[str] = []
        refused: Refused | None = None
        feed.begin()
        try:
            cells = next(reader)
            refused = feed.unreadable
        except StopIteration:
            return
        except Refused as error:
            refused = error
            feed.give_back()
        except csv.Error as error:
            refused = Refused(_reason(error, delimiter))
            feed.give_back()
        number, offset, _, _ = feed.taken[0]
        last, _, end, _ = feed.taken[-1]
        if cells or refused:
            yield Record(cells=cells, refused=refused, line=number, offset=offset, last=last, end=end)


class _Feed:
    """Gives csv.reader its lines, and remembers those that went into the record being read."""

    def __init__(self, lines: Iterator[RawLine]) -> None:
        self._lines = lines
        self._again: deque[RawLine] = deque()
        self.begin()

    def begin(self) -> None:
        self.taken: list[RawLine] = []
        self.unreadable: Refused | None = None
        self._size = 0

    def give_back(self) -> None:
        """All lines taken but the first are to be read again, as the beginnings of other records."""
        self._again.extendleft(reversed(self.taken[1:]))
        del self.taken[1:]

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._again.popleft() if self._again else next(self._lines)
        self.taken.append(line)
        _, offset, end, raw = line
        self._size += end - offset
        if raw is None or self._size > LINE_CAP:
            raise Refused(f"longer than {LINE_CAP:,} bytes; shorten it, or look for a quote that is never closed")
        if len(self.taken) > RECORD_LINES:
            raise Refused(f"a quoted cell runs over {RECORD_LINES:,} lines; look for a quote that is never closed")
        try:
            return decode(raw) + "\n"
        except Refused as refused:
            # kept for the record as a whole: its quotes must still be followed to find its end
            self.unreadable = self.unreadable or refused
            return raw.replace(b"\0", b"?").decode(errors="replace") + "\n"


def _reason(error: csv.Error, delimiter: str) -> str:
    words = str(error)
    if "unexpected end" in words:
        return "a quoted cell is never closed; add the missing quote"
    if "expected after" in words:
        return f"not CSV: after a closing quote only {delimiter!r} may follow; double the quotes inside a cell"
    if "new-line character" in words:
        return "a bare carriage return ends a line; save the file with Unix or Windows line ends"
    return f"not CSV: {words}"
