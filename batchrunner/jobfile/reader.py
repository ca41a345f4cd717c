"""Read a job file: every line becomes a Request or a RejectedLine, in order; reading can go on after any of them."""

from collections.abc import Callable, Iterator
from itertools import islice
from types import TracebackType
from typing import BinaryIO, Self

from batchrunner.errors import ConfigError, JobFileError
from batchrunner.jobfile.batch import BareBodies, BatchLines
from batchrunner.jobfile.lines import LINE_CAP
from batchrunner.jobfile.options import ReadOptions
from batchrunner.jobfile.prompts import ID_COLUMNS, PromptLines, Rows, TextLines
from batchrunner.jobfile.refusal import Refused
from batchrunner.jobfile.rows import Record, read_header, records
from batchrunner.jobfile.shapes import Shape, delimiter, detect
from batchrunner.jobfile.source import Position, Source
from batchrunner.jobfile.strictjson import parse_object, quote
from batchrunner.task import RejectedLine, Request

GLANCE = 1000  # lines looked at to find out what the file is
START = Position()
TOO_LONG = f"longer than {LINE_CAP:,} bytes; shorten it or split it"

Item = Request | RejectedLine


def open_job(path: str, options: ReadOptions, *, stdin: BinaryIO | None = None, start: Position = START) -> "JobReader":
    """Open a job file to read it from ``start``, a ``position`` of an earlier reader of the same file and options.

    ``path`` may be ``-``, for which ``stdin`` is read. Packed files and pipes are read through up to ``start``.
    Raises JobFileError for a file that can't be used, ConfigError for options that do not fit it.
    """
    source = Source(path, stdin=stdin)
    try:
        return JobReader(source, options, start=start)
    except BaseException:
        source.close()
        raise


class JobReader:
    """Iterates over the requests and rejected lines of a job file, once. Raises JobFileError if reading breaks off.

    ``shape`` is what its lines are, ``columns`` the names of its columns, empty if it has none.
    """

    def __init__(self, source: Source, options: ReadOptions, *, start: Position = START) -> None:
        self._source = source
        self._start = start
        self._offset, self._line, self._record = start.offset, start.line, start.record
        self._id_column = options.id_column
        self.columns: list[str] = []
        first = next(_glance(source), None)
        if first is None:
            raise JobFileError(source.path, "the file is empty")
        self.shape = detect(
            _glance(source), source.path, input_format=options.input_format, has_prompt=options.has_prompt
        )
        _check_fit(options, self.shape)
        self._delimiter = delimiter(source.path, first) if self.shape is Shape.ROWS else None
        self._items = self._begin(first, options)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def __iter__(self) -> Iterator[Item]:
        return self._items

    @property
    def position(self) -> Position:
        """Just after the item given last."""
        return Position(offset=self._offset, line=self._line, record=self._record)

    def close(self) -> None:
        self._source.close()

    def describe(self) -> str:
        """What the file is, in words: ``CSV rows, columns: id, text; ids from "id"``."""
        if self.shape is not Shape.ROWS:
            return self.shape.describe()
        container = {",": "CSV", "\t": "TSV"}.get(self._delimiter or "", "JSON")
        names = self._id_column or next((name for name in ID_COLUMNS if name in self.columns), None)
        ids = "numbered" if names is None else f"from {quote(names)}"
        return f"{container} {self.shape.describe()}, columns: {', '.join(self.columns)}; ids {ids}"

    def _begin(self, first: bytes, options: ReadOptions) -> Iterator[Item]:
        if self.shape is not Shape.ROWS:
            return self._each_line(_maker(self.shape, options))
        if self._delimiter is None:
            self.columns = _keys(first)
            return self._each_line(Rows(options, path=self._source.path, columns=self.columns))
        self.columns, body = read_header(self._source.peek(), self._delimiter, self._source.path)
        if self._id_column is not None and self._id_column not in self.columns:
            raise JobFileError(
                self._source.path,
                f"no column {quote(self._id_column)} for the ids; columns are {', '.join(self.columns)}",
            )
        make = Rows(options, path=self._source.path, columns=self.columns)
        return self._each_record(make, self._start if self._start.offset else body)

    def _each_line(self, make: Callable[[bytes, int, int], Request]) -> Iterator[Item]:
        item: Item
        for number, offset, end, raw in self._source.lines(self._start):
            if raw is None:
                item = RejectedLine(line=number, offset=offset, reason=TOO_LONG)
            elif not raw or raw.isspace():
                continue
            else:
                try:
                    item = make(raw, number, offset)
                except Refused as refused:
                    item = RejectedLine(line=number, offset=offset, reason=str(refused))
            self._offset = end
            self._line = number
            self._record += 1
            yield item

    def _each_record(self, make: Rows, start: Position) -> Iterator[Item]:
        assert self._delimiter is not None
        for record in records(self._source.lines(start), self._delimiter):
            self._offset = record.end
            self._line = record.last
            self._record += 1
            try:
                yield self._fill(make, record)
            except Refused as refused:
                yield RejectedLine(line=record.line, offset=record.offset, reason=str(refused))

    def _fill(self, make: Rows, record: Record) -> Request:
        if record.refused is not None:
            raise record.refused
        if len(record.cells) != len(self.columns):
            raise Refused(f"{len(record.cells)} cells, but the header names {len(self.columns)} columns")
        columns = dict(zip(self.columns, record.cells, strict=True))
        return make.make(columns, quote(columns), number=self._record, line=record.line, offset=record.offset)


def _glance(source: Source) -> Iterator[bytes]:
    """The first lines that have something in them, as far as one should look."""
    for _, _, end, raw in islice(source.peek(), GLANCE):
        if raw is None or (raw and not raw.isspace()):
            yield raw or b""
        if end > LINE_CAP:
            return


def _maker(shape: Shape, options: ReadOptions) -> Callable[[bytes, int, int], Request]:
    match shape:
        case Shape.BATCH:
            return BatchLines(options)
        case Shape.BODY:
            return BareBodies(options)
        case Shape.PROMPT:
            return PromptLines(options)
        case _:
            return TextLines(options)


def _check_fit(options: ReadOptions, shape: Shape) -> None:
    """Raise ConfigError for an option that would have no effect on such lines."""
    if options.has_prompt and shape not in {Shape.ROWS, Shape.LINES}:
        raise ConfigError(f"--prompt/--template do not go with {shape.describe()}; use --input-format rows")
    if options.system is not None and shape in {Shape.BATCH, Shape.BODY}:
        raise ConfigError(f"--system does not go with {shape.describe()}: they bring their own messages")
    if options.id_column is not None and shape is not Shape.ROWS:
        raise ConfigError(f"--id-column does not go with {shape.describe()}: they have no columns")


def _keys(raw: bytes) -> list[str]:
    try:
        return list(parse_object(raw))
    except Refused:
        return []
