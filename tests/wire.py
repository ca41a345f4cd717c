"""A server for tests that writes what it is told, byte for byte: for what no well-behaved server does."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"


@dataclass(slots=True)
class Scripted:
    """Its base URL, and the requests that it read, head and body."""

    base_url: str = ""
    requests: list[bytes] = field(default_factory=list)


@asynccontextmanager
async def scripted(*pieces: bytes, head: Sequence[bytes] = (), holds: bool = False) -> AsyncIterator[Scripted]:
    """Answers each request with the same *pieces*, then closes, or *holds* the connection open without a word."""
    seen, end = Scripted(), asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await reader.readuntil(b"\r\n\r\n")
        length = next(line for line in request.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        seen.requests.append(request + await reader.readexactly(int(length.partition(b":")[2])))
        writer.write(HEAD + b"".join(line + b"\r\n" for line in head) + b"\r\n")
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
        if holds:
            await end.wait()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    seen.base_url = f"http://{host}:{port}/v1"
    try:
        yield seen
    finally:
        end.set()
        server.close()
        await server.wait_closed()
