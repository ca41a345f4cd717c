"""What each shape of line becomes."""

import json
import subprocess
import sys
from hashlib import blake2b
from pathlib import Path
from typing import Any

import pytest
from jobfiles import batch_line, read, request

from batchrunner.errors import ConfigError, JobFileError
from batchrunner.jobfile.options import ReadOptions
from batchrunner.jobfile.reader import open_job
from batchrunner.jobfile.shapes import Shape
from batchrunner.task import RejectedLine, Request

MODEL = ReadOptions(model="m")
CHAT = "chat/completions"


def chat(user: str, **more: Any) -> dict[str, Any]:
    return {"model": "m", "messages": [{"role": "user", "content": user}], **more}


def test_body_of_a_batch_line_keeps_every_byte(tmp_path: Path) -> None:
    """Spaces, escapes, numbers and the order of keys are the user's."""
    text = '{ "temperature":0.10, "n" : 1e0,\t"model":"m","big":12345678901234567890123,"t":"\\u4e2d\\ud800\\/:" }'
    for line in (
        f'{{"custom_id": "a", "method": "POST", "url": "/v1/embeddings", "body": {text} }}',
        f'{{"url":"/v1/embeddings","body":{text},"custom_id":"a"}}',
    ):
        found = request(tmp_path, line.encode())
        assert found == Request(
            custom_id="a",
            endpoint="embeddings",
            body=text,
            model="m",
            row=None,
            line=1,
            offset=0,
            fingerprint=blake2b(b"embeddings\n" + text.encode(), digest_size=16).digest(),
        )


def test_huge_integer_passes_through(tmp_path: Path) -> None:
    """Five thousand digits are legal JSON, whoever wants them."""
    text = '{"model":"m","seed":' + "9" * 5000 + "}"
    assert request(tmp_path, f'{{"body":{text}}}'.encode()).body == text


@pytest.mark.parametrize(
    ("url", "endpoint"),
    [
        ("/v1/chat/completions", CHAT),
        ("/v4/chat/completions", CHAT),
        ("/chat/completions", CHAT),
        ("/v1/completions", "completions"),
        ("/v4/embeddings", "embeddings"),
        ("/rerank", "rerank"),
        ("/v1/responses", "responses"),
        ("/v1/moderations", "moderations"),
        ("/v1/images/generations", "images/generations"),
        ("/v1beta/models/x:embed", "v1beta/models/x:embed"),
        ("/tokenize", "tokenize"),
        (None, CHAT),
    ],
)
def test_url_means_an_endpoint_under_any_base(tmp_path: Path, url: str | None, endpoint: str) -> None:
    """One file runs at OpenAI, BigModel and vLLM."""
    assert request(tmp_path, batch_line(url=url)).endpoint == endpoint


def test_missing_id_is_made_from_the_line_number(tmp_path: Path) -> None:
    """Six digits: long enough for every provider."""
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"\n".join([batch_line(), b"", batch_line(custom_id=None)]))
    assert [item.custom_id for item in read(path) if isinstance(item, Request)] == ["a-1", "row-000003"]


@pytest.mark.parametrize("custom_id", ["文" * 170, "../../etc/passwd", "a b", "a\u00a0b", 'A\\"b', "👩‍👩‍👧"])
def test_odd_but_harmless_id_is_kept_exactly(tmp_path: Path, custom_id: str) -> None:
    """It is never used as a path."""
    assert request(tmp_path, batch_line(custom_id=custom_id)).custom_id == custom_id


def test_other_keys_of_a_batch_line_are_carried_as_the_row(tmp_path: Path) -> None:
    """So gold labels reach the output, byte for byte."""
    line = batch_line()[:-1] + b', "metadata": { "label":1.0 }, "\\ud800":"\\u00e9"}'
    assert request(tmp_path, line).row == '{"metadata":{ "label":1.0 },"\\ud800":"\\u00e9"}'


@pytest.mark.parametrize(
    ("body", "options", "expected"),
    [
        ('{"a": 1.0}', MODEL, '{"model":"m","a": 1.0}'),
        ("{ }", MODEL, '{"model":"m" }'),
        ('{"model": "m","a": 1.0}', MODEL, '{"model": "m","a": 1.0}'),
        ('{"a": 1.0, "model": "x","b": [ ]}', MODEL, '{"a":1.0,"model":"m","b":[ ]}'),
        (
            '{"model":"m","a":"\\ud800"}',
            ReadOptions(params=(("a", True), ("é", {"x": [None]}))),
            '{"model":"m","a":true,"é":{"x":[null]}}',
        ),
        ('{"model":"x","a":"\\ud800"}', MODEL, '{"model":"m","a":"\\ud800"}'),
        ('{"x": 1}', ReadOptions(model="a", params=(("model", "b"),)), '{"model":"b","x": 1}'),
    ],
)
def test_only_the_options_that_are_given_are_merged_into_a_body(
    tmp_path: Path, body: str, options: ReadOptions, expected: str
) -> None:
    """All other values keep their bytes and their order; an option that changes nothing changes no byte."""
    for line in (f'{{"body": {body}}}', f'{{"custom_id":"a","method":"POST","url":"/v1/responses","body":{body}}}'):
        found = request(tmp_path, line.encode(), options)
        assert found.body == expected
        assert found.model == json.loads(expected)["model"]


@pytest.mark.parametrize(
    ("line", "endpoint", "custom_id", "body"),
    [
        ('{"messages": [], "model":"m"}', CHAT, "row-000001", '{"messages": [], "model":"m"}'),
        ('{"id":"x","model":"m", "messages":[ ]}', CHAT, "x", '{"model":"m","messages":[ ]}'),
        (
            '{"id":"x","custom_id":"y","model":"m","messages":[]}',
            CHAT,
            "y",
            '{"id":"x","model":"m","messages":[]}',
        ),
        ('{"input":"a","model":"m","metadata":{}}', "embeddings", "row-000001", None),
        ('{"input":["a",[1]],"model":"m"}', "embeddings", "row-000001", None),
        ('{"input":[{"role":"user"}],"model":"m"}', "responses", "row-000001", None),
        ('{"input":"a","model":"m","instructions":"b"}', "responses", "row-000001", None),
    ],
)
def test_bare_body_is_sent_as_it_is_but_for_its_id(
    tmp_path: Path, line: str, endpoint: str, custom_id: str, body: str | None
) -> None:
    """``messages`` and ``input`` tell the endpoint."""
    found = request(tmp_path, line.encode())
    assert (found.endpoint, found.custom_id, found.body, found.row) == (endpoint, custom_id, body or line, None)


def test_prompt_line_becomes_a_chat(tmp_path: Path) -> None:
    """Its own keys go where they belong, the others along as the row, escapes kept."""
    line = (
        '{"id":7,"prompt":"\\ud800 \\u4e2d","system":"be brief","model":"m","max_tokens": 8,"temperature":0.10,'
        '"top_p":1.0,"label":"a"}'
    )
    found = request(tmp_path, line.encode())
    assert found.body == (
        '{"model":"m","messages":[{"role":"system","content":"be brief"},{"role":"user","content":"\\ud800 \\u4e2d"}],'
        '"max_tokens":8,"temperature":0.10,"top_p":1.0}'
    )
    assert (found.custom_id, found.endpoint, found.row, found.model) == ("7", CHAT, '{"label":"a"}', "m")


def test_options_win_over_a_prompt_line_but_for_its_system_message(tmp_path: Path) -> None:
    """What is given now is meant now; ``--system`` is for the lines that bring none."""
    options = ReadOptions(model="m", system="about {{ topic }}", params=(("temperature", 0),))
    own = request(tmp_path, b'{"prompt":"a","model":"x","temperature":1,"system":"own","topic":"t"}', options)
    none = request(tmp_path, b'{"prompt":"a","topic":"t"}', options)
    system = {"role": "system", "content": "own"}
    user = {"role": "user", "content": "a"}
    assert json.loads(own.body) == {"model": "m", "messages": [system, user], "temperature": 0}
    assert json.loads(none.body)["messages"] == [{"role": "system", "content": "about t"}, user]


def test_text_lines_are_prompts(tmp_path: Path) -> None:
    """Numbered by line; the text is also the row's only column."""
    path = tmp_path / "a.txt"
    path.write_bytes(b'one\n\n  "two"\r\n')
    found = [item for item in read(path, MODEL) if isinstance(item, Request)]
    assert [json.loads(item.body) for item in found] == [chat("one"), chat('  "two"')]
    assert [item.custom_id for item in found] == ["row-000001", "row-000003"]
    assert [json.loads(item.row or "") for item in found] == [{"text": "one"}, {"text": '  "two"'}]


def test_text_lines_can_fill_a_template(tmp_path: Path) -> None:
    """As the column ``text``."""
    found = request(tmp_path, b"cat", ReadOptions(model="m", prompt="Say {{ text }}!", system="S"), name="a.txt")
    system = {"role": "system", "content": "S"}
    assert json.loads(found.body)["messages"] == [system, {"role": "user", "content": "Say cat!"}]


def test_objects_with_a_template_are_rows_whatever_they_hold(tmp_path: Path) -> None:
    """All columns are carried, as they stand; names that are no identifiers are reached by ``row``."""
    line = '{"id": 7, "prompt": "x", "unit price": 1.50, "t": "\\ud800"}'
    options = ReadOptions(model="m", prompt="{{ prompt }} {{ row['unit price'] }} {{ t }}")
    found = request(tmp_path, line.encode(), options)
    assert json.loads(found.body) == chat("x 1.5 \ud800")
    assert (found.custom_id, found.row) == ("7", line)


def test_template_file_is_read_and_its_last_newline_dropped(tmp_path: Path) -> None:
    """The rest of its white space stays."""
    template = tmp_path / "a.j2"
    template.write_text("\n{{ a }}\n \n", encoding="utf-8")
    options = ReadOptions(model="m", template=str(template))
    assert json.loads(request(tmp_path, '{"a":"<&\\"中"}'.encode(), options).body) == chat('\n<&"中\n ')


SHAPES = [
    (b'{"body":{}}', ReadOptions(), Shape.BATCH, "OpenAI batch lines"),
    (b'{"messages":[]}', ReadOptions(), Shape.BODY, "request bodies"),
    (b'{"input":"a","model":"m"}', ReadOptions(), Shape.BODY, "request bodies"),
    (b'{"prompt":"a"}', ReadOptions(), Shape.PROMPT, "prompt lines"),
    (b'broken\n{"prompt":"a"}', ReadOptions(), Shape.PROMPT, "prompt lines"),
    (b'{"id":1,"b":2}', ReadOptions(prompt="p", model="m"), Shape.ROWS, 'JSON rows, columns: id, b; ids from "id"'),
    (b"plain", ReadOptions(input_format="lines", model="m"), Shape.LINES, "lines of text"),
    (b"a,b\n1,2", ReadOptions(input_format="rows", prompt="p", model="m"), Shape.ROWS, "CSV rows, columns: a, b; ids"),
    (b"a\tb\n1\t2", ReadOptions(input_format="rows", prompt="p", model="m"), Shape.ROWS, "TSV rows, columns: a, b"),
]


@pytest.mark.parametrize(("data", "options", "shape", "words"), SHAPES)
def test_shape_is_recognised_and_can_be_said_in_words(
    tmp_path: Path, data: bytes, options: ReadOptions, shape: Shape, words: str
) -> None:
    """By what the first object holds, or by what the user says."""
    path = tmp_path / "data"
    path.write_bytes(data)
    with open_job(str(path), options) as reader:
        assert reader.shape is shape
        assert reader.describe().startswith(words)


NO_SHAPE = [
    ("a.jsonl", b'[{"a":1}]', "it is a JSON array, one object a line is needed; convert it: jq -c '.[]' "),
    ("a.jsonl", b"{\n}", "no JSON object in its first lines: not JSON: Expecting property name"),
    ("a.jsonl", b'{"id":1,"text":"a"}', "no prompt in it; columns are id, text. Try --prompt '… {{ text }}'"),
    ("a.csv", b"id,review\n1,a", "no prompt in it; columns are id, review. Try --prompt '… {{ review }}'"),
    ("a.csv", b"\n\n", "the file is empty"),
    ("a.csv", b"a,a\n", "two columns are called 'a'; rename one"),
    ("a.csv", b'"a,b\n', "the header can't be read: a quoted cell is never closed; add the missing quote"),
    ("a.csv", b"a\rb\rc", "the header can't be read: a bare carriage return ends a line; save the file with"),
]


@pytest.mark.parametrize(("name", "data", "expected"), NO_SHAPE)
def test_file_without_requests_is_refused_as_a_whole(tmp_path: Path, name: str, data: bytes, expected: str) -> None:
    """With a suggestion."""
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(JobFileError) as caught:
        read(path)
    assert caught.value.reason.startswith(expected)


BAD_OPTIONS: list[tuple[bytes, dict[str, Any], str]] = [
    (batch_line(), {"system": "s"}, "--system does not go with OpenAI batch lines"),
    (batch_line(), {"prompt": "p", "input_format": "batch"}, "--prompt/--template do not go with OpenAI batch lines"),
    (batch_line(), {"id_column": "a"}, "--id-column does not go with OpenAI batch lines"),
    (batch_line(), {"input_format": "xml"}, "--input-format xml: choose one of auto, batch, body, prompt, rows, lines"),
    (batch_line(), {"prompt": "a", "template": "b"}, "--prompt and --template both give the prompt"),
    (batch_line(), {"model": " "}, "-m/--model is empty; name a model"),
    (batch_line(), {"params": (("messages", []),)}, "--param messages: messages come from the job file"),
    (batch_line(), {"params": (("a", float("nan")),)}, "--param: not a JSON value"),
    (batch_line(), {"params": (("a", {1}),)}, "--param: not a JSON value"),
    (b'{"a":1}', {"prompt": "{{ a", "model": "m"}, "--prompt: line 1: "),
    (b'{"a":1}', {"prompt": "{{ a | nosuch }}", "model": "m"}, "--prompt: line 1: No filter named 'nosuch'"),
    (b'{"a":1}', {"prompt": "{% include 'x' %}{{", "model": "m"}, "--prompt: line 1: "),
    (b'{"a":1}', {"prompt": "a", "system": "{% if %}", "model": "m"}, "--system: line 1: "),
    (b'{"a":1}', {"template": "/nowhere.j2", "model": "m"}, "/nowhere.j2: the template can't be read: No such file"),
    (b'{"a":1}', {"prompt": "a"}, "no model: these lines name none, so give -m/--model"),
    (b"a", {"input_format": "lines"}, "no model: these lines name none, so give -m/--model"),
]


@pytest.mark.parametrize(("data", "options", "expected"), BAD_OPTIONS)
def test_options_that_cannot_be_meant_are_refused_before_anything(
    tmp_path: Path, data: bytes, options: dict[str, Any], expected: str
) -> None:
    """A mistake in a template is not a million bad lines."""
    path = tmp_path / "a.jsonl"
    path.write_bytes(data)
    with pytest.raises(ConfigError) as caught:
        read(path, ReadOptions(**options))
    assert str(caught.value).startswith(expected), caught.value


def test_template_reaches_no_file_and_no_chance(tmp_path: Path) -> None:
    """No loader, no ``random``, no ``lipsum``: the same row gives the same request for ever."""
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"a":"x"}')
    (item,) = read(path, ReadOptions(prompt="{% include '/etc/passwd' %}", model="m"))
    assert isinstance(item, RejectedLine)
    assert item.reason.startswith("template: ")
    with pytest.raises(ConfigError, match="No filter named 'random'"):
        read(path, ReadOptions(prompt="{{ a | random }}", model="m"))


def test_plain_job_does_not_load_the_template_engine(tmp_path: Path) -> None:
    """It takes longer to load than all the rest."""
    path = tmp_path / "a.jsonl"
    path.write_bytes(batch_line())
    program = (
        "import sys\n"
        "from batchrunner.jobfile.options import ReadOptions\n"
        "from batchrunner.jobfile.reader import open_job\n"
        "assert len(list(open_job(sys.argv[1], ReadOptions()))) == 1\n"
        "assert 'jinja2' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program, str(path)], check=True)


def test_digest_tells_whether_options_read_alike(tmp_path: Path) -> None:
    """A template counts by its text, not by its path."""
    template = tmp_path / "a.j2"
    template.write_text("{{ a }}", encoding="utf-8")
    prompt = ReadOptions(prompt="{{ a }}", model="m")
    assert ReadOptions(template=str(template), model="m").digest() == prompt.digest()
    template.write_text("{{ b }}", encoding="utf-8")
    others = [
        ReadOptions(template=str(template), model="m"),
        ReadOptions(prompt="{{ a }}", model="n"),
        ReadOptions(prompt="{{ a }}", model="m", system=""),
        ReadOptions(prompt="{{ a }}", model="m", id_column="a"),
        ReadOptions(prompt="{{ a }}", model="m", input_format="rows"),
        ReadOptions(prompt="{{ a }}", model="m", params=(("a", 1),)),
    ]
    assert len({prompt.digest(), *(other.digest() for other in others)}) == len(others) + 1
