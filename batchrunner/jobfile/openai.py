"""Result lines in the form of OpenAI's Batch API, which many tools read: strict keys, bodies as received.

A failure that came over HTTP has its real status and body in ``response``, as in OpenAI's error files; whatever had no
such answer has ``response: null`` and an ``error``. A failed task whose reply said 200 (no answer in it, say) has both,
so that nobody takes it for a success.
"""

import json
from collections.abc import Mapping
from hashlib import blake2b

import msgspec

from batchrunner.jobfile.strictjson import join, quote
from batchrunner.money import BILLION
from batchrunner.record import Attempt, Record
from batchrunner.task import TaskState

ID_START = "batch_req_b47c"  # the four digits tell our lines from a provider's own
HTTP_ERROR = 400

_decode = msgspec.json.Decoder().decode
_UNFINISHED: Mapping[TaskState, str] = {
    TaskState.PENDING: "not sent yet; 'batchrunner run' goes on",
    TaskState.RUNNING: "in flight when this was written",
    TaskState.HELD: "in flight when the runner died, so possibly charged; 'batchrunner retry' sends it again",
    TaskState.CANCELLED: "its line is gone from the job file",
}


def result_line(record: Record, *, extras: bool = False) -> bytes:
    """The line of one task, newline included. The same record gives the same bytes, its id too."""
    members = {
        "id": quote(_line_id(record)),
        "custom_id": quote(record.custom_id),
        "response": _response(record),
        "error": _error(record),
    }
    if extras:
        members["batchrunner"] = _extras(record)
    return join(members).encode() + b"\n"


def _line_id(record: Record) -> str:
    attempt = record.attempt.id if record.attempt else 0
    seed = f"{record.task_id}.{attempt}.{record.custom_id}".encode()
    return ID_START + blake2b(seed, digest_size=10).hexdigest()


def _response(record: Record) -> str:
    attempt = record.attempt
    if record.answer is not None:
        return _http(record.answer.status, attempt, record.answer.body)
    if record.state is TaskState.FAILED and attempt is not None and attempt.status is not None:
        return _http(attempt.status, attempt, attempt.reply)
    return "null"


def _http(status: int, attempt: Attempt | None, body: str | bytes | None) -> str:
    request_id = (attempt.request_id if attempt else None) or ""
    return join(
        {
            "status_code": str(status),
            "request_id": quote(request_id),
            "body": "null" if body is None else spliced(body),
        }
    )


def _error(record: Record) -> str:
    if record.state is TaskState.SUCCEEDED:
        return "null"
    if record.state is not TaskState.FAILED:
        return join({"code": quote(record.state.value), "message": quote(_UNFINISHED[record.state])})
    attempt = record.attempt
    if attempt is not None and attempt.status is not None and attempt.status >= HTTP_ERROR:
        return "null"
    message = (attempt.message if attempt else None) or record.error_class
    return join({"code": quote(record.error_class), "message": quote(message)})


def spliced(body: str | bytes) -> str:
    """*body* as JSON text for one line: itself, byte for byte, if it is JSON; else a string that holds it.

    Line breaks between its tokens become blanks; inside of strings JSON has none.
    """
    text = body if isinstance(body, str) else body.decode("utf-8", "replace")
    if not _is_json(text):
        return quote(text)
    return text.replace("\n", " ").replace("\r", " ") if "\n" in text or "\r" in text else text


def _is_json(text: str) -> bool:
    try:
        _decode(text)
    except (msgspec.MsgspecError, RecursionError):
        return _is_json_to_others(text)
    return True


def _is_json_to_others(text: str) -> bool:
    """msgspec refuses lone surrogates, which are legal escapes and do occur where a model was cut off."""
    try:
        json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return False
    return True


def _refuse(constant: str) -> None:
    raise ValueError(constant)


def _extras(record: Record) -> str:
    attempt = record.attempt
    usage = attempt.usage if attempt else None
    latency = attempt.latency if attempt else None
    return join(
        {
            "class": quote(record.error_class),
            "attempts": str(record.attempts),
            "latency_s": quote(None if latency is None else round(latency, 3)),
            "cost": quote(None if record.cost is None else record.cost / BILLION),
            "currency": quote(record.currency),
            "tokens_in": quote(usage.prompt_tokens if usage else None),
            "tokens_out": quote(usage.completion_tokens if usage else None),
            "row": record.row or "null",
            "simulated": quote(record.answer.simulated if record.answer else None),
        }
    )
