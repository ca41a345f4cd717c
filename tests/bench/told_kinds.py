"""Rows of kinds.py: servers that tell all of their limits, truly, in the ways that there are."""

from collections.abc import Callable, Iterator
from functools import partial
from math import ceil, floor
from typing import Any

import kind
from composed import Composed, Others, Quota, all_tokens, exact, of_answer, of_prompt, varied
from cores import Bucket, Core, Fixed, Sliding, Weighted
from kind import CORES, PLAIN, SHARED, TOLD, Kind, soonest, telling
from silent_kinds import BURSTS, OF_TOKENS
from telling import anthropic, draft6, draft8, github, half_up, openai, written

ROUNDINGS: dict[str, Callable[[float], int]] = {"floor": floor, "ceil": ceil, "half": half_up}
WINDOWS = ((60, 600, 2400), (10, 100, 1000), (60, 60, 300))  # seconds, limit, tasks
KONG = b'{"message":"API rate limit exceeded"}'
ANTHROPIC = (
    b'{"type":"error","error":{"type":"rate_limit_error","message":"This request would exceed your rate limit"}}'
)
REMAINING, LIMIT = "X-RateLimit-Remaining", "X-RateLimit-Limit"


row = partial(kind.row, target=TOLD)


def told_kinds() -> Iterator[Kind]:
    yield from _windows()
    yield from _buckets()
    yield from _logs_and_counters()
    yield from _shared()
    yield from _several()
    yield from _tokens()
    yield from _tiny()
    yield from _products()


def told(core: Callable[[], Core], tell: Callable[..., Any], *, tells: Any = (), **options: Any) -> Composed:
    """One count, told of by *tell* with the options *tells*."""
    made = core()
    return Composed(quotas=[Quota(made)], tells=[tell(made, **dict(tells))], **options)


def _windows() -> Iterator[Kind]:
    for window, limit, tasks in WINDOWS:
        for aligned in (True, False):
            name = f"fixed {limit}/{window} {'aligned' if aligned else 'first'}"
            core = partial(Fixed, limit, window, aligned=aligned)
            for tag, rounded in ROUNDINGS.items():
                for form, instant in (("epoch", True), ("secs", False)):
                    tells = {"rounded": rounded, "instant": instant}
                    yield row(f"{name} {form} {tag}", partial(told, core, github, tells=tells), tasks)
            for ahead in (2, -2, 30):
                tells = {"rounded": ceil, "ahead": float(ahead)}
                make = partial(told, core, github, tells=tells, dated=float(ahead))
                yield row(f"{name} epoch skew{ahead:+d} date", make, tasks)
            yield row(f"{name} draft8", partial(told, core, draft8), tasks)


def _buckets() -> Iterator[Kind]:
    bucket = partial(Bucket, 600, 60)
    nexts = {"reset": "next"}
    yield row("bucket 600/60 reset=next openai", partial(told, bucket, openai, tells=nexts), 2400)
    yield row("bucket 600/60 reset=next secs", partial(told, bucket, draft6, tells=nexts), 2400)
    yield row("bucket 600/60 anthropic", partial(told, bucket, partial(anthropic, what="requests")), 2400)
    for step in (1.0, 5.0):
        stepped = partial(Bucket, 600, 60, step=step)
        yield row(f"bucket 600/60 step {step:g} openai", partial(told, stepped, openai), 2400)
        yield row(f"bucket 600/60 step {step:g} draft6 ceil", partial(told, stepped, draft6), 2400)
    for tag, (limit, window, burst) in BURSTS.items():
        small, tasks = partial(Bucket, limit, window, burst=burst), 300 if limit == 60 else 1500
        tells = {"reset": "full", "burst": True}
        make = partial(told, small, draft6, tells=tells, asks=exact)
        yield row(f"gcra {tag} draft6 limit=burst full", make, tasks)
        make = partial(told, small, draft6, tells=tells | nexts, asks=exact)
        yield row(f"gcra {tag} draft6 limit=burst next", make, tasks)


def _logs_and_counters() -> Iterator[Kind]:
    log = partial(Sliding, 600, 60)
    yield row("sliding 600/60 reset=full", partial(told, log, openai), 2400)
    for reset in ("full", "next"):
        tells = {"rounded": ceil, "reset": reset}
        yield row(f"sliding 600/60 epoch ceil {reset}", partial(told, log, github, tells=tells), 2400)
    tells = {"reset": "next"}
    yield row("sliding 100/10 secs ceil next", partial(told, partial(Sliding, 100, 10), draft6, tells=tells), 1000)
    for limit, window, tasks in ((600, 60, 2400), (100, 10, 1000)):
        name, core = f"weighted {limit}/{window}", partial(Weighted, limit, window)
        yield row(f"{name} openai full", partial(told, core, openai), tasks)
        make = partial(told, core, github, tells={"rounded": ceil}, asks=exact)
        yield row(f"{name} epoch RA", make, tasks)
        headers = {LIMIT: "{limit}", REMAINING: "{remaining}", "X-RateLimit-Reset": "{ends}"}
        yield row(f"{name} upstash ms", partial(told, core, partial(written, headers=headers)), tasks)


def _shared() -> Iterator[Kind]:
    """Half of it is somebody else's."""
    for tag, core in CORES.items():
        full = partial(core, 600, 60)
        tells = {"reset": soonest(tag)}
        make = partial(told, full, openai, tells=tells, counts_refused=True)
        yield row(f"{tag} 600/60 counts refused openai", make, 2400)
        for what, others in (("bursts 25 each 5 s", Others(1.3, 5.0, 25)), ("even 5/s", Others(1.3, 0.2, 1))):
            make = partial(told, full, openai, tells=tells, others=[others])
            yield row(f"{tag} other {what} told", make, 2000, target=SHARED)


def _several() -> Iterator[Kind]:
    """A limit of the minute and one of the day, or of the second."""
    for tag, core in (("fixed", Fixed), ("bucket", Bucket)):
        yield row(f"rpm 600 + rpd 10000 told, {tag}", partial(_minute_and_day, core), 2400)
    yield row("kong minute+second told fixed", _kong_with_second, 2400)


def _minute_and_day(core: Callable[[float, float], Core]) -> Composed:
    minute, day = core(600, 60), core(10_000, 86_400)
    return Composed(quotas=[Quota(minute), Quota(day)], tells=[_per(minute, "minute"), _per(day, "day")])


def _per(core: Core, period: str) -> Any:
    values = {"limit": "{limit}", "remaining": "{remaining}", "reset": "{full}"}
    return written(core, {f"x-ratelimit-{field}-requests-{period}": value for field, value in values.items()})


def _kong_with_second() -> Composed:
    minute, second = Fixed(600, 60), Fixed(20, 1)
    tells = [
        written(minute, {f"{LIMIT}-Minute": "600", f"{REMAINING}-Minute": "{remaining}"}),
        written(second, {f"{LIMIT}-Second": "20", f"{REMAINING}-Second": "{remaining}"}),
        written(second, {"RateLimit-Limit": "20", "RateLimit-Remaining": "{remaining}", "RateLimit-Reset": "1"}),
    ]
    return Composed(quotas=[Quota(minute), Quota(second)], tells=tells, asks=exact, body=KONG)


def _tokens() -> Iterator[Kind]:
    drawn: dict[str, Any] = {"tokens": varied, "reckoned": 180.0}
    for tag, core in CORES.items():
        limited = partial(_of_tokens, tag, core)
        yield row(f"tpm {tag} post lognormal told", partial(limited, afterwards=True), 2400, **drawn)
        yield row(
            f"tpm {tag} post lognormal told + rpm 6000", partial(limited, afterwards=True, rpm=6000), 2400, **drawn
        )
        yield row(f"tpm {tag} at admission lognormal told", limited, 2400, **drawn)
        for reserved in (100, 500, 2000):
            reserving = partial(limited, reserved=reserved)
            yield row(f"tpm {tag} {reserved} reserved, given back, told", reserving, 2400, **drawn)
        yield row(f"tpm {tag} input only told", partial(limited, limit=36_000, cost=of_prompt), 2400, **drawn)
        yield row(f"tpm {tag} 6000/60 post told", partial(limited, limit=6000, afterwards=True), 300, **drawn)
    yield row("anthropic itpm 60k otpm 24k post bucket", _anthropic, 2400, **drawn)
    at_once = partial(_anthropic, afterwards=False)
    yield row("anthropic itpm 60k otpm 24k bucket at admission", at_once, 2400, **drawn)
    yield row("anthropic itpm 30k binds", partial(_anthropic, prompts=30_000, answers=60_000), 1500, **drawn)


def _of_tokens(
    tag: str,
    core: Callable[[float, float], Core],
    *,
    limit: int = 60_000,
    cost: Any = all_tokens,
    afterwards: bool = False,
    reserved: int = 0,
    rpm: int | None = None,
) -> Composed:
    tokens, reset = core(limit, 60), soonest(tag)
    quota = Quota(tokens, cost, afterwards=afterwards, reserved=reserved)
    quotas, tells = [quota], [openai(tokens, "tokens", reset=reset)]
    if rpm:
        requests = core(rpm, 60)
        quotas, tells = [*quotas, Quota(requests)], [*tells, openai(requests, reset=reset)]
    return Composed(quotas=quotas, tells=tells, body=OF_TOKENS)


def _anthropic(*, prompts: int = 60_000, answers: int = 24_000, afterwards: bool = True) -> Composed:
    requests, inputs, outputs = Bucket(6000, 60), Bucket(prompts, 60), Bucket(answers, 60)
    return Composed(
        quotas=[Quota(requests), Quota(inputs, of_prompt), Quota(outputs, of_answer, afterwards=afterwards)],
        tells=[
            anthropic(requests, "requests"), anthropic(inputs, "input-tokens"), anthropic(outputs, "output-tokens"),
        ],
        asks=exact,
        body=ANTHROPIC,
    )  # fmt: skip


def _tiny() -> Iterator[Kind]:
    for limit in (1, 2, 3, 5):
        for tag, core in CORES.items():
            small, reset = partial(core, limit, 60), soonest(tag)
            yield row(f"tiny {limit}/60 {tag} told", partial(told, small, openai, tells={"reset": reset}), 12 * limit)
            tells = {"rounded": ceil, "reset": reset}
            yield row(f"tiny {limit}/60 {tag} epoch told", partial(told, small, github, tells=tells), 12 * limit)


def _products() -> Iterator[Kind]:
    """As they write it."""
    kong = {
        f"{LIMIT}-Minute": "600",
        f"{REMAINING}-Minute": "{remaining}",
        "RateLimit-Limit": "600",
        "RateLimit-Remaining": "{remaining}",
        "RateLimit-Reset": "{full}",
    }
    envoy = {
        "x-ratelimit-limit": "600, 600;w=60",
        "x-ratelimit-remaining": "{remaining}",
        "x-ratelimit-reset": "{full}",
    }
    express = {"RateLimit-Policy": "100;w=60", "RateLimit": "limit=100, remaining={remaining}, reset={full}"}
    together = {
        "x-ratelimit": "false",
        "x-ratelimit-limit": "10",
        "x-ratelimit-remaining": "{remaining}",
        "x-ratelimit-reset": "1",
    }
    yield row("kong minute only fixed", partial(_writes, kong, partial(Fixed, 600, 60), asks=exact, body=KONG), 2400)
    yield row("envoy fixed draft3 policy", partial(_writes, envoy, partial(Fixed, 600, 60), body=b""), 2400)
    core: Callable[[], Core] = partial(Fixed, 100, 60, aligned=False)
    make = partial(_writes, express, core, asks=exact, body=PLAIN)
    yield row("express-rate-limit draft7 fixed first", make, 600)
    make = partial(_writes, together, partial(Bucket, 10, 1), asks=exact)
    yield row("together per second limit bucket", make, 1200)
    make = partial(told, partial(Bucket, 600, 60), github, tells={"rounded": ceil, "reset": "next"})
    yield row("gubernator leaky bucket", make, 2400)


def _writes(headers: dict[str, str], core: Callable[[], Core], **options: Any) -> Composed:
    made = core()
    return telling(made, written(made, headers), **options)
