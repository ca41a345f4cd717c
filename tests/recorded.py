"""Recorded replies of real providers, and what each means; read here as the client reads them.

``vectors/varied.json`` and ``vectors/wordings.json`` hold none of them: the replies of the one follow the same laws
with other numbers, the words of the other are from memory of documents and of what users quote. Those of
``vectors/quoted.json`` were looked up, each at its source, but for most only the body is known; ids are made up.
"""

import json
from datetime import datetime
from pathlib import Path
from typing import Any

from batchrunner.api.incoming import IncomingReply
from batchrunner.provider import GENERIC, Provider, load_provider, provider_names
from batchrunner.task import Failure, Success

VECTORS = Path(__file__).parent / "vectors"
ANSWER = b'{"choices": [{"message": {"content": "yes"}, "finish_reason": "stop"}], "usage": {"prompt_tokens": 7}}'


def vectors(folder: Path) -> list[dict[str, Any]]:
    """Those of replies; some are of a broken connection, which has no status."""
    files = sorted(folder.glob("*.json"))
    found = [vector for path in files for vector in json.loads(path.read_text(encoding="utf-8"))]
    return [vector for vector in found if vector["status"] is not None]


def read(vector: dict[str, Any]) -> Success | Failure:
    """As the client reads it: a body that is text came as a stream."""
    body = vector["body"]
    raw = ANSWER if body is None and vector["status"] == 200 else json.dumps(body).encode()
    provider = provider_of(vector["provider"])
    headers = [(name, str(value)) for name, value in vector["headers"].items()]
    reply = IncomingReply(vector["status"], headers, provider=provider)
    reply.feed(body.encode() if isinstance(body, str) else raw)
    return reply.outcome(endpoint="chat/completions", now=now_of(vector))


def now_of(vector: dict[str, Any]) -> float:
    return 0.0 if vector["now"] is None else datetime.fromisoformat(vector["now"]).timestamp()


def provider_of(name: str) -> Provider:
    """A vector's own; some name one that we have no file for."""
    known = name.removesuffix("-seed")
    return load_provider(known) if known in provider_names() else GENERIC


RECORDED = vectors(VECTORS)
