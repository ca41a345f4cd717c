"""``batchrunner simulator``: the rehearsal server alone."""

from typing import Any

import rich_click as click

from batchrunner.exits import ExitCode


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Loopback, unless --allow-remote.")
@click.option("--port", type=click.IntRange(0, 65535), default=8642, show_default=True, help="0 takes a free one.")
@click.option("--allow-remote", is_flag=True, help="Listen beyond this machine.")
@click.option("--rpm", type=click.IntRange(min=1), help="Requests a window. [no limit]")
@click.option("--tpm", type=click.IntRange(min=1), help="Tokens a window. [no limit]")
@click.option("--concurrency", type=click.IntRange(min=1), help="Requests in flight. [no limit]")
@click.option("--algorithm", type=click.Choice(["bucket", "fixed", "sliding"]), default="bucket", show_default=True)
@click.option("--window", type=float, default=60.0, show_default=True, help="Seconds of a window.")
@click.option("--aligned", is_flag=True, help="Fixed windows stand on the clock's grid.")
@click.option(
    "--as",
    "voice",
    metavar="PROVIDER",
    help="Speak as this provider. A prompt that holds [[error:auth]], or another class, gets its error of that class.",
)
@click.option(
    "--dialect",
    type=click.Choice(["openai", "zhipu", "anthropic", "ietf", "glm", "none", "retry-after"]),
    help="How limits are told. [the provider's way, or openai]",
)
@click.option("--latency", default="0.1", show_default=True, help="Seconds: 0.1, uniform:0.1:0.3, lognormal:0.8:0.5.")
@click.option(
    "--charging",
    type=click.Choice(["estimate", "max_tokens", "actual"]),
    default="estimate",
    show_default=True,
    help="What tokens are charged.",
)
@click.option("--foreign", type=float, default=0.0, metavar="SHARE", help="Of RPM and TPM, taken by another client.")
@click.option("--changes", default="", metavar="SPEC", help="Such as 20:rpm=600,60:rpm=none (seconds: limit).")
@click.option("--faults", default="", metavar="SPEC", help="Such as 500:0.01,drop:0.005 (share of requests).")
@click.option("--key", help="Refuse requests without this key.")
@click.option("--model", "models", multiple=True, help="Refuse other models; repeatable.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of latencies and faults.")
def simulator(
    host: str, port: int, *, allow_remote: bool, latency: str, voice: str | None, dialect: Any, **rules: Any
) -> int:
    """An OpenAI-compatible API on this machine, with limits, faults and a scoreboard, to rehearse a job against.

    Answers are canned and marked "simulated". GET /_score tells how a client did.
    """
    import anyio

    from batchrunner.simulator.config import Rules
    from batchrunner.simulator.server import serve

    told = Rules(latency=latency, voice=voice, dialect=dialect or "provider", **rules)

    def ready(url: str) -> None:
        score = url.removesuffix("/v1") + "/_score"
        click.echo(f"Simulator: answers are canned. Base URL {url}   score {score}   Ctrl-C ends it", err=True)

    async def main() -> None:
        await serve(told, host=host, port=port, on_ready=ready, allow_remote=allow_remote)

    try:
        anyio.run(main)
    except KeyboardInterrupt:
        return ExitCode.OK
    return ExitCode.OK
