"""How long the simulated model takes: a constant or a distribution, drawn from a number and not from chance."""

from dataclasses import dataclass
from math import exp, isfinite
from statistics import NormalDist
from typing import Literal

from batchrunner.errors import ConfigError

_NORMAL = NormalDist()
_FORMS = "a number of seconds, lognormal:MEAN:SIGMA or uniform:LOW:HIGH"


@dataclass(frozen=True, slots=True)
class Latency:
    """Seconds an answer takes.

    ``first``, ``second``: the constant and 0; mean and sigma (of the logarithm); or the two ends.
    """

    shape: Literal["constant", "lognormal", "uniform"]
    first: float
    second: float = 0.0

    def draw(self, chance: float) -> float:
        """Seconds for one answer; *chance* from 0 to 1 says where in the distribution it stands."""
        if self.shape == "constant":
            return self.first
        if self.shape == "uniform":
            return self.first + chance * (self.second - self.first)
        deviation = _NORMAL.inv_cdf(min(max(chance, 1e-9), 1 - 1e-9))
        return self.first * exp(self.second * deviation - self.second**2 / 2)


def parse_latency(spec: str | float) -> Latency:
    """Read ``0.1``, ``lognormal:0.8:0.5`` or ``uniform:0.1:0.3``. Raises ConfigError."""
    shape, *numbers = str(spec).split(":")
    if not numbers:
        shape, numbers = "constant", [shape]
    values = [_seconds(number, spec) for number in numbers]
    match shape, values:
        case "constant", [seconds]:
            return Latency("constant", seconds)
        case "lognormal", [mean, sigma] if mean > 0:
            return Latency("lognormal", mean, sigma)
        case "uniform", [low, high] if low <= high:
            return Latency("uniform", low, high)
    raise ConfigError(f"the latency {str(spec)!r} makes no sense; give {_FORMS}")


def _seconds(text: str, spec: str | float) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not isfinite(value) or value < 0:
        raise ConfigError(f"the latency {str(spec)!r}: {text!r} is no number of seconds; give {_FORMS}")
    return value
