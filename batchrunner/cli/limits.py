"""``batchrunner limits``: what is believed of a provider's limits, and why; during a run and after it."""

import json
import sys
import time
from typing import TYPE_CHECKING

import rich_click as click

from batchrunner.cli.look import open_reader
from batchrunner.cli.options import db_option, job_argument, json_option

if TYPE_CHECKING:
    from batchrunner.record import Belief, Change

CHANGES = 12  # the newest


@click.command()
@job_argument
@db_option
@json_option
def limits(job: str | None, db: str | None, *, as_json: bool) -> int:
    """What is believed of the provider's limits, and why.

    Of JOB's endpoint, with the newest changes; without JOB, of all endpoints that this user's jobs met.
    """
    from batchrunner.report.limits import limits_json, limits_text
    from batchrunner.report.terminal import can_show

    beliefs, changes = _of_all() if job is None and db is None else _of_job(job, db)
    if as_json:
        click.echo(json.dumps(limits_json(beliefs, changes), ensure_ascii=False))
    else:
        shown = changes[-CHANGES:]
        click.echo(limits_text(beliefs, shown, time.time(), ascii_only=not can_show(sys.stdout)))
    return 0


def _of_job(job: str | None, db: str | None) -> "tuple[list[Belief], list[Change]]":
    with open_reader(job, db) as reader:
        return reader.beliefs(), reader.changes()


def _of_all() -> "tuple[list[Belief], list[Change]]":
    from batchrunner.cli.settings import environment
    from batchrunner.learned import learned_path, read_learned

    return read_learned(learned_path(environment()), warn=lambda sentence: click.echo(sentence, err=True)), []
