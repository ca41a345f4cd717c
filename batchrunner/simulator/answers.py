"""Canned answers, computed from the body alone: the same body brings the same bytes, every time and on every machine.

Each is marked as simulated (``system_fingerprint``, ids that begin with ``chatcmpl-sim-`` and the like).
"""

from array import array
from base64 import b64encode
from dataclasses import dataclass
from hashlib import blake2b
from math import ceil, exp
from statistics import NormalDist
from sys import byteorder

import msgspec

from batchrunner.simulator.questions import BYTES_PER_TOKEN, DEFAULT_MAX_TOKENS, Endpoint, Question
from batchrunner.simulator.tools import make_arguments

FINGERPRINT = "simulated"
CREATED = 1_767_225_600  # the first second of 2026, always: else the same body would not bring the same bytes
DEFAULT_MODEL = "sim-1"
_LONGEST = 400  # tokens of one answer
# fmt: off
_WORDS = (
    "the", "a", "one", "some", "this", "that", "every", "many", "small", "large", "early", "late", "clear",
    "plain", "quiet", "bright", "river", "mountain", "garden", "letter", "window", "market", "teacher",
    "engine", "signal", "number", "story", "answer", "question", "morning", "evening", "winter", "summer",
    "city", "village", "road", "holds", "gives", "takes", "shows", "keeps", "brings", "makes", "finds", "and",
    "or", "but", "while", "because", "before", "after", "near", "under", "over", "with", "without", "slowly",
    "quickly", "often",
)
# fmt: on
_CATEGORIES = (
    *("harassment", "harassment/threatening", "hate", "hate/threatening", "illicit", "illicit/violent"),
    *("self-harm", "self-harm/instructions", "self-harm/intent", "sexual", "sexual/minors"),
    *("violence", "violence/graphic"),
)
_FLAGGED = 0.95  # a score above it
_ENCODER = msgspec.json.Encoder()
_NORMAL = NormalDist()


@dataclass(frozen=True, slots=True, kw_only=True)
class CannedAnswer:
    """An answer as JSON, and the tokens it says it used."""

    body: bytes
    prompt_tokens: int
    completion_tokens: int

    @property
    def tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens


@dataclass(frozen=True, slots=True)
class _Text:
    content: str
    tokens: int
    finish_reason: str


def make_answer(question: Question, digest: bytes, *, seed: int) -> CannedAnswer:
    """The answer to *question*, whose body hashed to *digest*."""
    noise = blake2b(digest, key=str(seed).encode()[:64], digest_size=64).digest()
    prompt_tokens = _prompt_tokens(question, noise)
    if not question.writes:
        answer = _OTHERS[question.endpoint](question, noise, prompt_tokens)
        return CannedAnswer(body=_ENCODER.encode(answer), prompt_tokens=prompt_tokens, completion_tokens=0)
    texts = [_text(question, noise, index) for index in range(question.inputs)]
    completion_tokens = sum(text.tokens for text in texts)
    if question.endpoint is Endpoint.RESPONSES:
        answer = _response(question, noise, texts[0], prompt_tokens)
    else:
        make = _chat if question.endpoint is Endpoint.CHAT else _completions
        answer = make(question, noise, texts) | {"usage": _usage(prompt_tokens, completion_tokens)}
    return CannedAnswer(body=_ENCODER.encode(answer), prompt_tokens=prompt_tokens, completion_tokens=completion_tokens)


def models_answer(models: tuple[str, ...]) -> bytes:
    """The list of models, as ``GET /models`` answers it."""
    entries = [
        {"id": model, "object": "model", "created": CREATED, "owned_by": "simulated"}
        for model in models or (DEFAULT_MODEL,)
    ]
    return _ENCODER.encode({"object": "list", "data": entries})


def _chat(question: Question, noise: bytes, texts: list[_Text]) -> dict[str, object]:
    return {
        "id": f"chatcmpl-sim-{noise[:12].hex()}",
        "object": "chat.completion",
        "created": CREATED,
        "model": question.model,
        "system_fingerprint": FINGERPRINT,
        "choices": [
            {
                "index": index,
                "message": _message(question, noise, text),
                "logprobs": None,
                "finish_reason": text.finish_reason,
            }
            for index, text in enumerate(texts)
        ],
    }


def _message(question: Question, noise: bytes, text: _Text) -> dict[str, object]:
    if question.tool is None:
        return {"role": "assistant", "content": text.content}
    function = {"name": str(question.tool.get("name")), "arguments": text.content}
    call = {"id": f"call-sim-{noise[12:24].hex()}", "type": "function", "function": function}
    return {"role": "assistant", "content": None, "tool_calls": [call]}


def _completions(question: Question, noise: bytes, texts: list[_Text]) -> dict[str, object]:
    return {
        "id": f"cmpl-sim-{noise[:12].hex()}",
        "object": "text_completion",
        "created": CREATED,
        "model": question.model,
        "system_fingerprint": FINGERPRINT,
        "choices": [
            {"index": index, "text": text.content, "logprobs": None, "finish_reason": text.finish_reason}
            for index, text in enumerate(texts)
        ],
    }


def _response(question: Question, noise: bytes, text: _Text, prompt_tokens: int) -> dict[str, object]:
    is_whole = text.finish_reason == "stop"
    message = {
        "id": f"msg-sim-{noise[12:24].hex()}",
        "type": "message",
        "status": "completed" if is_whole else "incomplete",
        "role": "assistant",
        "content": [{"type": "output_text", "text": text.content, "annotations": []}],
    }
    return {
        "id": f"resp-sim-{noise[:12].hex()}",
        "object": "response",
        "created_at": CREATED,
        "status": message["status"],
        "error": None,
        "incomplete_details": None if is_whole else {"reason": "max_output_tokens"},
        "instructions": None,
        "metadata": {"system_fingerprint": FINGERPRINT},
        "model": question.model,
        "output": [message],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "usage": {
            "input_tokens": prompt_tokens,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": text.tokens,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": prompt_tokens + text.tokens,
        },
    }


def _rerank(question: Question, noise: bytes, prompt_tokens: int) -> dict[str, object]:
    scores = [round(_share(noise, index), 6) for index in range(question.inputs)]
    ranked = sorted(range(question.inputs), key=lambda index: -scores[index])[: question.top]
    return {
        "id": f"rerank-sim-{noise[:12].hex()}",
        "model": question.model,
        "system_fingerprint": FINGERPRINT,
        "results": [{"index": index, "relevance_score": scores[index]} for index in ranked],
        "usage": {"prompt_tokens": prompt_tokens, "total_tokens": prompt_tokens},
    }


def _moderations(question: Question, noise: bytes, _: int) -> dict[str, object]:
    results = []
    for index in range(question.inputs):
        scores = {name: round(_share(noise, 16 * index + at) ** 4, 6) for at, name in enumerate(_CATEGORIES)}
        flags = {name: score > _FLAGGED for name, score in scores.items()}
        results.append({"flagged": any(flags.values()), "categories": flags, "category_scores": scores})
    return {
        "id": f"modr-sim-{noise[:12].hex()}",
        "model": question.model,
        "system_fingerprint": FINGERPRINT,
        "results": results,
    }


def _share(noise: bytes, index: int) -> float:
    """A number from 0 to 1 that belongs to the answer's *index*-th part."""
    return int.from_bytes(blake2b(b"%d" % index, key=noise, digest_size=4).digest()) / 2**32


def _embeddings(question: Question, noise: bytes, prompt_tokens: int) -> dict[str, object]:
    entries = [
        {"object": "embedding", "index": index, "embedding": _vector(question, noise, index)}
        for index in range(question.inputs)
    ]
    return {
        "object": "list",
        "data": entries,
        "model": question.model,
        "system_fingerprint": FINGERPRINT,
        "usage": {"prompt_tokens": prompt_tokens, "total_tokens": prompt_tokens},
    }


_OTHERS = {
    Endpoint.EMBEDDINGS: _embeddings,
    Endpoint.RERANK: _rerank,
    Endpoint.MODERATIONS: _moderations,
}


def _usage(prompt_tokens: int, completion_tokens: int) -> dict[str, int]:
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
    }


def _prompt_tokens(question: Question, noise: bytes) -> int:
    # A real tokenizer is off the guess of bytes/4 by some tens of per cent, differently for each text.
    factor = 0.9 + 0.4 * noise[62] / 255
    return max(1, ceil(question.prompt_bytes / BYTES_PER_TOKEN * factor))


def _text(question: Question, noise: bytes, index: int) -> _Text:
    most = min(_LONGEST, question.max_tokens or DEFAULT_MAX_TOKENS)
    if question.tool is not None:
        arguments = make_arguments(question.tool.get("parameters"), noise)
        return _Text(arguments, max(1, ceil(len(arguments) / BYTES_PER_TOKEN)), "tool_calls")
    if question.labels:
        label = question.labels[int.from_bytes(noise[40:48]) % len(question.labels)]
        return _Text(label, min(most, max(1, ceil(len(label.encode()) / BYTES_PER_TOKEN))), "stop")
    wanted = 8 + int(32 * exp(0.6 * _NORMAL.inv_cdf((int.from_bytes(noise[48:52]) + 0.5) / 2**32)))
    tokens = min(most, wanted)
    words = " ".join([_WORDS[(noise[at % 61] + 7 * at + index) % len(_WORDS)] for at in range(tokens)])
    return _Text(words, tokens, "stop" if wanted <= most else "length")


def _vector(question: Question, noise: bytes, index: int) -> list[float] | str:
    """Unit-length, in single precision: as floats, or as base64 of little-endian 32-bit floats."""
    size = question.dimensions
    raw = b"".join(
        blake2b(b"%d %d" % (index, block), key=noise, digest_size=64).digest() for block in range((size + 31) // 32)
    )
    numbers = [int.from_bytes(raw[2 * at : 2 * at + 2]) - 32767.5 for at in range(size)]
    length = sum(number * number for number in numbers) ** 0.5
    vector = array("f", [number / length for number in numbers])
    if not question.base64:
        return vector.tolist()
    if byteorder == "big":
        vector.byteswap()
    return b64encode(vector.tobytes()).decode()
