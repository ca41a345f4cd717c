"""What holds for any bytes: no surprise exceptions, no line lost, the same reading from any place."""

import gzip
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from jobfiles import BODY, batch_line

from batchrunner.errors import JobFileError
from batchrunner.jobfile.batch import BatchLines
from batchrunner.jobfile.options import ReadOptions
from batchrunner.jobfile.reader import Item, open_job
from batchrunner.jobfile.refusal import Refused
from batchrunner.jobfile.source import Position
from batchrunner.jobfile.strictjson import _members_slowly, _parse_slowly, members, parse_object, parse_plain
from batchrunner.task import RejectedLine, Request

JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=12,
)
KEYS = st.sampled_from(
    ["custom_id", "method", "url", "body", "model", "messages", "prompt", "id", "input", "text", "a:"]
)
OBJECTS = st.dictionaries(KEYS, JSON | st.just(BODY) | st.text(max_size=3), max_size=5)
STYLES = st.fixed_dictionaries(
    {"ensure_ascii": st.booleans(), "separators": st.sampled_from([(",", ":"), (", ", ": "), (" ,\t", " : ")])}
)
SNIPPETS = st.sampled_from([
    b"\n", b"\r\n", b'"', b",", b"{", b"}", b"[", b"]", b":", b"\\", b"\xff", b"\0", b"\xef\xbb\xbf", b"NaN", b"1e999",
    b'{"prompt":"a"}', b'{"body":', b'{"model":"m"}', b"\\ud800", b"\\u003a", batch_line(),
    b'"text",n', b" ", b"\x1f\x8b",
])  # fmt: skip
LINES = st.builds(lambda value, style: json.dumps(value, **style).encode("utf-8", "replace"), OBJECTS, STYLES)
FILES = st.lists(SNIPPETS | st.binary(max_size=6) | LINES, max_size=20).map(b"".join)
FORMATS = ["auto", "batch", "body", "prompt", "rows", "lines"]


def options_for(input_format: str) -> ReadOptions:
    prompt = "{{ text }}" if input_format == "rows" else None
    return ReadOptions(model="m", prompt=prompt, input_format=input_format)


def read_all(data: bytes, options: ReadOptions, start: Position = Position()) -> list[Item]:  # noqa: B008  (frozen)
    with open_job("-", options, stdin=io.BytesIO(data), start=start) as reader:
        return list(reader)


@given(FILES, st.sampled_from(FORMATS))
def test_any_bytes_are_read_or_refused_in_our_words(data: bytes, input_format: str) -> None:
    """Nothing but JobFileError ever comes out, and every text can be stored."""
    try:
        items = read_all(data, options_for(input_format))
    except JobFileError:
        return
    for item in items:
        if isinstance(item, Request):
            "".join([item.custom_id, item.body, item.row or "", item.model or ""]).encode()
            parse_object(item.body.encode())
            parse_object((item.row or "{}").encode())
        else:
            assert isinstance(item, RejectedLine)
            assert item.reason.isprintable()


@given(FILES, st.sampled_from(["batch", "body", "prompt", "lines"]))
def test_every_line_is_a_request_or_rejected_or_blank(data: bytes, input_format: str) -> None:
    """The sums add up, and each item stands where it says."""
    try:
        items = read_all(data, options_for(input_format))
    except JobFileError:
        return
    begin = 3 if data.startswith(b"\xef\xbb\xbf") else 0
    lines = data[begin:].split(b"\n")
    places = []
    for number, raw in enumerate(lines, 1):
        if raw.strip():
            places.append((number, begin))
        begin += len(raw) + 1
    assert [(item.line, item.offset) for item in items] == places


@settings(deadline=None)
@given(FILES, st.sampled_from(FORMATS))
def test_reading_goes_on_from_any_position(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, input_format: str
) -> None:
    """From a file, a packed file and a pipe, with the same tail each time."""
    folder = tmp_path_factory.mktemp("read")
    plain, packed = folder / "plain", folder / "packed"
    plain.write_bytes(data)
    packed.write_bytes(gzip.compress(data))
    options = options_for(input_format)
    items, positions = [], []
    try:
        with open_job(str(plain), options) as reader:
            for item in reader:
                items.append(item)
                positions.append(reader.position)
    except JobFileError:
        return
    assert list(from_file(packed, options, Position())) == items
    for taken, position in enumerate(positions, 1):
        assert position.record == taken
        assert list(from_file(plain, options, position)) == items[taken:]
        assert list(from_file(packed, options, position)) == items[taken:]
        assert read_all(data, options, position) == items[taken:]


def from_file(path: Path, options: ReadOptions, start: Position) -> Iterator[Item]:
    with open_job(str(path), options, start=start) as reader:
        yield from reader


@given(JSON, STYLES)
def test_body_of_a_batch_line_is_its_exact_slice(value: Any, style: dict[str, Any]) -> None:
    """In any style of writing JSON, in both forms of a line."""
    body = json.dumps({"x": value, "model": "m"}, **style).encode("utf-8", "replace")
    for line in (
        b'{"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": %b}' % body,
        b'{"body":%b,"custom_id":"a"}' % body,
    ):
        assert BatchLines(ReadOptions())(line, 1, 0).body.encode() == body


@given(FILES | LINES)
def test_quick_reading_agrees_with_thorough_reading(line: bytes) -> None:
    """What msgspec takes, the json module takes too, with the same value and the same members."""
    assume(b"\n" not in line)
    try:
        quick = parse_plain(line)
    except Refused:
        return
    if quick is not None:
        assert quick == _parse_slowly(line)
        assert {name: bytes(part) for name, part in members(line).items()} == _members_slowly(line.decode())


@given(OBJECTS, KEYS, JSON, STYLES, st.integers(0, 9))
def test_duplicate_key_is_found_wherever_it_is(
    value: dict[str, Any], key: str, other: Any, style: dict[str, Any], depth: int
) -> None:
    """However the line is written, and however many colons stand in its strings."""
    pairs = [json.dumps({key: value}, **style)[1:-1], json.dumps({key: other}, **style)[1:-1]]
    text = "{" + ",".join(pairs) + "}"
    for _ in range(depth):
        text = f'[{text}, "::"]'
    line = f'{{"a:":{text}}}'.encode("utf-8", "replace")
    with pytest.raises(Refused, match="is there twice"):
        parse_object(line)


@given(OBJECTS, STYLES)
def test_usual_lines_read_as_all_others_do(value: dict[str, Any], style: dict[str, Any]) -> None:
    """The quick way for the usual form gives what the general way gives."""
    body = json.dumps({"model": "m", **value}, **style).encode("utf-8", "replace")
    line = b'{"custom_id":"a","method":"POST","url":"/v4/embeddings","body":%b }' % body
    for options in (ReadOptions(), ReadOptions(params=(("text", "x"),))):
        usual, general = outcome(BatchLines(options), line), outcome(BatchLines(options)._read, line)
        assert usual == general


def outcome(make: Any, line: bytes) -> Request | str:
    try:
        made: Request = make(line, 1, 0)
    except Refused as refused:
        return str(refused)
    return made
