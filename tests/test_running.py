"""How a run of another process is getting on, for ``status``: its gauges, and which lanes rest."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from filled import START, Filled

from batchrunner.cli.running import progress_of
from batchrunner.db.reader import Reader
from batchrunner.record import Change
from batchrunner.report.progress import Progress, plain_line
from batchrunner.report.rests import not_open


@pytest.fixture
def filled(tmp_path: Path) -> Iterator[Filled]:
    filled = Filled(tmp_path / "q.db")
    for number in range(100):
        filled.add(f"t{number}")
    yield filled
    filled.close()


def look(filled: Filled) -> Progress | None:
    with Reader(filled.path) as reader:
        (job,) = reader.jobs()
        (run,) = reader.runs(job.id)
        return progress_of(reader, job, run, reader.counts(job.id), ())


def test_before_its_first_second_is_over_nothing_is_known(filled: Filled) -> None:
    assert look(filled) is None


def test_the_newest_gauges_are_shown_and_when_it_will_end(filled: Filled) -> None:
    filled.sample(START + 1, pending=100)
    for number in range(40):
        filled.answer(f"t{number}")
    filled.sample(START + 41, succeeded=40, pending=60, sent_1m=40, rpm_limit=60.0, limiting="rpm", p50=2.0)
    seen = look(filled)
    assert seen is not None
    assert (seen.label, seen.succeeded, seen.left, seen.in_flight, seen.limiting) == ("x", 40, 60, 3, "rpm")
    assert seen.eta == pytest.approx(60)


def test_what_is_not_written_down_is_not_shown_as_none(filled: Filled) -> None:
    """429s, retries and tokens of the run would be sums over all attempts: too slow for a look."""
    filled.sample(START + 1, pending=100)
    seen = look(filled)
    assert seen is not None
    assert "429s" not in plain_line(seen, START + 2)


def change(what: str, new: str) -> Change:
    return Change(at=START, what=what, old="", new=new, evidence="why")


def test_the_last_word_of_each_lane_says_whether_it_rests() -> None:
    told = [
        change("requests told limit", "600"),
        change("a/m: lane", "rests until 2026-11-30T07:00:00Z"),
        change("b/m: lane", "closed"),
        change("a/m: lane", "open"),
    ]
    assert [(one.what, one.new) for one in not_open(told)] == [("b/m: lane", "closed")]
    assert not not_open([])
