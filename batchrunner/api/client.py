"""Sends one request and says what came of it: the only place that knows httpx, and the only one that holds the key.

httpx's types over aiohttp's pool: httpx's own pool takes 16.8 ms of CPU a request at 512 in flight, aiohttp's takes
none to speak of. The client layer is left out with its redirects, cookies and environment proxies: the key goes to
one origin only. An answer we do not like, a timeout or a broken connection is a ``Failure``; only a bug raises.
"""

import os
import ssl
import zlib
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, Self

import aiohttp
import anyio
import httpx
from aiohttp.http_exceptions import HttpProcessingError
from httpx_aiohttp import AiohttpTransport

from batchrunner.api.headers import quota
from batchrunner.api.incoming import IncomingReply
from batchrunner.api.model import with_model
from batchrunner.api.outgoing import outgoing
from batchrunner.config import MAX_BODY, TIMEOUT, Endpoint
from batchrunner.errors import ConfigError
from batchrunner.quota import NO_QUOTA, Quota
from batchrunner.task import Failure, FailureClass, Lease, Outcome, Success

CONNECT_TIMEOUT = 15.0  # seconds
KEEPALIVE = 4.0  # seconds; below the five that common servers keep an idle connection, which they close as we write
USER_AGENT = "batchrunner"
STREAMED = 4  # times the cap of a reply: so much may come in pieces, each of which repeats names and the like
LINGER = 1.0  # seconds a stream has after its last word to end by itself, so that its connection can be used again

OnHead = Callable[[Quota], None]


class BodyTooLargeError(Exception):
    """The decoded reply passed its cap."""


class BadEncodingError(Exception):
    """The reply's compression is broken, or one that was not asked for."""


class Client:
    """An async context manager; ``send`` may be called from many tasks at once.

    *timeout* is the total time of one attempt in seconds, *max_body* the cap of a decoded reply in bytes. *stream*:
    whatever can be streamed is, unless the line itself says something else.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        version: str = "",
        concurrency: int = 100,
        timeout: float = TIMEOUT,
        max_body: int = MAX_BODY,
        stream: bool = False,
    ) -> None:
        self._base_url = endpoint.base_url
        self._key = None if endpoint.key is None else endpoint.key.reveal()
        self._secret = None if self._key is None else self._key.encode()
        self._provider = provider = endpoint.provider
        self._stream, self._asks_usage = stream, provider.stream_usage
        self._timeout, self._max_body = timeout, max_body
        self._urls: dict[str, httpx.URL] = {}
        self._extensions = {"timeout": {"connect": CONNECT_TIMEOUT}}
        self._headers = {
            "user-agent": f"{USER_AGENT}/{version}" if version else USER_AGENT,
            "accept": "application/json",
            "accept-encoding": "gzip",
            "content-type": "application/json",
        }
        if self._key is not None:
            self._headers[provider.key_header] = provider.key_format.format(key=self._key)
        self._limits = httpx.Limits(max_connections=concurrency + 8, keepalive_expiry=KEEPALIVE)
        self._verify = _trust(endpoint.ca_file)
        self._proxy = None if endpoint.proxy is None else httpx.Proxy(endpoint.proxy)

    async def __aenter__(self) -> Self:
        connector = aiohttp.TCPConnector(
            limit=self._limits.max_connections or 0, keepalive_timeout=KEEPALIVE, ssl=self._verify
        )
        session = aiohttp.ClientSession(
            connector=connector,
            headers=self._headers,  # the same for every request, so they are made once
            cookie_jar=aiohttp.DummyCookieJar(),  # keeps none
            trust_env=False,  # takes no proxy, no netrc from the environment
        )
        self._transport = AiohttpTransport(
            verify=self._verify, trust_env=False, limits=self._limits, proxy=self._proxy, client=session
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with anyio.CancelScope(shield=True):
            await self._transport.aclose()

    async def send(self, lease: Lease, *, now: float, on_head: OnHead | None = None) -> Outcome:
        """One attempt, with a deadline over all of it. *now*: UTC seconds, for headers that name an instant.

        *on_head* is told what a stream's headers say of limits, long before its end; the outcome does not repeat it.
        """
        url = self._url(lease.endpoint)
        asked = lease.body if lease.model is None else with_model(lease.body, lease.model)
        body = outgoing(asked, lease.endpoint, stream=self._stream, usage=self._asks_usage)
        request = _Request(url, body.encode(), self._extensions)
        exchange = _Exchange(endpoint=lease.endpoint, sent_at=now, started=anyio.current_time(), on_head=on_head)
        with anyio.move_on_after(self._timeout) as deadline:
            return await self._exchange(request, exchange)
        assert deadline.cancelled_caught
        message = f"no answer within {self._timeout:g}s"
        return exchange.outcome(Failure(kind=FailureClass.TIMEOUT, message=message, maybe_charged=True))

    async def _exchange(self, request: httpx.Request, exchange: "_Exchange") -> Outcome:
        try:
            response = await self._transport.handle_async_request(request)
        except (httpx.HTTPError, aiohttp.ClientError) as error:
            return _broken(error)
        headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in response.headers.raw]
        reply = exchange.begin(self._incoming(response.status_code, headers), headers)
        most = self._max_body * STREAMED if reply.is_events else self._max_body
        received = 0
        try:
            async with aclosing(_decoded(response, _encoding(headers), most)) as pieces:
                async for piece in pieces:
                    received += len(piece)
                    exchange.take(piece)
                    if reply.is_over:
                        await _end(pieces)
                        break
        except _BREAKS as error:
            await _hang_up(response)
            return exchange.outcome(_cut(error, received, most))
        except BaseException:
            await _hang_up(response)
            raise
        if reply.is_over:
            await _hang_up(response)
        return self._small_enough(exchange.outcome())

    def _incoming(self, status: int, headers: list[tuple[str, str]]) -> IncomingReply:
        return IncomingReply(status, headers, key=self._secret, provider=self._provider)

    def _small_enough(self, outcome: Outcome) -> Outcome:
        """An answer out of a stream is held to the same cap as any other."""
        if not isinstance(outcome, Success) or len(outcome.body) <= self._max_body:
            return outcome
        cut = _cut(BodyTooLargeError(), len(outcome.body), self._max_body)
        return replace(cut, status=outcome.status, body=outcome.body[: self._max_body])

    def _url(self, endpoint: str) -> httpx.URL:
        if endpoint not in self._urls:
            self._urls[endpoint] = httpx.URL(f"{self._base_url}/{endpoint}")
        return self._urls[endpoint]


@dataclass(slots=True, kw_only=True)
class _Exchange:
    """One attempt while it lasts: what is known of its reply by now. ``sent_at``: UTC seconds, ``started``: ours."""

    endpoint: str
    sent_at: float
    started: float
    on_head: OnHead | None
    reply: IncomingReply | None = None
    head_at: float = 0.0  # UTC seconds; what instants in it are compared with
    first_token_at: float | None = None
    told: Quota = NO_QUOTA  # by the head, early

    def begin(self, reply: IncomingReply, headers: list[tuple[str, str]]) -> IncomingReply:
        """The head is here."""
        self.reply, self.head_at = reply, self._now
        if reply.is_events and self.on_head is not None:
            self.told = quota({name.lower(): value for name, value in headers}, now=self.head_at)
            if self.told:
                self.on_head(self.told)
        return reply

    def take(self, piece: bytes) -> None:
        assert self.reply is not None
        if self.reply.feed(piece) and self.first_token_at is None:
            self.first_token_at = self._now

    def outcome(self, cut: Failure | None = None) -> Outcome:
        """What it came to; *cut*: why it did not come to its end by itself."""
        if self.reply is None:
            assert cut is not None
            return cut
        outcome = self.reply.outcome(endpoint=self.endpoint, now=self.head_at, cut=cut)
        if self.told:
            outcome = replace(outcome, quota=self._untold(outcome.quota))
        if self.first_token_at is None or not isinstance(outcome, Success):
            return outcome
        return replace(outcome, first_token_at=self.first_token_at)

    def _untold(self, said: Quota) -> Quota:
        """What the end of the reply adds to what its head told."""
        told = {(window.dimension, window.period, window.scope) for window in self.told.windows}
        more = tuple(each for each in said.windows if (each.dimension, each.period, each.scope) not in told)
        return replace(said, windows=more)

    @property
    def _now(self) -> float:
        return self.sent_at + anyio.current_time() - self.started


_NO_HEADERS = httpx.Headers()


class _Request(httpx.Request):
    """What the transport reads of a request. No headers: the session has ours, aiohttp makes Host and Content-Length.

    httpx's own constructor makes them too, for each request anew.
    """

    def __init__(self, url: httpx.URL, body: bytes, extensions: dict[str, Any]) -> None:
        self.method, self.url, self.headers, self.extensions = "POST", url, _NO_HEADERS, extensions
        self.stream = httpx.ByteStream(body)
        self._content = body


_BREAKS = (
    httpx.HTTPError,
    aiohttp.ClientError,
    HttpProcessingError,  # a broken chunk, where aiohttp is installed without its compiled parser
    OSError,
    BodyTooLargeError,
    BadEncodingError,
)


def _encoding(headers: Sequence[tuple[str, str]]) -> str:
    return ", ".join(value for name, value in headers if name.lower() == "content-encoding").strip().lower()


async def _decoded(response: httpx.Response, encoding: str, most: int) -> AsyncGenerator[bytes, None]:
    """The body's bytes, decompressed in bounded steps. Raises BodyTooLargeError past *most*, BadEncodingError."""
    if encoding not in ("identity", "", "gzip", "x-gzip"):
        raise BadEncodingError(f"the reply is encoded as {encoding!r}, which was not asked for")
    gunzip = _gunzip() if "gzip" in encoding else None
    total = 0
    async for chunk in response.stream:  # type: ignore[union-attr]  # likewise
        try:
            data = chunk if gunzip is None else gunzip.decompress(chunk, most - total + 1)
            while gunzip is not None and gunzip.eof and (rest := gunzip.unused_data):  # one archive after the other
                gunzip = _gunzip()
                data += gunzip.decompress(rest, max(most - total - len(data), 0) + 1)
        except zlib.error as error:
            raise BadEncodingError(f"the reply's gzip is broken ({error})") from error
        total += len(data)
        if total > most:
            yield data[: most - total]
            raise BodyTooLargeError
        yield data
    if gunzip is not None and not gunzip.eof:
        raise BadEncodingError("the reply's gzip breaks off")


def _gunzip() -> "zlib._Decompress":
    return zlib.decompressobj(wbits=31)


async def _end(pieces: AsyncGenerator[bytes, None]) -> None:
    """Nothing that matters comes any more: read to the end if that is near."""
    with anyio.move_on_after(LINGER):
        async for _ in pieces:
            pass


async def _hang_up(response: httpx.Response) -> None:
    """Let go of a connection whose reply was not read to its end; one that was has gone back to the pool by itself."""
    with anyio.CancelScope(shield=True):
        await response.stream.aclose()  # type: ignore[union-attr]  # likewise


def _cut(error: Exception, received: int, most: int) -> Failure:
    """A reply that began and did not end: it was computed, so it may have been charged."""
    match error:
        case BodyTooLargeError():
            kind = FailureClass.RESPONSE_TOO_LARGE
            message = f"the reply is larger than {most:,} bytes; its beginning is kept"
        case BadEncodingError():
            kind, message = FailureClass.TRUNCATED, str(error)
        case _:
            kind = FailureClass.TRUNCATED
            message = f"the reply broke off after {received:,} bytes ({_reason(error)})"
    return Failure(kind=kind, message=message, maybe_charged=True)


def _broken(error: Exception) -> Failure:
    """No reply at all. What counts is whether the request may have been read."""
    cause = error.__cause__ or error
    if isinstance(cause, aiohttp.ClientConnectorCertificateError | aiohttp.ClientSSLError):
        message = f"the server's certificate is not trusted ({_reason(error)})"
        return Failure(kind=FailureClass.CERTIFICATE, message=message, sent=False)
    if isinstance(
        cause, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError | aiohttp.ClientProxyConnectionError
    ):
        message = f"can't connect ({_reason(error)})"
        return Failure(kind=FailureClass.UNREACHABLE, message=message, sent=False)
    message = f"the connection broke before the reply ({_reason(error)})"
    return Failure(kind=FailureClass.NETWORK, message=message, maybe_charged=True)


def _reason(error: Exception) -> str:
    cause = error.__cause__ or error
    if isinstance(cause, aiohttp.ClientConnectorError):
        number = cause.os_error.errno or 0
        if number > 0:  # a name that is not found has another
            return f"{cause.host}:{cause.port}: {os.strerror(number)}"
    return " ".join(str(cause).split()) or type(cause).__name__


def _trust(ca_file: str | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca_file) if ca_file else httpx.create_ssl_context(trust_env=False)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"--ca-file {ca_file}: can't be used ({error})") from error
