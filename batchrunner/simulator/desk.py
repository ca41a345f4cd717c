"""What to reply to one request: path, key, body, limits, faults and answer put together. Pure, told the time.

A request that costs something becomes a ``Visit``: the server waits its ``latency``, writes its ``reply`` (or does what
its ``fault`` says) and reports the ``Ending``. Everything else is a ``Reply`` at once.
"""

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from hashlib import blake2b
from hmac import compare_digest

import msgspec

from batchrunner.errors import ConfigError
from batchrunner.simulator.answers import CannedAnswer, make_answer, models_answer
from batchrunner.simulator.changes import parse_changes
from batchrunner.simulator.config import Rules
from batchrunner.simulator.dialects import DIALECTS
from batchrunner.simulator.faults import AskedFault, Fault, asked_fault, parse_faults
from batchrunner.simulator.gate import Admission, Gate
from batchrunner.simulator.latency import parse_latency
from batchrunner.simulator.ledger import Ledger, key_of
from batchrunner.simulator.questions import (
    DEFAULT_MAX_TOKENS,
    BadBodyError,
    Endpoint,
    Question,
    read_question,
)
from batchrunner.simulator.rules import Refusal
from batchrunner.simulator.streams import make_events
from batchrunner.simulator.voices import voice_of
from batchrunner.simulator.words import HTML, Reply, Words, refuse

EVENTS = "text/event-stream; charset=utf-8"
_HTML = b"<!DOCTYPE html>\n<html><head><title>Please wait</title></head><body><h1>Just a moment...</h1></body></html>\n"
_EMPTY = b'{"id":"","choices":null,"usage":null}'
_ENCODER = msgspec.json.Encoder()


class Ending(StrEnum):
    """How a visit ended."""

    WRITTEN = "written"  # the whole reply went out to the socket
    BROKEN = "broken"  # we broke the connection: the fault asked for it
    LEFT = "left"  # the client did not wait


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """A request between its arrival and its end. ``admission`` None = it was not let in.

    ``events``: the reply's body in pieces, where it is a stream.
    """

    key: bytes
    reply: Reply
    latency: float = 0.0
    fault: Fault | None = None
    admission: Admission | None = None
    answer: CannedAnswer | None = None
    events: tuple[bytes, ...] = ()


def find_endpoint(path: str) -> Endpoint | None:
    """What is asked, whatever stands before it: /v1, /v4, /api/paas/v4 and so on."""
    for endpoint in Endpoint:  # chat/completions stands before completions
        if path.endswith("/" + endpoint):
            return endpoint
    return None


class Desk:
    """Decides; ``origin`` is the instant at which the wall clock stood at 0."""

    def __init__(self, rules: Rules, *, now: float, origin: float = 0.0) -> None:
        self.rules = rules
        self.faults = parse_faults(rules.faults)
        self.ledger = Ledger(rules, rules.limits, origin=origin)
        self.limits = rules.limits
        self._gate = Gate(rules, now=now, origin=origin)
        self._changes = deque(parse_changes(rules.changes))
        self._started: float | None = None  # with the first request; changes count from here
        self._latency = parse_latency(rules.latency)
        voice = None if rules.voice is None else voice_of(rules.voice)
        self._dialect = DIALECTS[rules.dialect] if voice is None or rules.dialect != "provider" else voice.dialect
        self._words = Words(voice)
        self._key_header = "authorization" if voice is None else voice.key_header
        self._models = frozenset(rules.models)
        self._seed = str(rules.seed).encode()[:64]
        self._chancy = bool(self.faults) or self._latency.shape != "constant"

    def open(self, method: str, path: str, headers: Mapping[str, str]) -> Endpoint | Reply:
        """Judge a request by its head."""
        endpoint = find_endpoint(path)
        if endpoint is None:
            return self._words.no_such_url(method, path)
        allowed = "GET" if endpoint is Endpoint.MODELS else "POST"
        if method != allowed:
            return self._words.wrong_method(method, path, allowed)
        if not self._knows(headers.get(self._key_header, "")):
            return self._words.wrong_key()
        if endpoint is Endpoint.MODELS:
            return Reply(status=200, body=models_answer(self.rules.models))
        return endpoint

    def _knows(self, key: str) -> bool:
        if self.rules.key is None:
            return True
        expected = f"Bearer {self.rules.key}" if self._key_header == "authorization" else self.rules.key
        return compare_digest(key.encode(), expected.encode())

    def too_large(self) -> Reply:
        """The reply to a body above the limit."""
        return self._words.too_large(self.rules.max_body)

    def receive(self, endpoint: Endpoint, body: bytes, now: float) -> Visit:
        """Take in a whole request; ``finish`` the visit exactly once."""
        key = key_of(body)
        self._advance(now)
        self.ledger.sent(key, now)
        try:
            question = read_question(endpoint, body)
            asked = asked_fault(body)
            error = self._words.asked(body, question.model)
        except BadBodyError as wrong:
            return Visit(key=key, reply=self._words.bad_body(wrong.message, param=wrong.field))
        except ConfigError as wrong:
            return Visit(key=key, reply=self._words.bad_body(str(wrong), code="unknown_fault"))
        if self._models and question.model not in self._models:
            return Visit(key=key, reply=self._words.no_such_model(question.model))
        if error is not None:
            return Visit(key=key, reply=error)
        admission = self._gate.admit(self._reserve(question), now)
        if isinstance(admission, Refusal):
            return self._turn_away(key, admission, now)
        return self._serve(key, question, asked, admission, now)

    def _advance(self, now: float) -> None:
        """Make the changes whose time has come, as of that time."""
        started = self._started = now if self._started is None else self._started
        while self._changes and started + self._changes[0].after <= now:
            change = self._changes.popleft()
            self._set_limits({change.name: change.value}, started + change.after)

    def _reserve(self, question: Question) -> int:
        """Tokens to charge at admission."""
        if self.rules.charging == "actual":
            return 0
        if self.rules.charging == "estimate" or not question.writes:
            return question.prompt_estimate
        return question.prompt_estimate + question.inputs * (question.max_tokens or DEFAULT_MAX_TOKENS)

    def _turn_away(self, key: bytes, refusal: Refusal, now: float) -> Visit:
        self.ledger.refused(refusal.bound, now)
        levels = self._gate.levels(now)
        headers, body = self._dialect.refuse(refusal, levels)
        status = self._dialect.refused_as(refusal).status
        told = self._dialect.refusal_headers(levels) | headers
        return Visit(key=key, reply=Reply(status=status, body=body, headers=told))

    def _serve(
        self, key: bytes, question: Question, asked: AskedFault | None, admission: Admission, now: float
    ) -> Visit:
        time = self.ledger.admitted(key)
        headers = self._dialect.headers(self._gate.levels(now), stream=question.stream)
        fault_chance, latency_chance = self._chances(key, time) if self._chancy else (1.0, 0.5)
        fault = self.faults.draw(fault_chance)
        if asked is not None and (asked.times is None or time <= asked.times):
            fault = asked.fault
        if fault is not None and fault.is_of_streams and not question.stream:
            fault = None
        if fault is not None:
            self.ledger.faulted(fault)
        if fault is not None and fault.status is not None:
            return Visit(key=key, reply=self._words.fault(fault, headers), fault=fault, admission=admission)
        answer = make_answer(question, key, seed=self.rules.seed)
        reply = _spoil(Reply(status=200, body=answer.body, headers=headers), fault)
        events: tuple[bytes, ...] = ()
        if question.stream and fault not in (Fault.HTML, Fault.EMPTY):
            events = make_events(question, answer.body, manner=self._dialect.manner.stream, fault=fault)
            reply = replace(reply, content_type=EVENTS)
        return Visit(
            key=key,
            reply=reply,
            latency=self._latency.draw(latency_chance),
            fault=fault,
            admission=admission,
            answer=answer,
            events=events,
        )

    def _chances(self, key: bytes, time: int) -> tuple[float, float]:
        """Two numbers from 0 to 1 that belong to the *time*-th admission of this body, and to the seed."""
        noise = blake2b(b"%b %d" % (key, time), key=self._seed, digest_size=16).digest()
        return int.from_bytes(noise[:7]) / 2**56, int.from_bytes(noise[8:15]) / 2**56

    def finish(self, visit: Visit, ending: Ending, now: float) -> None:
        """The visit is over: free its place, correct its charge, count it."""
        charged = 0.0
        self._advance(now)
        if visit.admission is not None:
            charged = self._charge(visit.admission, visit.answer)
            self._gate.finish(visit.admission, charged, now)
        match ending:
            case Ending.WRITTEN:
                self.ledger.replied(visit.reply.status)
            case Ending.BROKEN:
                self.ledger.broken()
            case Ending.LEFT:
                self.ledger.left()
        if ending is Ending.WRITTEN and visit.answer is not None and (visit.fault is None or visit.fault.spares_answer):
            self.ledger.answered(visit.key, now, tokens=charged, latency=visit.latency)

    def _charge(self, admission: Admission, answer: CannedAnswer | None) -> float:
        if self.rules.charging == "estimate":
            return admission.reserved
        return 0.0 if answer is None else answer.tokens

    def control(self, path: str, body: bytes, now: float) -> Reply | None:
        """Answer the scoreboard's own addresses, but for the ledger's lines; None = it is none of them."""
        match path:
            case "/_score":
                return Reply(status=200, body=_ENCODER.encode(self.ledger.score()))
            case "/_reset":
                self.ledger.reset()
            case "/_limits":
                try:
                    self.set_limits(msgspec.json.decode(body, type=dict[str, int | None]), now)
                except (ConfigError, msgspec.DecodeError) as error:
                    return refuse(400, f'{error}; send for example {{"rpm": 60, "concurrency": null}}')
            case _:
                return None
        return Reply(status=200, body=_ENCODER.encode(self.limits))

    def set_limits(self, change: dict[str, int | None], now: float) -> None:
        """Change the limits that *change* names (rpm, tpm, concurrency; None = no limit). Raises ConfigError."""
        if self._started is not None:
            self._advance(now)
        self._set_limits(change, now)

    def _set_limits(self, change: dict[str, int | None], now: float) -> None:
        self.limits = self.limits.changed(change)
        self._gate.set_limits(self.limits, now)
        self.ledger.set_limits(self.limits, now)

    def ledger_lines(self, chunk: int = 1000) -> Iterator[bytes]:
        """All keys as JSON lines, *chunk* of them at a time."""
        lines: list[bytes] = []
        for key, tally in self.ledger.tallies():
            lines.append(b'{"key":"%b","sends":%d,"answers":%d}\n' % (key.hex().encode(), tally.sends, tally.answers))
            if len(lines) == chunk:
                yield b"".join(lines)
                lines.clear()
        yield b"".join(lines)


def _spoil(reply: Reply, fault: Fault | None) -> Reply:
    if fault is Fault.HTML:
        return Reply(status=200, body=_HTML, headers=reply.headers, content_type=HTML)
    if fault is Fault.EMPTY:
        return Reply(status=200, body=_EMPTY, headers=reply.headers)
    return reply
