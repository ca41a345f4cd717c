"""When a fixed window began, where one begins with a request: with the first of ours, as far as is known."""

from math import inf


class Beginning:
    """``sent``: when the first of ours left; infinite until then."""

    def __init__(self, sent: float = inf) -> None:
        self.sent = sent
        self._arrived = inf  # the first that is known to have come, by then
        self._held_up = False  # one of them, for nobody knows how long

    @property
    def at(self) -> float:
        """When it came, as far as its reply told that it came late."""
        return self.sent if self._arrived == inf else max(self.sent, self._arrived)

    @property
    def is_unsure(self) -> bool:
        """Whether those that were answered were all held up."""
        return self._held_up and self._arrived == inf

    def leaves(self, at: float) -> None:
        """One of ours leaves at *at*."""
        self.sent = min(self.sent, at)

    def arrived(self, sent: float, by: float | None) -> None:
        """One of ours that left at *sent* was there at *by*; None: it was held up, on its way there or back."""
        if sent < self.sent:
            return
        if by is None:
            self._held_up = True
        else:
            self._arrived = min(self._arrived, by)
