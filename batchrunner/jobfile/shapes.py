"""What a job file's lines are: recognise the shape from the first ones, one shape a file."""

from collections.abc import Iterable
from enum import StrEnum

from batchrunner.errors import JobFileError
from batchrunner.jobfile.refusal import Refused
from batchrunner.jobfile.strictjson import JSONObject, parse_object


class Shape(StrEnum):
    """What one line is."""

    BATCH = "batch"  # an OpenAI batch line, with a body in it
    BODY = "body"  # the body itself
    PROMPT = "prompt"  # an object with a prompt
    ROWS = "rows"  # columns for a template: CSV, TSV, objects
    LINES = "lines"  # plain text

    def describe(self) -> str:
        """The shape in words, to be printed."""
        return _WORDS[self]


_WORDS = {
    Shape.BATCH: "OpenAI batch lines",
    Shape.BODY: "request bodies",
    Shape.PROMPT: "prompt lines",
    Shape.ROWS: "rows",
    Shape.LINES: "lines of text",
}
INPUT_FORMATS = ("auto", *Shape)


def detect(first_lines: Iterable[bytes], path: str, *, input_format: str = "auto", has_prompt: bool = False) -> Shape:
    """The shape of the file, by what the user says, else by its name, else by the first line that is an object.

    ``first_lines`` are taken one by one and no further than needed; blank ones are not among them. Raises JobFileError.
    """
    if input_format != "auto":
        return Shape(input_format)
    name = path.lower().removesuffix(".gz")
    if name.endswith((".csv", ".tsv")):
        return Shape.ROWS
    if name.endswith(".txt"):
        return Shape.LINES
    reason = "nothing in them"
    for number, raw in enumerate(first_lines):
        if raw.lstrip().startswith(b"["):
            raise JobFileError(path, f"it is a JSON array, one object a line is needed; convert it: jq -c '.[]' {path}")
        try:
            return _of(parse_object(raw), has_prompt=has_prompt)
        except Refused as refused:
            reason = reason if number else str(refused)
    raise JobFileError(path, f"no JSON object in its first lines: {reason}. For plain text give --input-format lines")


def delimiter(path: str, first_line: bytes) -> str | None:
    """What parts the cells of a file of rows; None if its rows are JSON objects."""
    name = path.lower().removesuffix(".gz")
    if name.endswith(".tsv"):
        return "\t"
    if name.endswith(".csv"):
        return ","
    if name.endswith((".jsonl", ".ndjson", ".json")) or first_line.lstrip().startswith(b"{"):
        return None
    return "\t" if b"\t" in first_line and b"," not in first_line else ","


def _of(value: JSONObject, *, has_prompt: bool) -> Shape:
    if has_prompt:
        return Shape.ROWS
    if "body" in value:
        return Shape.BATCH
    if "messages" in value or ("input" in value and "model" in value):
        return Shape.BODY
    return Shape.PROMPT if isinstance(value.get("prompt"), str) else Shape.ROWS
