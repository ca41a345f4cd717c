"""The display: what is written where, and when."""

import io
import json
from collections.abc import Mapping
from typing import Any

import pytest
from moment import progress

from batchrunner.report.terminal import Display, Mode, display

TERM = {"TERM": "xterm-256color", "COLUMNS": "80", "LINES": "24"}


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


class Ascii(Terminal):
    encoding = "ascii"


class Gone(Terminal):
    def write(self, text: str) -> int:
        raise BrokenPipeError(text)


class Screen:
    """A display with its streams, and a clock that goes where the test says."""

    def __init__(
        self, mode: Mode, *, err: io.StringIO | None = None, environ: Mapping[str, str] = TERM, **more: Any
    ) -> None:
        self.now = 1000.0
        self.out, self.err = io.StringIO(), io.StringIO() if err is None else err
        self.display: Display = display(
            mode, clock=lambda: self.now, out=self.out, err=self.err, environ=environ, **more
        )

    def update(self, after: float = 0.0, **changed: Any) -> None:
        self.now += after
        self.display.update(progress(**changed))

    @property
    def plain_lines(self) -> int:
        return len(self.err.getvalue().splitlines())


def test_plain_writes_a_line_each_half_minute() -> None:
    screen = Screen(Mode.PLAIN)
    screen.update()
    for _ in range(120):
        screen.update(0.5)
    assert screen.plain_lines == 3
    assert screen.out.getvalue() == ""


def test_plain_writes_when_the_limiting_factor_changes_but_does_not_flicker() -> None:
    screen = Screen(Mode.PLAIN)
    screen.update(limiting="rpm")
    screen.update(0.5, limiting="tpm")
    screen.update(0.5, limiting="rpm")
    assert screen.plain_lines == 1
    screen.update(5, limiting="slots")
    assert screen.plain_lines == 2
    assert "limit=slots" in screen.err.getvalue()


def test_json_writes_events_to_standard_output_and_sentences_to_standard_error() -> None:
    screen = Screen(Mode.JSON)
    screen.display.event({"event": "start", "job": "评论"})
    for _ in range(40):
        screen.update(0.5)
    screen.display.say("hello")
    told = [json.loads(line) for line in screen.out.getvalue().splitlines()]
    assert [one["event"] for one in told] == ["start", "progress", "progress"]
    assert told[0]["job"] == "评论"
    assert screen.err.getvalue() == "hello\n"


def test_every_sets_the_pace() -> None:
    screen = Screen(Mode.JSON, every=1.0)
    for _ in range(10):
        screen.update(1.0)
    assert len(screen.out.getvalue().splitlines()) == 10


def test_none_is_silent() -> None:
    screen = Screen(Mode.NONE)
    screen.update()
    screen.display.event({"event": "start"})
    screen.display.say("x")
    screen.display.close()
    assert screen.out.getvalue() + screen.err.getvalue() == ""


def test_full_draws_the_block_and_redraws_at_most_four_times_a_second() -> None:
    screen = Screen(Mode.FULL, err=Terminal())
    screen.update()
    drawn = screen.err.getvalue()
    assert "RPM" in drawn
    assert "◀ limiting" in drawn
    screen.update(0.1, succeeded=7000)
    assert screen.err.getvalue() == drawn
    screen.update(0.2, succeeded=7000)
    assert "7,050/10,000" in screen.err.getvalue()
    screen.display.close()
    assert screen.err.getvalue().endswith("\x1b[?25h") or "\x1b[?25h" in screen.err.getvalue()  # the cursor is back


def test_full_never_lets_text_of_others_style_or_steer() -> None:
    screen = Screen(Mode.FULL, err=Terminal(), environ=TERM | {"NO_COLOR": "1"})
    screen.update(last_problem="[bold red]x[/] \x1b]0;evil\x07 :smile:")
    screen.display.say("[red]y[/red] \x1b[2J")
    screen.display.close()
    assert "[bold red]x[/]" in screen.err.getvalue()
    assert "[red]y[/red]" in screen.err.getvalue()
    assert "\x1b]0;evil" not in screen.err.getvalue()
    assert ":smile:" in screen.err.getvalue()


def test_no_color_leaves_colours_out() -> None:
    coloured, plain = (Screen(Mode.FULL, err=Terminal(), environ=TERM | extra) for extra in ({}, {"NO_COLOR": "1"}))
    for screen in (coloured, plain):
        screen.update()
        screen.display.close()
    assert "\x1b[32m" in coloured.err.getvalue()
    assert "\x1b[32m" not in plain.err.getvalue()


@pytest.mark.parametrize("environ", [TERM | {"CI": "true"}, TERM | {"TERM": "dumb"}])
def test_auto_is_plain_where_a_cursor_can_not_move(environ: Mapping[str, str]) -> None:
    screen = Screen(Mode.AUTO, err=Terminal(), environ=environ)
    screen.update()
    assert screen.plain_lines == 1
    assert "\x1b" not in screen.err.getvalue()


@pytest.mark.parametrize("mode", [Mode.AUTO, Mode.FULL])
def test_without_a_terminal_there_are_plain_lines(mode: Mode) -> None:
    screen = Screen(mode)
    screen.update()
    assert "limit=rpm" in screen.err.getvalue()


def test_auto_is_full_on_a_terminal() -> None:
    screen = Screen(Mode.AUTO, err=Terminal())
    screen.update()
    screen.display.close()
    assert "█" in screen.err.getvalue()


def test_a_terminal_that_can_not_show_blocks_gets_ascii() -> None:
    screen = Screen(Mode.FULL, err=Ascii())
    screen.update()
    screen.display.close()
    assert "#" in screen.err.getvalue()
    assert screen.err.getvalue().isascii()


@pytest.mark.parametrize("mode", [Mode.FULL, Mode.PLAIN, Mode.JSON])
def test_a_terminal_that_is_gone_does_not_stop_the_run(mode: Mode) -> None:
    screen = Screen(mode, err=Gone())
    screen.out.close()
    for _ in range(3):
        screen.update(60.0)
        screen.display.say("x")
    screen.display.close()
