"""How to start a server that nobody here wrote, and what to install where it is missing.

What comes from PyPI and npm is looked for in a folder of its own, the *shelf*: ``SHELF/python`` and
``SHELF/node_modules``. Proxies stand before an upstream that limits nothing; the others answer by themselves.
"""

import importlib.util
import os
import shutil
import sys
from dataclasses import dataclass
from importlib.machinery import PathFinder
from pathlib import Path

LATENCY = 0.1  # seconds that an answer takes
SYSTEM = "/usr/sbin:/usr/local/sbin"  # where servers are, and users seldom look
SERVERS = Path(__file__).parent / "servers"


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """What a server is told: where to listen, what to pass on to, and where it may write."""

    shelf: Path
    port: int
    upstream: str  # host and port
    folder: Path


@dataclass(frozen=True, slots=True)
class Pypi:
    """A limiter from PyPI, in a few lines of its own framework (servers/pypi.py)."""

    packages: tuple[str, ...]  # as pip knows them; the first is the one to look for
    module: str
    kind: str
    limit: int
    window: int

    def missing(self, shelf: Path) -> str:
        """What to do before it can be started; empty if nothing."""
        found = PathFinder.find_spec(self.module, [str(shelf / "python")]) or importlib.util.find_spec(self.module)
        return "" if found else f"pip install --target {shelf / 'python'} {' '.join(self.packages)}"

    def command(self, start: Start) -> tuple[str, ...]:
        """How to start it."""
        words = (start.port, self.kind, self.limit, self.window, LATENCY)
        return (sys.executable, str(SERVERS / "pypi.py"), *map(str, words))

    def environment(self, start: Start) -> dict[str, str]:
        """What its environment needs."""
        return {"PYTHONPATH": str(start.shelf / "python")}


@dataclass(frozen=True, slots=True)
class Npm:
    """A limiter from npm, in a few lines of its own framework (servers/npm.cjs)."""

    packages: tuple[str, ...]
    kind: str
    limit: int
    window: int

    def missing(self, shelf: Path) -> str:
        """What to do before it can be started; empty if nothing."""
        if _program("node") is None:
            return "apt install nodejs npm"
        found = all((shelf / "node_modules" / package).is_dir() for package in self.packages)
        return "" if found else f"npm install --prefix {shelf} {' '.join(self.packages)}"

    def command(self, start: Start) -> tuple[str, ...]:
        """How to start it."""
        words = (start.port, self.kind, self.limit, self.window, LATENCY)
        return (_program("node") or "node", str(SERVERS / "npm.cjs"), *map(str, words))

    def environment(self, start: Start) -> dict[str, str]:
        """What its environment needs."""
        return {"NODE_PATH": str(start.shelf / "node_modules")}


@dataclass(frozen=True, slots=True)
class Llmock:
    """A mock API with real buckets, one of our own development packages."""

    options: tuple[str, ...]

    def missing(self, shelf: Path) -> str:
        """What to do before it can be started; empty if nothing."""
        del shelf
        return "" if _program("llmock") else "pip install llmock"

    def command(self, start: Start) -> tuple[str, ...]:
        """How to start it."""
        common = ("--port", str(start.port), "--tool-mode", "off", "--latency-ms", f"{LATENCY * 1000:.0f}")
        return (_program("llmock") or "llmock", "serve", *common, *self.options)

    def environment(self, start: Start) -> dict[str, str]:
        """What its environment needs."""
        del start
        return {}


@dataclass(frozen=True, slots=True)
class Proxy:
    """A reverse proxy by its configuration, with places for ``{port}``, ``{upstream}`` and ``{folder}``."""

    program: str
    configuration: str
    arguments: tuple[str, ...]  # before the path of the configuration

    def missing(self, shelf: Path) -> str:
        """What to do before it can be started; empty if nothing."""
        del shelf
        return "" if _program(self.program) else f"apt install {self.program}"

    def command(self, start: Start) -> tuple[str, ...]:
        """How to start it."""
        path = start.folder / "proxy.conf"
        text = self.configuration
        for name, value in (("port", start.port), ("upstream", start.upstream), ("folder", start.folder)):
            text = text.replace(f"{{{name}}}", str(value))
        path.write_text(text)
        return (_program(self.program) or self.program, *self.arguments, str(path))

    def environment(self, start: Start) -> dict[str, str]:
        """What its environment needs."""
        del start
        return {}


Foreign = Pypi | Npm | Llmock | Proxy


def nginx(zone: str, rule: str) -> Proxy:
    """nginx with one *zone* and one *rule* of it."""
    return Proxy("nginx", NGINX.replace("{zone}", zone).replace("{rule}", rule), ("-e", "stderr", "-c"))


def haproxy(limit: int, window: int) -> Proxy:
    """HAProxy with a stick-table that counts every request, refused ones too."""
    text = HAPROXY.replace("{limit}", str(limit)).replace("{window}", str(window))
    return Proxy("haproxy", text, ("-db", "-f"))


def _program(name: str) -> str | None:
    """A program's path: beside our interpreter, on the path, or where servers are."""
    places = (str(Path(sys.executable).parent), os.environ.get("PATH", ""), SYSTEM)
    return shutil.which(name, path=os.pathsep.join(places))


NGINX = """
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log stderr crit;
events {}
http {
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  {zone};
  limit_req_status 429;
  limit_conn_status 429;
  server {
    listen 127.0.0.1:{port};
    {rule};
    location / { proxy_pass http://{upstream}; proxy_http_version 1.1; proxy_set_header Connection ""; }
  }
}
"""

HAPROXY = """
global
  maxconn 1000
defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 60s
frontend f
  bind 127.0.0.1:{port}
  stick-table type ip size 1k expire 1m store http_req_rate({window}s)
  http-request track-sc0 src
  http-request deny deny_status 429 if { sc_http_req_rate(0) gt {limit} }
  default_backend b
backend b
  server s {upstream}
"""
