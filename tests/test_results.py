"""Result files: the openai form, flat files, and when a file may be replaced."""

import csv
import io
import json
import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchrunner.errors import ConfigError
from batchrunner.jobfile.flat import OURS
from batchrunner.jobfile.openai import result_line, spliced
from batchrunner.jobfile.results import Form, Layout, errors_path, form_of, write_results
from batchrunner.record import Answer, Attempt, Output, Record
from batchrunner.task import TaskState, Usage

BODY = '{"id":"x","choices":[{"message":{"content":"好，\\n\\"yes\\"" } }],"n":1.10}'
USAGE = Usage(prompt_tokens=11, completion_tokens=7, cached_tokens=3, reasoning_tokens=2)


def record(custom_id: str = "row-1", *, state: TaskState = TaskState.PENDING, **changed: Any) -> Record:
    known: dict[str, Any] = {
        "task_id": 1,
        "position": 1,
        "custom_id": custom_id,
        "state": state,
        "error_class": None,
        "attempts": 0,
        "endpoint": "chat/completions",
        "model": "m",
        "request": "{}",
        "row": None,
    }
    return Record(**(known | changed))


def answered(
    custom_id: str = "row-1", body: str | bytes = BODY, *, row: str | None = None, simulated: bool = False
) -> Record:
    return record(
        custom_id,
        state=TaskState.SUCCEEDED,
        row=row,
        attempts=2,
        attempt=Attempt(
            id=5,
            run_id=1,
            number=2,
            outcome="success",
            leased_at=100.0,
            sent_at=100.0,
            finished_at=101.5,
            status=200,
            request_id="req-1",
            usage=USAGE,
        ),
        answer=Answer(status=200, body=body, finish_reason="stop", simulated=simulated, received_at=101.5),
    )


def failed(
    custom_id: str = "row-2",
    error_class: str = "timeout",
    *,
    status: int | None = None,
    reply: str | bytes | None = None,
    row: str | None = None,
) -> Record:
    return record(
        custom_id,
        state=TaskState.FAILED,
        error_class=error_class,
        row=row,
        attempts=1,
        attempt=Attempt(
            id=6,
            run_id=1,
            number=1,
            outcome="failure",
            leased_at=100.0,
            sent_at=100.0,
            finished_at=220.0,
            status=status,
            error_class=error_class,
            message="it went wrong",
            reply=reply,
        ),
    )


def layout(form: Form = Form.OPENAI, **changed: Any) -> Layout:
    return Layout(form=form, **changed)


def parsed(line: bytes) -> dict[str, Any]:
    value = json.loads(line)
    assert isinstance(value, dict)
    return value


def ids(path: Path) -> list[str]:
    return [parsed(line)["custom_id"] for line in path.read_bytes().splitlines()]


def table(path: Path, delimiter: str = ",") -> list[dict[str, str]]:
    with path.open(encoding="utf-8-sig", newline="") as stream:
        return list(csv.DictReader(stream, delimiter=delimiter))


# -- the openai form


def test_a_result_line_has_exactly_the_keys_of_the_batch_api() -> None:
    line = parsed(result_line(answered()))
    assert list(line) == ["id", "custom_id", "response", "error"]
    assert line["id"].startswith("batch_req_")
    assert int(line["id"].removeprefix("batch_req_"), 16)
    assert line["custom_id"] == "row-1"
    assert line["response"] == {"status_code": 200, "request_id": "req-1", "body": json.loads(BODY)}
    assert line["error"] is None


def test_the_body_is_spliced_in_byte_for_byte() -> None:
    assert b'"body":' + BODY.encode() + b"}" in result_line(answered())


def test_a_pretty_printed_body_still_makes_one_line() -> None:
    line = result_line(answered(body='{\r\n  "a": "x\\ny"\n}'))
    assert line.count(b"\n") == 1
    assert b"\r" not in line
    assert parsed(line)["response"]["body"] == {"a": "x\ny"}


def test_a_body_with_a_lone_surrogate_is_json_all_the_same() -> None:
    assert spliced('{"a":"\\ud83d"}') == '{"a":"\\ud83d"}'


@pytest.mark.parametrize("body", ["", "<html>", "NaN", '{"a":1', '{"a":Infinity}', "[" * 100_000, "{}{}"])
def test_a_body_that_is_no_json_becomes_a_string(body: str) -> None:
    assert json.loads(spliced(body)) == body


def test_a_body_that_is_no_text_becomes_a_string() -> None:
    assert json.loads(spliced(b"caf\xe9")) == "caf\ufffd"


def test_the_same_record_gives_the_same_line_and_another_task_another_id() -> None:
    assert result_line(answered()) == result_line(answered())
    assert parsed(result_line(answered()))["id"] != parsed(result_line(answered("row-9")))["id"]


def test_an_http_failure_has_its_real_status_and_body_and_no_error() -> None:
    line = parsed(result_line(failed(error_class="bad_request", status=400, reply='{"error":{"code":"1210"}}')))
    assert line["response"] == {"status_code": 400, "request_id": "", "body": {"error": {"code": "1210"}}}
    assert line["error"] is None


def test_a_failure_without_http_answer_has_an_error_and_no_response() -> None:
    line = parsed(result_line(failed()))
    assert line["response"] is None
    assert line["error"] == {"code": "timeout", "message": "it went wrong"}


def test_a_failure_that_came_with_status_200_is_not_taken_for_a_success() -> None:
    line = parsed(result_line(failed(error_class="empty_reasoning", status=200, reply="{}")))
    assert line["response"]["status_code"] == 200
    assert line["error"]["code"] == "empty_reasoning"


@pytest.mark.parametrize("state", [TaskState.PENDING, TaskState.RUNNING, TaskState.HELD, TaskState.CANCELLED])
def test_a_task_without_an_end_says_where_it_stands(state: TaskState) -> None:
    line = parsed(result_line(record(state=state)))
    assert line["response"] is None
    assert line["error"]["code"] == state.value
    assert line["error"]["message"]


def test_extras_add_one_key() -> None:
    line = parsed(result_line(answered(row='{"text":"x"}', simulated=True), extras=True))
    assert line["batchrunner"] == {
        "class": None,
        "attempts": 2,
        "latency_s": 1.5,
        "cost": None,
        "currency": None,
        "tokens_in": 11,
        "tokens_out": 7,
        "row": {"text": "x"},
        "simulated": True,
    }
    assert parsed(result_line(failed(), extras=True))["batchrunner"]["class"] == "timeout"


def test_failures_go_to_a_file_beside_the_results(tmp_path: Path) -> None:
    path = str(tmp_path / "x.jsonl")
    written = write_results([answered(), failed(), record("row-3")], path, layout())
    assert written == (Output(path=path, rows=1), Output(path=str(tmp_path / "x.errors.jsonl"), rows=1))
    assert ids(Path(path)) == ["row-1"]
    assert ids(tmp_path / "x.errors.jsonl") == ["row-2"]


def test_unfinished_tasks_are_written_only_if_asked_for(tmp_path: Path) -> None:
    write_results([answered(), record("row-3")], str(tmp_path / "x.jsonl"), layout(), partial=True)
    assert parsed((tmp_path / "x.errors.jsonl").read_bytes())["error"]["code"] == "pending"


def test_an_errors_file_of_an_earlier_export_does_not_outlive_its_failures(tmp_path: Path) -> None:
    path = str(tmp_path / "x.jsonl")
    write_results([failed()], path, layout())
    written = write_results([answered("row-2")], path, layout())
    assert [output.rows for output in written] == [1]
    assert os.listdir(tmp_path) == ["x.jsonl"]  # noqa: PTH208  (names are wanted)


def test_writing_only_the_succeeded_leaves_the_errors_file_alone(tmp_path: Path) -> None:
    path = str(tmp_path / "x.jsonl")
    write_results([answered(), failed()], path, layout())
    write_results([answered(), failed()], path, layout(), only={TaskState.SUCCEEDED})
    assert (tmp_path / "x.errors.jsonl").exists()


def test_standard_output_gets_answers_only() -> None:
    stream = io.BytesIO()
    written = write_results([answered(), failed()], "-", layout(), stdout=stream)
    assert written == (Output(path="-", rows=1),)
    assert parsed(stream.getvalue())["custom_id"] == "row-1"


# -- flat files


def test_a_table_has_the_input_columns_first_and_a_row_for_every_task(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    rows = [answered(row='{"id":7,"text":"a,b"}'), failed(row='{"id":8,"text":null}')]
    written = write_results(rows, str(path), layout(Form.CSV))
    assert written == (Output(path=str(path), rows=2),)
    first, second = table(path)
    assert list(first) == ["id", "text", *OURS]
    assert (first["id"], first["text"], first["answer"]) == ("7", "a,b", '好，\n"yes"')
    assert (first["br_status"], first["br_finish"], first["br_attempts"]) == ("succeeded", "stop", "2")
    assert (first["br_tokens_in"], first["br_tokens_out"]) == ("11", "7")
    assert (first["br_tokens_cached"], first["br_tokens_reasoning"]) == ("3", "2")
    assert (first["br_latency_s"], first["br_model"], first["br_request_id"]) == ("1.5", "m", "req-1")
    assert (first["br_at"], first["br_simulated"]) == ("1970-01-01T00:01:41+00:00", "false")
    assert (second["answer"], second["text"]) == ("", "")
    assert (second["br_status"], second["br_error"], second["br_error_message"]) == (
        "failed",
        "timeout",
        "it went wrong",
    )


def test_lines_without_a_row_are_told_by_their_custom_id(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    write_results([answered()], str(path), layout(Form.CSV))
    (row,) = table(path)
    assert next(iter(row)) == "custom_id"
    assert row["custom_id"] == "row-1"


def test_numbers_and_nested_values_keep_their_json_text(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    row = '{"big":12345678901234567890.10,"yes":true,"list":[1, 2],"text":"\\u00e9"}'
    write_results([answered(row=row)], str(path), layout(Form.CSV))
    (cells,) = table(path)
    assert [cells[name] for name in ("big", "yes", "list", "text")] == [
        "12345678901234567890.10",
        "true",
        "[1, 2]",
        "é",
    ]


def test_columns_given_beforehand_hold_rows_that_are_not_alike(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    rows = [answered(row='{"a":"1"}'), answered(row='{"b":"2"}')]
    write_results(rows, str(path), layout(Form.CSV, columns=("a", "b")))
    assert [(row["a"], row["b"]) for row in table(path)] == [("1", ""), ("", "2")]


def test_a_column_the_header_has_not_is_an_error_that_names_the_task(tmp_path: Path) -> None:
    rows = [answered(row='{"a":"1"}'), answered("row-7", row='{"b":"2"}')]
    with pytest.raises(ConfigError, match=r"row-7.*'b'.*--format flat"):
        write_results(rows, str(tmp_path / "x.csv"), layout(Form.CSV))
    assert not list(tmp_path.iterdir())


def test_a_name_clash_proposes_a_prefix_that_works(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    rows = [answered(row='{"answer":"old"}')]
    for form in (Form.CSV, Form.JSONL):
        with pytest.raises(ConfigError, match="--prefix llm_"):
            write_results(rows, str(path), layout(form))
    write_results(rows, str(path), layout(Form.CSV, prefix="llm_"))
    assert table(path)[0]["llm_answer"] == '好，\n"yes"'


def test_flat_json_lines_keep_the_input_as_it_stood(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    write_results([answered(row='{"n":1.10,"t":"\\u00e9"}', simulated=True), answered()], str(path), layout(Form.JSONL))
    first, second = path.read_bytes().splitlines()
    assert first.startswith(b'{"n":1.10,"t":"\\u00e9","answer":')
    assert parsed(first)["br_simulated"] is True
    assert parsed(first)["br_tokens_in"] == 11
    assert next(iter(parsed(second))) == "custom_id"


def test_only_some_states(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    write_results([answered(), failed()], str(path), layout(Form.CSV), only={TaskState.FAILED})
    assert [row["custom_id"] for row in table(path)] == ["row-2"]


def test_flat_files_write_failures_beside_when_asked(tmp_path: Path) -> None:
    errors = tmp_path / "bad.jsonl"
    written = write_results([answered(), failed()], str(tmp_path / "x.csv"), layout(Form.CSV), errors=str(errors))
    assert [output.rows for output in written] == [2, 1]
    assert parsed(errors.read_bytes())["custom_id"] == "row-2"


def test_tsv_keeps_tabs_and_line_breaks_in_their_cells(tmp_path: Path) -> None:
    path = tmp_path / "x.tsv"
    write_results([answered(row='{"t":"a\\tb\\nc"}')], str(path), layout(Form.TSV))
    assert table(path, "\t")[0]["t"] == "a\tb\nc"


@pytest.mark.parametrize(
    ("cell", "written"),
    [
        ("=1+1", "'=1+1"),
        ("+cmd", "'+cmd"),
        ("-x", "'-x"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("\tx", "'\tx"),
        ("\rx", "'\rx"),
        ("＝1", "'＝1"),
        ("-1", "-1"),
        ("+3.5", "+3.5"),
        ("a=b", "a=b"),
        ("", ""),
    ],
)
def test_for_excel_guards_formulas_and_begins_with_a_bom(tmp_path: Path, cell: str, written: str) -> None:
    path = tmp_path / "x.csv"
    rows = [answered(row=json.dumps({"t": cell}))]
    write_results(rows, str(path), layout(Form.CSV, for_excel=True))
    assert path.read_bytes().startswith(b"\xef\xbb\xbf")
    assert table(path)[0]["t"] == written
    write_results(rows, str(path), layout(Form.CSV))
    assert table(path)[0]["t"] == cell  # a label such as - is not touched otherwise


names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(lambda name: name not in OURS)
cells = st.text(st.characters(exclude_categories=["Cs"]))


@given(columns=st.lists(names, min_size=1, max_size=4, unique=True), rows=st.lists(st.lists(cells), max_size=4))
def test_every_cell_comes_back_from_a_table_as_it_went_in(columns: Sequence[str], rows: list[list[str]]) -> None:
    """CSV and TSV, whatever quotes, separators, line breaks and NULs the cells hold."""
    given_rows = [dict(zip(columns, row + [""] * len(columns), strict=False)) for row in rows]
    records = [answered(row=json.dumps(row)) for row in given_rows]
    for form, delimiter in ((Form.CSV, ","), (Form.TSV, "\t")):
        stream = io.BytesIO()
        write_results(records, "-", layout(form, columns=columns), stdout=stream)
        read = list(csv.reader(io.StringIO(stream.getvalue().decode(), newline=""), delimiter=delimiter))
        assert read[0] == [*columns, *OURS]
        assert [row[: len(columns)] for row in read[1:]] == [list(row.values()) for row in given_rows]


@given(row=st.dictionaries(names, st.none() | st.booleans() | st.integers() | cells | st.lists(cells)))
def test_every_input_value_comes_back_from_flat_json_lines(row: dict[str, Any]) -> None:
    stream = io.BytesIO()
    write_results([answered(row=json.dumps(row))], "-", layout(Form.JSONL), stdout=stream)
    line = parsed(stream.getvalue())
    assert {name: line[name] for name in row} == row


# -- forms and places


@pytest.mark.parametrize(
    ("path", "chosen", "form"),
    [
        ("a.jsonl", None, Form.OPENAI),
        ("a.JSONL", "flat", Form.JSONL),
        ("a.ndjson", "openai", Form.OPENAI),
        ("a.csv", None, Form.CSV),
        ("a.tsv", "flat", Form.TSV),
        ("-", None, Form.OPENAI),
        ("-", "flat", Form.JSONL),
    ],
)
def test_the_suffix_picks_the_form(path: str, chosen: Any, form: Form) -> None:
    assert form_of(path, chosen) is form


@pytest.mark.parametrize(("path", "chosen"), [("a.xlsx", None), ("a", None), ("a.csv", "openai")])
def test_a_form_that_can_not_be_written_is_refused(path: str, chosen: Any) -> None:
    with pytest.raises(ConfigError, match="a"):
        form_of(path, chosen)


@pytest.mark.parametrize("changed", [{"prefix": "x_"}, {"for_excel": True}])
def test_options_of_tables_are_refused_for_the_openai_form(changed: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="belongs to"):
        layout(Form.OPENAI, **changed)
    with pytest.raises(ConfigError, match="belongs to"):
        layout(Form.CSV, extras=True)


def test_the_errors_file_is_named_after_the_results() -> None:
    assert errors_path("out/demo.results.jsonl") == "out/demo.results.errors.jsonl"


@pytest.mark.parametrize("form", list(Form))
@pytest.mark.parametrize("rows", [[], [answered()]])
def test_our_own_export_is_replaced(tmp_path: Path, form: Form, rows: list[Record]) -> None:
    path = str(tmp_path / "x")
    write_results(rows, path, layout(form))
    write_results([answered(), answered("row-2")], path, layout(form))
    assert b"row-2" in Path(path).read_bytes()


@pytest.mark.parametrize(
    "content",
    [
        b"id,text\n1,x\n",
        b'{"custom_id":"a","body":{}}\n',
        b'{"id":"batch_req_6812f","custom_id":"a","response":{},"error":null}\n',
        b"\x00\xff",
    ],
)
def test_a_file_that_is_not_ours_is_replaced_only_by_force(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match="--force"):
        write_results([answered()], str(path), layout())
    assert path.read_bytes() == content
    write_results([answered()], str(path), layout(), force=True)
    assert parsed(path.read_bytes())["custom_id"] == "row-1"


def test_an_error_on_the_way_leaves_the_old_file_and_no_rubbish(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    write_results([answered()], str(path), layout())
    before = path.read_bytes()

    def broken() -> Any:
        yield answered("row-9")
        raise KeyError

    with pytest.raises(KeyError):
        write_results(broken(), str(path), layout())
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_result_files_are_for_their_owner_only(tmp_path: Path) -> None:
    write_results([answered()], str(tmp_path / "x.jsonl"), layout())
    assert stat.S_IMODE((tmp_path / "x.jsonl").stat().st_mode) == 0o600


def test_a_symbolic_link_stays_one(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    link = tmp_path / "x.jsonl"
    link.symlink_to(tmp_path / "real" / "y.jsonl")
    write_results([answered()], str(link), layout())
    assert link.is_symlink()
    assert (tmp_path / "real" / "y.jsonl").exists()


@pytest.mark.parametrize(("path", "reason"), [("none/x.jsonl", "no folder"), ("folder", "-o -")])
def test_a_place_that_can_not_be_written_is_refused(tmp_path: Path, path: str, reason: str) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(ConfigError, match=reason):
        write_results([answered()], str(tmp_path / path), layout())


def test_a_device_is_never_replaced() -> None:
    with pytest.raises(ConfigError, match="not a regular file"):
        write_results([answered()], "/dev/null", layout(), errors="/dev/null2", force=True)


def test_results_and_errors_do_not_share_a_file(tmp_path: Path) -> None:
    path = str(tmp_path / "x.jsonl")
    with pytest.raises(ConfigError, match="--errors"):
        write_results([answered()], path, layout(), errors=path)
