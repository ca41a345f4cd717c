"""Opening a database: one connection that writes, read-only ones beside it, and the schema brought up to date.

SQLite before 3.51.3 can lose commits in WAL mode when two connections write or checkpoint at the same instant, so one
connection does every write and every checkpoint; all others are read-only. The database file is never opened by
anything but SQLite: closing a second handle in this process would drop SQLite's own locks
(sqlite.org/howtocorrupt.html, 2.2).
"""

import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.exc import DatabaseError
from sqlalchemy.pool import NullPool, StaticPool

from batchrunner.db import schema
from batchrunner.errors import SchemaTooNew, SchemaTooOld, StoreError

_WRITER = {
    "page_size": "8192",  # before the first write; best for rows that hold bodies
    "journal_mode": "WAL",
    "synchronous": "FULL",  # a commit that returned survives a power cut
    "busy_timeout": "30000",
    "foreign_keys": "ON",
    "trusted_schema": "OFF",
    "cell_size_check": "ON",
    "mmap_size": "0",
    "temp_store": "MEMORY",
    "cache_size": "-8192",
    "wal_autocheckpoint": "4000",
    "journal_size_limit": str(64 << 20),
    "fullfsync": "1",  # macOS: a plain fsync does not reach the disk there
    "checkpoint_fullfsync": "1",
}
_READER = {
    "query_only": "ON",
    "busy_timeout": "10000",
    "trusted_schema": "OFF",
    "wal_autocheckpoint": "0",
    "mmap_size": "0",
    "cache_size": "-16384",
}
_ALEMBIC = """
CREATE TABLE alembic_version (
    version_num VARCHAR(32) NOT NULL, CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
)
"""
_EXPECTED = {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}


def open_writer(path: Path) -> Connection:
    """The one connection that writes; creates or upgrades the schema. Call it only under the owner lock.

    Raises StoreError if the file is not ours or can't be used, SchemaTooNew if it is newer than this program.
    """
    _check_file(path)
    engine = create_engine(
        URL.create("sqlite", database=str(path)),
        poolclass=StaticPool,
        hide_parameters=True,
        # one thread at a time uses it, but not always the same one
        connect_args={"check_same_thread": False},
    )
    _on_connect(engine, lambda raw: _prepare_to_write(raw, path), begin="BEGIN IMMEDIATE")
    try:
        connection = engine.connect()
        _read_back(connection)
        _upgrade(connection, path)
    except (DatabaseError, sqlite3.DatabaseError) as error:
        engine.dispose()
        reason = error.orig if isinstance(error, DatabaseError) else error
        raise StoreError(f"{path}: SQLite can't use it as a database ({reason})") from error
    except BaseException:
        engine.dispose()
        raise
    return connection


def open_reader(path: Path) -> Engine:
    """An engine whose connections can only read; works while a runner is writing.

    Raises StoreError if the file is missing or not ours, SchemaTooOld if it was not upgraded yet.
    """
    if not path.is_file():
        raise StoreError(f"{path}: there is no such database; 'batchrunner run JOB' makes one")

    def connect() -> sqlite3.Connection:  # by hand: SQLAlchemy's URLs lose a quoted "?" in the name
        return sqlite3.connect(f"file:{quote(str(path.resolve()))}?mode=ro", uri=True, check_same_thread=False)

    engine = create_engine("sqlite://", creator=connect, poolclass=NullPool, hide_parameters=True)
    _on_connect(engine, lambda connection: _set(connection, _READER), begin="BEGIN")
    try:
        with engine.connect() as connection:
            raw = _raw(connection)
            _check_ours(raw, path)
            version = _pragma(raw, "user_version")
    except (DatabaseError, sqlite3.DatabaseError) as error:
        reason = error.orig if isinstance(error, DatabaseError) else error
        raise StoreError(f"{path}: SQLite can't read it as a database ({reason})") from error
    if version > schema.VERSION:
        raise _too_new(path, version)
    if version < schema.VERSION:
        raise SchemaTooOld(f"{path}: made by an older batchrunner; 'batchrunner run' upgrades it")
    return engine


def close_writer(connection: Connection, *, single_file: bool) -> None:
    """Checkpoint and close. With *single_file*, leave one plain file behind, unless a reader is looking just now."""
    raw = _raw(connection)
    try:
        raw.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        if single_file:
            raw.execute("PRAGMA busy_timeout = 0")
            raw.execute("PRAGMA journal_mode = DELETE")
    except sqlite3.OperationalError:  # a reader holds it, or the disk is full: it stays in WAL mode, just as safe
        pass
    connection.close()
    connection.engine.dispose()


def _check_file(path: Path) -> None:
    if not path.exists():
        try:
            path.touch(mode=0o600)
        except OSError as error:
            raise StoreError(f"{path}: can't be made: {error.strerror}. Name another place with --db") from error
        return
    if not path.is_file():
        raise StoreError(f"{path}: not a regular file, so it can't be a database")
    if path.stat().st_nlink > 1:
        raise StoreError(f"{path}: has hard links; a second name for a database corrupts it. Remove the other name")
    if not os.access(path, os.W_OK):
        raise StoreError(f"{path}: can't be written; check its permissions")


def _on_connect(engine: Engine, setup: Callable[[sqlite3.Connection], None], *, begin: str) -> None:
    # sqlite3 opens transactions by itself, late and not for DDL; switched off, and begun by SQLAlchemy's event instead
    @event.listens_for(engine, "connect")
    def _connect(raw: sqlite3.Connection, _record: object) -> None:
        raw.isolation_level = None
        setup(raw)

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        connection.exec_driver_sql(begin)


def _prepare_to_write(raw: sqlite3.Connection, path: Path) -> None:
    """Look whose it is before the first pragma: to switch to WAL mode is to write."""
    if not _is_blank(raw):
        _check_ours(raw, path)
        if (version := _pragma(raw, "user_version")) > schema.VERSION:
            raise _too_new(path, version)
    _set(raw, _WRITER)


def _set(raw: sqlite3.Connection, pragmas: dict[str, str]) -> None:
    for name, value in pragmas.items():
        raw.execute(f"PRAGMA {name} = {value}")


def _raw(connection: Connection) -> sqlite3.Connection:
    raw = connection.connection.driver_connection
    assert isinstance(raw, sqlite3.Connection)
    return raw


def _pragma(raw: sqlite3.Connection, name: str) -> Any:
    return raw.execute(f"PRAGMA {name}").fetchone()[0]


def _is_blank(raw: sqlite3.Connection) -> bool:
    return not raw.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]


def _read_back(connection: Connection) -> None:
    """SQLite takes a misspelt or impossible pragma in silence, so look at what it made of them."""
    for name, expected in _EXPECTED.items():
        if (actual := _pragma(_raw(connection), name)) != expected:
            raise StoreError(
                f"SQLite refused {name}={expected} (it says {actual}). Is the database on a network file system? "
                "Put it on a local disk with --db"
            )


def _check_ours(raw: sqlite3.Connection, path: Path) -> None:
    if _pragma(raw, "application_id") != schema.APPLICATION_ID:
        raise StoreError(f"{path}: a database, but not one of batchrunner; name another with --db")


def _too_new(path: Path, version: int) -> SchemaTooNew:
    return SchemaTooNew(f"{path}: written by a newer batchrunner (schema {version}); upgrade batchrunner")


def _upgrade(connection: Connection, path: Path) -> None:
    raw = _raw(connection)
    if _is_blank(raw):
        _create(connection)
    elif (version := _pragma(raw, "user_version")) < schema.VERSION:
        _back_up(raw, path.with_name(f"{path.name}.schema{version}"))
        migrate(connection)


def _back_up(raw: sqlite3.Connection, copy: Path) -> None:
    """A copy of the database as it is, under a name that an upgrade broken off may leave to be made again."""
    try:
        copy.unlink(missing_ok=True)
        copy.touch(mode=0o600)  # SQLite would make it readable for all
    except OSError as error:
        raise StoreError(f"{copy}: the copy to keep before the upgrade can't be made: {error.strerror}") from error
    raw.execute("VACUUM INTO ?", (str(copy),))


def _create(connection: Connection) -> None:
    """The schema of a new database, straight from its definition; a test holds it against the migrations."""
    with connection.begin():
        schema.metadata.create_all(connection, checkfirst=False)
        connection.exec_driver_sql(schema.IMMUTABLE)
        for name, select in schema.VIEWS.items():
            connection.exec_driver_sql(f"CREATE VIEW {name} AS {select}")
        connection.exec_driver_sql(_ALEMBIC)
        connection.exec_driver_sql("INSERT INTO alembic_version VALUES (?)", (schema.HEAD,))
        _stamp(connection)


def _stamp(connection: Connection) -> None:
    connection.exec_driver_sql(f"PRAGMA application_id = {schema.APPLICATION_ID}")
    connection.exec_driver_sql(f"PRAGMA user_version = {schema.VERSION}")


def migrate(connection: Connection, *, folder: Path | None = None) -> None:
    """Bring an older database to the newest schema by the migrations (those in *folder*), in one transaction."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    # alembic's configuration takes a percent sign for the beginning of a name to be filled in
    config.set_main_option("script_location", str(folder or migrations()).replace("%", "%%"))
    with connection.begin():
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
        _stamp(connection)


def migrations() -> Path:
    """The folder of migrations: inside an installed package, or beside it in a checkout."""
    package = Path(__file__).parents[1]
    inside = package / "migrations"
    return inside if inside.is_dir() else package.parent / "migrations"
