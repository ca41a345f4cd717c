"""Whether more in flight brings more answers a second, or only a longer queue: some servers refuse nothing (vLLM,
llama.cpp, Ollama).

By Little's law answers a second are requests in flight over seconds that each takes. They are taken from what each
answer tells, so it does not matter whether answers come evenly or in bursts; compared are geometric means, as the times
of answers differ by factors. Enough are as many as give the most answers a second at the time that each takes alone.
"""

from collections import deque
from dataclasses import dataclass
from math import log

STAGE = 1.5  # times the limit
ANSWERS = 8  # of a stage, at the least
TELLING = 2.0  # times as many in flight as in an earlier stage, for the two to be compared
GAIN = 1 / 3  # power of as many times as many in flight, in answers a second; less, and the server only queues them
STAGES = 4
SPARE = 1.25  # times what is enough, so that the server never waits for us
LEAST = 0.001  # seconds of an answer
LONG = 120.0  # seconds; an answer that takes longer, and
SLOWER = 2.0  # times what they took beside fewer, most likely waited behind others, and soon some would time out


@dataclass(slots=True)
class _Stage:
    """Growth to half as much again: how many were in flight with each answer, and its seconds, in all; and the same of
    their logarithms.
    """

    limit: float
    answers: int = 0
    beside: int = 0
    took: float = 0.0
    log_beside: float = 0.0
    log_took: float = 0.0

    def add(self, beside: int, took: float) -> None:
        self.answers, self.beside, self.took = self.answers + 1, self.beside + beside, self.took + took
        self.log_beside += log(beside)
        self.log_took += log(max(took, LEAST))

    @property
    def seconds(self) -> float:
        return self.took / self.answers

    def more(self, fewer: "_Stage") -> tuple[float, float]:
        """Logarithms of how many times as many were in flight, and of how many times as many answers came a second."""
        beside = self.log_beside / self.answers - fewer.log_beside / fewer.answers
        return beside, beside - (self.log_took / self.answers - fewer.log_took / fewer.answers)


class Saturation:
    """*limit*: how many may be in flight now."""

    def __init__(self, limit: float) -> None:
        self._stage = _Stage(limit)
        self._stages: deque[_Stage] = deque(maxlen=STAGES)

    def restart(self, limit: float) -> None:
        """Something else limits us, or a new try begins."""
        self._stage = _Stage(limit)
        self._stages.clear()

    def has_waited(self, took: float) -> bool:
        """Whether an answer of *took* seconds most likely waited for others, so long that no more should be let in."""
        first = self._stages[0] if self._stages else self._stage
        return took > max(LONG, SLOWER * (first.seconds if first.answers else took))

    def enough(self, limit: float, beside: int, took: float) -> float | None:
        """One more answer, after *took* seconds, to a request that left as one of *beside*. Returns how many in flight
        are as fast as more, once that shows.
        """
        stage = self._stage
        stage.add(beside, took)
        if limit < STAGE * stage.limit or stage.answers < ANSWERS:
            return None
        for fewer in self._stages:
            in_flight, rate = stage.more(fewer)
            if in_flight >= log(TELLING):
                if rate < GAIN * in_flight:
                    return SPARE * min(each.seconds for each in self._stages) * stage.beside / max(stage.took, LEAST)
                break
        self._stages.append(stage)
        self._stage = _Stage(limit)
        return None
