"""Server-sent events out of bytes, however these are cut and whatever their lines end with."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchrunner.api.sse import Event, EventParser


def parse(*pieces: bytes) -> list[Event]:
    parser = EventParser()
    return [event for piece in pieces for event in parser.feed(piece)] + parser.close()


@pytest.mark.parametrize(
    ("raw", "events"),
    [
        (b"data: a\n\ndata: b\n\n", [Event(b"a"), Event(b"b")]),
        (b"data:a\n\n", [Event(b"a")]),
        (b"data:  a \n\n", [Event(b" a ")]),
        (b"data: a\r\n\r\ndata: b\r\rdata: c\n\n", [Event(b"a"), Event(b"b"), Event(b"c")]),
        (b"data: a\rdata: b\r\ndata: c\n\r\n", [Event(b"a\nb\nc")]),
        (b": OPENROUTER PROCESSING\n\n:\n\ndata: a\n\n", [Event(b"a")]),
        (b"event: error\ndata: a\n\ndata: b\n\n", [Event(b"a", b"error"), Event(b"b")]),
        (b"event: ping\n\ndata: a\n\n", [Event(b"a")]),
        (b"id: 7\nretry: 10\ndata: a\nnonsense\n\n", [Event(b"a")]),
        (b"data\n\n", [Event(b"")]),
        (b"\xef\xbb\xbfdata: a\n\n", [Event(b"a")]),
        (b"data: a\n\ndata: b", [Event(b"a"), Event(b"b")]),
        (b"data: a\n\ndata: b\r\n", [Event(b"a"), Event(b"b")]),
        ("data: 物\u2028流\u0085x\x0b\x0c\n\n".encode(), [Event("物\u2028流\u0085x\x0b\x0c".encode())]),
        (b"data: a:b\n\n", [Event(b"a:b")]),
        (b"\n\n\n", []),
        (b"", []),
    ],
    ids=repr,
)
def test_events_are_what_the_standard_says(raw: bytes, events: list[Event]) -> None:
    assert parse(raw) == events


_LINES = st.sampled_from(
    [b"data: x", b"data:y", "data: 流\u2028".encode(), b"data", b": c", b"event: e", b"id: 1", b"", b"", b"rubbish"]
)
_STREAMS = st.lists(st.tuples(_LINES, st.sampled_from([b"\n", b"\r", b"\r\n"])), max_size=12).map(
    lambda lines: b"".join(line + end for line, end in lines)
)


@given(_STREAMS | st.binary(max_size=60), st.booleans(), st.data())
def test_where_the_bytes_are_cut_makes_no_difference(raw: bytes, bom: bool, data: st.DataObject) -> None:
    """Given any stream, and any cuts (empty pieces too), the events are those of the whole."""
    raw = b"\xef\xbb\xbf" + raw if bom else raw
    inner = data.draw(st.lists(st.integers(0, len(raw)), max_size=8))
    cuts = sorted([0, *inner, len(raw)])
    assert parse(*(raw[a:b] for a, b in pairwise(cuts))) == parse(raw)
    assert parse(*(raw[at : at + 1] for at in range(len(raw)))) == parse(raw)


@given(st.lists(st.text(st.characters(exclude_characters="\r\n", codec="utf-8")), max_size=5))
def test_what_was_sent_arrives(texts: list[str]) -> None:
    """Given any texts of one line, sent with CRLF, each comes out as it went in."""
    raw = "".join(f"data: {text}\r\n\r\n" for text in texts).encode()
    assert parse(raw) == [Event(text.encode()) for text in texts]
