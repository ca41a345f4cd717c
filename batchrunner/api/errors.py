"""The error object of a reply and its text, in whichever shape they come. Total."""

from collections.abc import Mapping
from typing import Any


def error_in(value: Any) -> Mapping[str, Any]:
    """Of a body's JSON: ``error{}``, ``error: "…"``, flat, ``detail``, ``errors[]``, a list; empty where none is."""
    if isinstance(value, list) and value:
        value = value[0]
    if not isinstance(value, dict):
        return {"message": value} if isinstance(value, str) else {}
    for key in ("error", "errors", "detail"):
        inner = value.get(key)
        if isinstance(inner, list) and inner:
            inner = inner[0]
        if isinstance(inner, dict):
            return inner
        if isinstance(inner, str):
            return {**value, "message": inner}
    return value


def message_of(error: Mapping[str, Any]) -> str | None:
    """Its text, and what the server behind a router said: OpenRouter's "Provider returned error" says nothing."""
    message, metadata = string(error.get("message")) or string(error.get("msg")), error.get("metadata")
    behind = string(metadata.get("raw")) if isinstance(metadata, dict) else None
    return f"{message}: {behind}" if message and behind else message


def string(value: Any) -> str | None:
    """Text, or a number that should have been text (some codes are)."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        return None
    return str(value) or None
