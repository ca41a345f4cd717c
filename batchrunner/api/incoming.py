"""A reply on its way: takes its bytes as they come, and says at the end what they were. Pure.

What was asked for as a stream need not come as one: an error, and the answer of a server that can't stream, is plain
JSON. The content type says which it is, and where that is wrong the first bytes do.
"""

import re
from collections.abc import Sequence
from dataclasses import replace

from batchrunner.api.assemble import Assembler
from batchrunner.api.reply import SHAPED, is_ok, read_reply
from batchrunner.api.sse import EventParser
from batchrunner.provider import GENERIC, Provider
from batchrunner.task import Failure, FailureClass, Success

EVENTS = "text/event-stream"
# A shorter key is a word ("EMPTY", "ollama") that servers without keys are given; answers and codes are full of words.
SECRET_IN_ERRORS, SECRET_IN_ANSWERS = 4, 12  # characters of a key from which on it is taken out
_PLAIN = (b"{", b"[", b"<")
_STREAMED = re.compile(rb"(\xef\xbb\xbf)?\s*(data|event|id|retry)?:")


class IncomingReply:
    """``feed`` it the body; ``outcome`` reads what came. *key*, where there is one, is taken out of what is kept."""

    def __init__(
        self,
        status: int,
        headers: Sequence[tuple[str, str]],
        *,
        key: bytes | None = None,
        provider: Provider = GENERIC,
    ) -> None:
        self._status, self._headers, self._key, self._provider = status, headers, key, provider
        self._parser, self._stream = EventParser(), Assembler()
        self._plain = bytearray()
        self._is_ok = is_ok(status)
        self._is_events = self._is_ok and any(
            name.lower() == "content-type" and EVENTS in value.lower() for name, value in headers
        )
        self._is_sure = not self._is_ok

    @property
    def is_events(self) -> bool:
        """Whether it is a stream, as far as is known by now."""
        return self._is_events

    @property
    def is_over(self) -> bool:
        """Whether nothing of worth comes any more, though the connection is still open."""
        return self._stream.is_over

    def feed(self, piece: bytes) -> bool:
        """Whether a part of the answer itself has now been seen, be it one token; a comment is none."""
        if not self._is_sure and (start := piece.lstrip()):
            is_stream = not start.startswith(_PLAIN) if self._is_events else _STREAMED.match(piece)
            self._is_events, self._is_sure = bool(is_stream), True
        if self._is_events:
            return self._add(piece)
        self._plain += piece
        return False

    def outcome(self, *, endpoint: str, now: float, cut: Failure | None = None) -> Success | Failure:
        """What the reply means. *cut*: why its end did not come, where it did not. *now*: UTC seconds."""
        if not self._is_events and self._is_ok and _STREAMED.match(self._plain):
            self._is_events = True
            self._add(bytes(self._plain))
        if not self._is_events:
            body = self._scrubbed(bytes(self._plain))
            if cut is not None:
                return replace(cut, status=self._status, body=body)
            return self._read(body, endpoint, now)
        if cut is None:
            for event in self._parser.close():
                self._stream.add(event)
        is_foreign = cut is None and endpoint not in SHAPED and self._stream.is_foreign
        body = self._scrubbed(self._stream.events() if is_foreign else self._stream.body())
        outcome = self._read(body, endpoint, now)
        return outcome if is_foreign else self._judged(outcome, cut)

    def _read(self, body: bytes, endpoint: str, now: float) -> Success | Failure:
        return read_reply(self._status, self._headers, body, endpoint=endpoint, provider=self._provider, now=now)

    def _add(self, piece: bytes) -> bool:
        began = False
        for event in self._parser.feed(piece):
            began = self._stream.add(event) or began
        return began

    def _judged(self, outcome: Success | Failure, cut: Failure | None) -> Success | Failure:
        """What a stream's object means, which may not be whole."""
        stream = self._stream
        if stream.has_error and isinstance(outcome, Failure):
            return replace(outcome, maybe_charged=outcome.maybe_charged or stream.has_begun)
        if stream.is_whole:
            return outcome
        message = f"the stream is not complete: {stream.trouble or 'no finish_reason and no [DONE] came'}"
        failure = cut or Failure(kind=FailureClass.TRUNCATED, message=message, maybe_charged=True)
        return replace(
            failure,
            status=self._status,
            body=outcome.body,
            usage=outcome.usage,
            request_id=outcome.request_id,
            quota=outcome.quota,
        )

    def _scrubbed(self, body: bytes) -> bytes:
        """Providers echo a bad key in their error; it must not reach the database."""
        least = SECRET_IN_ANSWERS if self._is_ok else SECRET_IN_ERRORS
        return body if self._key is None or len(self._key) < least else body.replace(self._key, b"***")
