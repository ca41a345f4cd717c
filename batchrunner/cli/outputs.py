"""Result files: those asked for, checked before anything is sent, and written from the database."""

import os
import sys
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from batchrunner.cli.place import BESIDE, STDIN
from batchrunner.db.reader import Reader
from batchrunner.errors import ConfigError
from batchrunner.jobfile.flat import Sheet, columns_of
from batchrunner.jobfile.replacement import check_place
from batchrunner.jobfile.results import Form, Layout, files_of, form_of, write_results
from batchrunner.record import Output
from batchrunner.task import TaskState

States = Collection[TaskState] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """The result files asked for. ``only``: tasks in these states; ``partial``: unfinished ones, too."""

    paths: tuple[str, ...] = ()
    errors: str | None = None
    layout: Literal["openai", "flat"] | None = None
    extras: bool = False
    prefix: str = ""
    for_excel: bool = False
    force: bool = False
    only: States = None
    partial: bool = False


def wanted_of(
    given: Mapping[str, Any], paths: tuple[str, ...], *, only: States = None, partial: bool = False
) -> Wanted:
    """What the output options ask for."""
    return Wanted(
        paths=paths,
        errors=given["errors_file"],
        layout=given["layout"],
        extras=given["extras"],
        prefix=given["prefix"],
        for_excel=given["for_excel"],
        force=given["force"],
        only=only,
        partial=partial,
    )


def check(wanted: Wanted, database: Path, inputs: Mapping[str, str | None]) -> None:
    """Raises ConfigError for a file that can't be written, or must not be: ours, the user's *inputs* (what: path).

    Such a thing is told before the money is spent, not after.
    """
    kept = {os.path.realpath(f"{database}{suffix}"): "the database" for suffix in BESIDE}
    kept |= {os.path.realpath(path): what for what, path in inputs.items() if path is not None and path != STDIN}
    for path in wanted.paths:
        for file in files_of(path, _layout(path, wanted), only=wanted.only, errors=wanted.errors):
            if what := kept.get(os.path.realpath(file)):
                raise ConfigError(f"{file} is {what}; name another file to write to")
            check_place(file, force=wanted.force)
        kept[os.path.realpath(path)] = "written already"


def check_columns(wanted: Wanted, job_id: int, database: Path) -> None:
    """Raises ConfigError where our columns would clash with the input's, as far as its first row tells."""
    tables = [path for path in wanted.paths if form_of(path, wanted.layout) is not Form.OPENAI]
    if not tables:
        return
    with Reader(database) as reader:
        first = next(reader.records(job_id), None)
    if first is not None:
        Sheet(columns_of(first), prefix=wanted.prefix).header()


def export(wanted: Wanted, job_id: int, database: Path) -> tuple[Output, ...]:
    """Write the result files from the database."""
    written: list[Output] = []
    with Reader(database) as reader:
        for path in wanted.paths:
            written += write_results(
                reader.records(job_id),
                path,
                _layout(path, wanted, reader, job_id),
                only=wanted.only,
                partial=wanted.partial,
                errors=wanted.errors,
                force=wanted.force,
                stdout=sys.stdout.buffer,
            )
    return tuple(written)


def _layout(path: str, wanted: Wanted, reader: Reader | None = None, job_id: int = 0) -> Layout:
    form = form_of(path, wanted.layout)
    is_table = form in (Form.CSV, Form.TSV)
    return Layout(
        form=form,
        columns=reader.columns(job_id) if reader is not None and is_table else (),
        prefix=wanted.prefix,
        extras=wanted.extras,
        for_excel=wanted.for_excel,
    )
