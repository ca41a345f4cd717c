"""CSV and TSV: records of several lines, and what goes wrong in them."""

import csv
import gzip
import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jobfiles import read

from batchrunner.errors import JobFileError
from batchrunner.jobfile.options import ReadOptions
from batchrunner.jobfile.reader import Item, open_job
from batchrunner.task import RejectedLine, Request

OPTIONS = ReadOptions(model="m", prompt="{{ text }}")
CSV = ReadOptions(model="m", prompt="{{ text }}", input_format="rows")
CELLS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))


def write(folder: Path, text: str, name: str = "a.csv") -> Path:
    path = folder / name
    path.write_bytes(text.encode())
    return path


def content(item: Item) -> str:
    assert isinstance(item, Request), item
    return str(json.loads(item.body)["messages"][-1]["content"])


def reasons(items: list[Item]) -> list[tuple[int, str]]:
    return [(item.line, item.reason) for item in items if isinstance(item, RejectedLine)]


def test_record_of_several_lines_is_one_request(tmp_path: Path) -> None:
    """Its place is its first line; records are numbered by themselves, the header is none."""
    path = write(tmp_path, 'text,n\r\n"a ""b""\r\n\r\nc",1\r\n\r\nd,2')
    first, second = read(path, OPTIONS)
    assert [content(first), content(second)] == ['a "b"\r\n\r\nc', "d"]
    assert [(item.line, item.offset) for item in (first, second)] == [(2, 8), (6, 28)]
    assert isinstance(first, Request)
    assert isinstance(second, Request)
    assert (first.custom_id, second.custom_id) == ("row-000001", "row-000002")
    assert first.row == '{"text":"a \\"b\\"\\r\\n\\r\\nc","n":"1"}'


def test_id_comes_from_the_column_named_or_from_the_usual_ones(tmp_path: Path) -> None:
    """An empty cell is no id."""
    path = write(tmp_path, "text,id,key\na,x,k1\nb,,k2\n")
    assert [item.custom_id for item in read(path, OPTIONS) if isinstance(item, Request)] == ["x", "row-000002"]
    by_key = ReadOptions(model="m", prompt="{{ text }}", id_column="key")
    assert [item.custom_id for item in read(path, by_key) if isinstance(item, Request)] == ["k1", "k2"]
    with pytest.raises(JobFileError, match='no column "nosuch" for the ids; columns are text, id, key'):
        read(path, ReadOptions(model="m", prompt="{{ text }}", id_column="nosuch"))


def test_tab_separated_and_packed_files_are_known_by_name(tmp_path: Path) -> None:
    """Commas are text there."""
    (item,) = read(write(tmp_path, "text\tn\na,b\t1\n", "a.tsv"), OPTIONS)
    assert content(item) == "a,b"
    packed = tmp_path / "b.csv.gz"
    packed.write_bytes(gzip.compress(b"text,n\na,1\n"))
    assert content(*read(packed, OPTIONS)) == "a"


def test_cell_may_be_larger_than_the_csv_module_likes(tmp_path: Path) -> None:
    """Its default is 128 KiB."""
    (item,) = read(write(tmp_path, f"text\n{'x' * 300_000}\n"), OPTIONS)
    assert len(content(item)) == 300_000


REASONS = [
    ("a,1,2\n", [(2, "3 cells, but the header names 2 columns")]),
    ("a\n", [(2, "1 cells, but the header names 2 columns")]),
    ('"a"b,1\n', [(2, "not CSV: after a closing quote only ',' may follow; double the quotes inside a cell")]),
    ("a\rb,1\n", [(2, "a bare carriage return ends a line; save the file with Unix or Windows line ends")]),
    ("a\0,1\n", [(2, "a NUL byte is in it; if the file is UTF-16, convert it: iconv -f UTF-16 -t UTF-8")]),
]


@pytest.mark.parametrize(("text", "expected"), REASONS)
def test_bad_record_is_rejected_and_the_next_one_read(
    tmp_path: Path, text: str, expected: list[tuple[int, str]]
) -> None:
    """With the reason in words."""
    items = read(write(tmp_path, f"text,n\n{text}good,1\n"), OPTIONS)
    assert reasons(items) == expected
    assert content(items[-1]) == "good"


def test_quote_that_is_never_closed_costs_one_line_and_not_the_file(tmp_path: Path) -> None:
    """Reading goes on at the line after it."""
    items = read(write(tmp_path, 'text,n\na,1\n"b,2\nc,3\nd,4\n'), OPTIONS)
    assert reasons(items) == [(3, "a quoted cell is never closed; add the missing quote")]
    assert [content(item) for item in items if isinstance(item, Request)] == ["a", "c", "d"]


def test_open_quote_is_followed_over_ten_thousand_lines_at_most(tmp_path: Path) -> None:
    """It must not take the memory of the rest of the file."""
    items = read(write(tmp_path, 'text,n\n"b,2\n' + "c,3\n" * 10_001), OPTIONS)
    assert reasons(items) == [(2, "a quoted cell runs over 10,000 lines; look for a quote that is never closed")]
    assert len(items) == 10_002


def test_bytes_that_are_not_text_spoil_their_whole_record_only(tmp_path: Path) -> None:
    """The quotes around them are still followed."""
    path = tmp_path / "a.csv"
    path.write_bytes(b'text,n\n"a\n\xff\nb",1\nc,2\n')
    items = read(path, OPTIONS)
    assert reasons(items) == [(2, "not UTF-8 at byte 1 of the line; save the file as UTF-8")]
    assert [content(item) for item in items if isinstance(item, Request)] == ["c"]


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_reading_goes_on_after_any_record(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    """With the header read again, and the numbering going on; bad records and records of several lines included."""
    path = tmp_path / "a.csv"
    path.write_bytes(pack(b'\xef\xbb\xbftext,n\n"a\nb",1\n\n"bad,2\nc,3\nd\n"e\n\ne",4'))
    with open_job(str(path), OPTIONS) as reader:
        tails = [(item, reader.position) for item in reader]
    items = [item for item, _ in tails]
    assert [item.line for item in items] == [2, 5, 6, 7, 8]
    for taken, (_, position) in enumerate(tails, 1):
        with open_job(str(path), OPTIONS, start=position) as reader:
            assert list(reader) == items[taken:]
        with open_job("-", CSV, stdin=io.BytesIO(path.read_bytes()), start=position) as reader:
            assert list(reader) == items[taken:]


@settings(deadline=None)
@given(st.lists(st.tuples(CELLS, CELLS), min_size=1), st.sampled_from(["\n", "\r\n"]), st.sampled_from([",", "\t"]))
def test_cells_come_back_as_they_were(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]], newline: str, delimiter: str
) -> None:
    """Whatever is in them: quotes, newlines, delimiters, any script."""
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, delimiter=delimiter, lineterminator=newline, quoting=csv.QUOTE_ALL)
    writer.writerows([("a", "b"), *rows])
    name = "a.csv" if delimiter == "," else "a.tsv"
    path = write(tmp_path_factory.mktemp("csv"), buffer.getvalue(), name)
    with open_job(str(path), ReadOptions(model="m", prompt="p")) as reader:
        found = [json.loads(item.row or "") for item in reader if isinstance(item, Request)]
        assert reader.position.offset == path.stat().st_size
    assert found == [{"a": a, "b": b} for a, b in rows]
