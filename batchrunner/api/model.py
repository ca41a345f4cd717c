"""Another model's name in a body that stays as it is otherwise, byte for byte."""

import json
import re

_SPACE = re.compile(r"[ \t\r\n]*")
_read = json.JSONDecoder(parse_int=str).raw_decode  # no number is used, and a long one would be refused as an int


def with_model(body: str, name: str) -> str:
    """*body*, a JSON object, with *name* as its top-level ``model``; unchanged if it has none."""
    at = _next(body, _next(body, 0) + 1)
    while body[at] != "}":
        key, at = _read(body, at)
        start = _next(body, _next(body, at) + 1)
        _, end = _read(body, start)
        if key == "model":
            return f"{body[:start]}{json.dumps(name, ensure_ascii=False)}{body[end:]}"
        at = _next(body, end)
        if body[at] == ",":
            at = _next(body, at + 1)
    return body


def _next(text: str, at: int) -> int:
    """Where the next character that is not white space stands."""
    found = _SPACE.match(text, at)
    assert found is not None  # it may be empty
    return found.end()
