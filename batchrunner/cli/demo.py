"""``batchrunner demo``: the built-in job against the built-in simulator; no key, no network."""

from pathlib import Path
from typing import Any, Literal

import rich_click as click

from batchrunner.cli.options import talk_options

RPM, TPM, CONCURRENCY = 240, 40_000, 16
JOB = "glosses.jsonl"


@click.command()
@click.option("--db", default="demo.db", show_default=True, metavar="FILE", help="Its database; made anew.")
@click.option("--job", "job_file", metavar="FILE", help="Another job file of the jobs folder.", hidden=True)
@talk_options
def demo(db: str, job_file: str | None, **given: Any) -> int:
    """Classify 300 dictionary glosses, against a simulator on this machine. Nothing leaves it, nothing costs."""
    from batchrunner.cli.perform import Talk, Wanted, perform
    from batchrunner.cli.run import open_display
    from batchrunner.config import Endpoint
    from batchrunner.runner import RunOptions
    from batchrunner.simulator.server import Simulator

    database = Path(db)
    for suffix in ("", "-wal", "-shm"):
        database.with_name(database.name + suffix).unlink(missing_ok=True)
    path = jobs() / JOB if job_file is None else Path(job_file)
    with Simulator(rpm=RPM, tpm=TPM, concurrency=CONCURRENCY, latency="uniform:0.2:0.6") as server:
        if not given["quiet"]:
            click.echo(
                f"Built-in job: {path.name}, against the built-in simulator on {server.url}.\n"
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
        wanted = Wanted(paths=(str(database.with_suffix(".results.jsonl")),), force=True)
        code = perform(options, wanted, talk, decide=_redo)
        score = server.score()
    if not given["quiet"]:
        click.echo(
            f"  referee  {score.efficiency:.0%} of the quota used (shortest possible {score.shortest:.1f}s), "
            f"{score.refused_share:.2%} of the sends refused",
            err=True,
        )
        click.echo(f"  look     batchrunner show gloss-animal-001 {database}", err=True)
    return code


def _redo(_: object) -> Literal["redo"]:
    return "redo"


def jobs() -> Path:
    """The folder of example jobs: inside an installed package, or beside it in a checkout."""
    import batchrunner

    package = Path(batchrunner.__file__).parent
    inside = package / "jobs"
    return inside if inside.is_dir() else package.parent / "jobs"
