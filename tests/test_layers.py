"""Imports point down, siblings do not know one another, and every outside library has one door."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import batchrunner

ROOT = Path(batchrunner.__file__).parent
FLOORS = [
    {"errors", "exits", "quota", "clock", "pacer", "answer", "size", "growth"},
    {"schedule"},
    {"money", "task"},
    {"provider"},
    {"budget", "config", "cost", "prices", "tokenizer"},
    {"canary", "check", "confirm", "record", "rest", "retry", "shared", "turned_down"},
    {"plans"},
    {"api", "credentials", "db", "jobfile", "learned", "limits", "report", "simulator", "spending"},
    {"backlog", "entries", "lane", "planner"},
    {"lanemaker", "lanes", "logbook", "pursemaker"},
    {"job", "judge", "loader", "routes"},
    {"coordinator"},
    {"worker"},
    {"runner"},
    {"planmaker"},
    {"library"},
    {"cli"},
    {"__main__"},
]
FLOOR = {part: floor for floor, parts in enumerate(FLOORS) for part in parts}
DOORS = {
    "aiohttp": {"api/client.py", "simulator/server.py", "simulator/wire.py"},
    "aiolimiter": {"pacer.py"},
    "alembic": {"db/engine.py"},
    "click": {"cli/"},
    "dotenv": {"cli/settings.py"},
    "httpx": {"api/client.py"},
    "httpx_aiohttp": {"api/client.py"},
    "jinja2": {"jobfile/template.py"},
    "msgspec": {
        "api/reply.py",
        "check.py",
        "cost.py",
        "jobfile/",
        "prices.py",
        "provider.py",
        "routes.py",
        "simulator/",
    },
    "rich": {"report/terminal.py"},
    "rich_click": {"cli/"},
    "sqlalchemy": {"db/"},
    "sqlite3": {"db/engine.py", "db/seen.py", "cli/doctor.py"},
    "tokenizers": {"tokenizer.py"},
}
SKIPPED = ("__init__.py", "migrations/", "jobs/")
FILES = {
    name: path
    for path in sorted(ROOT.rglob("*.py"))
    if not (name := path.relative_to(ROOT).as_posix()).startswith(SKIPPED)
}


def imported(path: Path) -> Iterator[str]:
    """Every module that *path* names in an import, wherever it stands."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


@pytest.mark.parametrize("name", FILES)
def test_imports_point_down(name: str) -> None:
    """A part imports only itself and what lies on a lower floor."""
    part = name.partition("/")[0].removesuffix(".py")
    for module in imported(FILES[name]):
        if module.startswith("batchrunner."):
            other = module.split(".")[1]
            assert other == part or FLOOR[other] < FLOOR[part], module


@pytest.mark.parametrize("name", FILES)
def test_every_library_has_one_door(name: str) -> None:
    """A library is imported in the files that are its door, and nowhere else."""
    for module in imported(FILES[name]):
        doors = DOORS.get(module.split(".")[0])
        assert doors is None or any(name.startswith(door) for door in doors), module


def test_every_part_has_a_floor() -> None:
    """A new file or folder is given its floor here."""
    assert {name.partition("/")[0].removesuffix(".py") for name in FILES} <= FLOOR.keys()
