"""The simulator's server: a real socket on this machine, speaking HTTP as the desk decides.

Every reply carries ``x-batchrunner-simulated: 1``. Beside the API's paths there are ``GET /_score``, ``GET /_ledger``,
``POST /_reset`` and ``POST /_limits``.
"""

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from ipaddress import ip_address
from types import TracebackType
from typing import Any, Self, TypeVar

from aiohttp import web

from batchrunner.errors import ConfigError
from batchrunner.simulator.config import Limits, Rules
from batchrunner.simulator.desk import Desk, Ending, Visit
from batchrunner.simulator.faults import Fault
from batchrunner.simulator.score import Score
from batchrunner.simulator.wire import begin, break_off, cut, headers_of, trickle, whole
from batchrunner.simulator.words import Reply, refuse

_BACKLOG = 4096  # connections that may wait to be accepted: thousands may come at once
_KEEPALIVE = 3600.0  # seconds; a server that closes idle connections is a fault nobody asked for
_SHUTDOWN = 0.05  # seconds that replies in progress have when the server stops
_METHODS = {"/_score": "GET", "/_ledger": "GET", "/_reset": "POST", "/_limits": "POST"}

_T = TypeVar("_T")


async def serve(
    rules: Rules,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    on_ready: Callable[[str], None] | None = None,
    allow_remote: bool = False,
    now: Callable[[], float] = time.monotonic,
) -> None:
    """Serve until cancelled; *on_ready* is told the base URL. Raises ConfigError if it can't listen there."""
    await _serve(make_desk(rules, now), host, port, allow_remote=allow_remote, on_ready=on_ready, now=now)


def make_desk(rules: Rules, now: Callable[[], float]) -> Desk:
    """A desk whose aligned windows stand on the wall clock's grid."""
    started = now()
    return Desk(rules, now=started, origin=started - time.time())


async def _serve(
    desk: Desk,
    host: str,
    port: int,
    *,
    allow_remote: bool,
    on_ready: Callable[[str], None] | None,
    now: Callable[[], float],
) -> None:
    address = "127.0.0.1" if host == "localhost" else host
    if not allow_remote and not _is_loopback(address):
        raise ConfigError(
            f"the simulator serves this machine only, and {host!r} may be reached from others; use 127.0.0.1"
        )
    runner = web.ServerRunner(
        web.Server(Handler(desk, now), handler_cancellation=True, access_log=None, keepalive_timeout=_KEEPALIVE),
        shutdown_timeout=_SHUTDOWN,
    )
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, address, port, backlog=_BACKLOG).start()
        except (OSError, OverflowError) as error:
            raise ConfigError(f"can't listen on {host}:{port}: {error}; try another --port, or 0 for any") from error
        if on_ready is not None:
            on_ready(_url(runner.addresses[0]) + "/v1")
        await asyncio.Event().wait()
    finally:
        await runner.cleanup()


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _url(address: Any) -> str:
    host, port = address[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class Handler:
    """One request in, one reply out; called by aiohttp."""

    def __init__(self, desk: Desk, now: Callable[[], float]) -> None:
        self._desk = desk
        self._now = now

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.path.startswith("/_"):
            return await self._control(request)
        endpoint = self._desk.open(request.method, request.path, request.headers)
        if isinstance(endpoint, Reply):
            return whole(endpoint)
        body = await self._read(request)
        if body is None:
            return whole(self._desk.too_large())
        return await self._attend(request, self._desk.receive(endpoint, body, self._now()))

    async def _read(self, request: web.BaseRequest) -> bytes | None:
        """The whole body; None if it is larger than the rules allow."""
        limit = self._desk.rules.max_body
        if (request.content_length or 0) > limit:
            return None
        if request.content_length is not None and "Content-Encoding" not in request.headers:
            return await request.content.read()
        chunks = bytearray()
        async for chunk in request.content.iter_any():
            chunks += chunk
            if len(chunks) > limit:
                return None
        return bytes(chunks)

    async def _attend(self, request: web.BaseRequest, visit: Visit) -> web.StreamResponse:
        ending = Ending.LEFT
        try:
            if visit.latency and not visit.events:
                await asyncio.sleep(visit.latency)
            response, ending = await self._deliver(request, visit)
        except ConnectionError:
            response = web.Response()  # the client is gone; aiohttp finds that out once more and closes
        finally:
            self._desk.finish(visit, ending, self._now())
        return response

    async def _deliver(self, request: web.BaseRequest, visit: Visit) -> tuple[web.StreamResponse, Ending]:
        response: web.StreamResponse
        match visit.fault:
            case Fault.HANG:
                await asyncio.Event().wait()
                raise AssertionError("nobody sets it")
            case Fault.DROP:
                break_off(request, reset=False)
                return web.Response(), Ending.BROKEN
            case _ if visit.events:
                return await self._stream(request, visit)
            case Fault.RESET:
                response = await begin(request, visit.reply)
                await response.write(visit.reply.body[: len(visit.reply.body) // 2])
                break_off(request, reset=True)
                return response, Ending.BROKEN
            case Fault.SLOW:
                response = await begin(request, visit.reply)
                await trickle(response, cut(visit.reply.body), self._desk.faults.slow_for)
            case _:
                response = whole(visit.reply)
                await response.prepare(request)
        await response.write_eof()
        return response, Ending.WRITTEN

    async def _stream(self, request: web.BaseRequest, visit: Visit) -> tuple[web.StreamResponse, Ending]:
        """The head at once, then the events, spread over the time that the answer takes."""
        breaks = visit.fault is Fault.RESET
        events = visit.events[: len(visit.events) // 2] if breaks else visit.events
        response = web.StreamResponse(status=visit.reply.status, headers=headers_of(visit.reply))
        await response.prepare(request)
        await trickle(response, events, self._desk.faults.slow_for if visit.fault is Fault.SLOW else visit.latency)
        if breaks:
            break_off(request, reset=True)
            return response, Ending.BROKEN
        await response.write_eof()
        return response, Ending.WRITTEN

    async def _control(self, request: web.BaseRequest) -> web.StreamResponse:
        method = _METHODS.get(request.path)
        if method is None:
            return whole(refuse(404, f"Unknown request URL: {request.path}; there are {', '.join(_METHODS)}."))
        if request.method != method:
            return whole(refuse(405, f"{request.path} takes {method} only."))
        if request.path == "/_ledger":
            return await self._ledger(request)
        body = await self._read(request)
        reply = None if body is None else self._desk.control(request.path, body, self._now())
        return whole(reply or self._desk.too_large())

    async def _ledger(self, request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
        await response.prepare(request)
        for lines in self._desk.ledger_lines():
            await response.write(lines)
            await asyncio.sleep(0)  # the others' requests go on
        await response.write_eof()
        return response


class Simulator:
    """The server in a thread of its own, for as long as a ``with`` lasts.

        with Simulator(rpm=600, dialect="openai") as simulator:
            run(base_url=simulator.base_url)
            print(simulator.score().efficiency)

    Takes the options of ``Rules``, or ``rules`` itself. Entering raises ConfigError if it can't listen.
    """

    def __init__(
        self,
        rules: Rules | None = None,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        now: Callable[[], float] = time.monotonic,
        **options: Any,
    ) -> None:
        if rules is not None and options:
            raise ConfigError("give either rules or the options they are made of, not both")
        self.rules = Rules(**options) if rules is None else rules
        self.base_url = ""
        self._host = host
        self._port = port
        self._now = now
        self._desk = make_desk(self.rules, now)
        self._ready: Future[str] = Future()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._server: asyncio.Task[None] | None = None
        self._thread = threading.Thread(target=self._run, name="batchrunner-simulator", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        try:
            self.base_url = self._ready.result()
        except BaseException:
            self._thread.join()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._loop is not None and self._server is not None:
            self._loop.call_soon_threadsafe(self._server.cancel)
        self._thread.join()

    @property
    def url(self) -> str:
        """The server's root; the scoreboard is at ``url + "/_score"``."""
        return self.base_url.removesuffix("/v1")

    def score(self) -> Score:
        """What it saw so far; also after the end."""
        return self._ask(self._desk.ledger.score)

    def reset(self) -> None:
        """Start the score afresh; the limits stay as they are."""
        self._ask(self._desk.ledger.reset)

    def set_limits(self, **change: int | None) -> None:
        """Change ``rpm``, ``tpm`` or ``concurrency`` from now on; None = no such limit. Raises ConfigError."""
        self._ask(lambda: self._desk.set_limits(change, self._now()))

    def ledger(self) -> dict[str, tuple[int, int]]:
        """Sends and answers of each body, by the hex of its 16-byte BLAKE2b hash."""
        tallies = self._ask(self._desk.ledger.tallies)
        return {key.hex(): (tally.sends, tally.answers) for key, tally in tallies}

    @property
    def limits(self) -> Limits:
        """The limits as they are now."""
        return self._desk.limits

    def _ask(self, question: Callable[[], _T]) -> _T:
        """Have the server's thread answer: it alone touches the desk while it runs."""
        if self._loop is None or not self._thread.is_alive():
            return question()
        answer: Future[_T] = Future()

        def reply() -> None:
            try:
                answer.set_result(question())
            except Exception as error:  # noqa: BLE001  (it is raised again where it was asked)
                answer.set_exception(error)

        self._loop.call_soon_threadsafe(reply)
        return answer.result()

    def _run(self) -> None:
        try:
            asyncio.run(self._main())
        except BaseException as error:  # noqa: BLE001  (it is raised again in __enter__)
            if not self._ready.done():
                self._ready.set_exception(error)

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        serving = _serve(
            self._desk,
            self._host,
            self._port,
            allow_remote=False,
            on_ready=self._ready.set_result,
            now=self._now,
        )
        self._server = asyncio.create_task(serving)
        with suppress(asyncio.CancelledError):  # the with block ended
            await self._server
