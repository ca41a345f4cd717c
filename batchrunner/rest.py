"""How long a lane rests whose allowance is used up: until the hour the server names, or for a while; then one asks.

Not all say when there will be more (Mistral's month), and what some say is not so (Gemini asks for seconds where a day
is used up, a clock may be ahead of the server's). So each time that one asked in vain the next rest is twice as long,
up to an hour. Pure.
"""

from batchrunner.growth import grown

TOLD, UNTOLD = 1.0, 900.0  # seconds of the first rest at the least, where the server says until when, and where not
MOST = 3600.0  # seconds at which it stops to grow


class Rest:
    """Of one lane."""

    def __init__(self) -> None:
        self._times = 0  # since the last answer

    def seconds(self, told: float | None) -> float:
        """The next rest; *told*: seconds that the server asks for, None = it does not say."""
        least = grown(UNTOLD if told is None else TOLD, self._times, most=MOST)
        self._times += 1
        return max(told or 0.0, least)

    def answered(self) -> None:
        self._times = 0
