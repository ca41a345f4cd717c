"""Text of others made fit for a terminal: what a provider or a model says is hostile until it went through here."""

import unicodedata

SHOWN = "\N{REPLACEMENT CHARACTER}"

# Cc: C0, DEL, C1. Cf: bidi overrides and isolates, zero-width marks, tags. Cs: lone surrogates. Zl, Zp: line breaks.
# Co and Cn have no agreed look or width.
_HOSTILE = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
_BLANKS = frozenset("\t\n\r\v\f\N{LINE SEPARATOR}\N{PARAGRAPH SEPARATOR}\x85")


def clean(text: str, *, ascii_only: bool = False) -> str:
    """*text* on one line, without a character that steers a terminal or hides; each of those is seen as U+FFFD.

    With *ascii_only*, all that is not ASCII comes out as a question mark.
    """
    if text.isascii() and text.isprintable():
        return text
    shown = "".join(_safe(character) for character in text)
    return shown.encode("ascii", "replace").decode() if ascii_only else shown


def clean_lines(text: str, *, ascii_only: bool = False) -> str:
    """As ``clean``, but line by line, for texts that are shown whole."""
    return "\n".join(clean(line, ascii_only=ascii_only) for line in text.splitlines())


def _safe(character: str) -> str:
    if character in _BLANKS:
        return " "
    return SHOWN if unicodedata.category(character) in _HOSTILE else character
