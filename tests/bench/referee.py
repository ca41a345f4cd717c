"""A reverse proxy that counts: between a client and a limiter nobody here wrote, it sees what both of them do.

    python referee.py UPSTREAM WINDOW

It passes requests and replies on as they are, and says at ``/_score`` what came of them. Where it listens is its first
line on stderr.
"""

import asyncio
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from aiohttp import web

OK, TOO_MANY = 200, 429
HOP_BY_HOP = frozenset({"connection", "keep-alive", "transfer-encoding", "content-length", "host", "server"})


@dataclass(slots=True, kw_only=True)
class Tally:
    """What went by. Instants are Unix times: some windows begin on the clock's grid."""

    window: float
    first_at: float | None = None
    last_answer_at: float | None = None
    statuses: Counter[int] = field(default_factory=Counter)
    late: Counter[int] = field(default_factory=Counter)
    answered: set[bytes] = field(default_factory=set)
    latencies: list[float] = field(default_factory=list)

    def add(self, body: bytes, status: int, began: float, ended: float) -> None:
        """One request that was replied to."""
        self.statuses[status] += 1
        if self.first_at is not None and began > self.first_at + self.window:
            self.late[status] += 1
        if status == OK:
            self.answered.add(body)
            self.latencies.append(ended - began)
            self.last_answer_at = ended

    def score(self) -> dict[str, Any]:
        """As the simulator's, as far as one can tell from outside."""
        first, last = self.first_at, self.last_answer_at
        return {
            "sends": sum(self.statuses.values()),
            "answered": len(self.answered),
            "refusals": {"requests": self.statuses[TOO_MANY]},
            "late_sends": sum(self.late.values()),
            "late_refusals": self.late[TOO_MANY],
            "statuses": dict(self.statuses),
            "first_at": first,
            "latencies": sum(self.latencies),
            "least_latency": min(self.latencies, default=0.0),
            "elapsed": None if first is None or last is None else last - first,
        }


async def serve(upstream: str, window: float) -> None:
    """Pass on until stopped."""
    tally = Tally(window=window)

    async def score(_: web.Request) -> web.Response:
        return web.json_response(tally.score())

    async def pass_on(request: web.Request) -> web.Response:
        body = await request.read()
        began = time.time()
        tally.first_at = tally.first_at or began
        headers = _kept(request.headers)
        async with session.request(request.method, upstream + request.path_qs, data=body, headers=headers) as reply:
            answer = await reply.read()
            tally.add(body, reply.status, began, time.time())
            return web.Response(status=reply.status, body=answer, headers=_kept(reply.headers))

    app = web.Application(client_max_size=0)
    app.router.add_get("/_score", score)
    app.router.add_route("*", "/{path:.*}", pass_on)
    runner = web.AppRunner(app, access_log=None)
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, auto_decompress=False) as session:
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        print(f"http://127.0.0.1:{runner.addresses[0][1]}", file=sys.stderr, flush=True)
        await asyncio.Event().wait()


def _kept(headers: Any) -> list[tuple[str, str]]:
    return [(name, value) for name, value in headers.items() if name.lower() not in HOP_BY_HOP]


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1], float(sys.argv[2])))
