"""A mock of somebody else: llmock keeps real limits, fails as it is told, and judges how its client took it.

Its verdict knows every attempt and its time: a retry before Retry-After was over, more than ten attempts at one
question, a retry of what can never succeed.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

import batchrunner as br
from batchrunner.db.reader import Reader

LLMOCK = shutil.which("llmock", path=os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"])))
pytestmark = pytest.mark.skipif(LLMOCK is None, reason="llmock is not installed")

OUTPUT = 75  # tokens each question may be answered with; llmock charges them and a quarter of the bytes
UNLUCKY = {40: "refused", 80: "broken", 120: "refused", 160: "down"}  # lines whose model is scripted to fail
SCENARIO = (
    {"type": "fail", "status": 429, "retry_after": 0.8, "times": 2},  # the very first thing it says
    {"type": "fail", "status": 500},  # comes without a Retry-After
    {"type": "fail", "status": 429, "retry_after": 1.2, "times": 3, "match": {"model": "refused"}},
    {"type": "fail", "status": 500, "match": {"model": "broken"}},
    {"type": "fail", "status": 503, "retry_after": 1, "times": 2, "match": {"model": "down"}},
)
SCRIPTED = 9  # replies of the scenario


@dataclass(frozen=True, slots=True)
class Mock:
    """A running llmock, over HTTP as anyone would use it."""

    url: str

    @property
    def base_url(self) -> str:
        return f"{self.url}/v1"

    def script(self, *behaviors: dict[str, Any]) -> None:
        self._call("scenario", json.dumps({"behaviors": behaviors}).encode())

    def verdict(self) -> Any:
        return self._call("verdict")

    def faults(self) -> list[str]:
        """What each failed attempt got: ``scenario:429``, ``ratelimit:requests``, ..."""
        return [request["fault"] for request in self._call("requests")["requests"] if request["fault"]]

    def _call(self, what: str, body: bytes | None = None) -> Any:
        method = "GET" if body is None else "POST"
        return httpx.request(method, f"{self.url}/_llmock/{what}", content=body).raise_for_status().json()


@contextmanager
def mock(*words: str) -> Iterator[Mock]:
    """``llmock serve`` on a free port, until the end of the block."""
    assert LLMOCK is not None
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("COVERAGE", "LLMOCK"))}
    command = [LLMOCK, "serve", "--port", "0", "--tool-mode", "off", *words]
    process = subprocess.Popen(command, env=clean, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        found = None
        for line in process.stderr:  # uvicorn says where it is once it listens, then nothing but accesses on stdout
            if found := re.search(r"running on (http://[\d.:]+)", line):
                break
        assert found is not None, "llmock did not start"
        yield Mock(found[1])
    finally:
        process.terminate()
        process.communicate(timeout=30)


def questions(path: Path, count: int) -> Path:
    lines = (
        {
            "custom_id": f"t{n}",
            "body": {
                "model": UNLUCKY.get(n, "m"),
                "max_tokens": OUTPUT,
                "messages": [{"role": "user", "content": f"Question {n:03}: is this one answered too?"}],
            },
        }
        for n in range(count)
    )
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("limits", "count", "bearable"),
    [
        # 240 at once, then four a second; it counts together what five models' lanes learn apart, and so refuses more
        (("--rpm", "240"), 280, 0.05),
        # some 107 tokens each, of which it charges 75 for the answer and then reports a handful: that has to be learned
        (("--tpm", "26000", "--rpm", "5000"), 275, 0.2),
    ],
    ids=["requests", "tokens"],
)
async def test_a_foreign_judge_finds_nothing(
    limits: tuple[str, ...], count: int, bearable: float, tmp_path: Path
) -> None:
    """Given real limits and scripted faults, and nothing configured, all is answered and the verdict is clean."""
    with mock(*limits) as server:
        server.script(*SCENARIO)
        job = await br.run_async(questions(tmp_path / "job.jsonl", count), base_url=server.base_url)
        verdict, faults = server.verdict(), server.faults()
    assert job.counts[br.TaskState.SUCCEEDED] == count
    codes = {finding["code"] for finding in verdict["findings"]}
    assert not codes & {"retry_after_ignored", "retry_storm", "retried_non_retryable", "gave_up"}, verdict
    assert (verdict["passed"], verdict["calls"]) == (True, count)
    assert sum(fault.startswith("scenario:") for fault in faults) == SCRIPTED, faults
    assert len(faults) - SCRIPTED <= count * bearable, faults


async def test_streams_that_break_off_are_found_out(tmp_path: Path) -> None:
    """Given streams cut cleanly, torn, garbled and stalled, no half answer is taken, and the verdict has no error.

    It warns of each garbled one, which we read to its end, as long as that is near, before asking again.
    """
    faults = ("truncate", "disconnect", "malformed", "stall", "truncate", "malformed")
    with mock("--rpm", "240") as server:
        server.script(
            *({"type": "stream_fault", "kind": kind, "after_chunks": 2, "stall_seconds": 0.3} for kind in faults)
        )
        job = await br.run_async(questions(tmp_path / "job.jsonl", 60), base_url=server.base_url, stream=True)
        verdict, seen = server.verdict(), server.faults()
    assert job.counts[br.TaskState.SUCCEEDED] == 60
    assert verdict["passed"] is True, verdict
    assert {finding["code"] for finding in verdict["findings"]} <= {"malformed_chunk_ignored"}
    assert Counter(fault.partition("@")[0] for fault in seen) == Counter(f"stream:{kind}" for kind in faults)
    with Reader(job.path) as reader:
        assert reader.totals(1).possibly_charged == len(faults) - 1


async def test_what_cannot_succeed_is_sent_once(tmp_path: Path) -> None:
    """Given a request that is refused for what it is, it fails with its class, and the judge agrees."""
    with mock() as server:
        server.script({"type": "fail", "status": 400, "match": {"model": "refused"}})
        job = await br.run_async(questions(tmp_path / "job.jsonl", 60), base_url=server.base_url)
        verdict = server.verdict()
    (failed,) = job.failed()
    assert failed.error is not None
    assert (failed.custom_id, failed.error.kind) == ("t40", "bad_request")
    assert (verdict["passed"], verdict["attempts"], verdict["findings"]) == (True, 60, [])


def test_the_judge_is_no_pushover() -> None:
    """Given a client that asks again at once, the same judge finds it out: the silence above means something."""
    with mock() as server:
        server.script({"type": "fail", "status": 429, "retry_after": 5})
        for _ in range(2):
            httpx.post(f"{server.base_url}/chat/completions", json={"model": "m", "messages": []})
        verdict = server.verdict()
    assert [finding["code"] for finding in verdict["findings"]] == ["retry_after_ignored"]
