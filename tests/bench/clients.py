"""The references: what people write or install instead, each sending a whole job file from a process of its own.

    bare   aiohttp and N coroutines over one iterator: no store, no retries; about what Python can do at most. With
           --limit it is paced by aiolimiter, told the right limit by hand, and sends a 429 again after a second
    sdk    the openai package as its README says: AsyncOpenAI and a semaphore; --retries are its own, which back off

Neither keeps an answer: that is the lead they are given.
"""

import argparse
import asyncio
import json
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path

import aiohttp
from aiolimiter import AsyncLimiter
from bench import bodies

REFUSED = 429
Send = Callable[[bytes], Awaitable[None]]


async def pull(requests: Iterable[bytes], send: Send, in_flight: int) -> None:
    """*in_flight* coroutines that take one request after the other."""

    async def work(iterator: Iterator[bytes]) -> None:
        for request in iterator:
            await send(request)

    iterator = iter(requests)
    async with asyncio.TaskGroup() as group:
        for _ in range(in_flight):
            group.create_task(work(iterator))


async def bare(requests: list[bytes], base_url: str, options: argparse.Namespace) -> None:
    """Plain aiohttp; each reply is read and decoded. With a limit, paced by it."""
    headers = {"Content-Type": "application/json"}
    connector = aiohttp.TCPConnector(limit=options.in_flight)
    pace = AsyncLimiter(options.limit, options.window) if options.limit else None

    async with aiohttp.ClientSession(connector=connector, headers=headers) as session:

        async def send(request: bytes) -> None:
            while True:
                if pace is not None:
                    await pace.acquire()
                async with session.post(f"{base_url}/chat/completions", data=request) as reply:
                    answer = await reply.read()
                    if reply.status != REFUSED or pace is None:
                        json.loads(answer)
                        return
                await asyncio.sleep(1)

        await pull(requests, send, options.in_flight)


async def sdk(requests: list[bytes], base_url: str, options: argparse.Namespace) -> None:
    """One coroutine a request, as the cookbooks have it, behind a semaphore."""
    from openai import APIError, AsyncOpenAI  # takes a second, which the other client need not spend

    gate = asyncio.Semaphore(options.in_flight)
    async with AsyncOpenAI(base_url=base_url, api_key="none", max_retries=options.retries) as client:

        async def send(request: bytes) -> None:
            async with gate:
                with suppress(APIError):  # it gives up after its retries; the task is lost
                    await client.chat.completions.create(**json.loads(request))

        async with asyncio.TaskGroup() as group:
            for request in requests:
                group.create_task(send(request))


def main() -> None:
    """Read the job whole, then send it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("client", choices=["bare", "sdk"])
    parser.add_argument("job", type=Path)
    parser.add_argument("base_url")
    parser.add_argument("--in-flight", type=int, default=64)
    parser.add_argument("--retries", type=int, default=0, help="of the openai package")
    parser.add_argument("--limit", type=float, help="requests a window, told to aiolimiter")
    parser.add_argument("--window", type=float, default=60.0, help="seconds")
    options = parser.parse_args()
    client = bare if options.client == "bare" else sdk
    asyncio.run(client(list(bodies(options.job)), options.base_url, options))


if __name__ == "__main__":
    main()
