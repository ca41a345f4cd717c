"""How far the tokens of what is in flight may be from what was reckoned: each is known by its answer only."""

from batchrunner.quota import Dimension

SPREAD = 0.3  # of what is reckoned for a request, by which its tokens usually differ, as long as no answer told
DEVIATIONS = 3.0
GAIN = 1 / 32  # of an answer


class Uncertain:
    """``spread``: by how much of what is reckoned tokens differ: SPREAD, until ``learn`` is told of answers."""

    def __init__(self) -> None:
        self._square = SPREAD**2

    @property
    def spread(self) -> float:
        return float(self._square**0.5)

    def learn(self, tokens: float, reckoned: float) -> None:
        """An answer took *tokens*."""
        if reckoned > 0:
            self._square += ((tokens / reckoned - 1.0) ** 2 - self._square) * GAIN

    def reserve(self, dimension: Dimension, outstanding: float, usual: float, *, most: float) -> float:
        """Tokens to hold back against *outstanding* ones in flight, of requests that take *usual* each."""
        if dimension is Dimension.REQUESTS:
            return 0.0
        return float(min(DEVIATIONS * self.spread * (outstanding * usual) ** 0.5, most))
