"""Rows of kinds.py without a target: servers that hide a limit, leave fields out, mislead, punish, or change.

Nobody can know what they hide: they are for information.
"""

from collections.abc import Callable, Iterator
from functools import partial
from math import ceil
from typing import Any

import kind
from composed import Composed, Others, Quota, always, exact
from cores import Bucket, Core, Fixed, Sliding, Weighted
from kind import CORES, Kind, soonest, telling
from silent_kinds import BURSTS, quiet
from strange_servers import Headers
from telling import draft6, draft8, github, openai, written
from told_kinds import WINDOWS, told

REPLENISH = {
    "X-RateLimit-Remaining": "{remaining}",
    "X-RateLimit-Requested-Tokens": "1",
    "X-RateLimit-Burst-Capacity": "20",
    "X-RateLimit-Replenish-Rate": "10",
}


row = partial(kind.row, target=None)


def odd_kinds() -> Iterator[Kind]:
    yield from _limits_that_a_burst_never_reaches()
    yield from _hidden()
    yield from _azure()
    yield from _fields_left_out()
    yield from _places()
    yield from _waits_and_bans()
    yield from _changes()
    yield from _silent_others()


def _limits_that_a_burst_never_reaches() -> Iterator[Kind]:
    """The limit told is the minute's, and what is left is the burst's; or both are the burst's, a window a minute."""
    ways: dict[str, tuple[Any, dict[str, Any]]] = {
        "draft6 limit=L next RA": (partial(draft6, reset="next"), {"asks": exact}),
        "draft6 limit=L full": (draft6, {"asks": exact}),
        "openai limit=L full": (openai, {}),
        "draft8 q=L w": (draft8, {}),
        "draft8 q=burst w": (partial(draft8, burst=True), {}),
    }
    for tag, (limit, window, burst) in BURSTS.items():
        for way, (tell, options) in ways.items():
            core = partial(Bucket, limit, window, burst=burst)
            yield row(f"gcra {tag} {way}", partial(told, core, tell, **options), 300 if limit == 60 else 1500)
    bucket = partial(Bucket, 600, 60, burst=20, step=1.0)
    tell = partial(written, headers=REPLENISH)
    yield row("spring cloud gateway bucket", partial(told, bucket, tell, body=b""), 1500)


def _hidden() -> Iterator[Kind]:
    """600 a minute are told, and a limit of seconds is not."""
    ten: dict[str, tuple[Any, Any, dict[str, Any]]] = {
        "fixed told, 10/s fixed hidden": (Fixed, partial(Fixed, 10, 1), {}),
        "fixed told, 10/s fixed hidden RA1": (Fixed, partial(Fixed, 10, 1), {"asks": exact}),
        "bucket told, 10/s bucket hidden": (Bucket, partial(Bucket, 10, 1), {}),
        "bucket told, 10/s bucket hidden RA": (Bucket, partial(Bucket, 10, 1), {"asks": exact}),
        "told, 100/10s fixed hidden RA (Azure)": (Fixed, partial(Fixed, 100, 10), {"asks": exact}),
        "told, 100/10s fixed hidden": (Fixed, partial(Fixed, 100, 10), {}),
        "sliding told, 100/10s sliding hidden RA": (Sliding, partial(Sliding, 100, 10), {"asks": exact}),
    }
    for name, (outer, inner, options) in ten.items():
        make = partial(_told_and_hidden, partial(outer, 600, 60), inner, **options)
        yield row(f"sub 600/min {name}", make, 2400)
    day = partial(Bucket, 5000, 86_400)
    make = partial(_told_and_hidden, day, partial(Bucket, 300, 60), asks=exact)
    yield row("rpd 5000 told openai names, rpm 300 hidden bucket RA", make, 1500)
    make = partial(_told_and_hidden, day, partial(Fixed, 300, 60))
    yield row("rpd 5000 told openai names, rpm 300 hidden fixed", make, 1500)


def _told_and_hidden(outer: Callable[[], Core], inner: Callable[[], Core], **options: Any) -> Composed:
    known, hidden = outer(), inner()
    return Composed(quotas=[Quota(known), Quota(hidden)], tells=[openai(known)], **options)


def _azure() -> Iterator[Kind]:
    """What is left of ten seconds, told as if it were the minute's; and headers that are a second old."""
    yield row("azure rem of 10s scaled RA", _scaled, 2400)
    for tag, core in (("sliding", Sliding), ("bucket", Bucket)):
        make = partial(told, partial(core, 600, 60), openai, tells={"fields": "lr"}, asks=exact, stale=1.0)
        yield row(f"azure limit+rem, {tag} 600/60, stale 1s", make, 2400)
    make = partial(told, partial(Bucket, 600, 60), openai, asks=exact, stale=1.0)
    yield row("openai bucket 600/60, stale 1s", make, 2400)
    for limit, window, tasks in ((600, 60, 2400), (100, 10, 1200)):
        make = partial(told, partial(Fixed, limit, window), github, stale=1.0)
        yield row(f"github fixed {limit}/{window}, stale 1s", make, tasks)


def _scaled() -> Composed:
    core = Fixed(100, 10)

    def tell(now: float) -> Headers:
        return {
            "x-ratelimit-limit-requests": "600",
            "x-ratelimit-remaining-requests": str(core.state(now).remaining * 6),
            "x-ratelimit-reset-requests": "0",
        }

    return telling(core, tell, asks=exact)


def _fields_left_out() -> Iterator[Kind]:
    """Or a clock that is wrong, with no date to tell it by."""
    names = {"no limit": "rt", "no remaining": "lt", "no reset": "lr", "limit only": "l", "remaining only": "r"}
    for window, limit, tasks in WINDOWS:
        for aligned in (True, False):
            name = f"fixed {limit}/{window} {'aligned' if aligned else 'first'}"
            core: Callable[[], Core] = partial(Fixed, limit, window, aligned=aligned)
            for tag, fields in names.items():
                tells: dict[str, Any] = {"rounded": ceil, "fields": fields}
                yield row(f"{name} {tag}", partial(told, core, github, tells=tells), tasks)
            for ahead in (2, -2):
                tells = {"rounded": ceil, "ahead": float(ahead)}
                yield row(f"{name} epoch skew{ahead:+d}", partial(told, core, github, tells=tells), tasks)
    for fields in names.values():
        make = partial(told, partial(Bucket, 600, 60), openai, tells={"fields": fields})
        yield row(f"bucket 600/60 openai fields {fields}", make, 2400)
    for fields in ("rt", "lt", "lr"):
        make = partial(told, partial(Sliding, 600, 60), openai, tells={"fields": fields, "reset": "next"})
        yield row(f"sliding 600/60 openai fields {fields}", make, 2400)
    for limit, window, tasks in ((600, 60, 2400), (100, 10, 1000)):
        make = partial(told, partial(Weighted, limit, window), openai, tells={"fields": "lr"})
        yield row(f"weighted {limit}/{window} secs no reset", make, tasks)
    for step in (1.0, 5.0):
        make = partial(told, partial(Bucket, 600, 60, step=step), openai, tells={"fields": "lr"})
        yield row(f"bucket 600/60 step {step:g} no reset", make, 2400)


def _places() -> Iterator[Kind]:
    """Only so many at a time, and a rate as well."""
    for places in (1, 4, 20):
        for tag, options in (("hidden", {}), ("hidden RA1", {"asks_when_full": always(1)})):
            make = partial(told, partial(Bucket, 6000, 60), openai, places=places, **options)
            yield row(f"conc {places} {tag} + rpm 6000 told bucket", make, 100 * places)
    for tag, core in (("bucket", Bucket), ("fixed", Fixed)):
        yield row(f"conc 20 + rpm 600 hidden both {tag}", quiet(core, 600, 60, places=20), 2000)
    yield row("conc 5 + rpm 60 hidden both fixed", quiet(Fixed, 60, 60, places=5), 400)
    with_waits = quiet(Fixed, 600, 60, places=20, asks=exact, asks_when_full=always(1))
    yield row("conc 20 + rpm 600 hidden fixed RA exact", with_waits, 2000)
    yield row("conc 20 + rpm 600 told bucket", partial(told, partial(Bucket, 600, 60), openai, places=20), 2000)


def _waits_and_bans() -> Iterator[Kind]:
    """Waits that are much too long; and all is refused for a while after a refusal."""
    for tag, core in CORES.items():
        full, tells = partial(core, 600, 60), {"reset": soonest(tag)}
        for seconds in (60, 10):
            make = quiet(core, 600, 60, asks=always(seconds))
            yield row(f"{tag} 600/60 silent RA fixed {seconds}", make, 2400)
        make = partial(told, full, openai, tells=tells, asks=always(60))
        yield row(f"{tag} 600/60 openai RA fixed 60", make, 2400)
        yield row(f"{tag} 600/60 ban 10 openai", partial(told, full, openai, tells=tells, ban=10.0), 2400)
        yield row(f"{tag} 600/60 ban 10 silent RA", quiet(core, 600, 60, ban=10.0, asks=exact), 2400)
        yield row(f"{tag} 600/60 ban 30 silent", quiet(core, 600, 60, ban=30.0), 2400)


def _changes() -> Iterator[Kind]:
    for tag, core in CORES.items():
        for factor in (0.5, 2.0):
            changes = [(90.0, factor)]
            tells = {"reset": soonest(tag)}
            make = partial(told, partial(core, 600, 60), openai, tells=tells, changes=changes)
            yield row(f"{tag} x{factor:g} at 90 s told", make, 2400)
            yield row(f"{tag} x{factor:g} at 90 s silent", quiet(core, 600, 60, changes=changes), 2400)


def _silent_others() -> Iterator[Kind]:
    """Half of it is somebody else's, and nobody tells."""
    for tag, core in CORES.items():
        for what, others in (("bursts 25 each 5 s", Others(1.3, 5.0, 25)), ("even 5/s", Others(1.3, 0.2, 1))):
            make = quiet(core, 600, 60, others=[others])
            yield row(f"{tag} other {what} silent", make, 2000)
            make = quiet(core, 600, 60, others=[others], asks=exact)
            yield row(f"{tag} other {what} silent RA", make, 2000)
