"""Opening a job file and cutting it into lines."""

import gzip
import io
import os
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jobfiles import batch_line, read

from batchrunner.errors import JobFileError
from batchrunner.jobfile.lines import RawLine, split_lines
from batchrunner.jobfile.options import ReadOptions
from batchrunner.jobfile.reader import Item, open_job
from batchrunner.jobfile.source import Position, Source
from batchrunner.jobfile.stamp import stamp


def in_pieces(pieces: list[bytes]) -> Callable[[int], bytes]:
    """A ``read`` that gives these pieces, as a slow pipe would, and never more than was asked for."""
    left = [piece for piece in pieces if piece]

    def read(size: int) -> bytes:
        if not left:
            return b""
        block, rest = left[0][:size], left[0][size:]
        left[:1] = [rest] if rest else []
        return block

    return read


@given(st.lists(st.binary(max_size=8) | st.sampled_from([b"\n", b"a\nb", b"\r\n"])), st.integers(1, 9))
def test_lines_are_what_split_gives_however_the_bytes_come(pieces: list[bytes], cap: int) -> None:
    """Blocks may end anywhere; numbers and offsets are right, lines over the cap are None."""
    data = b"".join(pieces)
    expected: list[RawLine] = []
    at = 0
    for number, raw in enumerate(data.split(b"\n"), 1):
        end = min(at + len(raw) + 1, len(data))
        if at < len(data):
            expected.append((number, at, end, raw if len(raw) <= cap else None))
        at = end
    assert list(split_lines(in_pieces(pieces), cap=cap)) == expected


def test_long_line_is_skipped_without_being_kept() -> None:
    """A line of 100 MiB costs no memory, and the next one is found."""
    sizes = iter([2**20] * 100)

    def stream(_size: int) -> bytes:
        size = next(sizes, None)
        return b"x" * size if size else next(end, b"")

    end = iter([b"\nnext"])
    tracemalloc.start()
    first, second = split_lines(stream, cap=2**21)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    length = 100 * 2**20
    assert (first, second) == ((1, 0, length + 1, None), (2, length + 1, length + 5, b"next"))
    assert peak < 8 * 2**20


def test_line_separators_of_unicode_are_data(tmp_path: Path) -> None:
    """Only a newline byte ends a line."""
    path = tmp_path / "a.txt"
    path.write_bytes("a\u2028b\u2029c\u0085d\n".encode())
    assert len(read(path, ReadOptions(model="m"))) == 1


def test_byte_order_mark_is_dropped_and_counted(tmp_path: Path) -> None:
    """The first line begins behind it."""
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + batch_line())
    (only,) = read(path)
    assert (only.line, only.offset) == (1, 3)


def test_windows_line_ends_and_blank_lines_change_nothing_but_numbers(tmp_path: Path) -> None:
    """Blank lines are counted, not read."""
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"\r\n" + batch_line() + b"\r\n \t\r\n" + batch_line(custom_id="b") + b"\r\n")
    assert [item.line for item in read(path)] == [2, 4]


REFUSED_FILES = {
    b"": "the file is empty",
    b"\n \r\n\t\n": "the file is empty",
    b"\xff\xfea\0": "it is UTF-16 (little-endian); convert it: iconv -f UTF-16 -t UTF-8",
    b"\xfe\xff\0a": "it is UTF-16 (big-endian); convert it: iconv -f UTF-16 -t UTF-8",
    b"\xff\xfe\0\0a\0\0\0": "it is UTF-32; convert it: iconv -f UTF-32 -t UTF-8",
    b"\0\0\xfe\xff\0\0\0a": "it is UTF-32; convert it: iconv -f UTF-32 -t UTF-8",
    b"PK\x03\x04abc": "it is a ZIP archive or an Excel file; unpack it, or save it as CSV",
    b"PAR1abc": "it is a Parquet file; save it as CSV or JSON Lines",
    b"\x28\xb5\x2f\xfdabc": "it is packed with zstd; unpack it: zstd -d",
}


@pytest.mark.parametrize("data", REFUSED_FILES)
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_file_that_is_no_job_file_is_refused_with_a_way_out(
    tmp_path: Path, data: bytes, pack: Callable[[bytes], bytes]
) -> None:
    """The same under gzip."""
    path = tmp_path / "a.jsonl"
    path.write_bytes(pack(data))
    with pytest.raises(JobFileError) as caught:
        read(path)
    assert caught.value.reason == REFUSED_FILES[data]


def test_directory_and_missing_file_are_told_apart(tmp_path: Path) -> None:
    """Both name the path."""
    with pytest.raises(JobFileError, match="it is a directory"):
        read(tmp_path)
    with pytest.raises(JobFileError, match=r"nowhere\.jsonl: there is no such file"):
        read(tmp_path / "nowhere.jsonl")
    with pytest.raises(JobFileError, match="can't be opened"):
        read(Path("a\0b"))
    with pytest.raises(JobFileError, match="no standard input"):
        open_job("-", ReadOptions())


def test_gzip_is_known_by_its_bytes_and_may_have_several_members(tmp_path: Path) -> None:
    """The name says nothing; offsets are those of the unpacked bytes."""
    plain, packed = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    lines = [batch_line(custom_id=f"a-{number}") + b"\n" for number in range(500)]
    plain.write_bytes(b"".join(lines))
    packed.write_bytes(gzip.compress(b"".join(lines[:200])) + gzip.compress(b"".join(lines[200:])))
    assert read(packed) == read(plain)


def test_truncated_gzip_breaks_off_with_the_offset_reached(tmp_path: Path) -> None:
    """What was whole is read before, so nothing is lost silently."""
    path = tmp_path / "a.jsonl.gz"
    data = b"".join(batch_line(custom_id=os.urandom(20).hex()) + b"\n" for _ in range(5000))
    path.write_bytes(gzip.compress(data)[:-1000])
    items: list[Item] = []
    with open_job(str(path), ReadOptions()) as reader:
        with pytest.raises(JobFileError, match="the gzip data ends early") as caught:
            items.extend(reader)
        end = reader.position.offset
    assert [item.line for item in items] == list(range(1, len(items) + 1))
    assert caught.value.offset is not None
    assert len(data) > caught.value.offset >= end > len(data) * 0.8


def test_garbage_after_gzip_is_told(tmp_path: Path) -> None:
    """It is not taken for the end."""
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(gzip.compress(batch_line() + b"\n") + b"garbage, not a member")
    with pytest.raises(JobFileError, match="can't be read on"):
        read(path)


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_standard_input_reads_like_a_file(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    """Plain and packed, and it is left open."""
    data = batch_line() + b"\n" + batch_line(custom_id="b")
    path = tmp_path / "a.jsonl"
    path.write_bytes(data)
    stdin = io.BytesIO(pack(data))
    with open_job("-", ReadOptions(), stdin=stdin) as reader:
        assert list(reader) == read(path)
    assert not stdin.closed


def test_pipe_that_gives_one_byte_at_a_time_is_recognised(tmp_path: Path) -> None:
    """Magic bytes may come in pieces; a named pipe reads like standard input."""
    read_end, write_end = os.pipe()
    os.write(write_end, gzip.compress(batch_line()))
    os.close(write_end)

    class Trickle(io.BytesIO):
        def read(self, _size: int | None = -1) -> bytes:
            return os.read(read_end, 1)

    path = tmp_path / "a.jsonl"
    path.write_bytes(batch_line())
    with open_job("-", ReadOptions(), stdin=Trickle()) as reader:
        assert list(reader) == read(path)
    os.close(read_end)


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
@pytest.mark.parametrize("offset", [5, 10_000])
def test_file_that_changed_under_its_position_is_refused(
    tmp_path: Path, pack: Callable[[bytes], bytes], offset: int
) -> None:
    """A place in the middle of a line, or behind the end, is none that reading ever stopped at."""
    path = tmp_path / "a.jsonl"
    path.write_bytes(pack(batch_line() + b"\n" + batch_line(custom_id="b") + b"\n"))
    with (
        pytest.raises(JobFileError, match="the file has changed"),
        open_job(str(path), ReadOptions(), start=Position(offset=offset, line=1)) as reader,
    ):
        list(reader)


def test_peeked_lines_come_again(tmp_path: Path) -> None:
    """Looking ahead takes nothing away, however often."""
    path = tmp_path / "a"
    path.write_bytes(b"1\n2\n3\n")
    with Source(str(path)) as source:
        assert next(source.peek()) == next(source.peek()) == (1, 0, 2, b"1")
        assert [raw for _, _, _, raw in source.peek()] == [b"1", b"2", b"3"]
        assert [raw for _, _, _, raw in source.lines(Position())] == [b"1", b"2", b"3"]


def test_stamp_notices_changes_at_either_end(tmp_path: Path) -> None:
    """Same file, same stamp; the middle of a large file is not looked at, its size and times are."""
    path = tmp_path / "a"
    path.write_bytes(b"a" * 200_000)
    before = stamp(str(path))
    assert before is not None
    assert stamp(str(path)) == before
    for changed in (b"b" + b"a" * 199_999, b"a" * 199_999 + b"b"):
        path.write_bytes(changed)
        after = stamp(str(path))
        assert after is not None
        assert (after.size, after.sample == before.sample) == (200_000, False)


def test_stamp_of_what_cannot_be_read_twice_is_none(tmp_path: Path) -> None:
    """Standard input and devices; a missing file is an error."""
    assert stamp("-") is None
    assert stamp(os.devnull) is None
    with pytest.raises(JobFileError, match="can't be read"):
        stamp(str(tmp_path / "nowhere"))
