"""What a request body asks, as far as the simulator must know it; what it does not take is said, never ignored."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from math import ceil
from typing import Any

import msgspec

BYTES_PER_TOKEN = 4
MEDIUM = 765 * BYTES_PER_TOKEN  # of text, as an image counts: what OpenAI takes for 1024 x 1024 in high detail
DEFAULT_MAX_TOKENS = 1024  # what a server that reserves max_tokens reserves where none is given
_MOST_CHOICES = 16
_MOST_DIMENSIONS = 4096
_TEXTS = ("text", "input_text", "output_text", "refusal")
_LABELS = re.compile(r"[oO][nN][eE] [oO][fF]\s*[:：]\s*([^\n.;。；]+)|之一\s*[:：]\s*([^\n.;。；]+)")
_COMMAS = re.compile(r"[,，、]")


class Endpoint(StrEnum):
    """What can be asked, by the end of the path."""

    CHAT = "chat/completions"
    COMPLETIONS = "completions"
    EMBEDDINGS = "embeddings"
    RESPONSES = "responses"
    RERANK = "rerank"
    MODERATIONS = "moderations"
    MODELS = "models"


@dataclass(frozen=True, slots=True)
class BadBodyError(Exception):
    """The body can't be answered. ``message`` is for the caller, ``field`` the name of what is wrong."""

    message: str
    field: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One request, read.

    ``prompt_bytes``: UTF-8 length of all texts, with images and files counted as text. ``labels``: the options that a
    message listed, empty if none did. ``inputs``: how many embeddings or completions were asked for, documents to rank,
    texts to judge. ``top``: how many of them to name. ``max_tokens`` None = the caller did not say. ``stream``: the
    answer is to come in pieces, ``include_usage``: with its usage. ``tool``: the function to call, as it was declared.
    """

    endpoint: Endpoint
    model: str
    prompt_bytes: int
    labels: tuple[str, ...] = ()
    inputs: int = 1
    max_tokens: int | None = None
    dimensions: int = 8
    base64: bool = False
    top: int | None = None
    stream: bool = False
    include_usage: bool = False
    tool: Mapping[str, Any] | None = None

    @property
    def writes(self) -> bool:
        """Whether the answer is text, so that it costs output too."""
        return self.endpoint in (Endpoint.CHAT, Endpoint.COMPLETIONS, Endpoint.RESPONSES)

    @property
    def prompt_estimate(self) -> int:
        """Tokens of the prompt as a server guesses them before it has counted."""
        return max(1, ceil(self.prompt_bytes / BYTES_PER_TOKEN))


class _Part(msgspec.Struct):
    type: str
    text: str = ""


class _Turn(msgspec.Struct, kw_only=True):
    content: str | list[_Part] | None = None

    @property
    def text(self) -> str:
        if isinstance(self.content, str):
            return self.content
        return "\n".join(part.text for part in self.content or ())

    @property
    def media(self) -> int:
        """Parts that are no text."""
        parts = () if isinstance(self.content, str) else self.content or ()
        return sum(part.type not in _TEXTS for part in parts)


class _Message(_Turn, kw_only=True):
    role: str


class _StreamOptions(msgspec.Struct):
    include_usage: bool | None = None


class _Body(msgspec.Struct):
    model: str
    stream: bool | None = None
    stream_options: _StreamOptions | None = None

    @property
    def wants_usage(self) -> bool:
        return self.stream_options is not None and bool(self.stream_options.include_usage)


class _Chat(_Body):
    messages: list[_Message] = []
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    n: int | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None


class _Completion(_Body):
    prompt: str | list[str] = ""
    max_tokens: int | None = None


class _Response(_Body):
    input: str | list[_Turn] = ""
    instructions: str | None = None
    max_output_tokens: int | None = None


class _Rerank(_Body):
    query: str = ""
    documents: list[str | dict[str, Any]] = []
    top_n: int | None = None


class _Moderation(msgspec.Struct):
    input: str | list[str | _Part]
    model: str = "sim-moderation"


class _Embedding(_Body):
    input: str | list[str | int | list[int]] = ""
    dimensions: int | None = None
    encoding_format: str | None = None


_CHAT = msgspec.json.Decoder(_Chat)
_COMPLETION = msgspec.json.Decoder(_Completion)
_EMBEDDING = msgspec.json.Decoder(_Embedding)
_RESPONSE = msgspec.json.Decoder(_Response)
_RERANK = msgspec.json.Decoder(_Rerank)
_MODERATION = msgspec.json.Decoder(_Moderation)


def read_question(endpoint: Endpoint, body: bytes) -> Question:
    """Read *body*. Raises BadBodyError."""
    try:
        match endpoint:
            case Endpoint.CHAT:
                return _chat(_CHAT.decode(body))
            case Endpoint.COMPLETIONS:
                return _completion(_COMPLETION.decode(body))
            case Endpoint.RESPONSES:
                return _response(_RESPONSE.decode(body))
            case Endpoint.RERANK:
                return _rerank(_RERANK.decode(body))
            case Endpoint.MODERATIONS:
                return _moderation(_MODERATION.decode(body))
            case _:
                return _embedding(_EMBEDDING.decode(body))
    except msgspec.ValidationError as error:
        raise BadBodyError(f"Invalid request: {error}") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadBodyError(f"We could not parse the JSON body of your request: {error}") from error


def find_labels(text: str) -> tuple[str, ...]:
    """The options that *text* lists as ``one of: a, b, c`` or ``之一：甲、乙、丙``; empty if it lists none."""
    found = _LABELS.search(text)
    if found is None:
        return ()
    labels = (label.strip().removeprefix("or ").strip(" \"'`“”「」") for label in _COMMAS.split(found[1] or found[2]))
    return tuple(label for label in labels if label)


def _chat(body: _Chat) -> Question:
    if not body.messages:
        raise BadBodyError("Missing required parameter: 'messages'.", "messages")
    if body.n is not None and not 1 <= body.n <= _MOST_CHOICES:
        raise BadBodyError(f"'n' must be from 1 to {_MOST_CHOICES}.", "n")
    texts = [message.text for message in body.messages]
    max_tokens = body.max_tokens if body.max_completion_tokens is None else body.max_completion_tokens
    return Question(
        endpoint=Endpoint.CHAT,
        model=body.model,
        prompt_bytes=_length(texts) + MEDIUM * sum(message.media for message in body.messages),
        labels=next(filter(None, map(find_labels, texts)), ()),
        inputs=body.n or 1,
        max_tokens=_checked_max_tokens(max_tokens),
        stream=bool(body.stream),
        include_usage=body.wants_usage,
        tool=_tool(body),
    )


def _tool(body: _Chat) -> Mapping[str, Any] | None:
    """The function to call: the one that is asked for, else the first; none where a call was just answered."""
    declared = [tool["function"] for tool in body.tools or () if isinstance(tool.get("function"), dict)]
    if body.tool_choice == "none" or body.messages[-1].role == "tool":
        return None
    if isinstance(body.tool_choice, dict):
        chosen = body.tool_choice.get("function")
        declared = [tool for tool in declared if isinstance(chosen, dict) and tool.get("name") == chosen.get("name")]
    return declared[0] if declared else None


def _completion(body: _Completion) -> Question:
    prompts = [body.prompt] if isinstance(body.prompt, str) else body.prompt
    if not any(prompts):
        raise BadBodyError("Missing required parameter: 'prompt'.", "prompt")
    return Question(
        endpoint=Endpoint.COMPLETIONS,
        model=body.model,
        prompt_bytes=_length(prompts),
        labels=next(filter(None, map(find_labels, prompts)), ()),
        inputs=len(prompts),
        max_tokens=_checked_max_tokens(body.max_tokens),
        stream=bool(body.stream),
        include_usage=body.wants_usage,
    )


def _response(body: _Response) -> Question:
    turns = [_Turn(content=body.input)] if isinstance(body.input, str) else body.input
    media = sum(turn.media for turn in turns)
    if not media and not any(turn.text for turn in turns):
        raise BadBodyError("Missing required parameter: 'input'.", "input")
    texts = [body.instructions or "", *(turn.text for turn in turns)]
    return Question(
        endpoint=Endpoint.RESPONSES,
        model=body.model,
        prompt_bytes=_length(texts) + MEDIUM * media,
        labels=next(filter(None, map(find_labels, texts)), ()),
        max_tokens=_checked_max_tokens(body.max_output_tokens, "max_output_tokens"),
        stream=bool(body.stream),
    )


def _rerank(body: _Rerank) -> Question:
    if not body.query or not body.documents:
        missing = "documents" if body.query else "query"
        raise BadBodyError(f"Missing required parameter: '{missing}'.", missing)
    texts = [each if isinstance(each, str) else str(each.get("text", "")) for each in body.documents]
    return Question(
        endpoint=Endpoint.RERANK,
        model=body.model,
        prompt_bytes=_length([body.query, *texts]),
        inputs=len(texts),
        top=body.top_n,
    )


def _moderation(body: _Moderation) -> Question:
    given = [body.input] if isinstance(body.input, str) else body.input
    texts = [each if isinstance(each, str) else each.text for each in given]
    if not texts:
        raise BadBodyError("Missing required parameter: 'input'.", "input")
    return Question(endpoint=Endpoint.MODERATIONS, model=body.model, prompt_bytes=_length(texts), inputs=len(texts))


def _embedding(body: _Embedding) -> Question:
    if body.stream:
        raise BadBodyError("Embeddings can't be streamed.", "stream")
    dimensions = 8 if body.dimensions is None else body.dimensions
    if not body.input:
        raise BadBodyError("Missing required parameter: 'input'.", "input")
    if not 1 <= dimensions <= _MOST_DIMENSIONS:
        raise BadBodyError(f"'dimensions' must be from 1 to {_MOST_DIMENSIONS}.", "dimensions")
    if body.encoding_format not in (None, "float", "base64"):
        raise BadBodyError("'encoding_format' must be 'float' or 'base64'.", "encoding_format")
    size, inputs = _measure(body.input)
    return Question(
        endpoint=Endpoint.EMBEDDINGS,
        model=body.model,
        prompt_bytes=size,
        inputs=inputs,
        dimensions=dimensions,
        base64=body.encoding_format == "base64",
    )


def _measure(given: str | list[str | int | list[int]]) -> tuple[int, int]:
    """Bytes and number of the texts to embed; a list of integers is one text, already cut into tokens."""
    if isinstance(given, str):
        return len(given.encode()), 1
    if all(isinstance(item, int) for item in given):
        return BYTES_PER_TOKEN * len(given), 1
    if any(isinstance(item, int) for item in given):
        raise BadBodyError("'input' mixes tokens and texts.", "input")
    sizes = [
        len(item.encode()) if isinstance(item, str) else BYTES_PER_TOKEN * len(item)
        for item in given
        if not isinstance(item, int)
    ]
    return sum(sizes), len(sizes)


def _checked_max_tokens(value: int | None, name: str = "max_tokens") -> int | None:
    if value is not None and value < 1:
        raise BadBodyError(f"'{name}' must be 1 or more.", name)
    return value


def _length(texts: list[str]) -> int:
    return sum(len(text) if text.isascii() else len(text.encode()) for text in texts)
