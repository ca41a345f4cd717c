"""Text of others, made fit for a terminal, and measured as one does."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from batchrunner.report.cells import cut, pad, width
from batchrunner.report.clean import clean, clean_lines
from batchrunner.report.numbers import duration, percent, short

HOSTILE = "a好\x1b[2J\x07\n\r\x9b\u202e\u2066\u200b\x7f\ud800 é👍🏽"
any_text = st.text(st.characters()) | st.text(st.sampled_from(HOSTILE))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("好，x", "好，x"),
        ("a\nb\tc\r", "a b c "),
        ("\x1b]0;evil\x07", "\ufffd]0;evil\ufffd"),
        ("\x9b2J", "\ufffd2J"),
        ("abc\u202egnp.exe", "abc\ufffdgnp.exe"),
        ("[bold red]x[/]", "[bold red]x[/]"),
    ],
)
def test_steering_characters_are_made_visible(text: str, shown: str) -> None:
    assert clean(text) == shown


@given(any_text)
def test_clean_text_never_steers_a_terminal(text: str) -> None:
    assert not {unicodedata.category(character) for character in clean(text)} & {"Cc", "Cf", "Cs", "Zl", "Zp"}


@given(any_text)
def test_ascii_text_is_ascii(text: str) -> None:
    assert clean(text, ascii_only=True).isascii()
    assert clean(text, ascii_only=True).isprintable()


@given(any_text)
def test_clean_lines_keep_line_breaks_alone(text: str) -> None:
    assert all(line.isprintable() or max(line) >= "\N{NO-BREAK SPACE}" for line in clean_lines(text).split("\n"))
    assert "\x1b" not in clean_lines(text)


@given(any_text.map(clean), st.integers(0, 20))
def test_cut_text_fits_its_cells(text: str, cells: int) -> None:
    assert width(cut(text, cells)) <= cells
    assert cell_len(cut(text, cells)) <= cells


def test_chinese_takes_two_cells() -> None:
    assert width("评论ab") == 6
    assert cut("评论评论", 5) == "评论…"
    assert cut("评论", 4) == "评论"
    assert pad("评", 4) == "评  "


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0"), (196, "196"), (999, "999"), (999.6, "1k"), (76_432, "76.4k"), (200_000, "200k"), (4_120_000, "4.12M")],
)
def test_counts_are_short(number: float, text: str) -> None:
    assert short(number) == text


@given(st.floats(0, 1e12))
def test_a_short_count_never_is_long(number: float) -> None:
    assert len(short(number)) <= 7


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "0s"), (41, "41s"), (60, "1m00s"), (1123, "18m43s"), (9660, "2h41m"), (86_400, "1d"), (273_600, "3d04h")],
)
def test_durations_have_two_units(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_a_share_is_full_only_when_it_is_all_of_it() -> None:
    assert percent(99_999, 100_000) == "99.9%"
    assert percent(1, 100_000) == "0.1%"
    assert percent(5, 5) == "100.0%"
    assert percent(0, 0) == "0.0%"
