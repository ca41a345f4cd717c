"""Writing result files: which tasks, in which form, to which file."""

from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from enum import StrEnum
from itertools import chain, islice
from os.path import realpath
from pathlib import PurePath
from typing import BinaryIO, Literal

from batchrunner.errors import ConfigError
from batchrunner.jobfile.flat import Sheet, columns_of, flat_line
from batchrunner.jobfile.openai import result_line
from batchrunner.jobfile.replacement import Replacement
from batchrunner.record import Output, Record
from batchrunner.task import TaskState

STDOUT = "-"
UNFINISHED = frozenset({TaskState.PENDING, TaskState.RUNNING})

_Line = Callable[[Record], bytes]


class Form(StrEnum):
    """How a result file is written."""

    OPENAI = "openai"
    CSV = "csv"
    TSV = "tsv"
    JSONL = "jsonl"  # flat


_SUFFIXES = {".jsonl": Form.OPENAI, ".ndjson": Form.OPENAI, ".csv": Form.CSV, ".tsv": Form.TSV}


def form_of(path: str, chosen: Literal["openai", "flat"] | None = None) -> Form:
    """The form that the file's suffix asks for, and --format where that leaves a choice. Raises ConfigError."""
    suffix = PurePath(path).suffix.lower()
    form = Form.OPENAI if path == STDOUT else _SUFFIXES.get(suffix)
    if form is None:
        known = ", ".join(_SUFFIXES)
        raise ConfigError(f"{path}: results can't be written as {suffix or 'a file without suffix'}; use {known}")
    if chosen == "flat" and form is Form.OPENAI:
        return Form.JSONL
    if chosen == "openai" and form is not Form.OPENAI:
        raise ConfigError(f"{path}: {suffix} is a table; --format openai needs a .jsonl file")
    return form


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """How lines look. ``columns``: the input's, for tables whose rows are not all alike; else the first row tells."""

    form: Form
    columns: Sequence[str] = ()
    prefix: str = ""
    extras: bool = False
    for_excel: bool = False

    def __post_init__(self) -> None:
        if self.extras and self.form is not Form.OPENAI:
            raise ConfigError("--extras belongs to the openai form; flat files have these columns anyway")
        if self.prefix and self.form is Form.OPENAI:
            raise ConfigError("--prefix belongs to flat files; add --format flat")
        if self.for_excel and self.form not in (Form.CSV, Form.TSV):
            raise ConfigError("--for-excel belongs to .csv and .tsv files")


def errors_path(path: str) -> str:
    """Where the failures of an openai export go: x.jsonl has x.errors.jsonl beside it."""
    return str(PurePath(path).with_suffix(".errors.jsonl"))


def write_results(
    records: Iterable[Record],
    path: str,
    layout: Layout,
    *,
    only: Collection[TaskState] | None = None,
    partial: bool = False,
    errors: str | None = None,
    force: bool = False,
    stdout: BinaryIO | None = None,
) -> tuple[Output, ...]:
    """Write *records* to *path* (``-`` = the stream *stdout*); returns the files written and their rows.

    In the openai form tasks without an answer go to *errors* (beside *path*, if not named; left out of ``-``), unless
    *only* asks for no others. Flat files hold them all; *errors* then gets them in the openai form as well. Tasks that
    are not finished are left out but with *partial*. Each file appears whole or not at all. Raises ConfigError.
    """
    split = _is_split(path, layout, only)
    errors = _errors_of(path, layout, only, errors)
    chosen = (record for record in records if _is_wanted(record, only, partial=partial))
    head, line, wanted = _begin(chosen, layout)
    with ExitStack() as stack:
        # the last one entered is put in place first: errors before results
        put = _stdout(stdout) if path == STDOUT else stack.enter_context(Replacement(path, force=force)).write
        failures = None if errors is None else stack.enter_context(Replacement(errors, force=force))
        put(head)
        rows = failed = 0
        for record in wanted:
            answered = record.state is TaskState.SUCCEEDED
            if answered or not split:
                put(line(record))
                rows += 1
            if failures is not None and not answered:
                failures.write(result_line(record, extras=layout.extras))
                failed += 1
        if failures is not None and not failed:
            failures.clear()
    written = [Output(path=path, rows=rows)]
    if errors is not None and failed:
        written.append(Output(path=errors, rows=failed))
    return tuple(written)


def files_of(
    path: str,
    layout: Layout,
    *,
    only: Collection[TaskState] | None = None,
    errors: str | None = None,
) -> tuple[str, ...]:
    """The files that ``write_results`` would write. Raises ConfigError if two of them are one."""
    named = (path, _errors_of(path, layout, only, errors))
    return tuple(file for file in named if file is not None and file != STDOUT)


def _is_split(path: str, layout: Layout, only: Collection[TaskState] | None) -> bool:
    """Whether answers and failures go different ways: not in tables, nor where failures are asked for by name."""
    asked = only is not None and (path == STDOUT or TaskState.SUCCEEDED not in only)
    return layout.form is Form.OPENAI and not asked


def _errors_of(path: str, layout: Layout, only: Collection[TaskState] | None, errors: str | None) -> str | None:
    """Where the failures go. Raises ConfigError if that is where the results go."""
    beside = _is_split(path, layout, only) and path != STDOUT and (only is None or set(only) - {TaskState.SUCCEEDED})
    file = errors_path(path) if errors is None and beside else errors
    if file is not None and realpath(file) == realpath(path):
        raise ConfigError(f"{path}: results and errors can't go to one file; name another with --errors")
    return file


def _is_wanted(record: Record, only: Collection[TaskState] | None, *, partial: bool) -> bool:
    if only is not None:
        return record.state in only
    return partial or record.state not in UNFINISHED


def _begin(records: Iterable[Record], layout: Layout) -> tuple[bytes, _Line, Iterable[Record]]:
    """What comes first in the file, how each line is made, and the records again."""
    match layout.form:
        case Form.OPENAI:
            return b"", lambda record: result_line(record, extras=layout.extras), records
        case Form.JSONL:
            return b"", lambda record: flat_line(record, prefix=layout.prefix), records
        case Form.CSV | Form.TSV:
            rest = iter(records)
            first = list(islice(rest, 1))
            sheet = Sheet(
                layout.columns or (columns_of(first[0]) if first else ()),
                prefix=layout.prefix,
                delimiter="," if layout.form is Form.CSV else "\t",
                for_excel=layout.for_excel,
            )
            return sheet.header(), sheet.row, chain(first, rest)


def _stdout(stream: BinaryIO | None) -> Callable[[bytes], object]:
    if stream is None:
        raise ConfigError("-o - needs a standard output to write to")
    return stream.write
