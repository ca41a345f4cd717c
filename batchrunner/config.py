"""What a run is told: settings as values, their defaults, and their validation. Nothing here reads the environment."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import SplitResult, urlsplit

from batchrunner.errors import ConfigError
from batchrunner.provider import GENERIC, Provider

CONCURRENCY = 512  # requests in flight, where nothing else is known; the way there is felt out
TIMEOUT = 600.0  # seconds for one attempt, from the first byte out to the last byte in
ATTEMPTS = 3  # tries that a server error, a timeout or a broken connection uses up
CANARY = 3  # first tasks of a job that go alone
GRACE = 60.0  # seconds a drain waits for what is in flight
MAX_BODY = 32 << 20  # bytes of one decoded answer
LOOPBACK = ("localhost", "127.0.0.1", "::1")


class Secret:
    """A key. It never shows: ``repr`` and ``str`` are masked, ``reveal`` is called where the header is made."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        stripped = value.strip()
        if not stripped:
            raise ConfigError("the API key is empty")
        if not stripped.isascii() or not stripped.isprintable() or " " in stripped:
            raise ConfigError("the API key holds a character that can't stand in a header (a line break? a quote?)")
        self._value = stripped

    def reveal(self) -> str:
        return self._value

    def __repr__(self) -> str:
        return "***"


def _parts(url: str) -> SplitResult | None:
    """None where it is none at all: a port that is no number, half a bracket, a space."""
    try:
        parts = urlsplit(url)
        return parts if parts.port != 0 and not re.search(r"\s", url) else None
    except ValueError:
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Where requests go. The key is bound to this origin and goes nowhere else.

    ``base_url`` has no trailing slash; ``key_source`` says in words where the key came from. Raises ConfigError.
    """

    base_url: str
    provider: Provider = GENERIC
    key: Secret | None = field(default=None, repr=False)
    key_source: str = ""
    proxy: str | None = field(default=None, repr=False)
    ca_file: str | None = None

    def __post_init__(self) -> None:
        parts = _parts(self.base_url)
        if parts is None or parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigError(f"{self.base_url!r} is no base URL; it should look like https://host/v1")
        if parts.username or parts.password:
            raise ConfigError("a base URL has no user and no password; give the key by --key-env")
        if parts.query or parts.fragment:
            raise ConfigError(
                f"a base URL ends with its path; leave out what comes after {self.base_url.partition('?')[0]} "
                "(Azure: https://NAME.openai.azure.com/openai/v1 needs no api-version)"
            )
        if parts.scheme == "http" and self.key is not None and parts.hostname not in LOOPBACK:
            raise ConfigError(f"{self.base_url} would send the key unencrypted; use https")
        object.__setattr__(self, "base_url", self.base_url.rstrip("/"))

    @property
    def host(self) -> str:
        return urlsplit(self.base_url).netloc

    @property
    def warnings(self) -> tuple[str, ...]:
        """What whoever uses this address should know."""
        return tuple(text for part, text in self.provider.warnings.items() if part in self.base_url)


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitSettings:
    """Limits as the user states them; None = to be learned. ``headroom`` is the share of a stated limit left unused.

    ``concurrency`` is the most in flight; where it is only ``CONCURRENCY``, the way there is felt out.
    """

    rpm: float | None = None
    tpm: float | None = None
    concurrency: int = CONCURRENCY
    stated_concurrency: bool = False
    headroom: float = 0.0

    def __post_init__(self) -> None:
        for name, value in (("--rpm", self.rpm), ("--tpm", self.tpm), ("--concurrency", self.concurrency)):
            if value is not None and value <= 0:
                raise ConfigError(f"{name} must be more than 0, not {value}")
        if not 0 <= self.headroom < 1:
            raise ConfigError(f"--headroom must be a share from 0 to 1, not {self.headroom}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One way to send: an endpoint with its key, and the limits stated for it; a ``[[lane]]`` of the user's file.

    ``models``: those of the job file that it takes, each with the name it has there; None = all, as they are.
    """

    name: str
    endpoint: Endpoint
    limits: LimitSettings = field(default_factory=LimitSettings)
    models: Mapping[str, str] | None = None

    def serves(self, model: str) -> bool:
        return self.models is None or model in self.models

    def name_of(self, model: str) -> str:
        return model if self.models is None else self.models[model]


def serving(routes: Sequence[Route], model: str) -> list[Route]:
    """Those that take this model of the job file. Raises ConfigError where none does."""
    found = [route for route in routes if route.serves(model)]
    if not found:
        raise ConfigError(f"no lane takes the model {model!r} of the job's lines; add it to a lane's models")
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrySettings:
    """``attempts``: tries a task has; rate limits use up none. Waits are seconds, before full jitter."""

    attempts: int = ATTEMPTS
    wait_initial: float = 1.0
    wait_max: float = 60.0

    def __post_init__(self) -> None:
        if self.attempts < 1:
            raise ConfigError(f"--attempts must be 1 or more, not {self.attempts}")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSettings:
    """How one run behaves. ``stream``: whatever can be streamed is, unless its line says otherwise.

    ``waits``: an allowance of hours that is used up is waited for, where the provider says until when.
    """

    timeout: float = TIMEOUT
    grace: float = GRACE
    in_flight: Literal["retry", "hold"] = "retry"
    max_tasks: int | None = None
    learned: bool = True
    stream: bool = False
    canary: int = CANARY
    waits: bool = True

    def __post_init__(self) -> None:
        if self.canary < 0:
            raise ConfigError(f"--canary must be 0 or more, not {self.canary}")
        for name, value in (("--timeout", self.timeout), ("--grace", self.grace), ("--limit", self.max_tasks)):
            if value is not None and value <= 0:
                raise ConfigError(f"{name} must be more than 0, not {value}")
