"""Lines that are refused: each reason says what is wrong and what to do."""

import json
from itertools import count
from pathlib import Path

import pytest
from jobfiles import BODY, batch_line, read, read_one, reason

from batchrunner.errors import ConfigError
from batchrunner.jobfile.options import ReadOptions
from batchrunner.task import RejectedLine

BATCH = ReadOptions(input_format="batch")
URLS = "use /v1/ and one of chat/completions, completions, embeddings, rerank, responses, moderations"
KEY = "a key does not belong in a job file, it would be stored; give it by environment or key file"
NO_MODEL = "no model: give -m/--model or a model in the body"


def body(text: str) -> bytes:
    """A batch line around a body's text."""
    return b'{"body":' + text.encode("utf-8", "surrogatepass") + b"}"


JSON_REASONS = {
    b'{"body":': "not JSON: Expecting value (column 9)",
    b'{"body":{"model":"m"}} x': "not JSON: Extra data (column 24)",
    b'{"body":{"model":"m",}}': "not JSON: Expecting property name enclosed in double quotes (column 22)",
    b"[1]": "a JSON object is needed here, one on each line",
    b'"text"': "a JSON object is needed here, one on each line",
    b"plain text": "not JSON: Expecting value (column 1)",
    b'{"body":{"model":"\xff"}}': "not UTF-8 at byte 19 of the line; save the file as UTF-8",
    b'{"body":{"model":"\xed\xa0\x80"}}': "not UTF-8 at byte 19 of the line; save the file as UTF-8",
    b'{"body":{"model":"a\0b"}}': "not JSON: Invalid control character (column 20)",
    b'{"body":{"model":"a\x1bb"}}': "not JSON: Invalid control character (column 20)",
    body('{"model":"m","temperature":NaN}'): "NaN is not JSON; use null or a number",
    body('{"model":"m","temperature":-Infinity}'): "-Infinity is not JSON; use null or a number",
    body('{"model":"m","temperature":1e999}'): "the number 1e999 is too large",
    body('{"model":"m","x":' + "[" * 99 + "]" * 99 + "}"): "nested deeper than 100 levels",
    body('{"model":"m","x":' + '{"a":' * 99 + "1" + "}" * 99 + "}"): "nested deeper than 100 levels",
    body('{"model":"m","x":' + "[" * 100_000): "nested deeper than 100 levels",
    b'{"body":{"model":"a"},"body":{"model":"b"}}': 'the key "body" is there twice; keep one',
    b'{"body":{"model":"a"},"\\u0062ody":{"model":"b"}}': 'the key "body" is there twice; keep one',
    body('{"model":"a","model":"a"}'): 'the key "model" is there twice; keep one',
    body('{"model":"a","model" : "b"}'): 'the key "model" is there twice; keep one',
    # a colon written as an escape must not make up for the one that went with the first key
    body('{"model":"a","model":"b","x":"\\u003a"}'): 'the key "model" is there twice; keep one',
    body('{"model":"a","model":"b","x":"\\u003A"}'): 'the key "model" is there twice; keep one',
    body('{"model":"m","messages":[{"role":"user","role":"system"}]}'): 'the key "role" is there twice; keep one',
}


@pytest.mark.parametrize("line", JSON_REASONS, ids=count())
def test_line_that_is_not_one_clean_json_object_is_rejected(tmp_path: Path, line: bytes) -> None:
    """With the reason in words."""
    assert reason(tmp_path, line, BATCH) == JSON_REASONS[line]


@pytest.mark.parametrize("line", JSON_REASONS, ids=count())
def test_usual_form_of_a_line_does_not_let_a_bad_body_pass(tmp_path: Path, line: bytes) -> None:
    """The same bodies behind the keys that most lines begin with."""
    if line.startswith(b'{"body":'):
        usual = line.replace(b"{", b'{"custom_id":"a","method":"POST","url":"/v1/chat/completions",', 1)
        assert (
            reason(tmp_path, usual, BATCH).split(" (column")[0].split(" at byte")[0]
            == (JSON_REASONS[line].split(" (column")[0].split(" at byte")[0])
        )


BATCH_REASONS = {
    batch_line(body=None): '"body" is missing',
    batch_line(body=[]): '"body" must be an object, in braces',
    batch_line(body="{}"): '"body" must be an object, in braces',
    b'{"body":null}': '"body" must be an object, in braces',
    batch_line(method="GET"): '"method" must be "POST"',
    batch_line(method=1): '"method" must be "POST"',
    batch_line(url=7): '"url" must be a string, in quotes',
    batch_line(custom_id=7): '"custom_id" must be a string, in quotes',
    b'{"custom_id":null,"body":{"model":"m"}}': '"custom_id" must be a string, in quotes',
    batch_line(custom_id=""): '"custom_id" is empty; leave it out to have one made',
    batch_line(custom_id="x" * 513): '"custom_id" is longer than 512 bytes; shorten it',
    batch_line(custom_id="文" * 171): '"custom_id" is longer than 512 bytes; shorten it',
    batch_line(
        custom_id="a\nb"
    ): '"custom_id" has a control character or half a character in it; use letters and digits',
    batch_line(
        custom_id="\x1b[2J"
    ): '"custom_id" has a control character or half a character in it; use letters and digits',
    batch_line(
        custom_id="\ud800"
    ): '"custom_id" has a control character or half a character in it; use letters and digits',
    batch_line(body={}): NO_MODEL,
    batch_line(body={"model": None}): NO_MODEL,
    batch_line(body={"model": 4}): '"model" must be a string, in quotes',
    batch_line(body={"model": " "}): '"model" is empty or unprintable; name a model',
    batch_line(body={"model": "\ud800"}): '"model" is empty or unprintable; name a model',
    batch_line(headers={}): '"headers": a line can\'t set headers; take it out',
    batch_line(extra_headers={}): '"extra_headers": a line can\'t set headers; take it out',
    batch_line(
        base_url="http://evil.example"
    ): '"base_url": a line can\'t choose where the key is sent; use --base-url',
    batch_line(
        api_base="http://evil.example"
    ): '"api_base": a line can\'t choose where the key is sent; use --base-url',
    batch_line(api_key="sk-1"): f'"api_key": {KEY}',
    batch_line(Authorization="Bearer 1"): f'"Authorization": {KEY}',
}


@pytest.mark.parametrize("line", BATCH_REASONS, ids=count())
def test_batch_line_with_something_wrong_is_rejected(tmp_path: Path, line: bytes) -> None:
    """With the reason in words."""
    assert reason(tmp_path, line, BATCH) == BATCH_REASONS[line]


@pytest.mark.parametrize(
    "url",
    [
        "http://evil.example/v1/chat/completions",
        "//evil.example/v1/chat/completions",
        "\\\\evil\\v1\\chat/completions",
        "/v1/../chat/completions",
        "/v1/chat/completions?key=1",
        "/v1/chat/completions#a",
        "/v1/chat/completions/",
        "/v1/v1/chat/completions",
        "/v1/files",
        "/v1/chat/./completions",
        "/v1//chat",
        "/v1/..",
        "/v1/%2e%2e/chat",
        "/",
        "/v１/chat/completions",
        "v1/chat/completions",
        "@evil.example/v1/chat/completions",
        "/v1/chat/completions\n",
        "",
    ],
)
def test_url_that_is_no_known_path_is_rejected(tmp_path: Path, url: str) -> None:
    """A line can't choose where it is sent."""
    quoted = json.dumps(url, ensure_ascii=False)
    assert reason(tmp_path, batch_line(url=url)) == f'"url" {quoted} is not a path we send to; {URLS}'


OTHER_REASONS: list[tuple[str, str, ReadOptions, str]] = [
    ("body", '{"model":"m"}', ReadOptions(), 'neither "messages" nor "input" is in it, so it is no request body'),
    ("body", '{"messages":[]}', ReadOptions(), NO_MODEL),
    ("body", '{"messages":[],"model":"m","id":7}', ReadOptions(), '"id" must be a string, in quotes'),
    ("body", '{"messages":[],"model":"m","api_key":"x"}', ReadOptions(), f'"api_key": {KEY}'),
    ("prompt", '{"text":"a"}', ReadOptions(), '"prompt" is missing'),
    ("prompt", '{"prompt":["a"]}', ReadOptions(), '"prompt" must be a string with text in it'),
    ("prompt", '{"prompt":" "}', ReadOptions(), '"prompt" must be a string with text in it'),
    ("prompt", '{"prompt":"a"}', ReadOptions(), NO_MODEL),
    ("prompt", '{"prompt":"a","model":"m","system":1}', ReadOptions(), '"system" must be a string, in quotes'),
    ("prompt", '{"prompt":"a","model":"m","custom_id":7}', ReadOptions(), '"custom_id" must be a string, in quotes'),
    ("prompt", '{"prompt":"a","base_url":"x"}', ReadOptions(), '"base_url": a line can\'t choose'),
    ("rows", '{"a":"b"}', ReadOptions(prompt="{{ text }}", model="m"), "template: 'text' is undefined; columns are a"),
    ("rows", '{"a":" "}', ReadOptions(prompt="{{ a }}", model="m"), "the prompt came out empty; look at the columns"),
    ("rows", '{"a":1}', ReadOptions(prompt="{{ 1 // 0 }}", model="m"), "template: ZeroDivisionError: "),
    ("rows", '{"a":1}', ReadOptions(prompt="{{ 'a' * 10**12 }}", model="m"), "template: ** works on numbers only"),
    ("rows", '{"a":1}', ReadOptions(prompt="{{ ['a'] * 9 }}", model="m"), "template: * works on numbers only"),
    ("rows", '{"a":1}', ReadOptions(prompt="{{ a.__class__.__mro__ }}", model="m"), "template: "),
    (
        "rows",
        '{"a":"x"}',
        ReadOptions(prompt="{% for i in range(99999) %}{{ '%999d' % 1 }}{% endfor %}", model="m"),
        "template: the prompt is longer than 16,777,216 characters",
    ),
    ("rows", '{"a":"x","id":true}', ReadOptions(prompt="{{ a }}", model="m"), '"id" must be a string, in quotes'),
    ("rows", '{"a":"x"}', ReadOptions(prompt="p", model="m", id_column="n"), 'the id column "n" is empty; fill it'),
    ("lines", "a\0b", ReadOptions(model="m"), "a NUL byte is in it; if the file is UTF-16, convert it"),
    ("lines", "\ud800", ReadOptions(model="m"), "not UTF-8 at byte 1 of the line; save the file as UTF-8"),
]


@pytest.mark.parametrize(("shape", "line", "options", "expected"), OTHER_REASONS)
def test_line_of_another_shape_is_rejected(
    tmp_path: Path, shape: str, line: str, options: ReadOptions, expected: str
) -> None:
    """With the beginning of the reason given here."""
    given = ReadOptions(input_format=shape, prompt=options.prompt, model=options.model, id_column=options.id_column)
    found = reason(tmp_path, line.encode("utf-8", "surrogatepass"), given)
    assert found.startswith(expected), found


def test_line_over_the_cap_is_rejected_and_the_next_one_read(tmp_path: Path) -> None:
    """Sixteen MiB are the most."""
    path = tmp_path / "a.jsonl"
    path.write_bytes(batch_line() + b"\n" + b"x" * (2**24 + 1) + b"\n" + batch_line(custom_id="b") + b"\n")
    first, long, last = read(path)
    assert long == RejectedLine(
        line=2, offset=len(batch_line()) + 1, reason="longer than 16,777,216 bytes; shorten it or split it"
    )
    assert (first.line, last.line) == (1, 3)


def test_nesting_of_a_hundred_levels_and_brackets_in_text_are_fine(tmp_path: Path) -> None:
    """The line's own object and the body count; what stands inside strings does not."""
    deep = body('{"model":"m","x":' + "[" * 98 + "]" * 98 + "}")
    text = batch_line(body={**BODY, "user": "[" * 500 + '\\"{:'})
    assert not isinstance(read_one(tmp_path, deep), RejectedLine)
    assert not isinstance(read_one(tmp_path, text), RejectedLine)


@pytest.mark.parametrize(("name", "value"), [("api_key", "sk-x"), ("Authorization", "x")])
def test_a_param_that_no_line_may_have_is_refused(name: str, value: object) -> None:
    with pytest.raises(ConfigError, match=f"--param {name}"):
        ReadOptions(params=((name, value),))
