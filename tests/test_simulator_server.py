"""The simulator on a real socket: contract, faults, limits and scoreboard."""

import asyncio
import http.client
import json
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import pytest

from batchrunner.errors import ConfigError
from batchrunner.simulator.config import Rules
from batchrunner.simulator.ledger import key_of
from batchrunner.simulator.server import Simulator, serve

CHAT = "/v1/chat/completions"


@dataclass(frozen=True, slots=True, kw_only=True)
class Got:
    """One reply, read to its end."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> Any:
        return self.json["error"]["code"]


def call(
    simulator: Simulator,
    method: str,
    path: str,
    body: bytes | Iterator[bytes] | None = None,
    headers: dict[str, str] | None = None,
) -> Got:
    connection = http.client.HTTPConnection(urlsplit(simulator.url).netloc, timeout=30)
    try:
        connection.request(method, path, body=body, headers=headers or {})
        reply = connection.getresponse()
        named = {name.lower(): value for name, value in reply.getheaders()}
        return Got(status=reply.status, headers=named, body=reply.read())
    finally:
        connection.close()


def prompt(text: str, **more: Any) -> bytes:
    return json.dumps({"model": "m", "messages": [{"role": "user", "content": text}], **more}).encode()


def chat(simulator: Simulator, text: str, **more: Any) -> Got:
    return call(simulator, "POST", CHAT, prompt(text, **more))


@pytest.fixture(scope="module")
def simulator() -> Iterator[Simulator]:
    """One without limits, for whatever leaves no trace."""
    with Simulator() as running:
        yield running


def test_answer_is_marked_and_always_the_same(simulator: Simulator) -> None:
    first, second = chat(simulator, "hello"), chat(simulator, "hello")

    assert first.status == 200
    assert first.body == second.body
    assert first.headers["x-batchrunner-simulated"] == "1"
    assert first.json["system_fingerprint"] == "simulated"


@pytest.mark.parametrize("prefix", ["/v1", "/v4", "/api/paas/v4", ""])
def test_any_prefix_is_accepted(simulator: Simulator, prefix: str) -> None:
    assert call(simulator, "POST", f"{prefix}/chat/completions", prompt("hello")).status == 200
    assert call(simulator, "GET", f"{prefix}/models").status == 200


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/v1/rerank", b"{}", 400),
        ("POST", "/v1/moderations", b"{}", 400),
        ("POST", "/v1/images", b"{}", 404),
        ("GET", "/_secrets", None, 404),
        ("GET", CHAT, None, 405),
        ("POST", "/v1/models", b"{}", 405),
        ("POST", "/_score", b"", 405),
        ("POST", CHAT, b"{", 400),
        ("POST", CHAT, b"", 400),
        ("POST", CHAT, b'{"model":"m"}', 400),
        ("POST", CHAT, prompt("[[fault:bang]]"), 400),
        ("POST", "/_limits", b'{"rpm":0}', 400),
        ("POST", "/_limits", b'{"speed":1}', 400),
        ("POST", "/_limits", b"nonsense", 400),
    ],
    ids=str,
)
def test_what_makes_no_sense_gets_an_error_in_openais_form(
    simulator: Simulator, method: str, path: str, body: bytes | None, status: int
) -> None:
    got = call(simulator, method, path, body)

    assert got.status == status
    assert got.json["error"].keys() == {"message", "type", "param", "code"}
    assert got.headers["x-batchrunner-simulated"] == "1"


def test_too_large_a_body_is_refused_however_it_comes() -> None:
    with Simulator(max_body=1000) as small:
        assert call(small, "POST", CHAT, prompt("x" * 2000)).status == 413
        assert call(small, "POST", CHAT, iter([prompt("x" * 2000)])).status == 413
        assert call(small, "POST", CHAT, iter([prompt("hello")])).status == 200


def test_key_and_model_are_checked() -> None:
    with Simulator(key="sk-canary", models=("m",)) as strict:
        good = {"Authorization": "Bearer sk-canary"}

        assert chat(strict, "hello").code == "invalid_api_key"
        assert call(strict, "GET", "/v1/models").status == 401
        assert call(strict, "POST", CHAT, prompt("hello"), good).status == 200
        unknown = call(strict, "POST", CHAT, prompt("hello", model="x"), good)
        assert (unknown.status, unknown.code) == (404, "model_not_found")


def test_headers_show_the_state_after_admission_and_the_429_says_why() -> None:
    with Simulator(rpm=2, tpm=10_000, window=3600) as limited:
        remaining = [chat(limited, "hello").headers["x-ratelimit-remaining-requests"] for _ in range(2)]
        refused = chat(limited, "hello")

        assert remaining == ["1", "0"]
        assert (refused.status, refused.code) == (429, "rate_limit_exceeded")
        assert int(refused.headers["retry-after"]) > 1700
        assert limited.score().refusals == {"requests": 1}
        assert limited.score().statuses == {"200": 2, "429": 1}


def test_in_flight_limit_refuses_with_glms_code_and_counts_what_hangs() -> None:
    with Simulator(concurrency=1, dialect="glm") as narrow, hanging(narrow):
        refused = chat(narrow, "hello")

        assert (refused.status, refused.code) == (429, "1302")
        assert not [name for name in refused.headers if "limit" in name or "retry" in name]


def test_place_of_a_client_that_left_is_free_again() -> None:
    with Simulator(concurrency=1) as narrow:
        with hanging(narrow):
            pass
        wait_for(narrow, in_flight=0)

        assert chat(narrow, "hello").status == 200
        assert narrow.score().gone == 1


def test_limits_change_while_it_runs() -> None:
    with Simulator(rpm=1, window=3600) as limited:
        assert [chat(limited, "hello").status for _ in range(2)] == [200, 429]
        assert call(limited, "POST", "/_limits", b'{"rpm":null,"concurrency":7}').json == {
            "rpm": None,
            "tpm": None,
            "concurrency": 7,
        }
        assert chat(limited, "hello").status == 200
        limited.set_limits(rpm=1)
        assert [chat(limited, "hello").status for _ in range(2)] == [200, 429]
        with pytest.raises(ConfigError, match="rpm"):
            limited.set_limits(rpm=0)
        assert limited.limits.rpm == 1


@pytest.mark.parametrize("status", [400, 401, 500, 503])
def test_error_faults_have_their_status(simulator: Simulator, status: int) -> None:
    got = chat(simulator, f"[[fault:{status}]]")

    assert got.status == status
    assert "Simulated fault" in got.json["error"]["message"]


def test_fault_may_last_for_the_first_sends_only(simulator: Simulator) -> None:
    assert [chat(simulator, "[[fault:500x2]]").status for _ in range(4)] == [500, 500, 200, 200]


def test_dropped_reply_is_charged_but_no_byte_arrives() -> None:
    with Simulator(rpm=10, window=3600) as limited:
        with pytest.raises(http.client.RemoteDisconnected):
            chat(limited, "[[fault:drop]]")

        assert chat(limited, "hello").headers["x-ratelimit-remaining-requests"] == "8"
        assert (limited.score().aborted, limited.score().answers) == (1, 1)


def test_reset_comes_in_the_middle_of_the_body(simulator: Simulator) -> None:
    raw = prompt("[[fault:reset_mid]]")
    head = f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(raw)}\r\n\r\n".encode()
    got = b""
    with socket.create_connection((urlsplit(simulator.url).hostname, urlsplit(simulator.url).port), 30) as connection:
        connection.sendall(head + raw)
        try:
            while chunk := connection.recv(65536):
                got += chunk
        except ConnectionResetError:
            ended = "reset"
        else:
            ended = "closed"

    headers, _, body = got.partition(b"\r\n\r\n")
    assert ended == "reset"
    assert headers.startswith(b"HTTP/1.1 200")
    assert body.startswith(b'{"id":"chatcmpl-sim-')
    assert not body.endswith(b"}")


def test_a_stream_begins_at_once_and_takes_its_time() -> None:
    """Head and limits before the first token; the latency is spread over the events."""
    with Simulator(latency=0.4, rpm=10) as running:
        connection = http.client.HTTPConnection(urlsplit(running.url).netloc, timeout=30)
        begun = time.monotonic()
        connection.request("POST", CHAT, body=prompt("hello", stream=True))
        reply = connection.getresponse()
        head = time.monotonic() - begun
        lines = reply.read().splitlines()
        whole = time.monotonic() - begun
        connection.close()

        assert reply.headers["x-ratelimit-remaining-requests"] == "9"
        assert reply.headers["content-type"].startswith("text/event-stream")
        assert head < 0.2
        assert whole >= 0.4
        assert (lines[0][:6], lines[-2]) == (b"data: ", b"data: [DONE]")
        assert running.score().answers == 1


@pytest.mark.parametrize(
    ("fault", "answers", "ends"),
    [
        ("cut", 0, b'"finish_reason":null}]}\n\n'),
        ("error_mid", 0, b'"type":"server_error"}}\n\n'),
        ("no_done", 1, b'"finish_reason":"stop"}]}\n\n'),
        ("comments", 1, b": keep-alive\n\ndata: [DONE]\n\n"),
        ("crlf", 1, b"data: [DONE]\r\n\r\n"),
    ],
)
def test_a_fault_of_streams_is_one_for_streams_only(fault: str, answers: int, ends: bytes) -> None:
    with Simulator() as running:
        streamed, whole = chat(running, f"[[fault:{fault}]]", stream=True), chat(running, f"[[fault:{fault}]]")

        assert streamed.headers["content-type"].startswith("text/event-stream")
        assert streamed.body.endswith(ends)
        assert whole.json["object"] == "chat.completion"
        assert (running.score().answers, running.score().faults) == (answers + 1, {fault: 1})


def test_a_stream_is_reset_in_its_middle() -> None:
    with Simulator() as running:
        with pytest.raises((http.client.IncompleteRead, ConnectionResetError)):
            chat(running, "[[fault:reset_mid]]", stream=True)
        assert (running.score().aborted, running.score().answers) == (1, 0)


def test_bad_successes_are_no_answers() -> None:
    with Simulator() as running:
        page, empty = chat(running, "[[fault:html]]"), chat(running, "[[fault:empty]]")

        assert page.headers["content-type"].startswith("text/html")
        assert (page.status, page.body[:9]) == (200, b"<!DOCTYPE")
        assert (empty.status, empty.json["choices"]) == (200, None)
        assert running.score().answers == 0
        assert running.score().faults == {"html": 1, "empty": 1}


def test_slow_body_arrives_whole() -> None:
    with Simulator(faults="slow:1:0.05") as slow:
        assert chat(slow, "hello").json["object"] == "chat.completion"
        assert slow.score().answers == 1


def test_same_seed_meets_the_same_faults_in_any_order() -> None:
    texts = [f"task {n}" for n in range(40)]

    def statuses(order: list[str], *, seed: int = 7) -> dict[str, int]:
        with Simulator(faults="500:0.5", seed=seed) as faulty:
            return {text: chat(faulty, text).status for text in order}

    forwards, backwards = statuses(texts), statuses(texts[::-1])

    assert forwards == backwards
    assert set(forwards.values()) == {200, 500}
    assert statuses(texts, seed=8) != forwards


def test_tokens_reserved_for_max_tokens_come_back() -> None:
    with Simulator(tpm=1000, window=3600, charging="max_tokens") as reserving:
        first = chat(reserving, "hello", max_tokens=900)
        second = chat(reserving, "hello", max_tokens=10)

        used = first.json["usage"]["total_tokens"]
        assert first.headers["x-ratelimit-remaining-tokens"] == str(1000 - 2 - 900)
        assert 0 <= int(second.headers["x-ratelimit-remaining-tokens"]) - (1000 - used - 2 - 10) <= 1
        assert reserving.score().tokens == used + second.json["usage"]["total_tokens"]


def test_scoreboard_counts_by_body_alone() -> None:
    with Simulator() as running:
        for task in ("1", "2"):
            call(running, "POST", CHAT, prompt("hello"), {"x-batchrunner-task": task})
        chat(running, "[[fault:500]]")

        score = call(running, "GET", "/_score").json
        lines = [json.loads(line) for line in call(running, "GET", "/_ledger").body.splitlines()]

        assert (score["sends"], score["keys"], score["answered"], score["repeats_after_answer"]) == (3, 2, 1, 1)
        assert lines == [
            {"key": key_of(prompt("hello")).hex(), "sends": 2, "answers": 2},
            {"key": key_of(prompt("[[fault:500]]")).hex(), "sends": 1, "answers": 0},
        ]
        assert running.ledger()[key_of(prompt("hello")).hex()] == (2, 2)
        assert call(running, "POST", "/_reset").status == 200
        assert running.score().sends == 0


def test_many_at_once_are_all_answered() -> None:
    with Simulator(latency="uniform:0.001:0.01", concurrency=8) as running, ThreadPoolExecutor(8) as threads:
        statuses = list(threads.map(lambda n: chat(running, f"task {n}").status, range(60)))

        assert statuses == [200] * 60
        assert 1 < running.score().max_in_flight <= 8


def test_score_outlives_the_server() -> None:
    with Simulator() as running:
        chat(running, "hello")

    assert running.score().answers == 1


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "example.com"])  # noqa: S104  (it must be refused)
def test_host_that_others_can_reach_is_refused(host: str) -> None:
    with pytest.raises(ConfigError, match="this machine only"), Simulator(host=host):
        pass


def test_port_in_use_is_explained(simulator: Simulator) -> None:
    port = urlsplit(simulator.url).port or 0
    with pytest.raises(ConfigError, match="can't listen"), Simulator(port=port):
        pass


def test_rules_and_options_exclude_each_other() -> None:
    with pytest.raises(ConfigError, match="not both"):
        Simulator(Rules(), rpm=1)


def test_serve_runs_until_cancelled() -> None:
    ready: list[str] = []

    async def main() -> None:
        started = asyncio.Event()

        def on_ready(base_url: str) -> None:
            ready.append(base_url)
            started.set()

        task = asyncio.create_task(serve(Rules(), on_ready=on_ready))
        await started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())

    assert ready[0].startswith("http://127.0.0.1:")
    assert ready[0].endswith("/v1")


class hanging:  # noqa: N801  (reads as a with statement)
    """A request in flight that is never answered, until the block ends and the client leaves."""

    def __init__(self, simulator: Simulator) -> None:
        self._simulator = simulator
        parts = urlsplit(simulator.url)
        self._connection = socket.create_connection((parts.hostname, parts.port), 30)

    def __enter__(self) -> None:
        raw = prompt("[[fault:hang]]")
        self._connection.sendall(
            f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(raw)}\r\n\r\n".encode() + raw
        )
        wait_for(self._simulator, in_flight=1)

    def __exit__(self, *_: object) -> None:
        self._connection.close()


def wait_for(simulator: Simulator, *, in_flight: int) -> None:
    """Until the server sees so many; each look goes through its thread, so it gets on meanwhile."""
    patience = threading.Event()
    while simulator.score().in_flight != in_flight:
        patience.wait(0.001)
