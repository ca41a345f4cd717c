"""Read a line as JSON: strictly, fast, and with the text of its members kept as it stands.

Most lines go through msgspec alone. It is silent on three things that we refuse or allow, so these are looked at here:

* duplicate keys. msgspec keeps the last one. A value written out again has as many colons as its line, those inside
  strings included, unless a key was dropped or a colon was written as an escape. So two counts in C settle it.
* depth. Every level opens an array or is a member's object, so colons plus ``[`` bound it.
* lone surrogates such as ``\\ud800``: legal escapes, which msgspec refuses. Then the json module reads the line.
"""

import json
import math
import re
from collections.abc import Mapping
from typing import Any, NoReturn

import msgspec

from batchrunner.jobfile.refusal import Refused

JSONObject = dict[str, Any]
DEPTH_CAP = 100
LONG_INTEGER = 4000  # digits; Python turns no longer ones into an int
WHITESPACE = " \t\r\n"

_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode
_decode_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_NOT_OURS = (msgspec.MsgspecError, UnicodeError, RecursionError, OverflowError)
_STRING = re.compile(rb'"(?:[^"\\]|\\.)*+"?', re.DOTALL)
_BRACKETS = re.compile(rb"[\[\]{}]")


def parse_object(raw: bytes) -> JSONObject:
    """The JSON object that a line is; raises Refused for anything else, duplicate keys at any depth included."""
    value = parse_plain(raw)
    if value is None:
        value = _parse_slowly(raw)
        if not isinstance(value, dict):
            raise Refused("a JSON object is needed here, one on each line")
    return value


def parse_plain(raw: bytes, *, inside: int = 0) -> JSONObject | None:
    """The same, in a third of the time, for most lines; None for one that has to be looked at more closely.

    ``inside`` is how many levels are around it already.
    """
    colons = raw.count(b":")
    second = raw.find(b"[", raw.find(b"[") + 1)  # most lines have one array or none: finding is faster than counting
    if colons + (1 if second < 0 else raw.count(b"[")) + inside >= DEPTH_CAP:
        _check_depth(raw, DEPTH_CAP - inside)
    try:
        value = _decode(raw)
        if value.__class__ is not dict or _encode(value).count(b":") != colons:
            return None
    except _NOT_OURS:
        return None
    if raw.find(b"\\") >= 0 and (b"\\u003a" in raw or b"\\u003A" in raw):
        return None
    return value


def members(raw: bytes) -> Mapping[str, msgspec.Raw | bytes]:
    """The members of an object that ``parse_object`` accepted, each as its bytes stand in the line."""
    try:
        return _decode_members(raw)
    except _NOT_OURS:
        return _members_slowly(raw.decode())


def text_of(member: msgspec.Raw | bytes) -> str:
    return str(member, "utf-8")


def quote(value: Any) -> str:
    """A value as JSON text. A lone surrogate, which UTF-8 has no bytes for, becomes an escape again."""
    try:
        return _encode(value).decode()
    except _NOT_OURS:
        return json.dumps(value, separators=(",", ":"))


def join(texts: Mapping[str, str]) -> str:
    """An object out of members' texts."""
    return "{" + ",".join(f"{quote(name)}:{text}" for name, text in texts.items()) + "}"


def _parse_slowly(raw: bytes) -> Any:
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        raise Refused(f"not UTF-8 at byte {error.start + 1} of the line; save the file as UTF-8") from None
    try:
        return json.loads(
            text, object_pairs_hook=_unique, parse_constant=_refuse_constant, parse_float=_finite, parse_int=_integer
        )
    except json.JSONDecodeError as error:
        raise Refused(f"not JSON: {error.msg.removesuffix(' at')} (column {error.colno})") from None


def _unique(pairs: list[tuple[str, Any]]) -> JSONObject:
    value = dict(pairs)
    if len(value) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in value if names.count(name) > 1)
        raise Refused(f"the key {quote(twice[:40])} is there twice; keep one")
    return value


def _refuse_constant(text: str) -> NoReturn:
    raise Refused(f"{text} is not JSON; use null or a number")


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise Refused(f"the number {text[:20]} is too large")
    return value


def _integer(text: str) -> int | str:
    return int(text) if len(text) < LONG_INTEGER else text


def _check_depth(raw: bytes, cap: int) -> None:
    if raw.count(b"{") + raw.count(b"[") <= cap:
        return
    depth = 0
    for bracket in _BRACKETS.findall(_STRING.sub(b"", raw)):
        depth += 1 if bracket in b"[{" else -1
        if depth > cap:
            raise Refused(f"nested deeper than {DEPTH_CAP} levels")


def _members_slowly(text: str) -> dict[str, bytes]:
    read = json.JSONDecoder(parse_int=_integer).raw_decode
    found: dict[str, bytes] = {}
    at = _next(text, _next(text, 0) + 1)
    while text[at] != "}":
        name, at = read(text, at)
        start = _next(text, _next(text, at) + 1)
        _, end = read(text, start)
        found[name] = text[start:end].encode()
        at = _next(text, end)
        if text[at] == ",":
            at = _next(text, at + 1)
    return found


def _next(text: str, at: int) -> int:
    """Where the next character that is not white space stands."""
    while text[at] in WHITESPACE:
        at += 1
    return at
