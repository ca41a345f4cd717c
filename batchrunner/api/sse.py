"""Server-sent events: bytes in, in pieces of any size, events out. Pure.

A line ends with CR, LF or both, and with nothing else: a U+2028 inside of data belongs to the data. Lines are cut as
bytes, so a character that two pieces share is no matter. An event without the blank line after it, at the very end,
counts: many servers leave that out.
"""

from dataclasses import dataclass

_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Event:
    """One event: its data, as bytes, and its name; empty where it has none."""

    data: bytes
    name: bytes = b""


class EventParser:
    """``feed`` it what came, ``close`` it at the end."""

    def __init__(self) -> None:
        self._line = bytearray()  # the line whose end is still to come
        self._data: list[bytes] = []
        self._name = b""
        self._after_cr = False
        self._first = True

    def feed(self, piece: bytes) -> list[Event]:
        """The events that end in *piece*."""
        if not piece:
            return []
        if self._after_cr and piece.startswith(b"\n"):  # the rest of a CRLF
            piece, self._after_cr = piece[1:], False
        if piece:
            self._after_cr = piece.endswith(b"\r")
        first, *rest = piece.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        self._line += first
        if not rest:
            return []
        lines = [bytes(self._line), *rest]
        self._line = bytearray(lines.pop())
        return [event for line in lines if (event := self._take(line)) is not None]

    def close(self) -> list[Event]:
        """The event that was not ended by a blank line, if there is one."""
        last = [self._take(bytes(self._line)), self._take(b"")]
        self._line.clear()
        return [event for event in last if event is not None]

    def _take(self, line: bytes) -> Event | None:
        """Take in a line; the event, where this one ends it."""
        if self._first:
            self._first, line = False, line.removeprefix(_BOM)
        if not line:
            event = Event(b"\n".join(self._data), self._name) if self._data else None
            self._data, self._name = [], b""
            return event
        field, _, value = line.partition(b":")  # a comment is a field without a name
        if field == b"data":
            self._data.append(value.removeprefix(b" "))
        elif field == b"event":
            self._name = value.removeprefix(b" ")
        return None
