"""The first tasks of a job at a lane go alone: a wrong body, model or address is found out by three, not by a million.

Nothing more goes until one of them was answered; that is a round trip at most, for the limiter sends its first request
alone anyway. If so many as the canary has all failed for one reason, every other task would fail for it too.
"""

from batchrunner.task import Failure, FailureClass, Lease, Success

# The provider read these and judged what is in them: key, model and address are right, whatever the text.
OF_ONE_TASK = frozenset({FailureClass.CONTENT_FILTER, FailureClass.CONTEXT_LENGTH, FailureClass.REQUEST_TOO_LARGE})


class Canary:
    """Of *size* tasks; none of 0. Told of every send and of what became of it."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._in_flight = 0
        self._alike: list[tuple[Lease, Failure]] = []  # the newest failures, as far back as they are of one class
        self._answered = size == 0
        self._good = self._ended = self._tokens = 0
        self._told = size == 0

    @property
    def is_waiting(self) -> bool:
        """Whether nothing more may go until something comes back."""
        return not self._answered and self._in_flight + len(self._alike) >= self.size

    @property
    def is_dead(self) -> bool:
        return not self._answered and len(self._alike) >= self.size

    @property
    def unpaid(self) -> tuple[Lease, ...]:
        """Those that failed alike and cost nothing: they may be asked again once the reason is mended."""
        return tuple(lease for lease, failure in self._alike if failure.usage is None)

    def sent(self) -> None:
        self._in_flight += 1

    def came_back(self) -> None:
        """Whatever it was; if it settled its task, ``answered`` or ``failed`` tells it too."""
        self._in_flight -= 1

    def answered(self, success: Success) -> None:
        self._answered = True
        self._alike.clear()
        self._count(good=1, tokens=0 if success.usage is None else success.usage.completion_tokens)

    def failed(self, lease: Lease, failure: Failure) -> None:
        """For good: no further try."""
        self._count()
        if failure.kind in OF_ONE_TASK or self._answered:
            return
        if self._alike and self._alike[-1][1].kind is not failure.kind:
            self._alike.clear()
        self._alike.append((lease, failure))

    def word(self) -> str | None:
        """How the first *size* tasks did, once: when all of them came back and one was answered."""
        if self._told or not self._answered or self._ended < self.size:
            return None
        self._told = True
        return f"{self._good} of {self.size} good ({self._tokens:,} tokens out)"

    def _count(self, *, good: int = 0, tokens: int = 0) -> None:
        if self._ended < self.size:
            self._ended += 1
            self._good += good
            self._tokens += tokens
