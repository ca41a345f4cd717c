"""Prompts counted by a tokenizer: a small one, trained here on the example jobs."""

import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock, Thread
from time import monotonic
from typing import Any, Self

import pytest
from hypothesis import given
from hypothesis import strategies as st
from terminal import Terminal, batch

import batchrunner as br
from batchrunner.check import Checker, Level
from batchrunner.config import Endpoint, Route
from batchrunner.db.reader import Reader
from batchrunner.errors import ConfigError
from batchrunner.jobfile.options import ReadOptions
from batchrunner.jobfile.reader import open_job
from batchrunner.limits.estimate import TokenEstimate
from batchrunner.provider import Model, Provider
from batchrunner.simulator.config import Rules
from batchrunner.simulator.dialects import DIALECTS
from batchrunner.simulator.gate import Admission, Gate
from batchrunner.simulator.rules import Refusal
from batchrunner.size import NOTHING, Measure, Size, by_bytes
from batchrunner.task import Request
from batchrunner.tokenizer import measure_of

tokenizers = pytest.importorskip("tokenizers", reason="the tokenizers package is not installed")

JOBS = Path(__file__).parents[1] / "jobs"
JOB_FILES = ("glosses.jsonl", "reviews-zh.jsonl", "embeddings.jsonl")


def requests(name: str) -> list[Request]:
    with open_job(str(JOBS / name), ReadOptions()) as reader:
        return [item for item in reader if isinstance(item, Request)]


def prompts(request: Request) -> list[str]:
    """What a server of such a request would feed to its model."""
    body = json.loads(request.body)
    return [body["input"]] if "input" in body else [message["content"] for message in body["messages"]]


@pytest.fixture(scope="module")
def trained() -> Any:
    texts = [text for name in JOB_FILES for request in requests(name) for text in prompts(request)]
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    trainer = tokenizers.trainers.BpeTrainer(vocab_size=3000, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


@pytest.fixture(scope="module")
def file(trained: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "tokenizer.json"
    trained.save(str(path))
    return path


@pytest.fixture(scope="module")
def measure(file: Path) -> Measure:
    return measure_of(file)


def tokens(trained: Any, *texts: str) -> int:
    return sum(len(trained.encode(text)) for text in texts)


def test_without_a_file_it_is_bytes() -> None:
    assert measure_of(None) is by_bytes


@pytest.mark.parametrize("name", JOB_FILES)
def test_a_prompt_is_known_before_anything_is_learned(trained: Any, measure: Measure, name: str) -> None:
    """To the token, by the server's own tokenizer; by bytes hardly one of them is within 2 %."""
    near = 0
    for request in requests(name):
        used = tokens(trained, *prompts(request))
        assert TokenEstimate().prompt(measure(request.body)) == pytest.approx(used, rel=0.02)
        near += TokenEstimate().prompt(by_bytes(request.body)) == pytest.approx(used, rel=0.02)
    assert near < 0.1 * len(requests(name))


def test_what_the_server_adds_is_learned(trained: Any, measure: Measure) -> None:
    """A chat template of some tokens for each message, and one more in ten for the tokenizer of another model."""
    estimate = TokenEstimate()
    *earlier, last = requests("glosses.jsonl")
    for request in earlier:
        used = 1.1 * tokens(trained, *prompts(request)) + 12
        estimate.learn(measure(request.body), round(used), 1)
    used = 1.1 * tokens(trained, *prompts(last)) + 12
    assert estimate.prompt(measure(last.body)) == pytest.approx(used, rel=0.02)


HELLO = "Hello world, 你好"
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "iVBORw0K" * 1000}}
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
CALL = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": HELLO}}


@pytest.mark.parametrize(
    ("body", "texts", "more"),
    [
        ({"messages": [{"role": "user", "content": HELLO}]}, [HELLO], NOTHING),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": HELLO}, IMAGE]}]}, [HELLO], Size(0, 1)),
        ({"messages": [{"role": "assistant", "content": None, "tool_calls": [CALL]}]}, ["weather", HELLO], NOTHING),
        ({"system": HELLO, "messages": [], "metadata": {"note": HELLO}, "user": HELLO}, [HELLO], NOTHING),
        ({"prompt": [HELLO, HELLO]}, [HELLO, HELLO], NOTHING),
        ({"input": [HELLO, [1, 2, 3]]}, [HELLO], Size(3)),
        ({"instructions": HELLO, "input": [{"role": "user", "content": HELLO}]}, [HELLO, HELLO], NOTHING),
        ({"prompt": HELLO, "suffix": HELLO}, [HELLO, HELLO], NOTHING),
        ({"query": HELLO, "documents": [HELLO, {"text": HELLO}]}, [HELLO] * 3, NOTHING),
        ({"messages": [], "tools": [TOOL]}, [json.dumps([TOOL])], NOTHING),
        ({"prompt": "\ud83d half"}, ["? half"], NOTHING),
        ({"messages": []}, [], NOTHING),
    ],
)
def test_the_text_of_the_prompt_counts_and_not_the_json_around_it(
    trained: Any, measure: Measure, body: dict[str, Any], texts: list[str], more: Size
) -> None:
    expected = Size(tokens(trained, *texts) + more.tokens, more.media, counted=True)
    assert measure(json.dumps({"model": "m", **body})) == expected


names = st.sampled_from(["messages", "input", "tools", "role", "content", "text", "type"]) | st.text(max_size=5)
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=8,
)


@given(anything | st.fixed_dictionaries({"messages": anything, "input": anything, "tools": anything}))
def test_whatever_a_body_holds_it_has_a_size(measure: Measure, body: Any) -> None:
    """No body stops a run."""
    assert measure(json.dumps(body)).tokens >= 0


@pytest.mark.parametrize(
    "body", ["", "{", "[1]", '{"input": ' + "[" * 5000 + "]" * 5000 + "}", '{"texts": ["of an API of its own"]}']
)
def test_where_no_prompt_is_found_bytes_are_the_measure(measure: Measure, body: str) -> None:
    assert measure(body) == by_bytes(body)


def test_a_word_that_stops_the_tokenizer_does_not_stop_the_run(tmp_path: Path) -> None:
    """Without a token for what it does not know, the package raises."""
    known = {word: number for number, word in enumerate(["Hello", "你好", "\U0001f642", "\ue000"])}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(known, unk_token="?"))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    measure = measure_of(tmp_path / "tokenizer.json")
    assert measure('{"input": "Hello 你好"}') == Size(2, counted=True)
    assert measure('{"input": "world"}') == by_bytes('{"input": "world"}')


def test_prompts_of_no_tokens_are_learned_too() -> None:
    """What they take is the template's."""
    estimate = TokenEstimate()
    for _ in range(20):
        estimate.learn(Size(0, counted=True), 9, 1)
    assert estimate.prompt(Size(0, counted=True)) == pytest.approx(9)
    assert estimate.prompt(Size(100, counted=True)) == pytest.approx(109)


def test_a_long_prompt_after_short_ones_is_not_taken_for_many_times_as_long() -> None:
    """A dozen tokens of template around words of three is no factor of five: it would fail unsent, as too large."""
    estimate = TokenEstimate()
    for _ in range(20):
        estimate.learn(Size(3, counted=True), 15, 1)
    assert estimate.prompt(Size(3, counted=True)) == pytest.approx(15)
    assert estimate.prompt(Size(500, counted=True)) == pytest.approx(512)


def test_a_file_that_cuts_prompts_short_counts_them_whole(trained: Any, tmp_path: Path) -> None:
    """Files of embedding models ask for 512 tokens, not one more and not one less."""
    cutting = tokenizers.Tokenizer.from_str(trained.to_str())
    cutting.enable_truncation(8)
    cutting.enable_padding(length=8)
    cutting.save(str(tmp_path / "tokenizer.json"))
    measure = measure_of(tmp_path / "tokenizer.json")
    for text in ("a", HELLO * 20):
        assert measure(json.dumps({"input": text})).tokens == tokens(trained, text)


def test_what_a_file_puts_around_every_text_is_not_counted(trained: Any, tmp_path: Path) -> None:
    """Where a prompt begins, a server says once; each of its texts would have said it."""
    beginning = tokenizers.Tokenizer.from_str(trained.to_str())
    beginning.add_special_tokens(["<s>"])
    token = [("<s>", beginning.token_to_id("<s>"))]
    beginning.post_processor = tokenizers.processors.TemplateProcessing(single="<s> $A", special_tokens=token)
    assert len(beginning.encode(HELLO)) == tokens(trained, HELLO) + 1
    beginning.save(str(tmp_path / "tokenizer.json"))
    assert measure_of(tmp_path / "tokenizer.json")(json.dumps({"input": HELLO})).tokens == tokens(trained, HELLO)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"none\.json: can't be read \(No such file"),
        (b"", r"is no tokenizer .*; it should be the tokenizer\.json of the model's repository"),
        (b'{"model_type": "glm4"}', "is no tokenizer"),
        (b"\x0a\x0eSentencePiece\xff", "is no tokenizer"),
        # words it does not know stop it
        (b'{"version": "1.0", "model": {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "?"}}', "is no tokenizer"),
    ],
)
def test_what_is_no_tokenizer_is_told(content: bytes | None, message: str, tmp_path: Path) -> None:
    path = tmp_path / "none.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        measure_of(path)


def test_without_the_package_it_says_what_to_install(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(ConfigError, match=r"pip install 'batchrunner\[tokenizer\]'"):
        measure_of(file)


@pytest.mark.parametrize(("words", "level"), [(900, None), (1100, Level.ERROR)])
def test_a_check_believes_it(measure: Measure, words: int, level: Level | None) -> None:
    """A prompt of many bytes and few tokens is none too long; a token over the context is, and is no guess."""
    provider = Provider(title="X", name="x", models={"m": Model(context=1000)})
    route = Route(name="x", endpoint=Endpoint(base_url="http://x/v1", provider=provider))
    (request, *_) = requests("glosses.jsonl")
    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": " artifact" * words}]})
    checker = Checker([route], measure)
    checker.see(replace(request, body=body, model="m"))
    assert [finding.level for finding in checker.findings] == ([] if level is None else [level])


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    with br.Simulator() as simulator:
        made = Terminal(tmp_path, simulator)
        made.write("job.jsonl", batch("a", "b"))
        yield made


@pytest.mark.parametrize("place", ["option", "variable", "file"])
def test_a_plan_says_that_prompts_were_counted(file: Path, terminal: Terminal, place: str) -> None:
    """Wherever it is told of the tokenizer."""
    words = ("--tokenizer", str(file)) if place == "option" else ()
    environ = {"BATCHRUNNER_TOKENIZER": str(file)} if place == "variable" else {}
    if place == "file":
        terminal.write("batchrunner.toml", f"tokenizer = {json.dumps(str(file))}")
    planned = terminal.here("plan", "job.jsonl", "-p", "zhipu", *words, **environ)
    assert " in (counted), " in planned.stdout, planned.stderr


def test_a_job_can_be_rid_of_its_tokenizer(file: Path, terminal: Terminal) -> None:
    """It is remembered, as other options are; and a file that is gone is told, with what to do."""
    gone = terminal.folder / "gone.json"
    gone.write_bytes(file.read_bytes())
    assert terminal.run("job.jsonl", "--limit", "1", "--tokenizer", str(gone)).returncode == 0
    gone.unlink()
    told = terminal.run("job.jsonl")
    assert told.returncode == br.ExitCode.CANNOT_START
    assert "gone.json: can't be read (No such file or directory); --tokenizer '' does without" in told.stderr
    assert terminal.run("job.jsonl", "--limit", "1", "--tokenizer", "").returncode == 0
    assert terminal.run("job.jsonl").returncode == 0


class Listener(ThreadingHTTPServer):
    request_queue_size = 200  # else connections of a burst wait for a second


class Server:
    """Embeds, and charges what the tokenizer counts, within *rules*."""

    def __init__(self, trained: Any, rules: Rules) -> None:
        self.refused = self.answered = 0
        lock, dialect = Lock(), DIALECTS["openai"]
        gate = Gate(rules, now=monotonic())
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                used = tokens(trained, asked["input"])
                with lock:
                    admitted = gate.admit(used, monotonic())
                    levels = gate.levels(monotonic())
                    server.refused += isinstance(admitted, Refusal)
                    server.answered += isinstance(admitted, Admission)
                headers = dialect.headers(levels)
                if isinstance(admitted, Refusal):
                    more, body = dialect.refuse(admitted, levels)
                    self.reply(dialect.refused_as(admitted).status, headers | more, body)
                else:
                    data = [{"object": "embedding", "index": 0, "embedding": [0.5]}]
                    usage = {"prompt_tokens": used, "total_tokens": used}
                    answer = {"object": "list", "model": "m", "data": data, "usage": usage}
                    self.reply(200, headers, json.dumps(answer).encode())

            def reply(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self._httpd = Listener(("127.0.0.1", 0), Handler)
        self.base_url = f"http://127.0.0.1:{self._httpd.server_port}/v1"

    def __enter__(self) -> Self:
        Thread(target=self._httpd.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._httpd.shutdown()
        self._httpd.server_close()


def test_a_run_reserves_and_a_plan_reckons_what_is_used(trained: Any, file: Path, tmp_path: Path) -> None:
    """From the first request on."""
    job = tmp_path / "embeddings.jsonl"
    job.write_bytes((JOBS / "embeddings.jsonl").read_bytes())
    with Server(trained, Rules()) as server:
        planned = br.plan(job, base_url=server.base_url, tokenizer=file)
        rough = br.plan(job, base_url=server.base_url)
        br.run(job, base_url=server.base_url, tokenizer=file, learned=False)
    with Reader(tmp_path / "embeddings.db") as reader:
        sends = reader._all("SELECT cost, prompt_tokens FROM attempt ORDER BY id")
    used = sum(prompt for _, prompt in sends)
    assert [cost for cost, _ in sends] == pytest.approx([prompt for _, prompt in sends], rel=0.02)
    assert planned.prompt_tokens == pytest.approx(used, rel=0.02)
    assert rough.prompt_tokens != pytest.approx(used, rel=0.5)


def test_a_run_keeps_within_a_limit_of_tokens(trained: Any, file: Path, tmp_path: Path) -> None:
    """One that is counted by the same tokenizer: prompts of very different lengths, and none is refused."""
    texts = [HELLO * (1 + 7 * n % 60) for n in range(120)]
    job = tmp_path / "job.jsonl"
    lines = [{"url": "/v1/embeddings", "body": {"model": "m", "input": text}} for text in texts]
    job.write_text("".join(json.dumps(line) + "\n" for line in lines))
    rules = Rules(tpm=tokens(trained, *texts) // 3, window=1.0)
    with Server(trained, rules) as server:
        br.run(job, base_url=server.base_url, tokenizer=file, learned=False)
    assert (server.answered, server.refused) == (120, 0)
