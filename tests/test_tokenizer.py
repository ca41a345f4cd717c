"""Prompts counted by a tokenizer: a small one, trained here on the example jobs."""

import json
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import batchrunner as br
from batchrunner.check import Checker
from batchrunner.config import Endpoint, Route
from batchrunner.db.reader import Reader
from batchrunner.errors import ConfigError
from batchrunner.jobfile.options import ReadOptions
from batchrunner.jobfile.reader import open_job
from batchrunner.limits.estimate import TokenEstimate
from batchrunner.provider import Model, Provider
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
        ({"query": HELLO, "documents": [HELLO, {"text": HELLO}]}, [HELLO] * 3, NOTHING),
        ({"messages": [], "tools": [TOOL]}, [json.dumps([TOOL])], NOTHING),
        ({"prompt": "\ud83d half"}, ["? half"], NOTHING),
        ({}, [], NOTHING),
    ],
)
def test_the_text_of_the_prompt_counts_and_not_the_json_around_it(
    trained: Any, measure: Measure, body: dict[str, Any], texts: list[str], more: Size
) -> None:
    expected = Size(tokens(trained, *texts) + more.tokens, more.media)
    assert measure(json.dumps({"model": "m", **body})) == expected


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists))
def test_whatever_stands_in_a_prompt_has_a_size(measure: Measure, value: Any) -> None:
    """No body stops a run."""
    assert measure(json.dumps({"input": value, "messages": value, "tools": value})).tokens >= 0


def test_a_body_that_can_not_be_read_is_measured_by_its_bytes(measure: Measure) -> None:
    for body in ("{", '{"input": ' + "[" * 5000 + "]" * 5000 + "}"):
        assert measure(body) == by_bytes(body)


def test_a_file_that_cuts_prompts_short_counts_them_whole(trained: Any, tmp_path: Path) -> None:
    """Files of embedding models ask for 512 tokens, not one more and not one less."""
    cutting = tokenizers.Tokenizer.from_str(trained.to_str())
    cutting.enable_truncation(8)
    cutting.enable_padding(length=8)
    cutting.save(str(tmp_path / "tokenizer.json"))
    measure = measure_of(tmp_path / "tokenizer.json")
    for text in ("a", HELLO * 20):
        assert measure(json.dumps({"input": text})).tokens == tokens(trained, text)


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


def test_a_check_believes_it(measure: Measure) -> None:
    """A prompt of many bytes and few tokens is none too long."""
    provider = Provider(title="X", name="x", models={"m": Model(context=1000)})
    route = Route(name="x", endpoint=Endpoint(base_url="http://x/v1", provider=provider))
    (request, *_) = requests("glosses.jsonl")
    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": " artifact" * 900}]})
    long = Request(**{name: getattr(request, name) for name in request.__slots__} | {"body": body, "model": "m"})
    by = {}
    for kind in (by_bytes, measure):
        checker = Checker([route], kind)
        checker.see(long)
        by[kind] = [finding.what for finding in checker.findings]
    assert len(by[by_bytes]) == 1
    assert by[measure] == []


@pytest.fixture
def server(trained: Any) -> Iterator[str]:
    """Embeds, and charges what the tokenizer counts; its base URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            used = tokens(trained, asked["input"])
            data = [{"object": "embedding", "index": 0, "embedding": [0.5]}]
            usage = {"prompt_tokens": used, "total_tokens": used}
            answer = json.dumps({"object": "list", "model": "m", "data": data, "usage": usage}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        Thread(target=httpd.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{httpd.server_port}/v1"
        httpd.shutdown()


def test_a_run_reserves_and_a_plan_reckons_what_is_used(file: Path, server: str, tmp_path: Path) -> None:
    """From the first request on."""
    job = tmp_path / "embeddings.jsonl"
    job.write_bytes((JOBS / "embeddings.jsonl").read_bytes())
    planned = br.plan(job, base_url=server, tokenizer=file)
    rough = br.plan(job, base_url=server)
    br.run(job, base_url=server, tokenizer=file, learned=False)
    with Reader(tmp_path / "embeddings.db") as reader:
        sends = reader._all("SELECT cost, prompt_tokens FROM attempt ORDER BY id")
    used = sum(prompt for _, prompt in sends)
    assert [cost for cost, _ in sends] == pytest.approx([prompt for _, prompt in sends], rel=0.02)
    assert planned.prompt_tokens == pytest.approx(used, rel=0.02)
    assert rough.prompt_tokens != pytest.approx(used, rel=0.5)
