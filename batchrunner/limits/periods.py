"""The lengths that windows usually have."""

PERIODS = (1.0, 10.0, 60.0, 300.0, 3600.0, 86400.0)
SNAP = 0.05  # of a usual period


def snapped(seconds: float) -> float:
    """The usual length that it most likely is, or itself."""
    return next((period for period in PERIODS if abs(period - seconds) <= SNAP * period), seconds)
