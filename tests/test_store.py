"""The queue in SQLite: what it keeps true, whatever is asked of it."""

import os
import resource
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, multiple, rule
from queued import NOW, Queue, failure, released, success
from sqlalchemy.exc import IntegrityError

from batchrunner.db import schema, store, waiting
from batchrunner.db.engine import open_reader
from batchrunner.db.lock import OwnerLock, is_owned
from batchrunner.db.store import Closing, Opening, Store
from batchrunner.db.waiting import Waiting
from batchrunner.errors import AccountingError, DatabaseBusy, SchemaTooNew, StoreError
from batchrunner.task import TaskState


@pytest.fixture
def queue(tmp_path: Path) -> Iterator[Queue]:
    queue = Queue(tmp_path / "q.db", 5)
    yield queue
    queue.store.close()


# -- lease and end


def test_a_lease_is_on_disk_before_its_request_leaves(queue: Queue) -> None:
    queue.lease(2)
    with closing(sqlite3.connect(queue.store.path)) as other:
        assert other.execute("SELECT task_id, number, outcome, cost FROM attempt").fetchall() == [(2, 1, None, 5.0)]
        assert other.execute("SELECT state, run_id, attempts FROM task WHERE id = 2").fetchall() == [("running", 1, 1)]


def test_one_exchange_ends_attempts_and_begins_others(queue: Queue) -> None:
    (first,) = queue.lease(1)
    second = Opening(attempt_id=2, task_id=2, number=1, leased_at=NOW, cost=5.0)
    queue.store.exchange(queue.job, queue.run, closings=[success(first)], openings=[second])
    counts = queue.store.counts(queue.job)
    assert (counts[TaskState.SUCCEEDED], counts[TaskState.RUNNING], counts[TaskState.PENDING]) == (1, 1, 3)
    queue.store.check_accounts(queue.job)


def test_a_task_can_be_given_back_and_leased_in_one_exchange(queue: Queue) -> None:
    (first,) = queue.lease(1)
    again = Opening(attempt_id=2, task_id=1, number=2, leased_at=NOW, cost=5.0)
    queue.store.exchange(queue.job, queue.run, closings=[released(first)], openings=[again])
    assert queue.state(1) is TaskState.RUNNING
    queue.store.check_accounts(queue.job)


@pytest.mark.parametrize("body", [b'{"text": "Gr\xc3\xbc\xc3\x9fe"}', b"\xff\xfe", b"nul \0 inside", b""])
def test_an_answer_is_kept_as_received(queue: Queue, body: bytes) -> None:
    queue.end(success(queue.lease(1)[0], body))
    ((stored,),) = queue.query("SELECT body FROM result")
    assert stored == body or stored.encode() == body


def test_only_text_is_stored_as_text(queue: Queue) -> None:
    queue.end(*map(success, queue.lease(1, 2, 3), [b"text", b"\xff", b"a\0b"]))
    assert queue.query("SELECT typeof(body) FROM result ORDER BY task_id") == [("text",), ("blob",), ("blob",)]


def test_what_came_instead_of_an_answer_is_kept(queue: Queue) -> None:
    opened = queue.lease(1, 2)
    queue.end(failure(opened[0], body=b"<html>"), failure(opened[1], TaskState.PENDING, body=None))
    assert queue.query("SELECT attempt_id, body FROM reply") == [(1, "<html>")]
    assert queue.query("SELECT failures, error_class, finished_at FROM task WHERE id < 3") == [
        (1, "timeout", NOW + 1),
        (1, None, None),
    ]


def test_a_released_lease_uses_up_no_try(queue: Queue) -> None:
    queue.end(released(queue.lease(1)[0]))
    assert queue.query("SELECT state, attempts, failures FROM task WHERE id = 1") == [("pending", 1, 0)]


def test_a_late_second_answer_is_kept_aside(queue: Queue) -> None:
    queue.end(success(queue.lease(1)[0], b"first"))
    # no verb of ours sends an answered task again; should it happen, the answer was paid for
    queue.execute("UPDATE task SET state = 'pending', finished_at = NULL WHERE id = 1")
    queue.execute("UPDATE tally SET count = count + (state = 'pending') - (state = 'succeeded') WHERE job_id = 1")
    queue.end(*map(success, queue.lease(1, 2), [b"second", b"other"]))
    assert queue.query("SELECT task_id, body FROM result") == [(1, "first"), (2, "other")]
    assert queue.query("SELECT task_id, body FROM late_result") == [(1, "second")]


def test_an_attempt_ends_once(queue: Queue) -> None:
    (opening,) = queue.lease(1)
    queue.end(success(opening))
    with pytest.raises(AccountingError, match="1 attempts ended, 0 tasks were running"):
        queue.end(failure(opening))
    assert queue.state(1) is TaskState.SUCCEEDED
    queue.store.check_accounts(queue.job)


def test_a_task_that_is_not_pending_is_not_leased(queue: Queue) -> None:
    queue.end(success(queue.lease(1)[0]))
    with pytest.raises(AccountingError, match="1 leases, 0 tasks were pending"):
        queue.lease(1)
    assert queue.query("SELECT count(*) FROM attempt") == [(1,)]


# -- what the schema refuses


@pytest.mark.parametrize(
    "change",
    [
        "state = 'lost'",
        "state = 'running'",  # in no run
        "run_id = 1",  # in a run, but not running
        "state = 'succeeded'",  # at no time
        "state = 'failed', finished_at = 1.0",  # for no reason
        "finished_at = 1.0",
        "failures = 1",  # more than attempts
        "retired = id",  # while still to be sent
        "retired = 99, state = 'cancelled'",
        "fingerprint = x'00'",
        "job_id = 99",
    ],
)
def test_illegal_moves_of_a_task_are_refused(queue: Queue, change: str) -> None:
    with pytest.raises(IntegrityError):
        queue.execute(f"UPDATE task SET {change} WHERE id = 1")  # noqa: S608  (the test's own words)


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE attempt SET outcome = 'success'",  # at no time
        "UPDATE attempt SET outcome = 'failure', finished_at = 1.0",  # for no reason
        "UPDATE attempt SET outcome = 'lost', finished_at = 1.0",
        "INSERT INTO attempt (id, task_id, run_id, number, leased_at, cost) VALUES (2, 1, 1, 1, 0, 0)",
        "UPDATE tally SET count = -1",
        "INSERT INTO task (job_id, custom_id, fingerprint, position, seen) VALUES (1, 'r1', zeroblob(16), 9, 1)",
        "DELETE FROM task WHERE id = 1",
        "UPDATE job SET state = 'half'",
    ],
)
def test_illegal_rows_are_refused(queue: Queue, sql: str) -> None:
    queue.lease(1)
    with pytest.raises(IntegrityError):
        queue.execute(sql)


def test_a_result_cannot_be_changed(queue: Queue) -> None:
    queue.end(success(queue.lease(1)[0], b"first"))
    with pytest.raises(IntegrityError, match="a result is never changed"):
        queue.execute("UPDATE result SET body = 'other'")


# -- what comes next


def test_fresh_tasks_come_in_order_and_by_the_page(queue: Queue) -> None:
    queue.lease(2)
    assert queue.fresh(limit=2) == [1, 3]
    assert queue.fresh(after=3) == [4, 5]
    assert queue.fresh(last=3) == [1, 3]


def test_each_model_is_read_by_itself_and_a_stretch_at_a_time(queue: Queue) -> None:
    """The next task of a rare model may be far away; a read ends all the same, and says where to go on."""
    queue.execute("UPDATE request SET model = 'rare' WHERE task_id = 5")
    queue.execute("UPDATE request SET model = NULL WHERE task_id = 4")
    queue.execute("INSERT INTO model VALUES (1, 'rare'), (1, '')")
    it = Waiting(queue.store, queue.job, stretch=3)
    assert it.models == ("", "m", "rare")
    assert it.fresh("rare", after=0, limit=9) == ([], 3)
    found, read_to = it.fresh("rare", after=3, limit=9)
    assert ([task.task_id for task in found], read_to) == ([5], None)
    assert [task.task_id for task in it.fresh("", after=3, limit=9)[0]] == [4]
    assert it.fresh("m", after=0, limit=2)[1] == 2


def test_what_is_done_is_not_read_through_to_find_what_waits(queue: Queue) -> None:
    queue.lease(1, 2, 5)
    it = Waiting(queue.store, queue.job, stretch=1)
    found, read_to = it.fresh("m", after=it.start, limit=9)
    assert ([task.task_id for task in found], read_to) == ([3], 3)
    assert it.fresh("m", after=3, limit=9)[1] is None  # 4 was the last, though the job has a fifth


def test_where_nothing_waits_nothing_is_read_on(queue: Queue) -> None:
    queue.lease(1, 2, 3, 4, 5)
    it = Waiting(queue.store, queue.job, stretch=1)
    assert it.fresh("m", after=it.start, limit=9) == ([], None)


def test_a_job_knows_its_models(queue: Queue) -> None:
    assert queue.query("SELECT job_id, name FROM model") == [(1, "m")]


def test_a_task_that_waits_is_due_when_its_time_has_come(queue: Queue) -> None:
    first, second = queue.lease(1, 2)
    queue.end(failure(first, TaskState.PENDING, available_at=NOW + 9))
    queue.end(failure(second, TaskState.PENDING, available_at=NOW + 5))
    it = Waiting(queue.store, queue.job)
    assert queue.fresh() == [3, 4, 5]
    assert it.next_due("m") == NOW + 5
    assert it.next_due("m", after=NOW + 5) == NOW + 9
    assert it.next_due("other") is None
    assert queue.due(NOW + 4) == []
    assert queue.due(NOW + 9) == [2, 1]
    (task,) = it.due("m", now=NOW + 9, limit=1)
    assert (task.attempts, task.failures) == (1, 1)


def test_other_jobs_tasks_are_not_ours(queue: Queue) -> None:
    other = queue.add_job("b.jsonl", 2)
    assert queue.fresh(other) == [6, 7]
    assert queue.store.counts(other).total == 2


@pytest.mark.parametrize(
    ("query", "parameters"),
    [
        (waiting._FRESH, (1, 9, "m", 0, 9, 9)),
        (waiting._DUE, (1, 9, "m", NOW, 9)),
        (waiting._NEXT_DUE, (1, 9, "m", 0.0)),
        (waiting._FIRST, (1,)),
        (waiting._LAST, (1,)),
        (waiting._SOME, (1, 9, "m")),
        (store._STILL_OPEN, (1,)),
        (store._MOVE, ("pending", 0, 0, None, None, 1)),
        (store._CLOSE, (*("success", 1.0, 1.0), *(None,) * 9, 0, None, None, 1)),
    ],
)
def test_what_runs_often_uses_an_index_and_sorts_nothing(
    queue: Queue, query: str, parameters: tuple[object, ...]
) -> None:
    with queue.store.transaction() as connection:
        plan = [row[3] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {query}", parameters)]
    assert plan
    assert not any("TEMP B-TREE" in step for step in plan), plan
    few = ("SCAN run", "LIST SUBQUERY")
    assert all(step.startswith(("SEARCH", *few)) or "attempt_open" in step for step in plan), plan
    assert not any("task_order" in step for step in plan), plan  # it leads through all tasks, done or not


def test_a_position_is_found_by_counting_tasks(queue: Queue) -> None:
    assert queue.store.position_of(queue.job, 3) == 3
    assert queue.store.position_of(queue.job, 6) == store.NO_LAST


# -- after a crash, and by hand


@pytest.mark.parametrize(("hold", "state"), [(False, TaskState.PENDING), (True, TaskState.HELD)])
def test_what_a_crash_left_open_is_closed_and_counted(tmp_path: Path, hold: bool, state: TaskState) -> None:
    queue = Queue(tmp_path / "q.db", 3)
    queue.end(success(queue.lease(1)[0]))
    queue.lease(2)
    assert queue.store.recover(queue.job, at=NOW + 7, hold=hold) == 1
    assert queue.query("SELECT outcome, finished_at, possibly_charged FROM attempt WHERE task_id = 2") == [
        ("unknown", NOW + 7, 1)
    ]
    assert (queue.state(1), queue.state(2)) == (TaskState.SUCCEEDED, state)
    queue.store.check_accounts(queue.job)
    assert queue.store.recover(queue.job, at=NOW + 8, hold=hold) == 0
    queue.store.close()


def test_recovered_tasks_go_before_those_never_sent(queue: Queue) -> None:
    queue.lease(4)
    queue.store.recover(queue.job, at=NOW, hold=False)
    assert queue.due(NOW) == [4]
    assert queue.fresh() == [1, 2, 3, 5]


def test_the_crash_of_another_job_is_left_to_that_job(queue: Queue) -> None:
    other = queue.add_job("b.jsonl", 1)
    queue.lease(6, job=other)
    assert queue.store.recover(queue.job, at=NOW, hold=False) == 0
    assert queue.store.recover(other, at=NOW, hold=False) == 1
    queue.store.check_accounts(other)


def test_failed_tasks_are_brought_back_with_all_their_tries(queue: Queue) -> None:
    queue.end(*map(failure, queue.lease(1, 2)))
    queue.end(failure(queue.lease(3)[0], error_class="content_filter"))
    assert queue.store.retry(queue.job, classes=["content_filter"]) == 1
    assert queue.store.retry(queue.job, custom_ids=["r1"]) == 1
    assert [queue.state(task) for task in (1, 2, 3)] == [TaskState.PENDING, TaskState.FAILED, TaskState.PENDING]
    assert queue.query("SELECT failures, attempts, available_at FROM task WHERE id = 1") == [(0, 1, 0.0)]
    assert queue.store.retry(queue.job) == 1
    assert queue.store.counts(queue.job)[TaskState.PENDING] == 5
    queue.store.check_accounts(queue.job)


def test_failed_tasks_whose_line_is_gone_are_not_brought_back(queue: Queue) -> None:
    queue.end(failure(queue.lease(1)[0]))
    queue.execute("UPDATE task SET retired = id WHERE id = 1")
    assert queue.store.retry(queue.job) == 0


def test_held_tasks_are_brought_back_only_when_asked_for(queue: Queue) -> None:
    queue.lease(1)
    queue.store.recover(queue.job, at=NOW, hold=True)
    assert queue.store.retry(queue.job) == 0
    assert queue.store.retry(queue.job, held=True) == 1
    assert queue.state(1) is TaskState.PENDING


def test_a_tally_that_is_wrong_is_found_out(queue: Queue) -> None:
    queue.execute("UPDATE tally SET count = 4 WHERE state = 'pending'")
    with pytest.raises(AccountingError, match="please report"):
        queue.store.check_accounts(queue.job)


# -- the file


def test_a_closed_database_that_is_done_is_one_plain_file(tmp_path: Path) -> None:
    queue = Queue(tmp_path / "q.db", 1)
    queue.end(success(queue.lease(1)[0]))
    queue.store.close()
    assert [path.name for path in tmp_path.iterdir()] == ["q.db"]
    assert (tmp_path / "q.db").stat().st_mode & 0o777 == 0o600
    with closing(sqlite3.connect(tmp_path / "q.db")) as plain:
        assert plain.execute("PRAGMA journal_mode").fetchone() == ("delete",)


def test_a_reader_does_not_keep_the_writer_from_closing(tmp_path: Path) -> None:
    queue = Queue(tmp_path / "q.db", 1)
    with closing(sqlite3.connect(tmp_path / "q.db", isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM tasks").fetchall()
        queue.end(success(queue.lease(1)[0]))
        queue.store._connection.exec_driver_sql("PRAGMA busy_timeout = 0")
        queue.store._connection.commit()
        queue.store.close()
    with closing(sqlite3.connect(tmp_path / "q.db")) as plain:
        assert plain.execute("SELECT state FROM tasks").fetchall() == [("succeeded",)]


@pytest.mark.parametrize("view", schema.VIEWS)
def test_every_view_can_be_read_with_plain_sqlite(queue: Queue, view: str) -> None:
    queue.end(success(queue.lease(1)[0]), failure(queue.lease(2)[0]))
    with closing(sqlite3.connect(queue.store.path)) as plain:
        plain.execute(f"SELECT * FROM {view}").fetchall()  # noqa: S608  (our own names)


def test_the_views_say_what_the_tables_say(queue: Queue) -> None:
    answer = b'{"choices": [{"message": {"content": "42"}}]}'
    queue.end(success(queue.lease(1)[0], answer), failure(queue.lease(2)[0], message="too slow"))
    with closing(sqlite3.connect(queue.store.path)) as plain:
        results = plain.execute("SELECT custom_id, answer FROM results ORDER BY position LIMIT 2").fetchall()
        assert results == [("r1", "42"), ("r2", None)]
        assert plain.execute("SELECT custom_id, error_class, message FROM errors").fetchall() == [
            ("r2", "timeout", "too slow")
        ]


def test_a_reader_cannot_write(queue: Queue) -> None:
    engine = open_reader(queue.store.path)
    with engine.connect() as connection, pytest.raises(Exception, match="readonly"):
        connection.exec_driver_sql("DELETE FROM rejected")
    engine.dispose()


def test_a_database_of_someone_else_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    with closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE mine (id)")
    before = path.read_bytes()
    with pytest.raises(StoreError, match="not one of batchrunner"):
        Store(path)
    with pytest.raises(StoreError, match="not one of batchrunner"):
        open_reader(path)
    assert path.read_bytes() == before


def test_a_newer_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "q.db"
    Store(path).close()
    with closing(sqlite3.connect(path)) as plain:
        plain.execute(f"PRAGMA user_version = {schema.VERSION + 1}")
    before = path.read_bytes()
    for opened in (Store, open_reader):
        with pytest.raises(SchemaTooNew, match="upgrade batchrunner"):
            opened(path)
    assert path.read_bytes() == before


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "q.db"
    path.write_bytes(b"this is a text, and long enough to be looked at" * 100)
    with pytest.raises(StoreError, match="can't use it as a database"):
        Store(path)
    with pytest.raises(StoreError, match="can't read it as a database"):
        open_reader(path)


def test_a_damaged_page_is_an_error_that_says_so(tmp_path: Path) -> None:
    queue = Queue(tmp_path / "q.db", 500, body="x" * 200)
    queue.store.close()
    Store(tmp_path / "q.db").close()  # nothing is left in the WAL
    path = tmp_path / "q.db"
    content = bytearray(path.read_bytes())
    for start in range(2 * 8192, len(content), 8192):
        content[start : start + 64] = b"\xff" * 64
    path.write_bytes(content)
    with pytest.raises(StoreError, match=r"damaged|can't use it"):
        Store(path).check_accounts(1)


def test_places_where_no_database_can_be_are_told(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="can't be made"):
        Store(tmp_path / "missing" / "q.db")
    with pytest.raises(StoreError, match="not a regular file"):
        Store(tmp_path)
    path = tmp_path / "q.db"
    Store(path).close()
    os.link(path, tmp_path / "second.db")
    with pytest.raises(StoreError, match="hard links"):
        Store(path)


def test_odd_names_are_names_like_any_other(tmp_path: Path) -> None:
    path = tmp_path / "what? 100%#.db"
    Queue(path, 1).store.close()
    engine = open_reader(path)
    with engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM task").scalar() == 1
    engine.dispose()
    assert {each.name for each in tmp_path.iterdir()} <= {path.name, f"{path.name}-wal", f"{path.name}-shm"}


def test_a_full_disk_is_told_and_nothing_finished_is_lost(tmp_path: Path) -> None:
    queue = Queue(tmp_path / "q.db", 3)
    first, second = queue.lease(1, 2)
    queue.end(success(first, b"paid for"))
    ((pages,),) = queue.query("PRAGMA page_count")
    queue.query(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(StoreError, match=r"full.*Nothing finished was lost"):
        queue.end(success(second, b"x" * 100_000))
    queue.store.check_accounts(queue.job)
    assert queue.query("SELECT body FROM result") == [("paid for",)]
    assert queue.state(2) is TaskState.RUNNING
    queue.query("PRAGMA max_page_count = 1000000")
    queue.end(success(second, b"x" * 100_000))  # room was made: the same exchange goes through
    queue.store.check_accounts(queue.job)
    queue.store.close()


FILLS_THE_DISK = """
import resource, signal, sys
from pathlib import Path
from test_store import Queue, success
from batchrunner.errors import StoreError

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
queue = Queue(Path(sys.argv[1]), 200)
resource.setrlimit(resource.RLIMIT_FSIZE, (2 << 20, 2 << 20))
for task in range(1, 201):
    try:
        queue.end(success(queue.lease(task)[0], b"x" * 50_000))
    except StoreError as error:
        assert "Nothing finished was lost" in str(error), error
        break
    print(task, flush=True)
queue.store.close()
"""


@pytest.mark.skipif(not hasattr(resource, "RLIMIT_FSIZE"), reason="the system can't limit the size of files")
def test_what_was_told_as_done_is_there_after_the_disk_filled_up(tmp_path: Path) -> None:
    path = tmp_path / "q.db"
    ended = subprocess.run(
        [sys.executable, "-c", FILLS_THE_DISK, str(path)],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(map(str, (Path(__file__).parent, Path(__file__).parents[1])))},
    )
    assert ended.returncode == 0, ended.stderr
    told = [int(number) for number in ended.stdout.split()]
    assert 0 < len(told) < 200
    again = Store(path)
    again.recover(1, at=NOW, hold=False)
    again.check_accounts(1)
    assert again.counts(1)[TaskState.SUCCEEDED] == len(told)
    again.close()


# -- one owner


def test_a_second_owner_is_refused_and_told_who_the_first_is(tmp_path: Path) -> None:
    path = tmp_path / "q.db"
    with OwnerLock(path, started_at="noon"):
        assert is_owned(path)
        with pytest.raises(DatabaseBusy, match=rf"process {os.getpid()} on .* \(since noon\)"):
            OwnerLock(path, started_at="later")
    assert not is_owned(path)
    OwnerLock(path, started_at="later").release()


def test_another_name_for_the_database_is_no_way_round_the_lock(tmp_path: Path) -> None:
    path, link = tmp_path / "q.db", tmp_path / "link.db"
    link.symlink_to(path)
    with OwnerLock(path, started_at="noon"), pytest.raises(DatabaseBusy):
        OwnerLock(link, started_at="later")


def test_a_lock_dies_with_its_process(tmp_path: Path) -> None:
    path = tmp_path / "q.db"
    code = (
        "import os, sys; from pathlib import Path; from batchrunner.db.lock import OwnerLock\n"
        "OwnerLock(Path(sys.argv[1]), started_at='noon'); os.kill(os.getpid(), 9)"
    )
    killed = subprocess.run([sys.executable, "-c", code, str(path)], check=False)
    assert killed.returncode == -9
    OwnerLock(path, started_at="later").release()


def test_a_lock_where_nothing_can_be_written_is_told(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="can't be made"):
        OwnerLock(tmp_path / "missing" / "q.db", started_at="noon")


# -- everything at once


class QueueMachine(RuleBasedStateMachine):
    """Any order of verbs: the tally is what the tasks are, and nothing that was answered changes."""

    leases = Bundle("leases")

    def __init__(self) -> None:
        super().__init__()
        self.folder = TemporaryDirectory()
        self.queue = Queue(Path(self.folder.name) / "q.db", 8)
        self.open: set[int] = set()
        self.answers: dict[int, bytes] = {}
        self.expected = dict.fromkeys(range(1, 9), TaskState.PENDING)

    @rule(target=leases, limit=st.integers(1, 4))
    def lease(self, limit: int) -> Any:
        opened = self.queue.lease(*self.queue.due(NOW, limit=limit), *self.queue.fresh(limit=limit))
        for opening in opened:
            assert self.expected[opening.task_id] is TaskState.PENDING
            self.open.add(opening.attempt_id)
            self.expected[opening.task_id] = TaskState.RUNNING
        return multiple(*opened)

    @rule(opening=leases, body=st.binary(max_size=8))
    def answer(self, opening: Opening, body: bytes) -> None:
        if self._close(opening, success(opening, body)):
            self.answers[opening.task_id] = body

    @rule(
        opening=leases, state=st.sampled_from([TaskState.FAILED, TaskState.PENDING]), wait=st.sampled_from([0.0, NOW])
    )
    def fail(self, opening: Opening, state: TaskState, wait: float) -> None:
        self._close(opening, failure(opening, state, available_at=wait))

    @rule(opening=leases)
    def release(self, opening: Opening) -> None:
        self._close(opening, released(opening))

    @rule(hold=st.booleans())
    def crash_and_recover(self, hold: bool) -> None:
        path = self.queue.store.path
        self.queue.store.close()
        self.queue.store = Store(path)
        assert self.queue.store.recover(1, at=NOW, hold=hold) == len(self.open)
        self.open.clear()
        self._move(TaskState.RUNNING, TaskState.HELD if hold else TaskState.PENDING)

    @rule(held=st.booleans())
    def retry(self, held: bool) -> None:
        moved = self._move(TaskState.FAILED, TaskState.PENDING)
        moved += self._move(TaskState.HELD, TaskState.PENDING) if held else 0
        assert self.queue.store.retry(1, held=held) == moved

    @invariant()
    def the_accounts_are_right(self) -> None:
        self.queue.store.check_accounts(1)
        counts = self.queue.store.counts(1)
        states = Counter(self.expected.values())
        assert {state: counts[state] for state in TaskState} == {state: states[state] for state in TaskState}

    @invariant()
    def answers_stay(self) -> None:
        rows = self.queue.query("SELECT task_id, CAST(body AS BLOB) FROM result")
        assert dict(rows) == self.answers

    def teardown(self) -> None:
        self.queue.store.close()
        self.folder.cleanup()

    def _close(self, opening: Opening, end: Closing) -> bool:
        if opening.attempt_id not in self.open:
            return False
        self.queue.end(end)
        self.open.discard(opening.attempt_id)
        self.expected[opening.task_id] = end.state
        return True

    def _move(self, source: TaskState, target: TaskState) -> int:
        moved = [task for task, state in self.expected.items() if state is source]
        self.expected.update(dict.fromkeys(moved, target))
        return len(moved)


QueueMachine.TestCase.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)
TestQueueMachine = QueueMachine.TestCase
