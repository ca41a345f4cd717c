"""The command line as a user meets it: exit codes, streams, files, words."""

import csv
import gzip
import json
import re
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from older import turn_back
from terminal import Terminal, batch

import batchrunner as br

KEY = "sk-canary-4711"
PROMPT = "Answer with one of: good, bad. {{ text }}"


@pytest.fixture
def server() -> Iterator[br.Simulator]:
    with br.Simulator() as simulator:
        yield simulator


@pytest.fixture
def terminal(tmp_path: Path, server: br.Simulator) -> Terminal:
    return Terminal(tmp_path, server)


def test_a_batch_file_in_and_every_answer_out(terminal: Terminal) -> None:
    """Results in the form and order of the file, beside it, readable by their owner alone."""
    done = terminal.run(terminal.write("job.jsonl", batch("a", "b", "c")))
    assert done.returncode == 0, done.stderr
    assert [line["custom_id"] for line in terminal.lines("job.results.jsonl")] == ["t0", "t1", "t2"]
    assert "Finished in" in done.stderr
    assert done.stdout == ""
    for name in ("job.db", "job.results.jsonl"):
        assert stat.S_IMODE((terminal.folder / name).stat().st_mode) == 0o600


def test_rows_with_a_prompt_come_back_with_their_columns(terminal: Terminal) -> None:
    """CSV in, CSV out: the columns, then the answer and our figures."""
    job = terminal.write("rows.csv", 'id,text\nr1,"two\nlines"\nr2,物流很快\n')
    done = terminal.run(job, "--prompt", PROMPT, "-m", "m", "-o", "out.csv")
    assert done.returncode == 0, done.stderr
    with (terminal.folder / "out.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["id"], row["text"]) for row in rows] == [("r1", "two\nlines"), ("r2", "物流很快")]
    assert all(row["answer"] in ("good", "bad") and row["br_status"] == "succeeded" for row in rows)


def test_packed_files_text_lines_and_standard_input(terminal: Terminal) -> None:
    """The other ways in; standard input needs no file, its database has a name."""
    (terminal.folder / "job.jsonl.gz").write_bytes(gzip.compress(batch("a").encode()))
    assert terminal.run("job.jsonl.gz").returncode == 0
    assert terminal.lines("job.results.jsonl")
    terminal.write("lines.txt", "one\ntwo\n")
    assert terminal.run("lines.txt", "-m", "m").returncode == 0
    done = terminal.run("-", "--db", "in.db", "-o", "-", "-q", stdin=batch("a", "b").encode())
    assert [json.loads(line)["custom_id"] for line in done.stdout.splitlines()] == ["t0", "t1"]


def test_the_same_command_again_sends_nothing(terminal: Terminal) -> None:
    """A finished job is finished, with or without its options, by its file or its database."""
    job = terminal.write("rows.csv", "id,text\nr1,a\n")
    terminal.run(job, "--prompt", PROMPT, "-m", "m")
    for words in (("rows.csv",), ("rows.db",)):
        done = terminal("run", *words)
        assert done.returncode == 0, done.stderr
        assert "1 done, 0 failed" in done.stderr
    assert terminal.server.score().sends == 1


@pytest.mark.parametrize("words", [("run", "job.jsonl"), ("run", "job.db"), ("retry", "job.db")])
def test_a_job_of_an_older_release_goes_on(terminal: Terminal, words: tuple[str, ...]) -> None:
    """It is upgraded by whoever writes to it, kept as a copy, and pays for no answer twice; a look tells what to do."""
    terminal.run(terminal.write("job.jsonl", batch("a", "b")), "--limit", "1")
    turn_back(terminal.folder / "job.db")
    looked = terminal.here("status", "job.db")
    assert (looked.returncode, "'batchrunner run' upgrades it" in looked.stderr) == (1, True)
    done = terminal(*words)
    assert done.returncode == 0, done.stderr
    assert (terminal.folder / "job.db.schema1").is_file()
    assert terminal.run("job.jsonl").returncode == 0
    assert terminal.server.score().sends == 2


def test_a_demo_of_an_older_release_is_in_the_way(terminal: Terminal) -> None:
    """It says so, and touches nothing: the database may be anyone's."""
    terminal.run(terminal.write("job.jsonl", batch("a")))
    turn_back(terminal.folder / "job.db")
    before = (terminal.folder / "job.db").read_bytes()
    done = terminal("demo", "--db", "job.db")
    assert (done.returncode, "remove it" in done.stderr) == (1, True)
    assert (terminal.folder / "job.db").read_bytes() == before


def test_an_edited_line_is_shown_before_it_is_paid_for(terminal: Terminal) -> None:
    """Not on a terminal: stop with the counts and the way on; --changed redo asks just that line."""
    terminal.run(terminal.write("job.jsonl", batch("a", "b", "c")))
    terminal.write("job.jsonl", batch("a", "B", "c"))
    done = terminal.run("job.jsonl")
    assert done.returncode == 1
    assert "2 same, 1 edited, 0 new, 0 gone" in done.stderr
    assert terminal.run("job.jsonl", "--changed", "redo").returncode == 0
    assert terminal.server.score().sends == 4


def test_what_cannot_start_says_what_where_and_what_to_do(terminal: Terminal) -> None:
    """Exit 1, nothing sent, no traceback."""
    job = terminal.write("job.jsonl", batch("a"))
    rows = terminal.write("rows.csv", "id,text\nr1,a\n")
    bad = terminal.write("bad.jsonl", batch("a") + '{"custom_id": "x"\n')
    for words, message in (
        (("run", job), "no provider"),
        (("run", job, "-p", "openai"), "OPENAI_API_KEY"),
        (("run", job, "-p", "nobody"), "there are anthropic, azure"),
        (("run", job, "--base-url", "nonsense"), "no base URL"),
        (("run", "missing.jsonl", "--base-url", terminal.server.base_url), "missing.jsonl"),
        (("run", rows, "--base-url", terminal.server.base_url, "-m", "m"), "--prompt"),
        (("run", bad, "--base-url", terminal.server.base_url), "bad.jsonl:2 (byte "),
        (("run", job, "--base-url", terminal.server.base_url, "-o", "x.docx"), "x.docx"),
        (("status", "nothing.db"), "no such database"),
        (("results", "nothing.db"), "no such database"),
    ):
        done = terminal.here(*words)
        assert done.returncode == 1, (words, done.stderr)
        assert message in done.stderr, (words, done.stderr)
        assert "Traceback" not in done.stderr
    assert terminal.server.score().sends == 0
    assert not (terminal.folder / "missing.db").exists()


def test_usage_errors_and_help(terminal: Terminal) -> None:
    """click's own: 2, with a suggestion; help is 0, for every command."""
    assert terminal.here("run", "x.jsonl", "--rmp", "5").returncode == 2
    assert "Usage" in terminal("--help").stdout
    for command in ("run", "status", "results", "errors", "retry", "show", "doctor", "demo", "simulator", "load"):
        assert terminal.here(command, "--help").returncode == 0
    assert re.search(r"\d+\.\d+\.\d+", terminal("--version").stdout)


def test_failures_are_explained_listed_and_retried(terminal: Terminal) -> None:
    """Exit 3 with a table; errors, show, status, retry; and the next run answers them."""
    job = terminal.write("job.jsonl", batch("fine", "[[fault:400]]", "[[fault:500x3]] later"))
    done = terminal.run(job)
    assert done.returncode == 3
    assert "bad_request" in done.stderr
    assert "server_error" in done.stderr
    assert {line["custom_id"] for line in terminal.lines("job.results.errors.jsonl")} == {"t1", "t2"}
    assert terminal.here("errors", "--ids", "--class", "bad_request").stdout == "t1\n"
    assert [g["class"] for g in json.loads(terminal.here("errors", "--json").stdout)["errors"]] == [
        "bad_request",
        "server_error",
    ]
    assert "HTTP 500" in terminal.here("show", "t2").stdout or "500" in terminal("show", "t2").stdout
    status = json.loads(terminal.here("status", "--json").stdout)
    assert (status["succeeded"], status["failed"]) == (1, 2)
    assert terminal.here("retry", "--class", "server_error").returncode == 0
    assert terminal("run", "job.db", "--exit-zero").returncode == 0
    assert [line["custom_id"] for line in terminal.lines("job.results.jsonl")] == ["t0", "t2"]


def test_results_at_any_time_and_in_any_form(terminal: Terminal) -> None:
    """Unfinished needs --partial; a file that is not ours is not replaced without --force."""
    terminal.run(terminal.write("job.jsonl", batch("a", "b", "c")), "--limit", "2")
    done = terminal.here("results", "job.db", "-o", "out.csv")
    assert (done.returncode, "--partial" in done.stderr) == (1, True)
    assert terminal.here("results", "job.db", "-o", "out.csv", "--partial").returncode == 0
    assert len((terminal.folder / "out.csv").read_text(encoding="utf-8").splitlines()) == 4
    flat = terminal.here("results", "job.db", "--partial", "--format", "flat", "--only", "succeeded").stdout
    assert [json.loads(line)["br_status"] for line in flat.splitlines()] == ["succeeded"] * 2
    terminal.write("mine.csv", "do,not\ntouch,this\n")
    assert terminal.here("results", "job.db", "--partial", "-o", "mine.csv").returncode == 1
    assert (terminal.folder / "mine.csv").read_text(encoding="utf-8").startswith("do,not")
    assert terminal.here("results", "job.db", "--partial", "-o", "mine.csv", "--force").returncode == 0


def test_quiet_and_json(terminal: Terminal) -> None:
    """-q says nothing when all is well; --json puts events, and only those, on standard output."""
    done = terminal.run(terminal.write("a.jsonl", batch("a")), "-q")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    events = [
        json.loads(line) for line in terminal.run(terminal.write("b.jsonl", batch("a")), "--json").stdout.splitlines()
    ]
    assert [event["event"] for event in events if event["event"] != "progress"] == ["start", "summary"]
    assert (events[-1]["exit"], events[-1]["succeeded"]) == (0, 1)


def test_settings_come_from_files_variables_and_the_command_line(terminal: Terminal) -> None:
    """The command line wins over the environment, that over batchrunner.toml; an unknown name is an error."""
    job = terminal.write("lines.txt", "one\n")
    terminal.write("batchrunner.toml", f'base_url = "{terminal.server.base_url}"\nmodel = "from-file"\n')
    cases: list[tuple[tuple[str, ...], dict[str, Any], str]] = [
        ((), {}, "from-file"),
        ((), {"BATCHRUNNER_MODEL": "from-variable"}, "from-variable"),
        (("-m", "from-line"), {"BATCHRUNNER_MODEL": "from-variable"}, "from-line"),
    ]
    for words, environment, model in cases:
        done = terminal("run", job, "--db", f"{model}.db", *words, **environment)
        assert done.returncode == 0, done.stderr
        assert next(br.Job(terminal.folder / f"{model}.db").results()).response["model"] == model
    terminal.write("batchrunner.toml", "rmp = 60\n")
    done = terminal("run", job)
    assert (done.returncode, "'rmp'" in done.stderr) == (1, True)


@pytest.mark.parametrize("way", ["BATCHRUNNER_API_KEY", "--key-env", "--key-file", "--key-cmd", ".env"])
def test_a_key_is_used_and_never_shown(way: str, tmp_path: Path) -> None:
    """From wherever it comes, it reaches the server and nothing else: no file, no stream."""
    with br.Simulator(key=KEY) as server:
        terminal = Terminal(tmp_path, server)
        job = terminal.write("job.jsonl", batch("a"))
        elsewhere = tmp_path.with_name(tmp_path.name + ".key")
        elsewhere.write_text(KEY + "\n", encoding="utf-8")
        elsewhere.chmod(0o600)
        words: tuple[str, ...] = ()
        environment: dict[str, Any] = {}
        if way.startswith("BATCH"):
            environment = {way: KEY}
        elif way == "--key-env":
            words, environment = (way, "MY_KEY"), {"MY_KEY": KEY}
        elif way == "--key-file":
            words = (way, str(elsewhere))
        elif way == "--key-cmd":
            words = (way, f"cat {elsewhere}")
        else:
            terminal.write(".env", f"BATCHRUNNER_API_KEY={KEY}\n")
        done = terminal.run(job, *words, **environment)
        assert done.returncode == 0, done.stderr
        assert KEY not in done.stdout + done.stderr
        for path in tmp_path.rglob("*"):
            if path.is_file() and path.name != ".env":
                assert KEY.encode() not in path.read_bytes(), path


def test_a_key_file_that_others_can_read_is_refused(terminal: Terminal) -> None:
    """It says how to mend it."""
    (terminal.folder / "key").write_text(KEY, encoding="utf-8")
    (terminal.folder / "key").chmod(0o644)
    done = terminal.run(terminal.write("job.jsonl", batch("a")), "--key-file", "key")
    assert (done.returncode, "chmod 600 key" in done.stderr) == (1, True)


def test_a_provider_that_echoes_the_key_does_not_spread_it(tmp_path: Path) -> None:
    """A wrong key stops the run with exit 4, and stands in no file even if the error quotes it."""
    with br.Simulator(key="another") as server:
        terminal = Terminal(tmp_path, server)
        done = terminal.run(terminal.write("job.jsonl", batch("a")), BATCHRUNNER_API_KEY=KEY)
    assert done.returncode == 4
    assert "BATCHRUNNER_API_KEY" in done.stderr
    assert all(KEY.encode() not in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())


def test_doctor_checks_before_the_night(terminal: Terminal) -> None:
    """Good: 0, and with -m one question is answered. Bad: 1, and the word BAD."""
    done = terminal("doctor", "--base-url", terminal.server.base_url, "-m", "m", "--config")
    assert done.returncode == 0, done.stdout
    assert "m answered in" in done.stdout
    assert "command line" in done.stdout
    done = terminal("doctor")
    assert (done.returncode, "BAD" in done.stdout) == (1, True)


def test_the_simulator_alone(terminal: Terminal) -> None:
    """It says where it is, serves, keeps a score, and ends on Ctrl-C with 0."""
    command = [sys.executable, "-m", "batchrunner", "simulator", "--port", "0", "--latency", "0"]
    process = subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, env=terminal.environment, cwd=terminal.folder
    )
    assert process.stderr is not None
    found = re.search(r"Base URL (\S+)", process.stderr.readline())
    assert found is not None
    done = terminal("run", terminal.write("job.jsonl", batch("a")), "--base-url", found[1])
    assert done.returncode == 0, done.stderr
    assert "canned" in done.stderr
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    assert process.returncode == 0


def test_two_files_of_one_stem_do_not_share_a_database(terminal: Terminal) -> None:
    """The second is refused with the way out."""
    terminal.run(terminal.write("job.jsonl", batch("a")))
    done = terminal.run(terminal.write("job.txt", "a\n"), "-m", "m")
    assert (done.returncode, "--db" in done.stderr) == (1, True)


def test_help_imports_nothing_heavy() -> None:
    """What makes a run is imported inside the commands, so that help comes at once."""
    code = "import sys; from batchrunner.cli import main; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"sqlalchemy", "aiohttp", "httpx", "jinja2", "alembic"} & set(done.stdout.split())


def test_the_readme_names_only_what_there_is() -> None:
    """Every command and option in a code block of the README exists, and every command is mentioned."""
    from batchrunner.cli.main import cli

    readme = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    named = re.findall(r"batchrunner ([a-z]+)((?: [^\n`|#&]*)?)", readme)
    assert named
    for command, rest in named:
        if command not in cli.commands:
            continue
        known = {
            name for parameter in cli.commands[command].params for name in (*parameter.opts, *parameter.secondary_opts)
        }
        used = set(re.findall(r"(?<![\w'-])(--[a-z][a-z-]+)", re.sub(r"'[^']*'", "", rest)))
        assert used <= known | {"--help"}, (command, used - known)
    for command, value in cli.commands.items():
        assert value.hidden or f"batchrunner {command}" in readme
        assert value.help


def test_a_process_gets_the_sockets_it_needs() -> None:
    """Some systems start a process with 256 files; what is above the hard limit is not asked for."""
    import resource

    from batchrunner.cli.perform import allow_sockets

    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, before[1]))
        allow_sockets(10)
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == 256
        allow_sockets(300)
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == 428
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
