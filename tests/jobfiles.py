"""Write a job file and read it back: what the jobfile tests have in common."""

import json
from pathlib import Path
from typing import Any

from batchrunner.jobfile.options import ReadOptions
from batchrunner.jobfile.reader import Item, open_job
from batchrunner.task import RejectedLine, Request

BODY = {"model": "glm-4.5-air", "messages": [{"role": "user", "content": "hello"}]}
PLAIN = ReadOptions()


def batch_line(**changes: Any) -> bytes:
    """One good batch line, with ``changes`` made to it; None takes a key out."""
    line = {"custom_id": "a-1", "method": "POST", "url": "/v1/chat/completions", "body": BODY, **changes}
    return json.dumps({key: value for key, value in line.items() if value is not None}).encode()


def read(path: Path, options: ReadOptions = PLAIN) -> list[Item]:
    with open_job(str(path), options) as reader:
        return list(reader)


def read_one(folder: Path, line: bytes, options: ReadOptions = PLAIN, *, name: str = "a.jsonl") -> Item:
    path = folder / name
    path.write_bytes(line + b"\n")
    (item,) = read(path, options)
    return item


def request(folder: Path, line: bytes, options: ReadOptions = PLAIN, *, name: str = "a.jsonl") -> Request:
    item = read_one(folder, line, options, name=name)
    assert isinstance(item, Request), item
    return item


def reason(folder: Path, line: bytes, options: ReadOptions = PLAIN, *, name: str = "a.jsonl") -> str:
    item = read_one(folder, line, options, name=name)
    assert isinstance(item, RejectedLine), item
    return item.reason
