"""What the simulated server is told to be: limits, dialect, latency, faults; values, checked."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import isfinite
from typing import Literal, get_args

from batchrunner.errors import ConfigError
from batchrunner.simulator.changes import parse_changes
from batchrunner.simulator.faults import parse_faults
from batchrunner.simulator.latency import parse_latency

Algorithm = Literal["bucket", "fixed", "sliding"]
Charging = Literal["estimate", "max_tokens", "actual"]
DialectName = Literal["provider", "openai", "zhipu", "anthropic", "ietf", "glm", "none", "retry-after"]

WINDOW = 60.0  # seconds
MAX_BODY = 32 << 20  # bytes of one request


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What may change while the server runs; None = no such limit. ``rpm`` and ``tpm`` are per window."""

    rpm: int | None = None
    tpm: int | None = None
    concurrency: int | None = None

    def __post_init__(self) -> None:
        for name in ("rpm", "tpm", "concurrency"):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
                raise ConfigError(f"{name} must be a whole number of 1 or more, or nothing; not {value!r}")

    def changed(self, change: Mapping[str, object]) -> "Limits":
        """These limits but for what *change* names. Raises ConfigError for a name or a number that makes no sense."""
        unknown = change.keys() - {"rpm", "tpm", "concurrency"}
        if unknown:
            raise ConfigError(f"there is no limit {min(unknown)!r}; there are rpm, tpm and concurrency")
        return replace(self, **change)  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """How the simulated server behaves.

    ``rpm``, ``tpm``: what one window allows, None = no limit; a window is a minute unless ``window`` says otherwise (in
    seconds). ``aligned``: fixed windows stand on the wall clock's grid. ``latency`` and ``faults`` are specs, see
    latency.py and faults.py. ``charging``: whether tokens are charged at admission by the prompt alone ("estimate"), by
    prompt and max_tokens and refunded later ("max_tokens"), or afterwards by what was used ("actual").
    ``charge_refused``: a refused request costs all the same. ``foreign``: the share of ``rpm`` and ``tpm`` that another
    client of the account takes, see shared.py. ``changes``: limits that change by themselves, see changes.py. ``key``:
    who does not bring it gets 401; None = anyone. ``models``: any other gets 404; empty = any. ``max_body``: bytes.
    ``voice``: the provider that it speaks as, see voices.py. ``dialect``: how it tells of limits; "provider" is as the
    voice does, or as OpenAI where there is none.
    Raises ConfigError.
    """

    rpm: int | None = None
    tpm: int | None = None
    concurrency: int | None = None
    algorithm: Algorithm = "bucket"
    window: float = WINDOW
    aligned: bool = False
    dialect: DialectName = "provider"
    latency: str | float = 0.0
    charging: Charging = "estimate"
    charge_refused: bool = False
    foreign: float = 0.0
    changes: str = ""
    faults: str = ""
    seed: int = 0
    key: str | None = field(default=None, repr=False)
    models: tuple[str, ...] = ()
    max_body: int = MAX_BODY
    voice: str | None = None

    def __post_init__(self) -> None:
        limits = self.limits
        for change in parse_changes(self.changes):
            limits = limits.changed({change.name: change.value})
        parse_latency(self.latency)
        parse_faults(self.faults)
        _one_of("algorithm", self.algorithm, get_args(Algorithm))
        _one_of("dialect", self.dialect, get_args(DialectName))
        _one_of("charging", self.charging, get_args(Charging))
        if not isfinite(self.window) or self.window <= 0:
            raise ConfigError(f"the window must be more than 0 seconds, not {self.window}")
        if self.aligned and self.algorithm != "fixed":
            raise ConfigError(f"only fixed windows can be aligned to the clock; the algorithm is {self.algorithm!r}")
        if not 0 <= self.foreign < 1:
            raise ConfigError(f"another client's share must be from 0 to less than 1, not {self.foreign}")
        if self.max_body < 1:
            raise ConfigError(f"max_body must be 1 byte or more, not {self.max_body}")

    @property
    def limits(self) -> Limits:
        return Limits(rpm=self.rpm, tpm=self.tpm, concurrency=self.concurrency)


def _one_of(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ConfigError(f"there is no {name} {value!r}; there are {', '.join(known)}")
