"""Loading a job file: once, on from where it was killed, and again only as far as it changed."""

import gzip
import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from batchrunner.db.jobs import Difference
from batchrunner.db.store import Closing, Opening, Store
from batchrunner.errors import ConfigError, JobFileError, StoreError
from batchrunner.jobfile.options import ReadOptions
from batchrunner.loader import CHUNK, Loaded, load
from batchrunner.task import TaskState

PLAIN = ReadOptions()
OTHER_MODEL = ReadOptions(model="glm-4.5")
NOW = 1_700_000_000.0
RUN: dict[str, Any] = {"started_at": NOW, "pid": 1, "host": "h", "version": "1", "endpoint": "e", "settings": "{}"}
Answer = Literal["redo", "keep", "stop"]


def line(custom_id: str, content: str = "hello", **more: Any) -> str:
    body = {"model": "glm-4.5-air", "messages": [{"role": "user", "content": content}]}
    return json.dumps({"custom_id": custom_id, "method": "POST", "url": "/v1/chat/completions", "body": body, **more})


@dataclass(slots=True)
class Desk:
    """A job file, its database, and what was asked about them."""

    folder: Path
    store: Store
    asked: list[Difference] = field(default_factory=list)

    @property
    def file(self) -> Path:
        return self.folder / "a.jsonl"

    def write(self, *lines: str) -> None:
        self.file.write_text("".join(f"{each}\n" for each in lines))

    def load(self, *, answer: Answer | None = None, options: ReadOptions = PLAIN, **more: Any) -> Loaded:
        def decide(difference: Difference) -> Answer:
            self.asked.append(difference)
            assert answer is not None, difference
            return answer

        return load(self.store, more.pop("path", str(self.file)), options, decide=decide, now=NOW, **more)

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(self.store.path)) as connection:
            return connection.execute(sql).fetchall()

    def tasks(self) -> list[tuple[Any, ...]]:
        """The current ones, in the file's order: number, custom_id, state."""
        return self.query("SELECT id, custom_id, state FROM task WHERE retired = 0 ORDER BY position")

    def rejected(self) -> list[tuple[Any, ...]]:
        return self.query("SELECT line, reason FROM rejected ORDER BY line")

    def lease(self, *custom_ids: str) -> list[Opening]:
        """These tasks are in flight."""
        numbers = {custom_id: number for number, custom_id, _ in self.tasks()}
        first = self.store.last_attempt_id() + 1
        opened = [
            Opening(attempt_id=first + n, task_id=numbers[custom_id], number=1, leased_at=NOW, cost=1.0)
            for n, custom_id in enumerate(custom_ids)
        ]
        run = self.store.begin_run(1, **RUN)
        self.store.exchange(1, run, closings=[], openings=opened)
        return opened

    def answer(self, *custom_ids: str) -> None:
        """These tasks get their answers."""
        ended = [
            Closing(
                attempt_id=opening.attempt_id,
                task_id=opening.task_id,
                outcome="success",
                state=TaskState.SUCCEEDED,
                sent_at=NOW,
                finished_at=NOW,
                status=200,
                body=b"{}",
            )
            for opening in self.lease(*custom_ids)
        ]
        self.store.exchange(1, 1, closings=ended, openings=[])

    def check(self) -> None:
        self.store.check_accounts(1)


@contextmanager
def desk_in(folder: Path) -> Iterator[Desk]:
    store = Store(folder / "a.db")
    try:
        yield Desk(folder, store)
    finally:
        store.close()


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    with desk_in(tmp_path) as desk:
        yield desk


class Killed(Exception):  # noqa: N818  (what happens to it, not what is wrong)
    """The process dies between two transactions."""


def kill_after(chunks: int) -> Any:
    left = [chunks]

    def on_progress(_: int) -> None:
        left[0] -= 1
        if not left[0]:
            raise Killed

    return on_progress


# -- the first time, and the same again


def test_each_line_becomes_a_pending_task_in_order(desk: Desk) -> None:
    desk.write(line("a"), "", line("b", "Grüße 你好"), line("c", metadata={"n": 1}))
    loaded = desk.load()
    assert (loaded.lines, loaded.rejected, loaded.unchanged, loaded.difference) == (3, 0, False, None)
    assert desk.tasks() == [(1, "a", "pending"), (2, "b", "pending"), (3, "c", "pending")]
    assert desk.query("SELECT position FROM task") == [(1,), (3,), (4,)]
    ((endpoint, model, body, row),) = desk.query("SELECT endpoint, model, body, row FROM request WHERE task_id = 3")
    assert (endpoint, model, json.loads(row)) == ("chat/completions", "glm-4.5-air", {"metadata": {"n": 1}})
    assert json.loads(body)["messages"][0]["content"] == "hello"
    desk.check()


def test_the_same_file_again_is_not_even_read(desk: Desk) -> None:
    desk.write(line("a"))
    first = desk.load()
    again = desk.load(on_progress=kill_after(1))
    assert (again.unchanged, again.lines, again.job_id, again.shape) == (True, 0, first.job_id, first.shape)


def test_rejected_lines_are_still_told_when_nothing_is_read(desk: Desk) -> None:
    desk.write(line("a"), "{")
    desk.load(on_bad_line="skip")
    assert desk.load().rejected == 1


def test_a_file_that_was_only_touched_changes_nothing(desk: Desk) -> None:
    desk.write(line("a"), line("b"))
    desk.load()
    desk.answer("a")
    os.utime(desk.file, (1, 1))
    assert desk.load().difference == Difference(same=2, edited=0, added=0, gone=0)
    assert desk.tasks() == [(1, "a", "succeeded"), (2, "b", "pending")]
    assert desk.load().unchanged


def test_two_files_are_two_jobs(desk: Desk) -> None:
    desk.write(line("a"))
    desk.load()
    other = desk.folder / "b.jsonl"
    other.write_text(line("a") + "\n")
    assert desk.load(path=str(other)).job_id == 2
    assert desk.load().unchanged


def test_a_link_to_the_file_is_the_same_job(desk: Desk) -> None:
    desk.write(line("a"))
    desk.load()
    link = desk.folder / "link.jsonl"
    link.symlink_to(desk.file)
    assert desk.load(path=str(link)).unchanged


def test_a_file_name_that_is_not_utf_8_is_a_job_like_any_other(desk: Desk) -> None:
    path = os.fsdecode(os.fsencode(desk.folder) + b"/\xff.jsonl")
    Path(path).write_text(line("a") + "\n")
    desk.load(path=path)
    assert desk.load(path=path).unchanged


@pytest.mark.parametrize("size", [CHUNK - 1, CHUNK, CHUNK + 1])
def test_files_of_about_a_chunk_are_loaded_whole(desk: Desk, size: int) -> None:
    desk.write(*(line(f"r{n}") for n in range(size)))
    assert desk.load().lines == size
    assert len(desk.tasks()) == size
    desk.check()


# -- broken off


@pytest.mark.parametrize("packed", [False, True])
def test_a_killed_load_goes_on_at_the_byte_reached(desk: Desk, packed: bool) -> None:
    lines = [line(f"r{n}") for n in range(2 * CHUNK + 5)]
    path = desk.folder / ("p.jsonl.gz" if packed else "p.jsonl")
    text = "".join(f"{each}\n" for each in lines).encode()
    path.write_bytes(gzip.compress(text) if packed else text)
    with pytest.raises(Killed):
        desk.load(path=str(path), on_progress=kill_after(1))
    assert desk.query("SELECT state FROM job") == [("loading",)]
    rest = desk.load(path=str(path))
    assert (rest.lines, rest.continued, rest.difference) == (CHUNK + 5, True, None)
    assert [custom_id for _, custom_id, _ in desk.tasks()] == [f"r{n}" for n in range(2 * CHUNK + 5)]
    desk.check()


def test_the_tally_is_right_while_half_of_the_file_is_loaded(desk: Desk) -> None:
    desk.write(*(line(f"r{n}") for n in range(CHUNK + 1)))
    with pytest.raises(Killed):
        desk.load(on_progress=kill_after(1))
    assert desk.store.counts(1)[TaskState.PENDING] == CHUNK
    desk.check()


def test_a_half_loaded_job_cannot_be_run(desk: Desk) -> None:
    desk.write(line("a"))
    with pytest.raises(Killed):
        desk.load(on_progress=kill_after(1))
    with pytest.raises(StoreError, match="half loaded"):
        desk.store.begin_run(1, **RUN)
    desk.load()
    assert desk.store.begin_run(1, **RUN) == 1


def test_a_half_loaded_file_that_was_mended_is_loaded_whole(desk: Desk) -> None:
    lines = [line(f"r{n}") for n in range(CHUNK + 2)]
    desk.write(*lines)
    with pytest.raises(Killed):
        desk.load(on_progress=kill_after(1))
    desk.write(*lines, line("new"))
    assert desk.load().difference == Difference(same=CHUNK, edited=0, added=3, gone=0)
    assert len(desk.tasks()) == CHUNK + 3
    desk.check()


@pytest.mark.parametrize(("policy", "expected"), [("redo", "pending"), ("keep", "succeeded")])
def test_a_killed_reload_goes_on_with_what_was_decided(desk: Desk, policy: Answer, expected: str) -> None:
    count = CHUNK + 2
    desk.write(*(line(f"r{n}") for n in range(count)))
    desk.load()
    desk.answer("r0", f"r{count - 1}")
    desk.write(*(line(f"r{n}", "edited") for n in range(count)))
    with pytest.raises(Killed):
        desk.load(answer=policy, on_progress=kill_after(1))
    desk.check()
    rest = desk.load()  # nothing is asked again
    assert (rest.lines, rest.continued, len(desk.asked)) == (2, True, 1)
    states = {custom_id: state for _, custom_id, state in desk.tasks()}
    assert (states["r0"], states[f"r{count - 1}"], len(states)) == (expected, expected, count)
    desk.check()


def test_a_file_that_grows_while_it_is_read_is_not_taken_for_whole(desk: Desk) -> None:
    desk.write(line("a"))

    def grow(_: int) -> None:
        with desk.file.open("a") as file:
            file.write(line("b") + "\n")

    with pytest.raises(JobFileError, match="changed while it was being read"):
        desk.load(on_progress=grow)
    assert desk.load().difference == Difference(same=1, edited=0, added=1, gone=0)


# -- changed


def test_one_edited_row_of_a_thousand_is_one_new_task(desk: Desk) -> None:
    lines = [line(f"r{n}") for n in range(1000)]
    desk.write(*lines)
    desk.load()
    desk.answer("r499", "r500")
    lines[500] = line("r500", "edited")
    desk.write(*lines)
    assert desk.load(answer="redo").difference == Difference(same=999, edited=1, added=0, gone=0)
    assert desk.tasks()[499:502] == [(500, "r499", "succeeded"), (1001, "r500", "pending"), (502, "r501", "pending")]
    assert desk.query("SELECT count(*) FROM task") == [(1001,)]
    desk.check()


def test_an_edit_taken_back_finds_its_answer_again(desk: Desk) -> None:
    desk.write(line("a"), line("b"))
    desk.load()
    desk.answer("a")
    desk.write(line("a", "edited"), line("b", "edited"))
    desk.load(answer="redo")
    assert desk.tasks() == [(3, "a", "pending"), (4, "b", "pending")]
    desk.write(line("a"), line("b"))
    desk.load(answer="redo")
    assert desk.tasks() == [(1, "a", "succeeded"), (2, "b", "pending")]
    desk.check()


def test_kept_answers_stay_with_the_request_they_answer(desk: Desk) -> None:
    desk.write(line("a", n=1))
    desk.load()
    desk.answer("a")
    before = desk.query("SELECT * FROM request")
    desk.write(line("a", "edited", n=2), line("new"))
    desk.load(answer="keep")
    assert desk.tasks() == [(1, "a", "succeeded"), (2, "new", "pending")]
    assert desk.query("SELECT * FROM request WHERE task_id = 1") == before
    desk.check()


def test_to_stop_leaves_all_as_it_was(desk: Desk) -> None:
    desk.write(line("a"))
    desk.load()
    desk.write(line("b"))
    with pytest.raises(JobFileError, match=r"0 same, 0 edited, 1 new, 1 gone.*--changed redo.*--changed keep"):
        desk.load(answer="stop")
    assert (desk.tasks(), desk.query("SELECT state FROM job")) == ([(1, "a", "pending")], [("loaded",)])


def test_without_anyone_to_ask_a_changed_file_is_an_error(desk: Desk) -> None:
    desk.write(line("a"))
    desk.load()
    desk.write(line("a", "edited"))
    with pytest.raises(JobFileError, match="--changed"):
        load(desk.store, str(desk.file), PLAIN, now=NOW)


def test_added_lines_need_no_question(desk: Desk) -> None:
    desk.write(line("a"))
    desk.load()
    desk.write(line("new"), line("a"))
    assert desk.load().difference == Difference(same=1, edited=0, added=1, gone=0)
    assert desk.tasks() == [(2, "new", "pending"), (1, "a", "pending")]
    assert not desk.asked
    desk.check()


def test_another_order_of_lines_is_another_order_of_results_only(desk: Desk) -> None:
    lines = [line(f"r{n}") for n in range(10)]
    desk.write(*lines)
    desk.load()
    desk.write(*reversed(lines))
    assert desk.load().difference == Difference(same=10, edited=0, added=0, gone=0)
    assert [number for number, _, _ in desk.tasks()] == list(range(10, 0, -1))


def test_a_removed_line_leaves_the_job_and_comes_back_with_its_answer(desk: Desk) -> None:
    desk.write(line("a"), line("b"), line("c"))
    desk.load()
    desk.answer("a")
    desk.write(line("c"))
    desk.load(answer="redo")
    assert desk.asked == [Difference(same=1, edited=0, added=0, gone=2)]
    assert desk.tasks() == [(3, "c", "pending")]
    assert desk.query("SELECT custom_id, state FROM task WHERE retired = id") == [
        ("a", "succeeded"),
        ("b", "cancelled"),
    ]
    desk.check()
    desk.write(line("a"), line("b"), line("c"))
    desk.load()
    assert desk.tasks() == [(1, "a", "succeeded"), (2, "b", "pending"), (3, "c", "pending")]
    desk.check()


def test_a_line_in_flight_at_a_crash_can_be_edited_or_removed(desk: Desk) -> None:
    desk.write(line("a"), line("b"))
    desk.load()
    desk.lease("a", "b")
    desk.write(line("a", "edited"))
    desk.load(answer="redo")
    desk.check()
    assert desk.store.recover(1, at=NOW, hold=False) == 2
    assert desk.query("SELECT custom_id, state, retired FROM task") == [
        ("a", "cancelled", 1),
        ("b", "cancelled", 2),
        ("a", "pending", 0),
    ]
    desk.check()


def test_a_held_task_that_comes_back_is_still_held(desk: Desk) -> None:
    desk.write(line("a"), line("b"))
    desk.load()
    desk.lease("a")
    desk.store.recover(1, at=NOW, hold=True)
    desk.write(line("b"))
    desk.load(answer="redo")
    desk.write(line("a"), line("b"))
    desk.load()
    assert desk.tasks() == [(1, "a", "held"), (2, "b", "pending")]
    desk.check()


def test_other_options_are_an_edit_of_every_line(desk: Desk) -> None:
    desk.write(line("a"), line("b"))
    desk.load()
    desk.load(options=OTHER_MODEL, answer="redo")
    assert desk.asked == [Difference(same=0, edited=2, added=0, gone=0)]
    assert desk.load(options=OTHER_MODEL).unchanged


def test_columns_that_the_request_does_not_use_are_brought_up_to_date(desk: Desk) -> None:
    prompt = ReadOptions(model="m", prompt="{{ text }}")
    path = desk.folder / "rows.csv"
    path.write_text("id,text,note\n1,hello,old\n")
    desk.load(path=str(path), options=prompt)
    desk.answer("1")
    path.write_text("id,text,note\n1,hello,new\n")
    assert desk.load(path=str(path), options=prompt).difference == Difference(same=1, edited=0, added=0, gone=0)
    ((row,),) = desk.query("SELECT row FROM request")
    assert json.loads(row)["note"] == "new"
    assert desk.tasks() == [(1, "1", "succeeded")]


def test_a_line_that_stands_twice_does_not_hide_one_that_is_gone(desk: Desk) -> None:
    desk.write(line("a"), line("b"))
    desk.load()
    desk.write(line("a"), line("a"))
    desk.load(answer="redo", on_bad_line="skip")
    assert desk.asked == [Difference(same=1, edited=0, added=0, gone=1)]


# -- bad lines


def test_bad_lines_are_counted_and_kept_where_they_are_to_be_skipped(desk: Desk) -> None:
    desk.write(line("a"), "{", line("b"), line("a", "other"))
    loaded = desk.load(on_bad_line="skip")
    assert (loaded.lines, loaded.rejected) == (4, 2)
    assert [custom_id for _, custom_id, _ in desk.tasks()] == ["a", "b"]
    (first, _), (second, reason) = desk.rejected()
    assert (first, second) == (2, 4)
    assert "'a' already stands in line 1" in reason
    desk.check()


def test_a_custom_id_that_stood_chunks_ago_is_still_found(desk: Desk) -> None:
    desk.write(*(line(f"r{n}") for n in range(CHUNK)), line("new"), line("r0"), line("new"))
    assert desk.load(on_bad_line="skip").rejected == 2
    assert [number for number, _ in desk.rejected()] == [CHUNK + 2, CHUNK + 3]
    desk.check()


def test_rejected_lines_are_those_of_the_newest_reading(desk: Desk) -> None:
    desk.write("{", line("a"))
    desk.load(on_bad_line="skip")
    desk.write(line("a"), line("b"), line("a"))
    assert desk.load(on_bad_line="skip").rejected == 1
    assert [number for number, _ in desk.rejected()] == [3]


@pytest.mark.parametrize("before", [0, 3, CHUNK, CHUNK + 3])
def test_the_first_bad_line_stops_and_the_load_goes_on_from_it(desk: Desk, before: int) -> None:
    good = [line(f"r{n}") for n in range(before)]
    desk.write(*good, "{", line("z"), "[")
    with pytest.raises(JobFileError, match="--on-bad-line skip") as caught:
        desk.load()
    assert (caught.value.line, caught.value.offset) == (before + 1, sum(len(each) + 1 for each in good))
    assert len(desk.tasks()) == before
    rest = desk.load(on_bad_line="skip")
    assert (rest.lines, rest.rejected, len(desk.tasks())) == (3, 2, before + 1)
    desk.check()


def test_a_bad_line_is_mended_and_the_rest_is_loaded(desk: Desk) -> None:
    desk.write(line("a"), "{", line("c"))
    with pytest.raises(JobFileError):
        desk.load()
    desk.write(line("a"), line("b"), line("c"))
    assert desk.load().difference == Difference(same=1, edited=0, added=2, gone=0)
    assert [custom_id for _, custom_id, _ in desk.tasks()] == ["a", "b", "c"]


def test_a_repeated_custom_id_stops_too(desk: Desk) -> None:
    desk.write(line("a"), line("b"), line("a"))
    with pytest.raises(JobFileError, match="already stands in line 1") as caught:
        desk.load()
    assert caught.value.line == 3
    desk.check()
    assert desk.load(on_bad_line="skip").rejected == 1
    assert len(desk.tasks()) == 2


def test_a_bad_line_in_a_changed_file_stops_before_anything_moves(desk: Desk) -> None:
    desk.write(line("a"))
    desk.load()
    desk.write(line("a", "edited"), "{")
    with pytest.raises(JobFileError, match="--on-bad-line skip"):
        desk.load()
    assert (desk.tasks(), desk.query("SELECT state FROM job")) == ([(1, "a", "pending")], [("loaded",)])


def test_a_bad_first_line_after_a_byte_order_mark_can_be_skipped_later(desk: Desk) -> None:
    desk.file.write_bytes(b"\xef\xbb\xbf{\n" + line("a").encode() + b"\n")
    with pytest.raises(JobFileError):
        desk.load()
    assert desk.load(on_bad_line="skip").rejected == 1
    assert [custom_id for _, custom_id, _ in desk.tasks()] == ["a"]


def test_a_bad_record_of_several_lines_is_where_a_csv_goes_on(desk: Desk) -> None:
    path, options = desk.folder / "rows.csv", ReadOptions(model="m", prompt="{{ text }}")
    path.write_text('id,text\n1,"two\nlines"\n2,too,many\n3,last\n')
    with pytest.raises(JobFileError) as caught:
        desk.load(path=str(path), options=options)
    assert caught.value.line == 4
    assert desk.load(path=str(path), options=options, on_bad_line="skip").lines == 2
    assert desk.query("SELECT custom_id, position FROM task") == [("1", 2), ("3", 5)]


def test_made_ids_go_on_counting_after_a_stop(desk: Desk) -> None:
    path, options = desk.folder / "rows.csv", ReadOptions(model="m", prompt="{{ text }}")
    path.write_text("text,n\none,1\ntoo,many,2\nlast,3\n")
    with pytest.raises(JobFileError):
        desk.load(path=str(path), options=options)
    desk.load(path=str(path), options=options, on_bad_line="skip")
    assert [custom_id for _, custom_id, _ in desk.tasks()] == ["row-000001", "row-000003"]


def test_a_missing_file_makes_no_job(desk: Desk) -> None:
    with pytest.raises(JobFileError, match="No such file"):
        desk.load()
    assert desk.query("SELECT * FROM job") == []


def test_options_that_do_not_fit_make_no_job(desk: Desk) -> None:
    desk.write(line("a"))
    with pytest.raises(ConfigError):
        desk.load(options=ReadOptions(system="Be brief."))
    assert desk.query("SELECT * FROM job") == []


# -- standard input


def piped(*lines: str) -> BytesIO:
    return BytesIO("".join(f"{each}\n" for each in lines).encode())


def test_standard_input_is_kept_beside_the_database(desk: Desk) -> None:
    desk.load(path="-", stdin=piped(line("a"), line("b")))
    spool = desk.folder / "a.db.stdin"
    assert spool.stat().st_mode & 0o777 == 0o600
    assert len(spool.read_text().splitlines()) == len(desk.tasks()) == 2
    assert [path.name for path in desk.folder.glob("*.part")] == []


def test_the_same_input_again_is_no_change(desk: Desk) -> None:
    desk.load(path="-", stdin=piped(line("a")))
    assert desk.load(path="-", stdin=piped(line("a"))).unchanged
    assert desk.load(path="-", stdin=piped(line("a"), line("b"))).difference == Difference(
        same=1, edited=0, added=1, gone=0
    )


def test_without_input_the_kept_one_goes_on(desk: Desk) -> None:
    desk.load(path="-", stdin=piped(line("a")))
    assert desk.load(path="-", stdin=BytesIO()).unchanged
    assert desk.load(path="-").unchanged


@pytest.mark.parametrize("stdin", [None, BytesIO()])
def test_no_input_at_all_is_an_error(desk: Desk, stdin: BytesIO | None) -> None:
    with pytest.raises(JobFileError, match="nothing in the standard input"):
        desk.load(path="-", stdin=stdin)


def test_a_pipe_with_a_name_is_kept_like_standard_input(desk: Desk) -> None:
    reading, writing = os.pipe()
    os.write(writing, piped(line("a")).getvalue())
    os.close(writing)
    desk.load(path=f"/dev/fd/{reading}")
    os.close(reading)
    assert desk.tasks() == [(1, "a", "pending")]
    assert desk.load(path="-").unchanged


# -- the account

LINES = st.lists(
    st.one_of(
        st.builds(line, st.sampled_from("abcdef"), st.sampled_from(["x", "y"])),
        st.sampled_from(["{", "[1]", "", "   ", '{"body": 1}']),
    ),
    min_size=1,
    max_size=12,
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(versions=st.lists(LINES, min_size=1, max_size=4), policy=st.sampled_from(["redo", "keep"]))
def test_each_line_that_is_not_blank_is_a_task_or_rejected(
    tmp_path_factory: pytest.TempPathFactory, versions: list[list[str]], policy: Answer
) -> None:
    """However often a file changes: its lines are accounted for, and no question is in the queue twice."""
    with desk_in(tmp_path_factory.mktemp("desk")) as desk:
        for lines in versions:
            desk.write(line("first"), *lines)
            desk.load(answer=policy, on_bad_line="skip")
            written = 1 + sum(bool(each.strip()) for each in lines)
            assert len(desk.tasks()) + len(desk.rejected()) == written
            desk.check()
        assert desk.query("SELECT 1 FROM task GROUP BY custom_id, fingerprint HAVING count(*) > 1") == []
