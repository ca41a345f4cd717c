"""Streams end to end: over a socket, through the queue, into the results."""

import gzip
import json
from pathlib import Path
from typing import Any

import anyio
import pytest
from wire import scripted

import batchrunner as br
from batchrunner.api.client import Client
from batchrunner.config import Endpoint, LimitSettings
from batchrunner.db.reader import Reader
from batchrunner.limits.limiter import Limiter
from batchrunner.provider import Provider
from batchrunner.quota import NO_QUOTA, Dimension, Quota, Window
from batchrunner.task import Failure, FailureClass, Lease, Outcome, Success, Usage

NOW = 1_790_000_000.0
BODY = '{"model":"m","messages":[{"role":"user","content":"物流很快"}],"stream":true}'
LIMITS = (b"x-ratelimit-limit-requests: 60", b"x-ratelimit-remaining-requests: 59", b"x-ratelimit-reset-requests: 1s")


def lease(body: str = BODY, endpoint: str = "chat/completions") -> Lease:
    return Lease(
        attempt_id=1,
        task_id=1,
        custom_id="t",
        endpoint=endpoint,
        body=body,
        attempt=1,
        failures=0,
        cost=1.0,
        send_at=0.0,
        permit=None,
    )


def data(text: str = "", finish: str | None = None) -> bytes:
    chunk = {"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": finish}]}
    return f"data: {json.dumps(chunk)}\n\n".encode()


async def send(base_url: str, body: str = BODY, **options: Any) -> Outcome:
    async with Client(Endpoint(base_url=base_url), **options) as client:
        return await client.send(lease(body), now=NOW)


def text_of(outcome: Outcome) -> str:
    assert isinstance(outcome, Success | Failure)
    assert outcome.body is not None
    return str(json.loads(outcome.body)["choices"][0]["message"]["content"])


async def test_a_stream_that_never_closes_is_over_with_its_last_word() -> None:
    """Well before the deadline."""
    with anyio.fail_after(20):
        async with scripted(data("yes", "stop"), b"data: [DONE]\n\n", holds=True) as server:
            outcome = await send(server.base_url, timeout=60.0)
    assert isinstance(outcome, Success)
    assert text_of(outcome) == "yes"


async def test_an_address_where_nothing_listens_is_named_with_the_reason() -> None:
    async with scripted() as server:
        address = server.base_url
    outcome = await send(address)
    assert isinstance(outcome, Failure)
    assert (outcome.kind, outcome.sent) == (FailureClass.UNREACHABLE, False)
    assert outcome.message == f"can't connect ({address[7:-3]}: Connection refused)"


@pytest.mark.parametrize(
    ("pieces", "kind"),
    [
        ((data("par"),), FailureClass.TRUNCATED),
        ((b": PROCESSING\n\n" * 9,), FailureClass.TRUNCATED),
        ((data("par"), data("tial", "stop")), None),
    ],
)
async def test_a_connection_that_closes(pieces: tuple[bytes, ...], kind: FailureClass | None) -> None:
    """Before the finish_reason it cuts the answer off, after it not."""
    async with scripted(*pieces) as server:
        outcome = await send(server.base_url)
    assert (outcome.kind if isinstance(outcome, Failure) else None) is kind


async def test_the_deadline_keeps_what_came_until_then() -> None:
    """Comments keep the connection alive, not the attempt."""
    async with scripted(data("par"), b": still there\n\n", holds=True) as server:
        outcome = await send(server.base_url, timeout=0.3)
    assert isinstance(outcome, Failure)
    assert (outcome.kind, outcome.maybe_charged, text_of(outcome)) == (FailureClass.TIMEOUT, True, "par")


async def test_a_stream_may_be_compressed() -> None:
    packed = gzip.compress(data("yes", "stop") + b"data: [DONE]\n\n")
    async with scripted(packed[:20], packed[20:], head=[b"content-encoding: gzip"]) as server:
        assert text_of(await send(server.base_url)) == "yes"


async def test_a_stream_may_be_compressed_piece_by_piece() -> None:
    """Each an archive of its own, which the standard allows; cut anywhere."""
    packed = gzip.compress(data("ye")) + gzip.compress(data("s", "stop")) + gzip.compress(b"data: [DONE]\n\n")
    for pieces in (
        [packed],
        [packed[:30], packed[30:90], packed[90:]],
        [packed[i : i + 1] for i in range(len(packed))],
    ):
        async with scripted(*pieces, head=[b"content-encoding: gzip"]) as server:
            assert text_of(await send(server.base_url)) == "yes"


@pytest.mark.parametrize("pieces", [[data("x" * 100)] * 100, [data("x" * 2000, "stop")], [b": c\n\n" * 9000]])
async def test_a_stream_has_a_cap_too(pieces: list[bytes]) -> None:
    async with scripted(*pieces) as server:
        outcome = await send(server.base_url, max_body=1000)
    assert isinstance(outcome, Failure)
    assert outcome.kind is FailureClass.RESPONSE_TOO_LARGE


async def test_the_head_is_told_when_it_comes_and_not_again() -> None:
    """Long before the end, and then the outcome holds no more of it."""
    heads: list[Quota] = []
    here = anyio.Event()

    def hear(quota: Quota) -> None:
        heads.append(quota)
        here.set()

    async def wait_for_the_end(client: Client) -> None:
        await client.send(lease(), now=NOW, on_head=hear)

    async with (
        scripted(data("yes", "stop"), head=LIMITS, holds=True) as server,
        Client(Endpoint(base_url=server.base_url), timeout=60.0) as client,
        anyio.create_task_group() as group,
    ):
        group.start_soon(wait_for_the_end, client)
        with anyio.fail_after(20):
            await here.wait()
        group.cancel_scope.cancel()
    assert [window.remaining for window in heads[0].windows] == [59]
    async with (
        scripted(data("yes", "stop"), head=LIMITS) as server,
        Client(Endpoint(base_url=server.base_url)) as client,
    ):
        told = await client.send(lease(), now=NOW, on_head=heads.append)
        untold = await client.send(lease(), now=NOW)
    assert isinstance(told, Success)
    assert isinstance(untold, Success)
    assert (told.quota, len(untold.quota.windows)) == (NO_QUOTA, 1)


@pytest.mark.parametrize("asks", [True, False])
async def test_usage_is_asked_for_where_the_provider_wants_it(asks: bool) -> None:
    """And the rest of the body goes out as it is."""
    async with scripted(data("yes", "stop")) as server:
        endpoint = Endpoint(base_url=server.base_url, provider=Provider(title="x", stream_usage=asks))
        async with Client(endpoint) as client:
            await client.send(lease(), now=NOW)
    sent = server.requests[0].partition(b"\r\n\r\n")[2].decode()
    assert sent == ('{"stream_options":{"include_usage":true},' + BODY[1:] if asks else BODY)


def test_a_head_opens_the_gate_that_the_first_reply_would() -> None:
    """And the answer's end, which does not repeat it, is not counted as another reply."""
    limiter = Limiter(LimitSettings(), now=NOW, start=8)
    permit = limiter.admit(1.0, NOW)
    assert permit is not None
    assert limiter.admit(1.0, NOW) is None
    window = Window(dimension=Dimension.REQUESTS, limit=60, remaining=59, reset_after=1.0)
    limiter.observe(permit, Quota((window,)), sent_at=NOW, received_at=NOW + 0.05)
    assert limiter.admit(1.0, NOW + 0.05) is not None
    limiter.settle(permit, Success(status=200, body=b"{}"), sent_at=NOW, received_at=NOW + 60)
    assert [meter["replies"] for meter in limiter.beliefs()["meters"] if meter["dimension"] == "requests"] == [1]


# -- whole runs


def write(path: Path, *lines: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


def chat(number: int, text: str = "", **more: Any) -> dict[str, Any]:
    body = {"model": "m", "messages": [{"role": "user", "content": f"{number} {text}"}], **more}
    return {"custom_id": f"t{number}", "url": "/v1/chat/completions", "body": body}


def test_a_streamed_answer_is_the_answer(tmp_path: Path) -> None:
    """The same text and usage as without a stream, and the time of the first token is recorded."""
    with br.Simulator(latency=0.2) as server:
        plain = br.run(write(tmp_path / "a.jsonl", chat(1)), base_url=server.base_url)
        streamed = br.run(write(tmp_path / "b.jsonl", chat(1)), base_url=server.base_url, stream=True)
        own = br.run(write(tmp_path / "c.jsonl", chat(1, stream=True)), base_url=server.base_url)
    for job in (plain, streamed, own):
        (result,) = job.results()
        assert result.response["object"] == "chat.completion"
        assert result.usage == Usage(
            prompt_tokens=result.response["usage"]["prompt_tokens"],
            completion_tokens=len((result.text or "").split()),
        )
    with Reader(own.path) as reader:
        story = reader.task("t1")
        totals = reader.totals(1)
    assert story is not None
    attempt = story.attempts[0]
    assert attempt.first_token is not None
    assert attempt.latency is not None
    assert 0 < attempt.first_token < attempt.latency
    assert totals.first_token_p50 == attempt.first_token
    with Reader(plain.path) as reader:
        assert reader.totals(1).first_token_p50 is None


def test_the_same_question_with_and_without_a_stream_is_paid_once(tmp_path: Path) -> None:
    job = write(tmp_path / "a.jsonl", chat(1), chat(2))
    with br.Simulator() as server:
        br.run(job, base_url=server.base_url)
        br.run(job, base_url=server.base_url, stream=True)
        assert server.score().sends == 2


def test_a_stream_that_breaks_off_is_tried_again_and_kept(tmp_path: Path) -> None:
    """Each kind of break is an attempt with its class and its text so far; then comes the answer."""
    faults = {"cut": "truncated", "error_mid": "server_error", "reset_mid": "truncated"}
    lines = [chat(number, f"[[fault:{fault}x1]]", stream=True) for number, fault in enumerate(faults)]
    with br.Simulator() as server:
        job = br.run(write(tmp_path / "a.jsonl", *lines), base_url=server.base_url)
    assert job.counts[br.TaskState.SUCCEEDED] == 3
    with Reader(job.path) as reader:
        for number, kind in enumerate(faults.values()):
            story = reader.task(f"t{number}")
            assert story is not None
            broken, good = story.attempts
            assert (broken.error_class, broken.possibly_charged, good.outcome) == (kind, True, "success")
            assert broken.reply is not None
            assert json.loads(broken.reply)["choices"][0]["message"]["content"]


@pytest.mark.parametrize("fault", ["no_done", "comments", "crlf", "slow:1:0.1"])
def test_streams_that_are_merely_odd_are_answers(fault: str, tmp_path: Path) -> None:
    spec = fault if ":" in fault else f"{fault}:1"
    with br.Simulator(faults=spec) as server:
        job = br.run(write(tmp_path / "a.jsonl", chat(1), chat(2)), base_url=server.base_url, stream=True)
        assert server.score().sends == 2
    assert job.counts[br.TaskState.SUCCEEDED] == 2


def test_limits_are_known_from_the_first_head(tmp_path: Path) -> None:
    """Nobody but a canary waits for the first answer's end, and nothing is refused."""
    lines = [chat(number) for number in range(20)]
    with br.Simulator(rpm=600, latency=1.5) as server:
        job = br.run(write(tmp_path / "a.jsonl", *lines), base_url=server.base_url, stream=True, canary=0)
        score = server.score()
    assert job.counts[br.TaskState.SUCCEEDED] == 20
    assert score.refusals == {}
    assert score.first_send_at is not None
    assert score.last_send_at is not None
    assert score.last_send_at - score.first_send_at < 1.5


ENDPOINTS: list[tuple[str, dict[str, Any], bool]] = [
    ("/v1/chat/completions", {"messages": [{"role": "user", "content": "a"}]}, True),
    ("/v4/chat/completions", {"messages": [{"role": "user", "content": "b"}]}, True),
    ("/v1/completions", {"prompt": "a"}, True),
    ("/v1/responses", {"input": "a"}, True),
    ("/v1/embeddings", {"input": "a"}, True),
    ("/rerank", {"query": "a", "documents": ["b", "c"]}, True),
    ("/v1/moderations", {"input": "a"}, False),
]


@pytest.mark.parametrize("stream", [False, True])
def test_every_endpoint_runs_to_its_results(stream: bool, tmp_path: Path) -> None:
    """From a line with its url to the answer and its usage; what can't be streamed isn't."""
    lines = [
        {"custom_id": f"t{number}", "method": "POST", "url": url, "body": {"model": "m", **body}}
        for number, (url, body, _) in enumerate(ENDPOINTS)
    ]
    with br.Simulator() as server:
        job = br.run(write(tmp_path / "a.jsonl", *lines), base_url=server.base_url, stream=stream)
    results = list(job.results())
    assert [result.status for result in results] == [br.TaskState.SUCCEEDED] * len(ENDPOINTS)
    for result, (url, _, tells) in zip(results, ENDPOINTS, strict=True):
        assert (result.usage is not None and result.usage.total > 0) is tells, url
        assert result.text
    chats, others = results[:4], results[4:]
    assert all("{" not in (result.text or "") for result in chats)
    assert all(json.loads(result.text or "") for result in others)
    out = tmp_path / "out.jsonl"
    job.write(out)
    assert [json.loads(line)["response"]["status_code"] for line in out.read_text().splitlines()] == [200] * 7
