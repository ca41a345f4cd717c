"""Rows of kinds.py: servers that tell nothing but a refusal, some with the true wait (RA: ``Retry-After``)."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import kind
from composed import LIMITED, Composed, Quota, all_tokens, always, exact, nothing, varied
from cores import Bucket, Core, Weighted
from kind import CORES, HTML503, PLAIN, SILENT, Kind

BURSTS = {"60/60b10": (60, 60, 10), "600/60b20": (600, 60, 20), "300/10b30": (300, 10, 30), "600/60b1": (600, 60, 1)}
LIMITED_JSON = b'{"error":{"message":"Rate limit exceeded"}}'
OF_TOKENS = (
    b'{"error": {"message": "Rate limit reached for tokens per minute", "type": "tokens", '
    b'"code": "rate_limit_exceeded"}}'
)


row = partial(kind.row, target=SILENT)


def silent_kinds() -> Iterator[Kind]:
    yield from _buckets_with_a_burst()
    yield from _queues()
    yield from _places()
    yield from _each_algorithm()
    yield from _tokens()
    yield from _tiny()


def quiet(core: Callable[..., Core], limit: float, window: float, **options: Any) -> Callable[[], Composed]:
    """Makes servers with one count of requests."""
    return lambda: Composed(quotas=[Quota(core(limit, window))], **options)


def _buckets_with_a_burst() -> Iterator[Kind]:
    for tag, (limit, window, burst) in BURSTS.items():
        core, tasks = partial(Bucket, burst=burst), 300 if limit == 60 else 1500
        yield row(f"gcra {tag} silent", quiet(core, limit, window), tasks)
        yield row(f"gcra {tag} silent RA", quiet(core, limit, window, asks=exact), tasks)
    for step in (1.0, 5.0):
        yield row(f"bucket 600/60 step {step:g} silent", quiet(partial(Bucket, step=step), 600, 60), 2400)


def _queues() -> Iterator[Kind]:
    for rate, wait, tasks in ((10, 2, 1200), (10, 10, 1200), (1, 5, 300)):
        make = quiet(partial(Bucket, burst=1), rate, 1, queue=wait, body=PLAIN)
        yield row(f"leaky queue {rate}/s, wait up to {wait} s, silent", make, tasks)
    make = quiet(partial(Bucket, burst=1), 10, 1, queue=2.0, body=HTML503, status=503)
    yield row("leaky queue 10/s wait 2 s 503 html", make, 1200)


def _places() -> Iterator[Kind]:
    ways: dict[str, dict[str, Any]] = {
        "RA1 silent": {"asks_when_full": always(1)},
        "silent plain": {"body": PLAIN},
        "silent 503 html": {"body": HTML503, "status": 503},
        "RA5 silent": {"asks_when_full": always(5)},
    }
    for places in (1, 4, 20):
        for tag, way in ways.items():
            make = partial(Composed, quotas=(), places=places, **way)
            yield row(f"conc {places} {tag}", make, 100 * places)


def _each_algorithm() -> Iterator[Kind]:
    for tag, core in CORES.items():
        yield row(f"{tag} 600/60 counts refused silent", quiet(core, 600, 60, counts_refused=True), 2400)
        make = quiet(core, 600, 60, counts_refused=True, asks=exact)
        yield row(f"{tag} 600/60 counts refused silent RA", make, 2400)
        yield row(f"{tag} 600/60 503 html silent", quiet(core, 600, 60, status=503, body=HTML503), 2400)
        make = quiet(core, 600, 60, status=503, asks=exact, body=LIMITED_JSON)
        yield row(f"{tag} 600/60 503 json RA exact", make, 2400)
        yield row(f"{tag} 600/60 plain silent", quiet(core, 600, 60, body=PLAIN), 2400)
        yield row(f"{tag} 100/10 plain silent", quiet(core, 100, 10, body=PLAIN), 1200)
        yield row(f"{tag} 100/10 plain RA", quiet(core, 100, 10, body=PLAIN, asks=exact), 1200)
        yield row(f"{tag} 10/1 plain silent", quiet(core, 10, 1, body=PLAIN), 1200)
    for tag, limit, window, tasks in (("600/60", 600, 60, 2400), ("100/10", 100, 10, 1000)):
        yield row(f"weighted {tag} silent", quiet(Weighted, limit, window), tasks)
        yield row(f"weighted {tag} silent RA", quiet(Weighted, limit, window, asks=exact), tasks)


def _tokens() -> Iterator[Kind]:
    """Charged when the answer is there; what each takes is known by then."""
    for tag, core in CORES.items():
        for suffix, asks in (("", nothing), (" RA", exact)):
            quota = partial(_of_tokens, core)
            make = partial(_answering, quota, asks)
            name = f"tpm {tag} post lognormal silent{suffix}"
            yield row(name, make, 2400, tokens=varied, reckoned=180.0)


def _of_tokens(core: Callable[[float, float], Core]) -> Quota:
    return Quota(core(60_000, 60), all_tokens, afterwards=True)


def _answering(quota: Callable[[], Quota], asks: Any) -> Composed:
    return Composed(quotas=[quota()], asks=asks, body=OF_TOKENS)


def _tiny() -> Iterator[Kind]:
    """The first refusal alone may be more than two in a hundred."""
    for limit in (1, 2, 3, 5):
        for tag, core in CORES.items():
            make = quiet(core, limit, 60, body=PLAIN)
            yield row(f"tiny {limit}/60 {tag} silent", make, 12 * limit, target=None)
            make = quiet(core, limit, 60, asks=exact, body=LIMITED)
            yield row(f"tiny {limit}/60 {tag} silent RA", make, 12 * limit, target=None)
