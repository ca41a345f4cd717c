"""How large a prompt is before anybody counted its tokens: bytes of text, and the images and files beside it. Pure.

Inline images, sound and documents are written into a body as base64, but no provider counts those bytes as text: an
image of 500 kB takes some hundreds of tokens, not a hundred thousand.
"""

import re
from dataclasses import dataclass
from functools import lru_cache

# Inside a JSON string the quotes would be escaped, so a prompt that speaks of such a part is not taken for one.
MEDIA = (
    r'"type"\s*:\s*"(?:image|image_url|input_image|audio|input_audio|video|video_url|'
    r'file|file_url|input_file|document)"'
)
_MEDIA = re.compile(MEDIA)
_INLINE = re.compile(r"[A-Za-z0-9+/=_-]{256,}")  # base64 of either alphabet; no word of a text is as long
_KEPT = 16  # sizes of bodies that are asked for again and again, while they wait for their turn


@dataclass(frozen=True, slots=True)
class Size:
    """``text``: UTF-8 bytes, the JSON around the prompt included. ``media``: images, sound, films and files."""

    text: int
    media: int = 0


@lru_cache(maxsize=_KEPT)
def measure(body: str) -> Size:
    """Of a request's body."""
    media = len(_MEDIA.findall(body))
    if not media:
        return Size(_bytes(body))
    plain = body.replace("\\/", "/")  # as some writers of JSON escape it
    inline = sum(found.end() - found.start() for found in _INLINE.finditer(plain))
    return Size(_bytes(plain) - inline, media)


def _bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
