"""Flat result files: the input's columns as they came, and ours after them; CSV, TSV or JSON lines.

Every task has its row, failed ones with an empty answer, so that the file keeps the input's length and joins by order.
"""

import csv
import json
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import msgspec

from batchrunner.answer import answer_text
from batchrunner.errors import ConfigError
from batchrunner.jobfile.strictjson import join, members, quote, text_of
from batchrunner.money import BILLION
from batchrunner.record import Record

STATUS = "br_status"  # also what tells our own files from others
OURS = (
    "answer",
    STATUS,
    "br_error",
    "br_error_message",
    "br_finish",
    "br_attempts",
    "br_tokens_in",
    "br_tokens_out",
    "br_tokens_cached",
    "br_tokens_reasoning",
    "br_cost",
    "br_currency",
    "br_latency_s",
    "br_model",
    "br_request_id",
    "br_at",
    "br_simulated",
)
_CRLF = "\r\n"
BOM = "\N{ZERO WIDTH NO-BREAK SPACE}"

_Cell = str | int | float | bool | None
# what a spreadsheet would run: OWASP's list, and the full-width forms that some of them take for the same
_FORMULA = re.compile(r"[=+\-@\t\r＝＋－＠]")
_NUMBER = re.compile(r"[+-]?\d+([.,]\d+)?")


class _Echo:
    """csv's writer gives back what its file's ``write`` returns: so the row comes out as text."""

    def write(self, text: str) -> str:
        return text


class Sheet:
    """A CSV or TSV file as text: a header, then a row a task.

    *columns* are the input's; without any there is ``custom_id``. Raises ConfigError where one of them is named as
    ours, or where a row has a column that the header has not.
    """

    def __init__(
        self, columns: Sequence[str] = (), *, prefix: str = "", delimiter: str = ",", for_excel: bool = False
    ) -> None:
        self._columns = tuple(columns)
        self._prefix = prefix
        self._for_excel = for_excel
        self._is_tsv = delimiter == "\t"
        # csv quotes a lone \r only where it is part of the line's end, so that must be CRLF here
        self._writer = csv.writer(_Echo(), delimiter=delimiter, lineterminator=_CRLF)

    def header(self) -> bytes:
        _check_clash(self._columns, self._prefix)
        names = [*(self._columns or ("custom_id",)), *(self._prefix + name for name in OURS)]
        return (BOM if self._for_excel else "").encode() + self._row(names)

    def row(self, record: Record) -> bytes:
        cells = self._input(record) + ["" if value is None else _plain(value) for value in _ours(record)]
        return self._row(cells)

    def _input(self, record: Record) -> list[str]:
        given = {} if record.row is None else {name: _cell(raw) for name, raw in _members(record.row).items()}
        cells = [given.pop(name, "") for name in self._columns] or [record.custom_id]
        if given:
            raise ConfigError(
                f"task {record.custom_id}: its row has a column {next(iter(given))!r} that the rows before it had not; "
                "a table needs the same columns in each row. Write .jsonl with --format flat instead"
            )
        return cells

    def _row(self, cells: Sequence[str]) -> bytes:
        guarded = [_guarded(cell) for cell in cells] if self._for_excel else cells
        text: str = self._writer.writerow(guarded)  # what _Echo returns
        if self._is_tsv:  # RFC 4180 has CRLF for CSV; TSV is read by tools that split at \n
            text = text.removesuffix(_CRLF) + "\n"
        return text.encode("utf-8", "replace")


def flat_line(record: Record, *, prefix: str = "") -> bytes:
    """One task as a JSON line: the input row's members as they stood, then ours."""
    row = {"custom_id": quote(record.custom_id)}
    if record.row is not None:
        row = {name: text_of(raw) for name, raw in _members(record.row).items()}
        _check_clash(row, prefix)
    row |= {prefix + name: quote(value) for name, value in zip(OURS, _ours(record), strict=True)}
    return join(row).encode() + b"\n"


def columns_of(record: Record) -> tuple[str, ...]:
    """The columns of the task's input row; none where its line was the request itself."""
    return () if record.row is None else tuple(_members(record.row))


def _check_clash(columns: Sequence[str] | Mapping[str, str], prefix: str) -> None:
    if clash := next((name for name in OURS if prefix + name in columns), None):
        raise ConfigError(
            f"the input has a column {prefix + clash!r} already, and so has the result; "
            f"name ours otherwise with --prefix {prefix}llm_"
        )


def _ours(record: Record) -> tuple[_Cell, ...]:
    """The values of OURS, in its order."""
    answer, attempt = record.answer, record.attempt
    usage = attempt.usage if attempt else None
    latency = attempt.latency if attempt else None
    finished_at = answer.received_at if answer else attempt.finished_at if attempt else None
    return (
        answer_text(answer.body) if answer else "",
        record.state.value,
        record.error_class,
        attempt.message if attempt and record.error_class else None,
        answer.finish_reason if answer else None,
        record.attempts,
        usage.prompt_tokens if usage else None,
        usage.completion_tokens if usage else None,
        usage.cached_tokens if usage else None,
        usage.reasoning_tokens if usage else None,
        None if record.cost is None else record.cost / BILLION,
        record.currency,
        None if latency is None else round(latency, 3),
        record.model,
        attempt.request_id if attempt else None,
        None if finished_at is None else datetime.fromtimestamp(finished_at, UTC).isoformat(timespec="seconds"),
        answer.simulated if answer else False,
    )


def _members(row: str) -> Mapping[str, msgspec.Raw | bytes]:
    return members(row.encode())


def _cell(raw: msgspec.Raw | bytes) -> str:
    """A member's text as a cell: strings without quotes, null as nothing, all else as it stands in JSON."""
    text = text_of(raw)
    if text.startswith('"'):
        return str(json.loads(text))
    return "" if text == "null" else text


def _plain(value: str | float) -> str:
    return quote(value) if isinstance(value, bool) else str(value)


def _guarded(cell: str) -> str:
    return f"'{cell}" if _FORMULA.match(cell) and not _NUMBER.fullmatch(cell) else cell
