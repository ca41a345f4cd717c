"""How many tokens a request will use, before it is sent: its size, corrected by what replies report.

The size is UTF-8 bytes / 4 (size.py), or what a tokenizer counts (tokenizer.py). A factor and a per-request constant
are learned from ``usage``, by least squares that forgets: the JSON that is no prompt, the chat template, a tokenizer
that is another model's. The output is expected to be what 90 % of the answers so far stayed under. Images and files
take what they took on the average so far, beyond the text around them.
"""

import re
from collections import deque
from collections.abc import Mapping
from math import isfinite
from typing import Any

from batchrunner.size import Size

FORGET = 0.995  # per reply
LEARN_FROM = 8  # replies before the fit is believed
REMEMBERED = 200  # answers the output's distribution is taken from
QUANTILE = 0.9
UNKNOWN_MEDIUM = 1000.0  # tokens of an image or a file, before an answer says: OpenAI takes 85 to 1,105 for an image
MEDIUM_MOST = 250_000.0  # tokens; more is nonsense
NONSENSE = 16.0  # tokens for one of the size: four for a byte
SURELY = 0.7  # of the estimate: it may be a third too high
FACTOR_LEAST, FACTOR_MOST = 0.08, 8.0  # tokens for one of the size
UNKNOWN_OUTPUT = 512.0  # tokens, where neither max_tokens nor an answer says
_MAX_TOKENS = re.compile(r'"max_(?:completion_|output_)?tokens"\s*:\s*(\d{1,9})')


class TokenEstimate:
    """Learns from usage; ``prompt`` and ``output`` are in tokens."""

    def __init__(self) -> None:
        self.factor = 1.0
        self.constant = 0.0
        self.medium = UNKNOWN_MEDIUM
        self._media = 0.0  # that it was learned from
        self._n = self._x = self._y = self._xx = self._xy = 0.0
        self._outputs: deque[int] = deque(maxlen=REMEMBERED)
        self._expected: float | None = None
        self._believed = False  # factor and constant are an earlier run's

    def cost(self, size: Size, body: str, *, endpoint: str = "chat/completions") -> float:
        """Tokens to reserve for a request; *size* is the body's."""
        return self.prompt(size) + (0.0 if endpoint == "embeddings" else self.output(max_tokens(body)))

    def prompt(self, size: Size) -> float:
        return max(1.0, self._text(size) + self.medium * size.media)

    def surely(self, size: Size) -> float:
        """The least a prompt takes; of what is no text nothing is sure before an answer told of it.

        Nor of another job's prompts, before some of this one's were answered.
        """
        if self._media:
            return SURELY * self.prompt(size)
        return SURELY * max(1.0, self._text(size) if self._n else min(self._text(size), size.tokens))

    def output(self, most: int | None) -> float:
        """Expected tokens of an answer that may have at most *most*."""
        if self._expected is None:
            return float(UNKNOWN_OUTPUT if most is None else most)
        return self._expected if most is None else min(self._expected, float(most))

    def learn(self, size: Size, prompt_tokens: int, completion_tokens: int) -> None:
        """From one reply's usage; nonsense (nothing, or many times its size) is passed over."""
        most = 1000 + NONSENSE * size.tokens + MEDIUM_MOST * size.media
        if not 0 < prompt_tokens <= most or completion_tokens < 0:
            return
        if size.media:
            self._weigh(size, float(prompt_tokens))
        else:
            self._fit(size.tokens, float(prompt_tokens))
        self._outputs.append(completion_tokens)
        if self._expected is None or len(self._outputs) < LEARN_FROM or self._n % 8 < 1:
            ordered = sorted(self._outputs)
            self._expected = float(ordered[min(int(QUANTILE * len(ordered)), len(ordered) - 1)])

    def beliefs(self) -> dict[str, float] | None:
        """What prompts take, as JSON for the next run; what answers take is each job's own. None: not known yet."""
        if self._n < LEARN_FROM and not self._media and not self._believed:
            return None
        return {"factor": self.factor, "constant": self.constant, "medium": self.medium}

    def believe(self, beliefs: Mapping[str, Any]) -> None:
        """Start from what an earlier run learned; answers correct it. Raises KeyError, TypeError or ValueError."""
        factor, constant, medium = (float(beliefs[name]) for name in ("factor", "constant", "medium"))
        if not (FACTOR_LEAST <= factor <= FACTOR_MOST and isfinite(constant) and 0 <= medium <= MEDIUM_MOST):
            raise ValueError(f"a prompt takes no {factor} tokens and {constant} for one of the size")
        self.factor, self.constant, self.medium = factor, constant, medium
        self._believed = True

    def _text(self, size: Size) -> float:
        return self.constant + self.factor * size.tokens

    def _weigh(self, size: Size, tokens: float) -> None:
        """What is not the text's is that of the images and files beside it, in equal parts."""
        self._media = self._media * FORGET + size.media
        beside = max(tokens - self._text(size), 0.0)
        self.medium += (beside - self.medium * size.media) / self._media

    def _fit(self, x: float, y: float) -> None:
        self._n = self._n * FORGET + 1
        self._x = self._x * FORGET + x
        self._y = self._y * FORGET + y
        self._xx = self._xx * FORGET + x * x
        self._xy = self._xy * FORGET + x * y
        if self._n < LEARN_FROM:
            return
        spread = self._n * self._xx - self._x * self._x
        if spread > 0.01 * self._x * self._x:  # bodies of different sizes: slope and constant can be told apart
            slope = (self._n * self._xy - self._x * self._y) / spread
            self.factor = min(max(slope, FACTOR_LEAST), FACTOR_MOST)
        elif self._x:  # what is more than the size is most likely added to each, such as a chat template
            self.factor = min(self._y / self._x, 1.0)
        self.constant = (self._y - self.factor * self._x) / self._n  # below 0: the JSON around the prompt is no tokens


def max_tokens(body: str) -> int | None:
    """The answer's cap as the request states it; the largest where several names are given.

    Read off the text: inside a JSON string the quotes would be escaped, so a prompt that speaks of max_tokens is not
    taken for the parameter.
    """
    found = _MAX_TOKENS.findall(body)
    return max(map(int, found)) if found else None
