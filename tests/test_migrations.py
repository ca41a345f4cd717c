"""Migrations: the newest one ends where a new database begins, and a failed one leaves no trace."""

import runpy
import shutil
import sqlite3
from pathlib import Path

import pytest
from older import turn_back

from batchrunner.db import schema
from batchrunner.db.engine import migrate, migrations, open_writer
from batchrunner.db.store import Store

BROKEN = """
from alembic import op

revision = "9999"
down_revision = "{head}"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("CREATE TABLE half_made (id INTEGER)")
    op.execute("DROP VIEW tasks")
    raise OSError("the power is gone")
"""


def definition(path: Path) -> dict[str, str]:
    """What the schema says, by name, whatever the layout of its text."""
    connection = sqlite3.connect(path)
    rows = connection.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL").fetchall()
    connection.close()
    return {name: " ".join(sql.split()).replace("( ", "(").replace(" )", ")") for name, sql in rows}


def numbers(path: Path) -> tuple[object, ...]:
    connection = sqlite3.connect(path)
    pragmas = [connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version")]
    head = connection.execute("SELECT version_num FROM alembic_version").fetchall()
    connection.close()
    return (*pragmas, head)


def new(path: Path) -> Path:
    Store(path).close()
    return path


def before_the_first(path: Path) -> Path:
    """A database of ours as it was before the first migration: nothing in it but alembic's own table."""
    connection = sqlite3.connect(path)
    connection.execute(
        "CREATE TABLE alembic_version "
        "(version_num VARCHAR(32) NOT NULL, CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num))"
    )
    connection.execute(f"PRAGMA application_id = {schema.APPLICATION_ID}")
    connection.commit()
    connection.close()
    return path


def test_the_folder_of_migrations_is_found() -> None:
    assert (migrations() / "env.py").is_file()
    assert list((migrations() / "versions").glob(f"{schema.HEAD}_*.py"))


def test_migrations_and_a_new_database_come_to_the_same(tmp_path: Path) -> None:
    made = new(tmp_path / "new.db")
    upgraded = new(before_the_first(tmp_path / "old.db"))
    assert definition(upgraded) == definition(made)
    assert numbers(upgraded) == numbers(made) == (schema.APPLICATION_ID, schema.VERSION, [(schema.HEAD,)])


def test_an_old_database_is_kept_as_a_copy_before_it_is_upgraded(tmp_path: Path) -> None:
    new(before_the_first(tmp_path / "old.db"))
    copy = tmp_path / "old.db.schema0"
    assert set(definition(copy)) == {"alembic_version"}
    assert copy.stat().st_mode & 0o777 == 0o600


def test_the_first_release_is_what_turning_back_leads_to(tmp_path: Path) -> None:
    """So that tests on such a database mean something: it equals what migration 0001 alone makes."""
    connection = sqlite3.connect(before_the_first(tmp_path / "first.db"))
    for statement in runpy.run_path(str(next((migrations() / "versions").glob("0001_*"))))["STATEMENTS"]:
        connection.execute(statement)
    connection.close()
    turn_back(new(tmp_path / "turned.db"))
    assert definition(tmp_path / "turned.db") == definition(tmp_path / "first.db")


def test_a_newest_database_is_not_copied(tmp_path: Path) -> None:
    new(new(tmp_path / "a.db"))
    assert [path.name for path in tmp_path.iterdir()] == ["a.db"]


def test_a_migration_that_breaks_off_leaves_the_old_schema(tmp_path: Path) -> None:
    folder = shutil.copytree(migrations(), tmp_path / "50%migrations")
    (folder / "versions" / "9999_broken.py").write_text(BROKEN.format(head=schema.HEAD))
    path = new(tmp_path / "a.db")
    before, stamped = definition(path), numbers(path)
    connection = open_writer(path)
    with pytest.raises(OSError, match="power"):
        migrate(connection, folder=folder)
    connection.close()
    connection.engine.dispose()
    assert (definition(path), numbers(path)) == (before, stamped)
