"""Showing progress while a run goes on: on a terminal, as lines for a log, as JSON events, or not at all.

Nothing here decides anything, and nothing here may stop a run: a terminal that is gone is just not written to any more.
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any, TextIO

from rich.console import Console
from rich.live import Live
from rich.text import Text

from batchrunner.report.clean import clean
from batchrunner.report.progress import NARROW, Progress, event, lines, plain_line

REFRESH = 0.25  # seconds between two pictures
PLAIN_EVERY = 30.0  # seconds between two lines
JSON_EVERY = 10.0
SETTLE = 2.0  # seconds; a limiting factor that flickers makes no line each time
LOW = 10  # terminal lines; below, the block becomes one line
GLYPHS = "█▓░◀…"

Clock = Callable[[], float]


class Mode(StrEnum):
    """What --progress may say."""

    AUTO = "auto"
    FULL = "full"
    PLAIN = "plain"
    JSON = "json"
    NONE = "none"


class Display(ABC):
    """Takes each moment of the run, and shows what is due. Call ``update`` some four times a second."""

    @abstractmethod
    def update(self, progress: Progress) -> None:
        """Show *progress*, if it is time."""

    @abstractmethod
    def event(self, told: Mapping[str, Any]) -> None:
        """Something happened: for --json. Its key ``event`` says what."""

    @abstractmethod
    def say(self, sentence: str) -> None:
        """A sentence of ours for the person, above the display."""

    def close(self) -> None:  # noqa: B027  (most have nothing to end)
        """Leave the terminal as it was."""


def display(
    mode: Mode,
    *,
    clock: Clock,
    out: TextIO,
    err: TextIO,
    environ: Mapping[str, str],
    every: float | None = None,
    ascii_only: bool = False,
) -> Display:
    """The display for *mode*. Only JSON goes to *out*, all else to *err*.

    ``auto`` takes ``full`` on a terminal that can move its cursor, outside of CI; ``full`` without a terminal is
    ``plain``. *clock* tells UTC seconds, *every* is --progress-every.
    """
    ascii_only = ascii_only or not can_show(err)
    if mode is Mode.AUTO:
        mode = Mode.PLAIN if environ.get("CI") else Mode.FULL
    if mode is Mode.FULL and (not err.isatty() or environ.get("TERM") in ("dumb", "unknown")):
        mode = Mode.PLAIN
    match mode:
        case Mode.FULL:
            return _Full(err, clock, environ, ascii_only=ascii_only)
        case Mode.JSON:
            return _Json(out, err, clock, JSON_EVERY if every is None else every, ascii_only=ascii_only)
        case Mode.NONE:
            return _Silent()
        case _:
            return _Plain(err, clock, PLAIN_EVERY if every is None else every, ascii_only=ascii_only)


class _Stream:
    """A stream that may go away while we write."""

    def __init__(self, stream: TextIO) -> None:
        self._stream: TextIO | None = stream

    def line(self, text: str) -> None:
        if self._stream is None:
            return
        try:
            self._stream.write(text + "\n")
            self._stream.flush()
        except UnicodeEncodeError:
            self.line(text.encode("ascii", "backslashreplace").decode())
        except (OSError, ValueError):  # closed pipe, closed terminal, closed file
            self._stream = None


class _Silent(Display):
    def update(self, progress: Progress) -> None:
        pass

    def event(self, told: Mapping[str, Any]) -> None:
        pass

    def say(self, sentence: str) -> None:
        pass


class _Plain(Display):
    """A line each half minute, and one when the reason for the speed has changed."""

    def __init__(self, err: TextIO, clock: Clock, every: float, *, ascii_only: bool) -> None:
        self._ascii = ascii_only
        self._err = _Stream(err)
        self._clock = clock
        self._every = every
        self._shown_at = float("-inf")
        self._limiting = ""

    def update(self, progress: Progress) -> None:
        now = self._clock()
        age = now - self._shown_at
        if age < self._every and (progress.limiting == self._limiting or age < SETTLE):
            return
        self._shown_at, self._limiting = now, progress.limiting
        self._err.line(_sentence(plain_line(progress, now), ascii_only=self._ascii))

    def event(self, told: Mapping[str, Any]) -> None:
        pass

    def say(self, sentence: str) -> None:
        self._err.line(_sentence(sentence, ascii_only=self._ascii))


class _Json(Display):
    """Events on standard output, sentences on standard error."""

    def __init__(self, out: TextIO, err: TextIO, clock: Clock, every: float, *, ascii_only: bool) -> None:
        self._ascii = ascii_only
        self._out, self._err = _Stream(out), _Stream(err)
        self._clock = clock
        self._every = every
        self._shown_at = float("-inf")

    def update(self, progress: Progress) -> None:
        now = self._clock()
        if now - self._shown_at >= self._every:
            self._shown_at = now
            self.event(event(progress, now))

    def event(self, told: Mapping[str, Any]) -> None:
        self._out.line(json.dumps(told, separators=(",", ":")))

    def say(self, sentence: str) -> None:
        self._err.line(_sentence(sentence, ascii_only=self._ascii))


class _Console(Console):
    """rich ends the whole program when its terminal is gone; a run goes on."""

    def on_broken_pipe(self) -> None:
        self.quiet = True


class _Full(Display):
    """A block of lines that stays at the bottom of the terminal, and leaves no trace."""

    def __init__(self, err: TextIO, clock: Clock, environ: Mapping[str, str], *, ascii_only: bool) -> None:
        self._console = _Console(file=err, markup=False, highlight=False, emoji=False, _environ=environ)
        # drawn by update alone: no thread of rich's, and no stream of the program's taken over
        self._live = Live(
            console=self._console, auto_refresh=False, transient=True, redirect_stdout=False, redirect_stderr=False
        )
        self._clock = clock
        self._ascii = ascii_only
        self._shown_at = float("-inf")
        self._gone = False

    def update(self, progress: Progress) -> None:
        now = self._clock()
        if now - self._shown_at < REFRESH:
            return
        self._shown_at = now
        size = self._console.size
        cells = size.width if size.height >= LOW else min(size.width, NARROW - 1)
        block = lines(progress, now, cells, ascii_only=self._ascii)
        self._draw(lambda: self._show(block))

    def event(self, told: Mapping[str, Any]) -> None:
        pass

    def say(self, sentence: str) -> None:
        text = Text(_sentence(sentence, ascii_only=self._ascii))
        self._draw(lambda: self._console.print(text))

    def close(self) -> None:
        self._draw(self._live.stop)

    def _show(self, block: list[str]) -> None:
        if not self._live.is_started:
            self._live.start()
        self._live.update(_coloured(block), refresh=True)

    def _draw(self, act: Callable[[], object]) -> None:
        if self._gone:
            return
        try:
            act()
        except (OSError, ValueError):
            self._gone = True


def _coloured(block: list[str]) -> Text:
    """Text, never markup: what a provider says can't style anything."""
    text = Text("\n".join(block), no_wrap=True, overflow="crop", end="")
    text.highlight_regex(r"[█#]{2,}", "green")
    text.highlight_regex(r"▓+", "red")
    text.highlight_regex(r"[░·]{2,}", "dim")
    text.highlight_regex(r"◀.*", "bold yellow")
    text.highlight_regex(r"(?m)^last: .*", "dim")
    return text


def _sentence(text: str, *, ascii_only: bool) -> str:
    return clean(text.replace("·", ",") if ascii_only else text, ascii_only=ascii_only)


def can_show(stream: TextIO) -> bool:
    """Whether *stream* can take the signs of the display."""
    try:
        GLYPHS.encode(stream.encoding or "ascii")
    except (LookupError, UnicodeEncodeError):
        return False
    return True
