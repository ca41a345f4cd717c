"""The text of an answer, out of the body that came: what a person wants in one cell.

Chat completions, text completions, the responses API and embeddings are known. Of anything else (rerank, moderation)
the body itself is the answer, so that nothing gets lost.
"""

import json
from typing import Any


def answer_text(body: str | bytes) -> str:
    """The answer in *body*; never raises. Tool calls and vectors come out as JSON."""
    text = body if isinstance(body, str) else body.decode("utf-8", "replace")
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    found = _find(value) if isinstance(value, dict) else None
    return text if found is None else found


def _find(value: dict[str, Any]) -> str | None:
    match value:
        case {"choices": [{"message": dict(message)}, *_]}:
            return _message(message)
        case {"choices": [{"text": str(text)}, *_]}:
            return text
        case {"output": list(items)}:
            return _output([item for item in items if isinstance(item, dict) and item.get("type") != "reasoning"])
        case {"data": [{"embedding": vector}]}:
            return _json(vector)
        case {"data": [{"embedding": _}, *_] as vectors}:
            return _json([vector.get("embedding") if isinstance(vector, dict) else None for vector in vectors])
    return None


def _output(items: list[dict[str, Any]]) -> str:
    """Of the responses API: its text; where it only calls functions, the calls."""
    text = "".join(_parts(item["content"]) for item in items if "content" in item)
    calls = [item for item in items if str(item.get("type")).endswith("_call")]
    return text or (_json(calls) if calls else "")


def _message(message: dict[str, Any]) -> str | None:
    content = message.get("content")
    if content is None or content == "":
        calls = message.get("tool_calls") or message.get("refusal")
        return "" if not calls else calls if isinstance(calls, str) else _json(calls)
    return _parts(content)


def _parts(content: Any) -> str:
    """Content is text, or a list of parts of which those with text count."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return _json(content)
    texts = (part.get("text", part.get("refusal")) for part in content if isinstance(part, dict))
    return "".join(text for text in texts if isinstance(text, str))


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
