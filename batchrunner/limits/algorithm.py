"""The kinds of clock by which servers limit."""

from enum import StrEnum


class Algorithm(StrEnum):
    """What kind of clock the server seems to run."""

    UNKNOWN = "unknown"  # nothing comes back by itself, as far as we know
    BUCKET = "bucket"
    WINDOW = "fixed window"
    SLIDING = "sliding window"
    COUNTER = "sliding counter"  # a sliding window that is only estimated: comes back steadily, like a bucket


SETTLED = (Algorithm.SLIDING, Algorithm.COUNTER)  # no reset says more about these
STEADY = (Algorithm.BUCKET, Algorithm.COUNTER)  # capacity comes back all the time
