"""Text measured as a terminal does: in cells, of which a Chinese character takes two."""

import unicodedata

_EMOJI_STYLE = "\N{VARIATION SELECTOR-16}"  # makes the sign before it two cells wide


def width(text: str) -> int:
    """The cells that *text* takes; rather too many than too few."""
    return len(text) if text.isascii() else sum(map(_cells, text))


def cut(text: str, cells: int, *, mark: str = "…") -> str:
    """*text* in at most *cells* cells; where it was longer, *mark* stands at its end."""
    if width(text) <= cells:
        return text
    room = cells - width(mark)
    if room < 0:
        return ""
    kept = []
    for character in text:
        room -= _cells(character)
        if room < 0:
            break
        kept.append(character)
    return "".join(kept) + mark


def pad(text: str, cells: int) -> str:
    """*text* with blanks up to *cells* cells."""
    return text + " " * (cells - width(text))


def _cells(character: str) -> int:
    if character == _EMOJI_STYLE:
        return 1
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1
