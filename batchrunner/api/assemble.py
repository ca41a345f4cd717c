"""The events of a stream into the one object that the same request would have brought without a stream. Pure.

Chat and text completions come as chunks whose parts are appended to one another, by index; the responses API sends the
whole object at its end. A field that is not known is kept: text is appended, what names something (an id, a role)
stands as it came first. An ``error`` in a chunk, or an event of that name, ends the answer and becomes its ``error``.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from batchrunner.api.sse import Event

DONE = b"[DONE]"
EXCERPT = 200  # bytes of what is no JSON that are told
DEEPEST = 100  # levels in one another; what goes deeper says nothing, and would exhaust the stack
# Unlike msgspec, it takes half a character; NaN and -Infinity, which no JSON has, become null.
_decode = json.JSONDecoder(parse_constant=lambda _: None).decode
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
        self._items: list[Any] = []  # likewise
        self._others: list[_Value] = []  # events of no kind that is known

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
        if chunk is None and not event.data.strip():  # to keep the connection alive
            return False
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

    @property
    def is_foreign(self) -> bool:
        """Whether nothing in it is known, and nothing is wrong with it: a stream of another kind of API."""
        if not self._others or self._choices or self._response is not None or self.has_error or self.trouble:
            return False
        first, last = self._others[0].get("type"), self._others[-1].get("type")
        return first != "message_start" or last == "message_stop"  # Anthropic's says how it ends

    def events(self) -> bytes:
        """The events of a foreign stream, and their usage, as JSON."""
        value: _Value = {"events": self._others}
        return _json(value if self._usage is None else {**value, "usage": self._usage}, ensure_ascii=True).encode()

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
        """It ends the answer, and takes nothing away from one that was whole."""
        self.is_over = True
        if not self.is_whole:
            inner = error.get("error") if isinstance(error, dict) else None
            self._error = error if inner is None else inner
        return False

    # -- completions

    def _add_chunk(self, chunk: _Value) -> bool:
        self._add_top(chunk)
        choices, began = chunk.get("choices"), False
        if "choices" not in chunk:
            self._others.append(chunk)
        for place, choice in enumerate(choices if isinstance(choices, list) else ()):
            began = (isinstance(choice, dict) and self._add_choice(choice, place)) or began
        return began

    def _add_top(self, chunk: Mapping[str, Any]) -> None:
        """What stands beside the choices; the newest counts, but for what names the answer."""
        for place in (chunk.get("message"), chunk.get("x_groq"), chunk):  # Anthropic's, Groq's and all others'
            self._add_usage(place.get("usage") if isinstance(place, dict) else None)
        for name, value in chunk.items():
            if name in ("choices", "usage", "error") or name in _PADDING or (value in (None, "") and name in self._top):
                continue
            if name in _ONCE and self._top.get(name) not in (None, ""):
                continue
            old = self._top.get(name)
            both = isinstance(old, dict) and isinstance(value, dict)
            self._top[name] = {**old, **value} if both else value  # type: ignore[dict-item]  # checked a line above

    def _add_usage(self, usage: Any) -> None:
        """The newest counts; what it leaves out stands as it was told before."""
        both = isinstance(usage, dict) and isinstance(self._usage, dict)
        self._usage = self._usage | usage if both else usage or self._usage

    def _add_choice(self, choice: _Value, place: int) -> bool:
        index = choice.get("index")
        kept = self._choices.setdefault(index if isinstance(index, int) else place, {})
        began = False
        for name, value in choice.items():
            match name:
                case "delta" if isinstance(value, dict):
                    _merge(_dict_in(kept, "message"), value)
                    began = began or any(value.get(text) for text in _TEXTS)
                case "message" if isinstance(value, dict) and not isinstance(choice.get("delta"), dict):
                    kept["message"] = _listed_dict(value)
                case "text" if value is not None:
                    _merge(kept, {"text": value})
                    began = began or bool(value)
                case "usage":  # Moonshot's place
                    self._add_usage(value)
                case "logprobs" if isinstance(value, dict):
                    _extend(_dict_in(kept, "logprobs"), value)
                case "index" | "delta" | "message":  # the whole so far stands beside what is new (Perplexity)
                    continue
                case _ if value not in (None, ""):  # a finish_reason that is not there yet is empty at some
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
        if kind == "response.output_item.done" and isinstance(chunk.get("item"), dict):
            self._items.append(chunk["item"])
        delta = chunk.get("delta")
        if kind == "response.output_text.delta" and isinstance(delta, str):
            self._text.append(delta)
        return kind.endswith(".delta") and bool(delta)

    def _whole_response(self) -> _Value:
        """The object as it was sent, whole; what is missing in it is made from what came in pieces."""
        assert self._response is not None
        if self._response.get("output") or not (self._text or self._items):
            return self._response
        has_text = any(item.get("type") == "message" for item in self._items) or not self._text
        content = [{"type": "output_text", "text": self._text, "annotations": []}]
        status = "completed" if self._response.get("status") == "completed" else "incomplete"
        message = {"type": "message", "role": "assistant", "status": status, "content": content}
        return {**self._response, "output": self._items if has_text else [*self._items, message]}


def _is_deep(value: Any) -> bool:
    """Whether it is nested deeper than anything that is meant."""
    level = [value]
    for _ in range(DEEPEST):
        level = [inner for item in level for inner in _members(item)]
        if not level:
            return False
    return True


def _members(value: Any) -> Iterable[Any]:
    return value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()


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
                for call in _in_order(calls)
            ]
        choice["message"] = message
    choice.setdefault("logprobs", None)
    choice.setdefault("finish_reason", None)
    return choice


def _in_order(calls: list[Any]) -> list[Any]:
    """By their index, whichever began first; as they came where one has none."""
    indices = [call.get("index") if isinstance(call, dict) else None for call in calls]
    return sorted(calls, key=lambda call: call["index"]) if all(isinstance(i, int) for i in indices) else calls


def _dict_in(kept: _Value, name: str) -> _Value:
    """The one of that name in it, made where there is none."""
    if not isinstance(kept.get(name), dict):
        kept[name] = {}
    found: _Value = kept[name]
    return found


def _extend(kept: _Value, more: _Value) -> None:
    """Append lists to lists and look into no item: of those in logprobs the names are tokens, "index" among them."""
    for name, value in more.items():
        old = kept.get(name)
        if isinstance(old, list) and isinstance(value, list):
            old += value
        elif old is None or value is not None:
            kept[name] = value


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
        return bool(name == known["id"] and (None in (index, known.get("index")) or index == known["index"]))
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
    return value if isinstance(value, dict) and not _is_deep(value) else None
