"""The parts every request is made of: its body's text, its model, its custom_id, its fingerprint."""

import re
import unicodedata
from collections.abc import Mapping
from functools import lru_cache
from hashlib import blake2b
from typing import Any

from batchrunner.jobfile.refusal import Refused
from batchrunner.jobfile.strictjson import JSONObject, join, members, quote, text_of
from batchrunner.task import Request

CHAT = "chat/completions"
ENDPOINTS = (CHAT, "completions", "embeddings", "rerank", "responses", "moderations")
MODELLESS = frozenset({"moderations"})  # of these, the ones that do without
ID_CAP = 512  # bytes
ID_CAP_SURE = ID_CAP // 4  # characters that stay below it, whatever they are
NO_MODEL = "no model: give -m/--model or a model in the body"
SENSITIVE = {
    "api_key": "a key does not belong in a job file, it would be stored; give it by environment or key file",
    "authorization": "a key does not belong in a job file, it would be stored; give it by environment or key file",
    "base_url": "a line can't choose where the key is sent; use --base-url",
    "api_base": "a line can't choose where the key is sent; use --base-url",
    "headers": "a line can't set headers; take it out",
    "extra_headers": "a line can't set headers; take it out",
}
URLS = f"use /v1/ and one of {', '.join(ENDPOINTS)}"  # or any other that takes a JSON body
_SEGMENT = r"(?!\.{1,2}(?:/|$))[A-Za-z0-9._~:@-]+"
_ENDPOINT = re.compile(rf"/(?:v[0-9]+/)?(?!v[0-9]+/|(?:files|uploads)$)({_SEGMENT}(?:/{_SEGMENT})*)", re.ASCII)
_HASHES = {endpoint: blake2b(f"{endpoint}\n".encode(), digest_size=16) for endpoint in ENDPOINTS}


_new = object.__new__
(_set_id, _set_endpoint, _set_body, _set_model, _set_row, _set_line, _set_offset, _set_fingerprint) = (
    getattr(Request, name).__set__
    for name in ("custom_id", "endpoint", "body", "model", "row", "line", "offset", "fingerprint")
)


def request(
    custom_id: str,
    endpoint: str,
    body: str,
    content: Any,
    model: str | None,
    row: str | None,
    line: int,
    offset: int,
) -> Request:
    """The Request, with its fingerprint made from ``content``, the bytes of ``body``.

    A frozen dataclass sets each field through object.__setattr__, a tenth of all the time a line takes. The setters of
    its slots do the same in a third of that.
    """
    made = _new(Request)
    _set_id(made, custom_id)
    _set_endpoint(made, endpoint)
    _set_body(made, body)
    _set_model(made, model)
    _set_row(made, row)
    _set_line(made, line)
    _set_offset(made, offset)
    known = _HASHES.get(endpoint)
    digest = blake2b(f"{endpoint}\n".encode(), digest_size=16) if known is None else known.copy()
    digest.update(content)
    _set_fingerprint(made, digest.digest())
    return made


@lru_cache(maxsize=64)
def endpoint_of(url: str) -> str:
    """The endpoint that a line's ``url`` means: ``/v1/X``, ``/v4/X`` and ``/X`` are all X. Raises Refused."""
    match = _ENDPOINT.fullmatch(url)
    if match is None:
        raise Refused(f'"url" {quote(url[:60])} is not a path we send to; {URLS}')
    return match[1]


def check_id(custom_id: Any, *, name: str = "custom_id") -> str:
    """A usable custom_id, exactly as it is; raises Refused."""
    if not isinstance(custom_id, str):
        raise Refused(f'"{name}" must be a string, in quotes')
    if not custom_id:
        raise Refused(f'"{name}" is empty; leave it out to have one made')
    if not custom_id.isprintable() and any(unicodedata.category(each) in {"Cc", "Cs"} for each in custom_id):
        raise Refused(f'"{name}" has a control character or half a character in it; use letters and digits')
    if len(custom_id) > ID_CAP_SURE and len(custom_id.encode()) > ID_CAP:
        raise Refused(f'"{name}" is longer than {ID_CAP} bytes; shorten it')
    return custom_id


def made_id(number: int) -> str:
    """The custom_id of a line that brings none; six digits, as some providers want six characters or more."""
    return f"row-{number:06d}"


def check_model(model: Any, endpoint: str = CHAT) -> str | None:
    """A usable model; None where there is none and *endpoint* may do without."""
    if model is None:
        if endpoint in ENDPOINTS and endpoint not in MODELLESS:
            raise Refused(NO_MODEL)
        return None
    if not isinstance(model, str):
        raise Refused('"model" must be a string, in quotes')
    if not model.strip() or not model.isprintable():
        raise Refused('"model" is empty or unprintable; name a model')
    return model


def check_sensitive(names: Mapping[str, Any]) -> None:
    """Refuse a line that would set where or with which key it is sent."""
    for name in names:
        if reason := SENSITIVE.get(name.lower()):
            raise Refused(f'"{name}": {reason}')


def merge(body: str, value: JSONObject, settings: Mapping[str, str]) -> str:
    """Put ``settings`` (texts) into a body's text. Members that they do not name keep their bytes and their place.

    ``value`` is the same body, parsed.
    """
    needed = {name: text for name, text in settings.items() if name not in value or quote(value[name]) != text}
    if not needed:
        return body
    if needed.keys().isdisjoint(value):
        return f"{join(needed)[:-1]}{',' if value else ''}{body[1:]}"
    texts = {name: text_of(member) for name, member in members(body.encode()).items()}
    return join({**texts, **needed})


def chat_body(user: str, system: str | None, settings: Mapping[str, str]) -> str:
    """A chat request out of JSON texts: the user's message, the system's, and the other members (model first)."""
    turns = "" if system is None else f'{{"role":"system","content":{system}}},'
    messages = f'[{turns}{{"role":"user","content":{user}}}]'
    rest = {name: text for name, text in settings.items() if name != "model"}
    return join({"model": settings["model"], "messages": messages, **rest})
