"""Counts the tokens of prompts exactly, by the tokenizer.json of a model's repository; nothing is downloaded.

It needs the package ``tokenizers``, an extra. What is counted is the text of the prompt, not the JSON around it; what
a server adds (the chat template, how it words the tools) is learned from ``usage``, as is all that a tokenizer of
another model gets wrong. A body in which no prompt is found, or that can't be counted, is measured by its bytes.
"""

import json
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from batchrunner.errors import ConfigError
from batchrunner.size import KEPT, Measure, Size, by_bytes, count_media

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_PROMPT = ("system", "instructions", "messages", "prompt", "suffix", "input", "query", "documents")
# In these stands text, or what holds text; not so role, type, id, and the base64 of images.
_TEXT = ("content", "text", "name", "reasoning_content", "tool_calls", "function", "arguments", "output")
_TOOLS = ("tools", "functions")
_PROBE = "Hello 你好 \U0001f642 \ue000"  # of many scripts, and a character that no vocabulary holds


def measure_of(path: str | Path | None) -> Measure:
    """What counts by this file, or by bytes where there is none.

    Raises ConfigError where the package is missing or the file is no good.
    """
    if not path:
        return by_bytes
    tokenizer = _load(Path(path))

    @lru_cache(maxsize=KEPT)
    def measure(body: str) -> Size:
        tokens = _tokens(tokenizer, body)
        return by_bytes(body) if tokens is None else Size(float(tokens), count_media(body), counted=True)

    return measure


def _load(path: Path) -> "Tokenizer":
    try:
        from tokenizers import Tokenizer
    except ImportError as error:
        raise ConfigError("--tokenizer needs a package more: pip install 'batchrunner[tokenizer]'") from error
    try:
        tokenizer = Tokenizer.from_buffer(path.read_bytes())
        tokenizer.no_truncation()  # some files ask for it, and then no prompt would be longer than 512
        tokenizer.no_padding()
        _count(tokenizer, [_PROBE])
    except OSError as error:
        raise ConfigError(
            f"--tokenizer {path}: can't be read ({error.strerror}); --tokenizer '' does without"
        ) from error
    except Exception as error:  # the package raises nothing narrower
        raise ConfigError(
            f"--tokenizer {path}: is no tokenizer ({error}); it should be the tokenizer.json of the model's repository"
        ) from error
    return tokenizer


def _tokens(tokenizer: "Tokenizer", body: str) -> int | None:
    try:
        asked = json.loads(body)
        if not isinstance(asked, dict) or asked.keys().isdisjoint(_PROMPT):
            return None
        parts = list(_parts(asked))
        texts = [part for part in parts if isinstance(part, str)]
        return _count(tokenizer, texts) + len(parts) - len(texts)
    except Exception:  # noqa: BLE001  (the package raises nothing narrower, and no body is worth a run)
        return None


def _count(tokenizer: "Tokenizer", texts: list[str]) -> int:
    """All at once: unlike one by one, that lets other threads work meanwhile, and a megabyte takes a while."""
    sound = [text.encode("utf-8", "replace").decode() for text in texts]  # half a surrogate is no text for it
    return sum(len(each) for each in tokenizer.encode_batch_fast(sound, add_special_tokens=False))


def _parts(asked: dict[str, Any]) -> Iterator[str | int]:
    """The texts of a prompt; numbers are tokens already."""
    for name in _PROMPT:
        yield from _flat(asked.get(name))
    for name in _TOOLS:
        if tools := asked.get(name):
            yield json.dumps(tools, ensure_ascii=False)


def _flat(value: Any) -> Iterator[str | int]:
    match value:
        case str() | int():
            yield value
        case list():
            for each in value:
                yield from _flat(each)
        case dict():
            for name in _TEXT:
                yield from _flat(value.get(name))
