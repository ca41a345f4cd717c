"""The body as it is sent: byte for byte what the line says, unless a stream was asked for by ``--stream``. Pure.

That happens here and not when the job is loaded, so that the same question with and without a stream is the same
question, and its answer is never paid for twice.
"""

import json

_STREAMING = {  # what can be streamed, and whether its usage comes only where ``stream_options`` asks for it
    "chat/completions": True,
    "completions": True,
    "responses": False,
}


def outgoing(body: str, endpoint: str, *, stream: bool, usage: bool) -> str:
    """*body*, with ``"stream": true`` where *stream* says so and the body says nothing of it.

    *usage*: the provider tells a stream's usage only if asked, so whoever streams asks for it, unless the body says
    something of that too.
    """
    if endpoint not in _STREAMING or not (stream or '"stream"' in body):
        return body
    named = json.loads(body) if '"stream' in body else {}
    added = '"stream":true,' if "stream" not in named else ""
    if named.get("stream", stream) is True and usage and _STREAMING[endpoint] and "stream_options" not in named:
        added += '"stream_options":{"include_usage":true},'
    if not added or ("stream" not in named and not stream):
        return body
    start, _, rest = body.partition("{")
    return f"{start}{{{added}{rest}"
