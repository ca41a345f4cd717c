"""Waits that grow."""

from hypothesis import given
from hypothesis import strategies as st

from batchrunner.growth import grown


def test_it_doubles_up_to_the_most() -> None:
    assert [grown(30.0, times, most=200.0) for times in range(5)] == [30.0, 60.0, 120.0, 200.0, 200.0]
    assert grown(1.0, 0.5, by=4.0, most=9.0) == 2.0


@given(st.floats(1e-3, 1e3), st.floats(-1, 1e9), st.floats(1.001, 100), st.floats(1e-3, 1e6))
def test_it_is_never_more_than_the_most(first: float, times: float, by: float, most: float) -> None:
    """However often; the power alone would be no float after a thousand times."""
    assert 0 < grown(first, times, by=by, most=most) <= most
    assert grown(first, times, by=by, most=most) <= grown(first, times + 1, by=by, most=most)
