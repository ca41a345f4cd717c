"""Rate limiters from PyPI in front of one and the same answer, each as its own documentation shows it.

    python pypi.py PORT KIND LIMIT WINDOW LATENCY

KIND: slowapi-STRATEGY, throttled-ALGORITHM.
"""

# mypy: disable-error-code="import-not-found, import-untyped, untyped-decorator"
# (what this is about is not among our own packages)

import asyncio
import sys
from datetime import timedelta
from typing import Any

import uvicorn

ANSWER = {
    "id": "a",
    "object": "chat.completion",
    "model": "m",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "yes"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 228, "completion_tokens": 64, "total_tokens": 292},
}
PATH = "/v1/chat/completions"


def slowapi(strategy: str, limit: int, window: int, latency: float) -> Any:
    """SlowAPI on Starlette."""
    from slowapi import Limiter, _rate_limit_exceeded_handler
    from slowapi.errors import RateLimitExceeded
    from slowapi.util import get_remote_address
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import JSONResponse
    from starlette.routing import Route

    limiter = Limiter(key_func=get_remote_address, headers_enabled=True, strategy=strategy)

    @limiter.limit(f"{limit}/{window} seconds")
    async def answer(request: Request) -> JSONResponse:  # noqa: ARG001
        await asyncio.sleep(latency)
        return JSONResponse(ANSWER)

    app = Starlette(routes=[Route(PATH, answer, methods=["POST"])])
    app.state.limiter = limiter
    app.add_exception_handler(RateLimitExceeded, _rate_limit_exceeded_handler)
    return app


def throttled(algorithm: str, limit: int, window: int, latency: float) -> Any:
    """throttled-py on FastAPI."""
    from fastapi import FastAPI, Request
    from throttled.asyncio.contrib.fastapi import (
        Limiter,
        RateLimitExceededError,
        RateLimitMiddleware,
        get_remote_address,
        rate_limit_exceeded_handler,
    )
    from throttled.rate_limiter import per_duration

    quota = per_duration(timedelta(seconds=window), limit)
    limiter = Limiter(quota, using=algorithm.replace("-", "_"), key_func=get_remote_address)
    app = FastAPI()
    app.add_middleware(RateLimitMiddleware)
    app.add_exception_handler(RateLimitExceededError, rate_limit_exceeded_handler)

    @app.post(PATH)
    @limiter.limit()
    async def answer(request: Request) -> dict[str, Any]:  # noqa: ARG001
        await asyncio.sleep(latency)
        return ANSWER

    return app


def main() -> None:
    """Serve until stopped."""
    port, kind, limit, window, latency = sys.argv[1:]
    library, _, rule = kind.partition("-")
    app = {"slowapi": slowapi, "throttled": throttled}[library](rule, int(limit), int(window), float(latency))
    uvicorn.run(app, host="127.0.0.1", port=int(port), log_level="error", access_log=False)


if __name__ == "__main__":
    main()
