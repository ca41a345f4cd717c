"""``batchrunner demo``: the built-in job against the built-in simulator; no key, no network."""

from pathlib import Path
from typing import Any, Literal

import rich_click as click

from batchrunner.cli.options import talk_options
from batchrunner.errors import ConfigError

RPM, TPM, CONCURRENCY = 240, 40_000, 16
JOB = "glosses.jsonl"


@click.command()
@click.option("--db", default="demo.db", show_default=True, metavar="FILE", help="Its database; made anew.")
@click.option("--job", "job_file", metavar="FILE", help="Another job file of the jobs folder.", hidden=True)
@talk_options
def demo(db: str, job_file: str | None, **given: Any) -> int:
    """Classify 300 dictionary glosses, against a simulator on this machine. Nothing leaves it, nothing costs."""
    from batchrunner.cli.outputs import Wanted, check
    from batchrunner.cli.perform import Talk, perform
    from batchrunner.cli.run import open_display, talk_of
    from batchrunner.config import Endpoint
    from batchrunner.runner import RunOptions
    from batchrunner.simulator.server import Simulator

    database = Path(db)
    path = jobs() / JOB if job_file is None else Path(job_file)
    results = str(database.with_suffix(".results.jsonl"))
    make_way(database)
    wanted = Wanted(paths=(results,))
    check(wanted, database, {"the job file": str(path)})
    given = talk_of(given)
    with Simulator(rpm=RPM, tpm=TPM, concurrency=CONCURRENCY, latency="uniform:0.2:0.6") as server:
        if not given["quiet"]:
            click.echo(
                f"Built-in job {path.name}, at the built-in simulator, {server.url}.\n"
                'Nothing leaves this machine. Answers are canned and marked "simulated".\n'
                f"Its rules (we are not told them): {RPM} RPM, {TPM:,} TPM, {CONCURRENCY} in flight.",
                err=True,
            )
        options = RunOptions(job=str(path), database=database, endpoint=Endpoint(base_url=server.base_url))
        talk = Talk(
            display=open_display(given),
            as_json=given["as_json"],
            quiet=given["quiet"],
            ascii_only=given["ascii_only"],
            label=f"simulator @ {options.endpoint.host}",
            header="no key needed",
            resume="batchrunner demo",
        )
        code = perform(options, wanted, talk, decide=_redo)
        score = server.score()
    if not given["quiet"]:
        click.echo(
            f"  referee  {score.efficiency:.0%} of the quota used (at best {score.shortest:.1f}s), "
            f"{score.refused_share:.2%} of the sends refused",
            err=True,
        )
        click.echo(f"  look     batchrunner show gloss-animal-001 {database}", err=True)
    return code


def make_way(database: Path) -> None:
    """Remove an earlier demo's database. Raises ConfigError for one that holds anything else."""
    if not database.exists():
        return
    from batchrunner.db.lock import OwnerLock
    from batchrunner.db.reader import Reader
    from batchrunner.errors import SchemaTooOld

    try:
        reader = Reader(database)
    except SchemaTooOld:
        raise ConfigError(
            f"{database} was made by an older batchrunner; remove it, or name another with --db"
        ) from None
    with reader:
        if not all(Path(job.source).parent == jobs().resolve() for job in reader.jobs()):
            raise ConfigError(f"{database} is no demo's, and would be removed; name another with --db")
    with OwnerLock(database, started_at=""):
        for suffix in ("", "-wal", "-shm"):
            database.with_name(database.name + suffix).unlink(missing_ok=True)


def _redo(_: object) -> Literal["redo"]:
    return "redo"


def jobs() -> Path:
    """The folder of example jobs: inside an installed package, or beside it in a checkout."""
    import batchrunner

    package = Path(batchrunner.__file__).parent
    inside = package / "jobs"
    return inside if inside.is_dir() else package.parent / "jobs"
