"""Waits that grow from one time to the next, up to a most. Pure."""

from math import log


def grown(first: float, times: float, *, by: float = 2.0, most: float) -> float:
    """*first*, *by* times as much for each of *times*, and *most* at the most.

    After a night of trying the power alone would be no float any more.
    """
    if first >= most or times * log(by) >= log(most / first):
        return most
    power: float = by**times
    return first * power
