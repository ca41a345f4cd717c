"""Refusal after refusal, whatever is believed."""

from batchrunner.limits.brake import MOST, Brake


def test_a_week_of_refusals_is_waited_for() -> None:
    """Ten thousand in a row: each waits, none longer than is useful, and nothing grows beyond what a number holds."""
    brake, now = Brake(now=0.0), 0.0
    for _ in range(10_000):
        now += 60.0
        brake.refused(now - 1.0, now)
        assert brake.wait(now, alone=True) <= MOST
    assert brake.wait(now, alone=True) == MOST
    brake.answered()
    brake.refused(now + 59.0, now + 60.0)
    assert brake.wait(now + 60.0, alone=True) <= 0.0
