"""The reading side of a database."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from filled import ANSWER, START, USAGE, Filled

from batchrunner.db.reader import PAGE, Reader
from batchrunner.errors import StoreError
from batchrunner.task import RejectedLine, TaskState, Usage


@pytest.fixture
def filled(tmp_path: Path) -> Iterator[Filled]:
    filled = Filled(tmp_path / "reviews.db")
    yield filled
    filled.close()


@pytest.fixture
def reader(filled: Filled) -> Iterator[Reader]:
    with Reader(filled.path) as reader:
        yield reader


def test_jobs_and_runs_come_out_as_values(filled: Filled, reader: Reader) -> None:
    (job,) = reader.jobs()
    assert (job.id, job.name, job.source, job.loading) == (filled.job, "reviews", "/jobs/reviews.jsonl", False)
    (run,) = reader.runs(job.id)
    assert (run.id, run.started_at, run.ended_at, run.exit_code) == (filled.run, START, None, None)


def test_counts_are_seen_while_the_writer_goes_on(filled: Filled, reader: Reader) -> None:
    filled.add("a")
    filled.add("b")
    assert reader.counts(filled.job)[TaskState.PENDING] == 2
    filled.answer("a")
    filled.lease("b")
    filled.reject(3, "not JSON")
    counts = reader.counts(filled.job)
    assert (counts[TaskState.SUCCEEDED], counts[TaskState.RUNNING], counts.rejected) == (1, 1, 1)


def test_the_writer_is_not_blocked_by_a_half_read_stream(filled: Filled, reader: Reader) -> None:
    for number in range(PAGE + 1):
        filled.add(f"t{number}")
    records = reader.records(filled.job)
    next(records)
    filled.answer("t0")
    filled.answer(f"t{PAGE}")
    *_, last = records
    assert last.state is TaskState.SUCCEEDED  # its page was read after it was answered


def test_records_come_in_input_order_over_many_pages_each_once(filled: Filled, reader: Reader) -> None:
    names = [f"t{number}" for number in range(2 * PAGE + 1)]
    for name in names:
        filled.add(name)
    filled.answer("t7")
    records = list(reader.records(filled.job))
    assert [record.custom_id for record in records] == names
    assert [record.position for record in records] == sorted(record.position for record in records)


def test_records_of_some_states_only(filled: Filled, reader: Reader) -> None:
    for name in "abc":
        filled.add(name)
    filled.answer("a")
    filled.fail("b", "timeout")
    chosen = reader.records(filled.job, {TaskState.FAILED, TaskState.PENDING})
    assert [record.custom_id for record in chosen] == ["b", "c"]


def test_a_line_that_was_edited_away_is_no_record(filled: Filled, reader: Reader) -> None:
    filled.add("old", retired=True)
    filled.add("new")
    assert [record.custom_id for record in reader.records(filled.job)] == ["new"]


def test_a_record_has_request_answer_and_the_attempt_that_brought_it(filled: Filled, reader: Reader) -> None:
    filled.add("a", row='{"text": "x"}', body='{"q":1}')
    filled.fail("a", "rate_limit", status=429, again=True)
    filled.answer("a", simulated=True)
    (record,) = reader.records(filled.job)
    assert (record.request, record.row, record.model) == ('{"q":1}', '{"text": "x"}', "m")
    assert record.answer is not None
    assert (record.answer.body, record.answer.simulated, record.answer.finish_reason) == (ANSWER.decode(), True, "stop")
    assert record.attempt is not None
    assert (record.attempts, record.attempt.number, record.attempt.usage) == (2, 2, USAGE)
    assert record.attempt.latency == pytest.approx(2.0)


def test_the_attempt_of_an_answer_is_not_a_later_one(filled: Filled, reader: Reader) -> None:
    filled.add("a")
    filled.answer("a")
    with filled.store.transaction() as connection:
        connection.exec_driver_sql("UPDATE task SET attempts = 2")
        connection.exec_driver_sql(
            "INSERT INTO attempt (task_id, run_id, number, outcome, leased_at, finished_at, cost) "
            "VALUES (1, ?, 2, 'unknown', 1, 2, 0)",
            (filled.run,),
        )
    (record,) = reader.records(filled.job)
    assert record.attempt is not None
    assert (record.attempts, record.attempt.number, record.attempt.outcome) == (2, 1, "success")


def test_a_failed_record_has_its_last_attempt_and_what_was_replied(filled: Filled, reader: Reader) -> None:
    filled.add("a")
    filled.fail("a", "server_error", status=500, body=b"first", again=True)
    filled.fail("a", "content_filter", status=400, code="1301", message="unsafe", body=b"\xff<html>")
    (record,) = reader.records(filled.job)
    assert (record.error_class, record.answer) == ("content_filter", None)
    assert record.attempt is not None
    assert (record.attempt.status, record.attempt.code, record.attempt.message) == (400, "1301", "unsafe")
    assert record.attempt.reply == b"\xff<html>"
    assert record.attempt.usage is None


def test_failures_by_class_name_the_first_task_of_each(filled: Filled, reader: Reader) -> None:
    for name in "abcd":
        filled.add(name)
    assert reader.errors_by_class(filled.job) == ()
    filled.fail("c", "content_filter", code="1301", message="third")
    filled.fail("b", "content_filter", code="1301", message="second")
    filled.fail("d", "timeout")
    groups = reader.errors_by_class(filled.job)
    assert [(group.error_class, group.count, group.custom_id) for group in groups] == [
        ("content_filter", 2, "b"),
        ("timeout", 1, "d"),
    ]
    assert (groups[0].code, groups[0].message) == ("1301", "second")


def test_totals_add_up_every_send(filled: Filled, reader: Reader) -> None:
    for name in "abc":
        filled.add(name)
    filled.fail("a", "rate_limit", status=429, again=True)
    filled.answer("a", took=1.0)
    filled.answer("b", took=3.0)
    filled.fail("c", "timeout")
    totals = reader.totals(filled.job)
    assert (totals.sends, totals.refused, totals.possibly_charged) == (4, 1, 1)
    assert totals.usage == Usage(prompt_tokens=20, completion_tokens=10, cached_tokens=8, reasoning_tokens=4)
    assert [totals.p50, totals.p95] == pytest.approx([1.0, 3.0])
    assert (totals.started_at, totals.ended_at) == (START, None)


def test_totals_of_a_job_that_never_ran_are_nothing(filled: Filled, reader: Reader) -> None:
    totals = reader.totals(filled.job + 1)
    assert (totals.sends, totals.p50, totals.started_at) == (0, None, None)


def test_percentiles_look_at_real_latencies_by_nearest_rank(filled: Filled, reader: Reader) -> None:
    for number in range(1, 21):
        filled.add(f"t{number}")
        filled.answer(f"t{number}", took=float(number))
    totals = reader.totals(filled.job)
    assert [totals.p50, totals.p95] == pytest.approx([10.0, 19.0])


def test_the_story_of_a_task_has_every_attempt(filled: Filled, reader: Reader) -> None:
    filled.add("a")
    filled.fail("a", "overloaded", status=503, body=b"busy", again=True)
    filled.answer("a")
    story = reader.task("a")
    assert story is not None
    assert (story.job, story.record.state) == ("reviews", TaskState.SUCCEEDED)
    assert [(attempt.number, attempt.outcome) for attempt in story.attempts] == [(1, "failure"), (2, "success")]
    assert story.attempts[0].reply == "busy"


def test_a_task_is_found_by_custom_id_before_number(filled: Filled, reader: Reader) -> None:
    filled.add("x")
    filled.add("1")
    by_custom_id, by_number = reader.task("1"), reader.task("2")
    assert by_custom_id is not None
    assert by_number is not None
    assert by_custom_id.record.task_id == 2
    assert by_number.record.custom_id == "1"


@pytest.mark.parametrize("key", ["nope", "", "99", "9" * 40, "²"])
def test_a_task_that_is_not_there_is_none(filled: Filled, reader: Reader, key: str) -> None:
    filled.add("x")
    assert reader.task(key) is None
    assert reader.task("x", job_id=filled.job + 1) is None


def test_columns_are_the_union_in_order_of_first_appearance(filled: Filled, reader: Reader) -> None:
    filled.add("a", row='{"b": 1, "a": 2}')
    filled.add("none")
    filled.add("c", row='{"a": 3, "c": 4}')
    assert reader.columns(filled.job) == ("b", "a", "c")


def test_rejected_lines_come_in_order_over_pages(filled: Filled, reader: Reader) -> None:
    for line in range(PAGE + 2, 0, -1):
        filled.reject(line, f"bad {line}")
    rejected = list(reader.rejected(filled.job))
    assert len(rejected) == PAGE + 2
    assert rejected[0] == RejectedLine(line=1, offset=0, reason="bad 1")


def test_samples_come_oldest_first_and_the_last_alone(filled: Filled, reader: Reader) -> None:
    assert reader.last_sample(filled.run) is None
    first = filled.sample(START + 1)
    last = filled.sample(START + 2, limiting="rpm", rpm_limit=200.0)
    assert reader.samples(filled.run) == (first, last)
    assert reader.last_sample(filled.run) == last


def test_a_missing_database_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="batchrunner run"):
        Reader(tmp_path / "none.db")


def test_a_damaged_database_is_a_store_error(tmp_path: Path) -> None:
    filled = Filled(tmp_path / "x.db")
    path = filled.close()
    damaged = bytearray(path.read_bytes())
    damaged[8192:] = b"\x5a" * (len(damaged) - 8192)
    path.write_bytes(damaged)
    with pytest.raises(StoreError, match=r"x\.db"), Reader(path) as reader:
        reader.jobs()
