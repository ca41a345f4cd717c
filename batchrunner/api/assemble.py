"""The events of a stream into the one object that the same request would have brought without a stream. Pure.

Chat and text completions come as chunks whose parts are appended to one another, by index; the responses API sends the
whole object at its end. A field that is not known is kept: text is appended, what names something (an id, a role)
stands as it came first. An ``error`` in a chunk, or an event of that name, ends the answer and becomes its ``error``.
"""

import json
from collections.abc import Mapping
from typing import Any

from batchrunner.api.sse import Event

DONE = b"[DONE]"
EXCERPT = 200  # bytes of what is no JSON that are told
_decode = json.JSONDecoder().decode  # which, unlike msgspec, takes half a character
_NAMES = frozenset({"id", "type", "role", "index", "object", "format", "signature"})  # never come in parts
_TEXTS = ("content", "reasoning_content", "reasoning", "refusal", "tool_calls", "function_call", "audio")
_ONCE = frozenset({"id", "created", "object"})  # of a chunk: its first one counts
_PADDING = frozenset({"obfuscation"})  # against eavesdroppers; means nothing
_RESPONSE_ENDS = frozenset({"response.completed", "response.incomplete", "response.failed"})
_Value = dict[str, Any]


class _Text(list[str]):
    """A text in pieces: appending to it costs the piece, not the whole."""


class Assembler:
    """``add`` each event; ``body`` is the object. ``is_over``: nothing of worth comes any more.

    ``has_begun``: something of the answer itself came, be it one token.
    """

    def __init__(self) -> None:
        self.is_over = False
        self.has_begun = False
        self.trouble = ""  # why it is over before its end, in words
        self._done = False
        self._top: _Value = {}
        self._choices: dict[int, _Value] = {}
        self._usage: Any = None
        self._error: Any = None
        self._response: _Value | None = None  # of the responses API
        self._text = _Text()  # likewise, so far

    def add(self, event: Event) -> bool:
        """Whether the event brought something of the answer itself."""
        brought = not self.is_over and self._add(event)
        self.has_begun = self.has_begun or brought
        return brought

    def _add(self, event: Event) -> bool:
        if event.data.strip() == DONE:
            self._done = self.is_over = True
            return False
        chunk = _parsed(event.data)
        if event.name == b"error":
            return self._fail(chunk if chunk is not None else event.data.decode(errors="replace"))
        if chunk is None:
            self.is_over = True
            self.trouble = f"a part of it is no JSON: {event.data[:EXCERPT].decode(errors='replace')}"
            return False
        kind = chunk.get("type")
        if isinstance(kind, str) and kind.startswith("response."):
            return self._add_response(kind, chunk)
        if chunk.get("error") or "error" in (kind, chunk.get("object")) or _is_flat_error(chunk):
            self._add_top(chunk)
            return self._fail(chunk)
        return self._add_chunk(chunk)

    @property
    def is_whole(self) -> bool:
        """Whether the stream said that it is complete: ``[DONE]``, or a finish_reason in every choice."""
        finished = [choice.get("finish_reason") is not None for choice in self._choices.values()]
        return self._done or (bool(finished) and all(finished))

    @property
    def has_error(self) -> bool:
        return self._error is not None

    def body(self) -> bytes:
        """The object, as JSON; of an answer that is not whole, what there is of it."""
        value = self._completion() if self._response is None else self._whole_response()
        if self._error is not None:
            value["error"] = self._error
        try:
            return _json(value, ensure_ascii=False).encode()
        except UnicodeEncodeError:  # the two halves of a character, escaped in two chunks, are one as escapes again
            return _json(value, ensure_ascii=True).encode()

    def _fail(self, error: Any) -> bool:
        inner = error.get("error") if isinstance(error, dict) else None
        self._error = error if inner is None else inner
        self.is_over = True
        return False

    # -- completions

    def _add_chunk(self, chunk: _Value) -> bool:
        self._add_top(chunk)
        choices, began = chunk.get("choices"), False
        for choice in choices if isinstance(choices, list) else ():
            began = (isinstance(choice, dict) and self._add_choice(choice)) or began
        return began

    def _add_top(self, chunk: Mapping[str, Any]) -> None:
        """What stands beside the choices; the newest counts, but for what names the answer."""
        inner = chunk.get("x_groq")
        for usage in (inner.get("usage") if isinstance(inner, dict) else None, chunk.get("usage")):
            self._usage = self._usage if usage is None else usage
        for name, value in chunk.items():
            if name in ("choices", "usage", "error") or name in _PADDING or (value in (None, "") and name in self._top):
                continue
            if name in _ONCE and self._top.get(name) not in (None, ""):
                continue
            old = self._top.get(name)
            both = isinstance(old, dict) and isinstance(value, dict)
            self._top[name] = {**old, **value} if both else value  # type: ignore[dict-item]  # checked a line above

    def _add_choice(self, choice: _Value) -> bool:
        index = choice.get("index")
        kept = self._choices.setdefault(index if isinstance(index, int) else 0, {})
        began = False
        for name, value in choice.items():
            match name:
                case "delta" if isinstance(value, dict):
                    _merge(kept.setdefault("message", {}), value)
                    began = began or any(value.get(text) for text in _TEXTS)
                case "message" if "delta" in choice:  # the whole so far, beside what is new (Perplexity)
                    continue
                case "text":
                    _merge(kept, {"text": value})
                    began = began or bool(value)
                case "usage":  # Moonshot's place
                    self._usage = value or self._usage
                case "logprobs" if isinstance(value, dict):
                    _merge(kept.setdefault("logprobs", {}), value)
                case "index":
                    continue
                case _ if value is not None:
                    kept[name] = value
        return began

    def _completion(self) -> _Value:
        top = dict(self._top)
        if isinstance(top.get("object"), str):
            top["object"] = top["object"].removesuffix(".chunk")
        top["choices"] = [_choice(index, self._choices[index]) for index in sorted(self._choices)]
        return top if self._usage is None else {**top, "usage": self._usage}

    # -- the responses API

    def _add_response(self, kind: str, chunk: _Value) -> bool:
        response = chunk.get("response")
        if isinstance(response, dict):
            self._response = response
        self._response = self._response or {"object": "response", "status": "in_progress"}
        if kind in _RESPONSE_ENDS:
            self._done = self.is_over = True
        delta = chunk.get("delta")
        if kind == "response.output_text.delta" and isinstance(delta, str):
            self._text.append(delta)
        return kind.endswith(".delta") and bool(delta)

    def _whole_response(self) -> _Value:
        """The object as it was sent, whole; what is missing in it is made from the text that came in pieces."""
        assert self._response is not None
        if not self._text or (self._done and self._response.get("output")):
            return self._response
        content = [{"type": "output_text", "text": self._text, "annotations": []}]
        status = "completed" if self._done else "incomplete"
        message = {"type": "message", "role": "assistant", "status": status, "content": content}
        return {**self._response, "output": [message]}


def _is_flat_error(chunk: _Value) -> bool:
    """A code and a text where the choices should be: DashScope's way, and GLM's gateway's."""
    return bool(chunk.get("code") and (chunk.get("message") or chunk.get("msg"))) and not chunk.get("choices")


def _choice(index: int, kept: _Value) -> _Value:
    """A choice as it stands in an answer that was not streamed."""
    choice: _Value = {"index": index, **kept}
    if "text" not in choice:
        message = {"role": "assistant", "content": None, **choice.get("message", {})}
        if isinstance(calls := message.get("tool_calls"), list):
            message["tool_calls"] = [
                {name: value for name, value in call.items() if name != "index"} if isinstance(call, dict) else call
                for call in calls
            ]
        choice["message"] = message
    choice.setdefault("logprobs", None)
    choice.setdefault("finish_reason", None)
    return choice


def _merge(kept: _Value, delta: _Value) -> None:
    """Append what *delta* brings."""
    for name, value in delta.items():
        old = kept.get(name)
        if value is None:
            kept.setdefault(name, None)
        elif old is None:
            kept[name] = _listed(value)
        elif isinstance(value, dict) and isinstance(old, dict):
            _merge(old, value)
        elif isinstance(value, str) and isinstance(old, _Text):
            old.append(value)
        elif isinstance(value, list) or isinstance(old, list):
            kept[name] = _appended(_list(old), _list(value))
        elif isinstance(value, str) and isinstance(old, str):
            again = name in _NAMES or (name == "name" and old == value)  # some send a call's name with every part
            kept[name] = (old or value) if again else _Text((old, value))
        else:
            kept[name] = value


def _listed(value: Any) -> Any:
    """The first of its kind: a list may hold two parts of one item already, a dict is ours to change."""
    return (
        _appended([], value) if isinstance(value, list) else _listed_dict(value) if isinstance(value, dict) else value
    )


def _listed_dict(value: _Value) -> _Value:
    kept: _Value = {}
    _merge(kept, value)
    return kept


def _list(value: Any) -> list[Any]:
    """Mistral sends content as text at one time and as a list of parts at another."""
    is_list = isinstance(value, list) and not isinstance(value, _Text)
    return value if is_list else [{"type": "text", "text": value}] if value else []


def _appended(kept: list[Any], items: list[Any]) -> list[Any]:
    """Parts of what is there already are merged into it, by index or by id; all else is new."""
    for item in items:
        known = _same(kept, item) if isinstance(item, dict) else None
        if known is not None:
            _merge(known, item)
        else:
            kept.append(_listed(item))
    return kept


def _same(kept: list[Any], item: _Value) -> _Value | None:
    """The one that *item* is a part of. Several calls with one index (Gemini) are told apart by their ids."""
    index, name = item.get("index"), item.get("id")
    if index is None and not name and "function" not in item:
        return None
    for known in reversed(kept):
        if isinstance(known, dict) and _is_part(index, name, known):
            return known
    return None


def _is_part(index: Any, name: Any, known: _Value) -> bool:
    if name and known.get("id"):
        return bool(name == known["id"] and index == known.get("index"))
    return index == known.get("index") if index is not None else not name  # that names neither: of the last one


def _json(value: _Value, *, ensure_ascii: bool) -> str:
    return json.dumps(_joined(value), ensure_ascii=ensure_ascii, separators=(",", ":"))


def _joined(value: Any) -> Any:
    """The same with its texts in one piece."""
    if isinstance(value, _Text):
        return "".join(value)
    if isinstance(value, dict):
        return {name: _joined(member) for name, member in value.items()}
    return [_joined(item) for item in value] if isinstance(value, list) else value


def _parsed(data: bytes) -> _Value | None:
    try:
        value = _decode(data.decode())
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
