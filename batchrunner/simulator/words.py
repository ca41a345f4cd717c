"""What the simulator says of its own accord: a wrong key, an unknown model, a body that can't be read, a fault.

In the words of the provider that is played, else in OpenAI's form.
"""

from dataclasses import dataclass, field

import msgspec

from batchrunner.simulator.dialects import Headers
from batchrunner.simulator.faults import Fault
from batchrunner.simulator.voices import Voice
from batchrunner.task import FailureClass

JSON = "application/json"
HTML = "text/html; charset=utf-8"
_ENCODER = msgspec.json.Encoder()
_FAULTS = {
    400: "Simulated fault: this request makes no sense.",
    401: "Simulated fault: incorrect API key provided.",
    500: "Simulated fault: the server had an error while processing your request.",
    503: "Simulated fault: the server is overloaded, please try again later.",
}
_BAD_REQUEST, _UNAUTHORIZED, _SERVER_ERROR = 400, 401, 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """A whole HTTP reply."""

    status: int
    body: bytes
    headers: Headers = field(default_factory=dict)
    content_type: str = JSON


def error_reply(status: int, body: bytes, headers: Headers | None = None) -> Reply:
    """An error that is JSON, or HTML."""
    content_type = HTML if body.startswith(b"<") else JSON
    return Reply(status=status, body=body, headers=headers or {}, content_type=content_type)


def refuse(status: int, message: str, *, code: str | None = None, param: str | None = None) -> Reply:
    """An error in OpenAI's form."""
    kind = "server_error" if status >= _SERVER_ERROR else "invalid_request_error"
    error = {"message": message, "type": kind, "param": param, "code": code}
    return Reply(status=status, body=_ENCODER.encode({"error": error}))


@dataclass(frozen=True, slots=True)
class Words:
    """The simulator's own errors; ``voice`` None = in OpenAI's form."""

    voice: Voice | None

    def no_such_url(self, method: str, path: str) -> Reply:
        return self._say(404, f"Unknown request URL: {method} {path}.", code="unknown_url")

    def wrong_method(self, method: str, path: str, allowed: str) -> Reply:
        message = f"Not allowed to {method} on {path} (HINT: perhaps you meant to make a {allowed} request?)"
        reply = self._say(405, message, code="method_not_allowed")
        return Reply(status=405, body=reply.body, headers={"Allow": allowed})

    def wrong_key(self) -> Reply:
        known = self._own(FailureClass.AUTH)
        return known or self._say(_UNAUTHORIZED, "Incorrect API key provided.", code="invalid_api_key")

    def no_such_model(self, model: str) -> Reply:
        message = f"The model `{model}` does not exist or you do not have access to it."
        known = self._own(FailureClass.MODEL_NOT_FOUND, model)
        return known or self._say(404, message, code="model_not_found", param="model")

    def bad_body(self, message: str, *, code: str | None = None, param: str | None = None) -> Reply:
        """With what is wrong in it, and the status that such a request has there."""
        known = self._own(FailureClass.BAD_REQUEST)
        return self._say(_BAD_REQUEST if known is None else known.status, message, code=code, param=param)

    def too_large(self, limit: int) -> Reply:
        """The reply to a body above *limit* bytes."""
        return self._say(
            413, f"The request body is larger than the {limit:,} bytes this server takes.", code="too_large"
        )

    def fault(self, fault: Fault, headers: Headers) -> Reply:
        """A fault that is an HTTP status."""
        assert fault.status is not None
        code = "invalid_api_key" if fault.status == _UNAUTHORIZED else None
        return error_reply(fault.status, self._say(fault.status, _FAULTS[fault.status], code=code).body, headers)

    def asked(self, body: bytes, model: str) -> Reply | None:
        """The error that a request asks for. Raises ConfigError if the provider has no such error."""
        error = None if self.voice is None else self.voice.asked(body, model)
        return None if error is None else error_reply(*error)

    def _own(self, kind: FailureClass, model: str = "") -> Reply | None:
        error = None if self.voice is None else self.voice.error(kind, model)
        return None if error is None else error_reply(*error)

    def _say(self, status: int, message: str, *, code: str | None = None, param: str | None = None) -> Reply:
        if self.voice is None:
            return refuse(status, message, code=code, param=param)
        return error_reply(status, self.voice.say(message))
