"""Which endpoint is meant, and with which key: the places a key may come from.

A key comes from the environment, a file or a command, never from a command line, and is bound to the endpoint it was
given for.
"""

import re
import stat
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from batchrunner.config import LOOPBACK, Endpoint, Secret
from batchrunner.errors import ConfigError
from batchrunner.provider import GENERIC, Provider, load_provider, provider_at

KEY_VARIABLE = "BATCHRUNNER_API_KEY"
COMMAND_TIMEOUT = 60.0  # seconds
_ENDPOINT = re.compile(r"/+(chat/completions|completions|embeddings|responses|rerank|moderations)/*$")


@dataclass(frozen=True, slots=True, kw_only=True)
class KeySource:
    """Where the user says the key is; at most one of them."""

    variable: str | None = None
    file: Path | None = None
    command: str | None = None

    def __post_init__(self) -> None:
        if sum(given is not None for given in (self.variable, self.file, self.command)) > 1:
            raise ConfigError("--key-env, --key-file and --key-cmd all say where the key is; keep one of them")


def resolve_endpoint(
    *,
    provider: str | None,
    base_url: str | None,
    source: KeySource | None,
    environ: Mapping[str, str],
    proxy: str | None = None,
    ca_file: str | None = None,
) -> Endpoint:
    """The endpoint with its key. Raises ConfigError where either is missing, saying what was tried.

    No *source*: no key is looked for, as nothing is to be sent.
    """
    url = None if base_url is None else _base(base_url)
    known = _known(provider, url)
    url = url or _base(known.base_url)
    if not url and known is not GENERIC:
        raise ConfigError(f"{known.title} has no address that is everybody's: give yours by --base-url https://…")
    if not url:
        raise ConfigError(
            "no provider: nothing says where to send the requests. Name one (-p zhipu, -p zai, -p openai), "
            "give any OpenAI-compatible endpoint (--base-url https://host/v1), or set one in batchrunner.toml "
            '(provider = "zhipu"). To rehearse without a key: batchrunner simulator'
        )
    if source is None:
        return Endpoint(base_url=url, provider=known, proxy=proxy, ca_file=ca_file)
    variables = (KEY_VARIABLE, *known.key_variables)
    key, came_from = find_key(source, variables, environ)
    if key is None and known.key_needed and urlsplit(url).scheme == "https" and urlsplit(url).hostname not in LOOPBACK:
        raise ConfigError(
            f"no key for {url}: tried {', '.join(variables)}. Set one of them (here or in a file .env), or say where "
            "it is: --key-env NAME, --key-file FILE or --key-cmd COMMAND"
        )
    return Endpoint(base_url=url, provider=known, key=key, key_source=came_from, proxy=proxy, ca_file=ca_file)


def _base(url: str) -> str:
    """A base URL as people paste it: with a slash or a question mark at its end, or with the path of an endpoint.

    One that makes no sense is told before a key is missed.
    """
    base = _ENDPOINT.sub("", url.strip().rstrip("?#")).rstrip("/")
    return Endpoint(base_url=base).base_url if base else ""


def _known(name: str | None, url: str | None) -> Provider:
    """Whom the user named; else whose host it is; else nobody in particular."""
    if name is not None:
        return load_provider(name)
    host = None if url is None else urlsplit(url).hostname
    return GENERIC if host is None or host in LOOPBACK else provider_at(host) or GENERIC


def find_key(source: KeySource, variables: tuple[str, ...], environ: Mapping[str, str]) -> tuple[Secret | None, str]:
    """The key, and in words where it came from; None where nothing holds one. Raises ConfigError."""
    if source.file is not None:
        return _secret(_read_key(source.file), f"--key-file {source.file}"), f"file {source.file}"
    if source.command is not None:
        return _secret(_ask(source.command), "--key-cmd"), "--key-cmd"
    if source.variable is not None:
        if not environ.get(source.variable):
            raise ConfigError(f"--key-env {source.variable}: the variable is not set")
        return _secret(environ[source.variable], source.variable), source.variable
    for name in variables:
        if environ.get(name):
            return _secret(environ[name], name), name
    return None, "no key"


def _secret(value: str, came_from: str) -> Secret:
    try:
        return Secret(value)
    except ConfigError as error:
        raise ConfigError(f"{came_from}: {error}") from None


def _read_key(path: Path) -> str:
    try:
        mode = path.stat().st_mode
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise ConfigError(f"--key-file {path}: can't be read ({reason})") from None
    if stat.S_IMODE(mode) & 0o077:
        raise ConfigError(f"--key-file {path}: others can read it; run: chmod 600 {path}")
    return text


def _ask(command: str) -> str:
    """The first line a command prints, such as ``pass show glm``. What it says on standard error is for the user."""
    try:
        done = subprocess.run(  # noqa: S602  (the user's own command, from the user's own command line)
            command,
            shell=True,
            stdin=subprocess.DEVNULL,  # ours may be the job file
            stdout=subprocess.PIPE,
            timeout=COMMAND_TIMEOUT,
            check=True,
        )
        return done.stdout.partition(b"\n")[0].decode()
    except subprocess.CalledProcessError as error:
        raise ConfigError(f"--key-cmd: the command failed with exit code {error.returncode}") from None
    except subprocess.TimeoutExpired:
        raise ConfigError(f"--key-cmd: the command gave no key in {COMMAND_TIMEOUT:g} seconds") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"--key-cmd: the command did not give a key ({type(error).__name__})") from None
