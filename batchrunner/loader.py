"""A job file into the queue: whole, once, and again only as far as it changed.

the same file, loaded        nothing is read, nothing is done
the same file, half loaded   goes on at the byte where it was killed
a file that changed          is compared first; what that means for paid answers is decided before anything moves
"""

import filecmp
import json
import os
import shutil
from base64 import b64encode
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import BinaryIO, Literal

from batchrunner.db.jobs import Difference, JobRow, Jobs, Place, Policy
from batchrunner.db.store import Store
from batchrunner.errors import JobFileError
from batchrunner.jobfile.options import ReadOptions
from batchrunner.jobfile.reader import Item, JobReader, open_job
from batchrunner.jobfile.source import Position
from batchrunner.jobfile.stamp import stamp
from batchrunner.task import RejectedLine, Request

CHUNK = 1024  # lines a transaction; fewer cost syncs, more fall out of the processor's cache
CHUNK_BYTES = 8 << 20  # and about as many bytes at most, so that long lines do not fill the memory
SLICE = 64  # lines between two looks at that
STDIN = "-"

Decide = Callable[[Difference], Literal["redo", "keep", "stop"]]
__all__ = ["STDIN", "Decide", "Difference", "Loaded", "describe", "load"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """What loading came to.

    ``lines`` were read in this call, blank ones not counted; ``rejected`` are all of the file. ``difference`` is None
    where nothing was compared. ``continued``: an earlier load was broken off, and this one went on from there.
    """

    job_id: int
    path: str
    shape: str
    lines: int
    rejected: int
    difference: Difference | None
    unchanged: bool
    continued: bool

    @property
    def sentence(self) -> str:
        rejected = f", {self.rejected:,} rejected" if self.rejected else ""
        if self.unchanged:
            return f"{self.path}: unchanged since it was loaded{rejected}"
        if self.difference is not None:
            return f"{self.path}: {self.shape}; {describe(self.difference)}{rejected}"
        more = f"{'more ' if self.continued else ''}{'line' if self.lines == 1 else 'lines'}"
        return f"{self.path}: {self.shape}; {self.lines:,} {more} read{rejected}"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Chunk:
    """Lines on their way in, and the place after them. ``bad``: the line after that, where it is to stop the load."""

    requests: list[Request]
    rejected: list[RejectedLine]
    place: Place
    bad: RejectedLine | None = None


def describe(difference: Difference) -> str:
    d = difference
    return f"{d.same:,} same, {d.edited:,} edited, {d.added:,} new, {d.gone:,} gone"


def load(
    store: Store,
    path: str,
    options: ReadOptions,
    *,
    decide: Decide | None = None,
    on_bad_line: Literal["stop", "skip"] = "stop",
    stdin: BinaryIO | None = None,
    on_progress: Callable[[int], None] | None = None,
    settings: str = "{}",
    now: float,
) -> Loaded:
    """Bring the store up to what *path* says. Raises JobFileError, ConfigError.

    *decide* is asked only when lines were edited or removed; without it, that is an error. *on_progress* is told the
    lines read so far. *settings* are the run's options as JSON, kept with the job.
    After an error the job is as it was, or half loaded: then it can't be run until a later load comes to the end.
    """
    source, file = _repeatable(path, store.path, stdin)
    jobs, digest, mark, strict = Jobs(store), options.digest(), _mark(file), on_bad_line == "stop"
    earlier = jobs.find(source)
    is_same = earlier is not None and (earlier.stamp, earlier.digest) == (mark, digest)
    difference, lines = None, 0
    if earlier is None:
        name = "stdin" if source == STDIN else Path(source).name
        shape = _shape(file, options)
        jobs.create(name=name, source=source, shape=shape, digest=digest, stamp=mark, settings=settings, at=now)
    elif not is_same:
        difference = _compare(jobs, earlier, file, options, strict=strict)
        policy = _decided(difference, path, decide)
        jobs.begin(earlier.id, shape=_shape(file, options), digest=digest, stamp=mark, policy=policy)
    job = jobs.find(source)
    assert job is not None
    jobs.remember(job.id, settings)
    if job.loading:
        lines = _take(jobs, job, file, options, strict=strict, on_progress=on_progress)
    return Loaded(
        job_id=job.id,
        path=path,
        shape=job.shape,
        lines=lines,
        rejected=store.counts(job.id).rejected,
        difference=difference,
        unchanged=is_same and not job.loading,
        continued=is_same and job.loading,
    )


def _compare(jobs: Jobs, job: JobRow, file: str, options: ReadOptions, *, strict: bool) -> Difference:
    """The whole file against the job's tasks; nothing moves."""

    def requests(reader: JobReader) -> Iterator[Request]:
        for item in reader:
            if isinstance(item, Request):
                yield item
            elif strict:
                raise _bad_line(file, item)

    with open_job(file, options) as reader:
        return jobs.compare(job.id, requests(reader))


def _decided(difference: Difference, path: str, decide: Decide | None) -> Policy:
    """What becomes of the edited lines. Raises JobFileError if the answer is to stop."""
    if not difference.edited and not difference.gone:
        return "redo"
    answer = "stop" if decide is None else decide(difference)
    if answer == "stop":
        raise JobFileError(
            path,
            f"changed since it was loaded: {describe(difference)}. Nothing was sent. --changed redo asks the edited "
            "lines again, --changed keep keeps their answers; what is gone is left out of the results",
        )
    return answer


def _take(
    jobs: Jobs,
    job: JobRow,
    file: str,
    options: ReadOptions,
    *,
    strict: bool,
    on_progress: Callable[[int], None] | None,
) -> int:
    """Read from the place reached to the end; returns how many lines."""
    lines = 0
    offset, line, record = job.place
    with open_job(file, options, start=Position(offset=offset, line=line, record=record)) as reader:
        for chunk in _chunks(reader, strict=strict):
            repeated = jobs.add(job, chunk.requests, chunk.rejected, chunk.place, strict=strict)
            bad = repeated[0] if strict and repeated else chunk.bad
            if bad is not None:
                raise _bad_line(file, bad)
            lines += len(chunk.requests) + len(chunk.rejected)
            if on_progress is not None:
                on_progress(lines)
    if _mark(file) != job.stamp:
        raise JobFileError(file, "it changed while it was being read; once it is complete, run the same command again")
    jobs.finish(job)
    return lines


def _chunks(reader: JobReader, *, strict: bool) -> Iterator[_Chunk]:
    """The lines, many at a time. *strict*: the first bad line ends it, and the place is just before that line."""
    place = _place(reader)
    while items := _some(reader):
        requests = [item for item in items if isinstance(item, Request)]
        rejected = [item for item in items if isinstance(item, RejectedLine)] if len(requests) < len(items) else []
        if strict and rejected:
            bad = rejected[0]
            good = items.index(bad)
            if good:
                place = (bad.offset, bad.line - 1, place[2] + good)
            yield _Chunk(requests=requests[:good], rejected=[], place=place, bad=bad)
            return
        place = _place(reader)
        yield _Chunk(requests=requests, rejected=rejected, place=place)


def _some(reader: JobReader) -> list[Item]:
    items: list[Item] = []
    end = reader.position.offset + CHUNK_BYTES
    while len(items) < CHUNK and reader.position.offset < end and (more := list(islice(reader, SLICE))):
        items += more
    return items


def _place(reader: JobReader) -> Place:
    position = reader.position
    return position.offset, position.line, position.record


def _shape(file: str, options: ReadOptions) -> str:
    with open_job(file, options) as reader:
        return reader.describe()


def _bad_line(file: str, bad: RejectedLine) -> JobFileError:
    reason = f"{bad.reason} (mend the line, or leave such lines out: --on-bad-line skip)"
    return JobFileError(file, reason, line=bad.line, offset=bad.offset)


def _mark(file: str) -> str:
    """What tells this file from an edited one, as text."""
    seen = stamp(file)
    assert seen is not None  # what can't be read twice was spooled
    return json.dumps({**asdict(seen), "sample": b64encode(seen.sample).decode()})


def _repeatable(path: str, database: Path, stdin: BinaryIO | None) -> tuple[str, str]:
    """The job's source, and a file that can be read as often as it takes: a pipe is kept beside the database first."""
    if path == STDIN:
        return STDIN, _spool(database, stdin)
    file = Path(path)
    if file.exists() and not file.is_file() and not file.is_dir():
        with file.open("rb") as stream:
            return STDIN, _spool(database, stream)
    # SQLite takes text only; a name that is no UTF-8 is told apart by its escapes
    return os.fsencode(file.resolve()).decode("utf-8", "backslashreplace"), path


def _spool(database: Path, stream: BinaryIO | None) -> str:
    """Keep what *stream* gives. The same again keeps its old stamp; nothing at all goes on with what was kept."""
    kept = database.with_name(f"{database.name}.stdin")
    if stream is not None and not (kept.exists() and stream.isatty()):
        part = kept.with_name(f"{kept.name}.part")
        try:
            with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as spool:
                shutil.copyfileobj(stream, spool, 1 << 20)
            if not part.stat().st_size or (kept.exists() and filecmp.cmp(part, kept, shallow=False)):
                part.unlink()
            else:
                part.replace(kept)
        except OSError as error:
            raise JobFileError(STDIN, f"can't be kept in {part}: {error.strerror}") from error
    if not kept.exists():
        raise JobFileError(STDIN, "there is nothing in the standard input; pipe a job file into it")
    return str(kept)
