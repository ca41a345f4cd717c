"""What a request body asks, as far as the simulator must know it; what it does not take is said, never ignored."""

import re
from dataclasses import dataclass
from enum import StrEnum
from math import ceil

import msgspec

BYTES_PER_TOKEN = 4
DEFAULT_MAX_TOKENS = 1024  # what a server that reserves max_tokens reserves where none is given
_MOST_CHOICES = 16
_MOST_DIMENSIONS = 4096
_LABELS = re.compile(r"[oO][nN][eE] [oO][fF]\s*[:：]\s*([^\n.;。；]+)|之一\s*[:：]\s*([^\n.;。；]+)")
_COMMAS = re.compile(r"[,，、]")


class Endpoint(StrEnum):
    """What can be asked, by the end of the path."""

    CHAT = "chat/completions"
    COMPLETIONS = "completions"
    EMBEDDINGS = "embeddings"
    MODELS = "models"


@dataclass(frozen=True, slots=True)
class BadBodyError(Exception):
    """The body can't be answered. ``message`` is for the caller, ``field`` the name of what is wrong."""

    message: str
    field: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One request, read.

    ``prompt_bytes``: UTF-8 length of all texts. ``labels``: the options a message listed, empty if none did.
    ``inputs``: how many embeddings or completions were asked for. ``max_tokens`` None = the caller did not say.
    """

    endpoint: Endpoint
    model: str
    prompt_bytes: int
    labels: tuple[str, ...] = ()
    inputs: int = 1
    max_tokens: int | None = None
    dimensions: int = 8
    base64: bool = False

    @property
    def prompt_estimate(self) -> int:
        """Tokens of the prompt as a server guesses them before it has counted."""
        return max(1, ceil(self.prompt_bytes / BYTES_PER_TOKEN))


class _Part(msgspec.Struct):
    type: str
    text: str = ""


class _Message(msgspec.Struct):
    role: str
    content: str | list[_Part] | None = None

    @property
    def text(self) -> str:
        if isinstance(self.content, str):
            return self.content
        return "\n".join(part.text for part in self.content or ())


class _Body(msgspec.Struct):
    model: str
    stream: bool | None = None


class _Chat(_Body):
    messages: list[_Message] = []
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    n: int | None = None


class _Completion(_Body):
    prompt: str | list[str] = ""
    max_tokens: int | None = None


class _Embedding(_Body):
    input: str | list[str | int | list[int]] = ""
    dimensions: int | None = None
    encoding_format: str | None = None


_CHAT = msgspec.json.Decoder(_Chat)
_COMPLETION = msgspec.json.Decoder(_Completion)
_EMBEDDING = msgspec.json.Decoder(_Embedding)


def read_question(endpoint: Endpoint, body: bytes) -> Question:
    """Read *body*. Raises BadBodyError."""
    try:
        if endpoint is Endpoint.CHAT:
            return _chat(_CHAT.decode(body))
        if endpoint is Endpoint.COMPLETIONS:
            return _completion(_COMPLETION.decode(body))
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
    _check_stream(body)
    if not body.messages:
        raise BadBodyError("Missing required parameter: 'messages'.", "messages")
    if body.n is not None and not 1 <= body.n <= _MOST_CHOICES:
        raise BadBodyError(f"'n' must be from 1 to {_MOST_CHOICES}.", "n")
    texts = [message.text for message in body.messages]
    max_tokens = body.max_tokens if body.max_completion_tokens is None else body.max_completion_tokens
    return Question(
        endpoint=Endpoint.CHAT,
        model=body.model,
        prompt_bytes=_length(texts),
        labels=next(filter(None, map(find_labels, texts)), ()),
        inputs=body.n or 1,
        max_tokens=_checked_max_tokens(max_tokens),
    )


def _completion(body: _Completion) -> Question:
    _check_stream(body)
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
    )


def _embedding(body: _Embedding) -> Question:
    _check_stream(body)
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


def _check_stream(body: _Body) -> None:
    if body.stream:
        raise BadBodyError('streaming is not simulated yet; leave out "stream" or set it to false', "stream")


def _checked_max_tokens(value: int | None) -> int | None:
    if value is not None and value < 1:
        raise BadBodyError("'max_tokens' must be 1 or more.", "max_tokens")
    return value


def _length(texts: list[str]) -> int:
    return sum(len(text) if text.isascii() else len(text.encode()) for text in texts)
