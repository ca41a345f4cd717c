"""Which database a job's name means: a job file stands for the database beside it, a database for itself."""

import os
from pathlib import Path

from batchrunner.errors import ConfigError, JobFileError

SUFFIX = ".db"
PACKED = (".gz",)
STDIN = "-"
BESIDE = ("", "-wal", "-shm", "-journal", ".lock", ".stdin")  # a database, and the files that may stand beside it


def database_of(job: str, db: str | None) -> Path:
    """The database of *job*, a job file, ``-`` or a database; *db* names another."""
    if db is not None:
        return Path(db)
    if job == STDIN:
        return Path(f"stdin{SUFFIX}")
    path = Path(job)
    if path.suffix == SUFFIX:
        return path
    while path.suffix in PACKED:
        path = path.with_suffix("")
    return path.with_suffix(SUFFIX)


def existing_database(job: str | None, db: str | None, *, folder: Path) -> Path:
    """The database to look into; without a name, the only one in *folder*. Raises ConfigError."""
    if job is not None or db is not None:
        path = database_of(job or "", db)
        if not path.is_file():
            maker = "" if job is None or Path(job).suffix == SUFFIX else f"; batchrunner run {job} makes one"
            raise ConfigError(f"{path}: there is no such database{maker}")
        return path
    found = sorted(folder.glob(f"*{SUFFIX}"))
    if len(found) == 1:
        return found[0]
    if not found:
        raise ConfigError(f"no database in {folder.resolve().name}/; name a job file or its database")
    raise ConfigError(f"there are {len(found)} databases here: {', '.join(p.name for p in found)}. Name one of them")


def source_of(job: str) -> str:
    """What a database calls the job file *job*."""
    if job == STDIN:
        return STDIN
    return os.fsencode(Path(job).resolve()).decode("utf-8", "backslashreplace")  # as the loader does


def check_job(job: str) -> None:
    """Raises JobFileError for a job file that can't be one, before a database is made for it."""
    path = Path(job)
    if job != STDIN and not path.exists():
        raise JobFileError(job, "there is no such file")
    if job != STDIN and path.is_dir():
        raise JobFileError(job, "it is a folder; name a file in it")


def check_name(job: str, database: Path, sources: tuple[str, ...], *, named: bool) -> None:
    """Two jobs whose files have one stem would share a database by accident. Raises ConfigError."""
    if named or not sources or job == STDIN:
        return
    if source_of(job) not in sources:
        others = ", ".join(Path(source).name for source in sources)
        raise ConfigError(f"{database} belongs to {others}; give {Path(job).name} its own: --db NAME.db")


def near(path: str) -> str:
    """*path* as one would write it here: relative, if it lies in the current folder."""
    here = Path.cwd()
    return str(Path(path).relative_to(here)) if Path(path).is_relative_to(here) else path
