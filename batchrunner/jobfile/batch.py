"""Lines that bring a whole body: OpenAI batch lines, and bare bodies."""

import re
from typing import Any

from batchrunner.jobfile.bodies import (
    CHAT,
    check_id,
    check_model,
    check_sensitive,
    endpoint_of,
    made_id,
    merge,
    request,
)
from batchrunner.jobfile.options import ReadOptions
from batchrunner.jobfile.refusal import Refused
from batchrunner.jobfile.strictjson import WHITESPACE, JSONObject, join, members, parse_object, parse_plain, text_of
from batchrunner.task import Request

MISSES = 100  # lines that began in the usual form but did not end so, after which no more are tried
DEFAULT_URL = f"/v1/{CHAT}"
RESPONSES_ONLY = ("instructions", "max_output_tokens", "previous_response_id", "reasoning", "text", "tools")
_MISSING: Any = object()


# The form that nearly every program writes; after the match must come the body, one more brace and nothing else.
_USUAL = re.compile(
    rb'\{"custom_id": ?"([ !#-\[\]-~]{1,128})", ?"method": ?"POST", ?"url": ?"([/\w]{1,40})", ?"body": ?(?=\{)',
    re.ASCII,
)


class BatchLines:
    """Reads ``{"custom_id": …, "method": "POST", "url": …, "body": {…}}``, of which only the body must be there.

    The body's bytes are kept as they are. Other keys, such as ``metadata``, are carried along as the row.
    """

    def __init__(self, options: ReadOptions) -> None:
        self._settings = options.settings()
        self._model = options.given_model
        self._misses_left = MISSES

    def __call__(self, raw: bytes, line: int, offset: int) -> Request:
        """Raises Refused."""
        match = _USUAL.match(raw) if self._misses_left and raw.endswith(b"}") else None
        if match is None:
            return self._read(raw, line, offset)
        content = raw[match.end() : -1].rstrip(b" \t\r")
        body = parse_plain(content, inside=1)
        if body is None:
            self._misses_left -= 1
            return self._read(raw, line, offset)
        custom_id, url = match.groups()
        endpoint = endpoint_of(url.decode())
        model = check_model(body.get("model") if self._model is None else self._model, endpoint)
        text = content.decode()
        if self._settings:
            text = merge(text, body, self._settings)
            content = text.encode()
        return request(custom_id.decode(), endpoint, text, content, model, None, line, offset)

    def _read(self, raw: bytes, line: int, offset: int) -> Request:
        """The general way; what goes above gives the same in less time."""
        value = parse_object(raw)
        body = value.pop("body", _MISSING)
        if body.__class__ is not dict:
            raise Refused('"body" is missing' if body is _MISSING else '"body" must be an object, in braces')
        if value.pop("method", "POST") != "POST":
            raise Refused('"method" must be "POST"')
        url = value.pop("url", DEFAULT_URL)
        if url.__class__ is not str:
            raise Refused('"url" must be a string, in quotes')
        endpoint = endpoint_of(url)
        custom_id = value.pop("custom_id", _MISSING)
        custom_id = made_id(line) if custom_id is _MISSING else check_id(custom_id)
        model = check_model(body.get("model") if self._model is None else self._model, endpoint)
        if value:
            check_sensitive(value)
        parts = members(raw)
        content: Any = parts["body"]
        text = text_of(content)
        if self._settings:
            text = merge(text, body, self._settings)
            content = text.encode()
        row = join({name: text_of(parts[name]) for name in value}) if value else None
        return request(custom_id, endpoint, text, content, model, row, line, offset)


class BareBodies:
    """Reads lines that are the body itself, recognised by ``messages``, or ``input`` and ``model``.

    A body has no place for an id, so a top-level ``custom_id``, or else ``id``, is taken out of it; all else stays,
    ``metadata`` too. ``messages`` are for chat/completions; ``input`` is for embeddings, or for responses if it holds
    messages or comes with a key that only responses have.
    """

    def __init__(self, options: ReadOptions) -> None:
        self._settings = options.settings()
        self._model = options.given_model

    def __call__(self, raw: bytes, line: int, offset: int) -> Request:
        """Raises Refused."""
        value = parse_object(raw)
        check_sensitive(value)
        endpoint = _endpoint(value)
        model = check_model(value.get("model") if self._model is None else self._model, endpoint)
        text = raw.decode().strip(WHITESPACE)
        custom_id = made_id(line)
        name = next((name for name in ("custom_id", "id") if name in value), None)
        if name is not None:
            custom_id = check_id(value.pop(name), name=name)
            text = join({key: text_of(part) for key, part in members(raw).items() if key != name})
        if self._settings:
            text = merge(text, value, self._settings)
        return request(custom_id, endpoint, text, text.encode(), model, None, line, offset)


def _endpoint(body: JSONObject) -> str:
    if "messages" in body:
        return CHAT
    if "input" not in body:
        raise Refused('neither "messages" nor "input" is in it, so it is no request body as the first line is')
    asked = body["input"]
    of_messages = isinstance(asked, list) and any(isinstance(item, dict) for item in asked)
    return "responses" if of_messages or any(name in body for name in RESPONSES_ONLY) else "embeddings"
