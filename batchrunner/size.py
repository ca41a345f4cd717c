"""How large a prompt is before anybody counted its tokens: bytes of text, and the images and files beside it. Pure.

Inline images, sound and documents are written into a body as base64, but no provider counts those bytes as text: an
image of 500 kB takes some hundreds of tokens, not a hundred thousand.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

BYTES_PER_TOKEN = 4.0  # within +17/-26 % on five corpora, in Chinese as in English (characters / 4: off by three times)
KEPT = 64  # sizes of bodies that are asked for again and again while they wait for their turn: one a model
# Inside a JSON string the quotes would be escaped, so a prompt that speaks of such a part is not taken for one.
MEDIA = (
    r'"type"\s*:\s*"(?:image|image_url|input_image|audio|input_audio|video|video_url|'
    r'file|file_url|input_file|document)"'
)
_MEDIA = re.compile(MEDIA)
_INLINE = re.compile(r"[A-Za-z0-9+/=_-]{256,}")  # base64 of either alphabet; no word of a text is as long


@dataclass(frozen=True, slots=True)
class Size:
    """``tokens`` of the text, as far as can be told before an answer says. ``media``: images, sound, films, files.

    ``counted``: by a tokenizer, not guessed.
    """

    tokens: float
    media: int = 0
    counted: bool = False


NOTHING = Size(0.0)
Measure = Callable[[str], Size]  # of a request's body


@lru_cache(maxsize=KEPT)
def by_bytes(body: str) -> Size:
    """UTF-8 bytes over four, the JSON around the prompt included."""
    media = count_media(body)
    if not media:
        return Size(_bytes(body) / BYTES_PER_TOKEN)
    plain = body.replace("\\/", "/")  # as some writers of JSON escape it
    inline = sum(found.end() - found.start() for found in _INLINE.finditer(plain))
    return Size((_bytes(plain) - inline) / BYTES_PER_TOKEN, media)


def count_media(body: str) -> int:
    """How many parts of a body are no text."""
    return len(_MEDIA.findall(body))


def _bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
