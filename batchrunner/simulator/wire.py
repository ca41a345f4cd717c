"""Replies on the socket: whole, piece by piece, or broken off on purpose."""

import asyncio
import socket
import struct
from collections.abc import Sequence

from aiohttp import web

from batchrunner.simulator.words import Reply

SIMULATED = "x-batchrunner-simulated"
_PIECES = 20  # a slow body, or a stream, comes in at most so many
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER of no seconds: closing sends RST, not FIN


def headers_of(reply: Reply) -> dict[str, str]:
    return {"Content-Type": reply.content_type, SIMULATED: "1"} | reply.headers


def whole(reply: Reply) -> web.Response:
    return web.Response(status=reply.status, body=reply.body, headers=headers_of(reply))


async def begin(request: web.BaseRequest, reply: Reply) -> web.StreamResponse:
    """A response whose body is written piece by piece, with its length announced."""
    response = web.StreamResponse(status=reply.status, headers=headers_of(reply))
    response.content_length = len(reply.body)
    await response.prepare(request)
    return response


def cut(body: bytes) -> list[bytes]:
    size = max(1, -(-len(body) // _PIECES))
    return [body[at : at + size] for at in range(0, len(body), size)]


async def trickle(response: web.StreamResponse, parts: Sequence[bytes], seconds: float) -> None:
    """Write *parts* in at most so many pieces, evenly over *seconds*."""
    size = max(1, -(-len(parts) // _PIECES))
    pieces = [b"".join(parts[at : at + size]) for at in range(0, len(parts), size)]
    for piece in pieces:
        await asyncio.sleep(seconds / len(pieces))
        await response.write(piece)  # after the last one the reply counts as written at once


def break_off(request: web.BaseRequest, *, reset: bool) -> None:
    """Close the connection without another byte; with *reset* the client's system is told that it broke."""
    transport = request.transport
    if transport is None:
        return
    connection = transport.get_extra_info("socket")
    if reset and connection is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    if isinstance(transport, asyncio.WriteTransport):
        transport.abort()
