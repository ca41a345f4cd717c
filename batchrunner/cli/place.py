"""Which database a job's name means: a job file stands for the database beside it, a database for itself."""

from pathlib import Path

from batchrunner.errors import ConfigError

SUFFIX = ".db"
PACKED = (".gz",)
STDIN = "-"


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
            raise ConfigError(f"{path}: there is no such database; batchrunner run {job or 'JOB'} makes one")
        return path
    found = sorted(folder.glob(f"*{SUFFIX}"))
    if len(found) == 1:
        return found[0]
    if not found:
        raise ConfigError(f"no database in {folder.resolve().name}/; name a job file or its database")
    raise ConfigError(f"there are {len(found)} databases here: {', '.join(p.name for p in found)}. Name one of them")


def check_name(job: str, database: Path, sources: tuple[str, ...], *, named: bool) -> None:
    """Two jobs whose files have one stem would share a database by accident. Raises ConfigError."""
    if named or not sources or job == STDIN:
        return
    if str(Path(job).resolve()) not in sources:
        others = ", ".join(Path(source).name for source in sources)
        raise ConfigError(f"{database} belongs to {others}; give {Path(job).name} its own: --db NAME.db")
