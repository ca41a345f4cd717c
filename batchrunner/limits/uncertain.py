"""How far the tokens of what is in flight may be from what was reckoned: each is known by its answer only."""

from batchrunner.quota import Dimension

SPREAD = 0.3  # of what is reckoned for a request, by which its tokens usually differ
DEVIATIONS = 3.0


def uncertain(dimension: Dimension, outstanding: float, usual: float, *, most: float) -> float:
    """Tokens to hold back against *outstanding* ones in flight, of requests that take *usual* each."""
    if dimension is Dimension.REQUESTS:
        return 0.0
    return float(min(DEVIATIONS * SPREAD * (outstanding * usual) ** 0.5, most))
