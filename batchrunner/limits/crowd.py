"""Whether a server that tells nothing refuses because too many are in flight, and not because of a rate.

A limit in flight lets pass, at any rate, what leaves while it is not full; a rate or a window refuses with few in
flight too. So a first refusal with more in flight than ever passed is put down to the crowd: fewer are let in, one
goes first, and after some answers one more is tried, at a moment when nothing else has just left. If something is
refused among no more than the server had let in, it was no crowd (found.py finds out what it was). If one more passes,
it was a tiny bucket that had just been emptied. If one more is refused, it is a limit in flight, and slots.py keeps it.

Where the server asks for a wait as long as one for a window, that is looked for as well, and holds nobody while it is
only suspected: a limit in flight asks for the same wait each time, a window for what is left of it.
"""

from collections import Counter, deque
from math import ceil, inf

from batchrunner.limits.slots import Slots

CHANCE = 2  # that passed with as many in flight before do not matter: a burst arrives in any order
LUCK = 2  # that passed among too many do not matter either,
ON_ITS_WAY = 1.5  # times the way of a refusal; a reply by then may have made place
MORE = 1.25  # times as many as were believed to be the most have passed: they were not
CAREFUL = 8  # answers after a suspicion, until which one request goes at a time:
TRIPS = 4.0  # times the way of a refusal without one: it passed
TRUSTED = 100  # answers after a suspicion, and it may be doubted again
REPLIES = 64
AHEAD = 0.1  # seconds that permits are given ahead
SPACED = 0.8  # of the longest time between two sends, or of an answer's, if that is shorter
FADES = 0.97  # of that time, for each send
SHORT = 2.0  # seconds; where a longer wait is asked for, it may be a window's, and is not the same each time
WAIT = 10.0  # seconds; who asks for a longer one does not mean too many at once
SMOOTH = 1 / 8  # of a new answer's time, in the usual one


class Crowd:
    """*beside*: how many were in flight when a request left, itself included."""

    def __init__(self) -> None:
        self._passed: Counter[int] = Counter()  # answers, by how many were in flight
        self._sent_at, self._gap, self._took = -inf, 0.0, 0.0
        self._replies: deque[float] = deque(maxlen=REPLIES)  # the times of the last ones
        self._since: float | None = None  # the suspicion
        self._most = 0  # in flight at that time, that the server had let in
        self._trip = 0.0  # of a refusal
        self._named: float | None = None  # the wait that the server asked for, at that time
        self._answers = 0  # since then
        self._over_most = 0  # passed since then, with too many
        self._proven = False  # one more was refused, when so many passed
        self._events, self._doubts = 0, CHANCE
        self._over = False
        self.at_once: int | None = None  # so many were let in at once, and more in turn

    @property
    def is_in_doubt(self) -> bool:
        """Whether it is suspected only."""
        return self._since is not None and not self._proven

    @property
    def is_proven(self) -> bool:
        return self._proven

    def wait(self, slots: Slots, now: float) -> float:
        """Seconds that nobody should send, so that the next reply tells something."""
        if self._since is None or self._over:
            return 0.0
        last = max(self._sent_at, self._since)
        space = TRIPS * self._trip if self._answers < CAREFUL else 0.0
        if slots.in_flight >= self._most:
            space = max(space, SPACED * min(self._gap, self._took))
        if not space:
            return 0.0
        return last + space - now + (AHEAD if last > now else 0.0)  # one ahead at a time

    def sent(self, at: float) -> None:
        """A send."""
        self._gap = max(at - self._sent_at, self._gap * FADES) if self._sent_at > -inf else 0.0
        self._sent_at = at

    def passed(self, beside: int, given_at: float, sent_at: float, now: float, slots: Slots) -> None:
        """An answer: so many are not too many. *given_at*: when its permit was."""
        self._passed[beside] += 1
        self._took += ((now - sent_at) - self._took) * (SMOOTH if self._took else 1.0)
        if self._since is not None and sent_at > self._since:
            self._answers += 1
            place_made = any(given_at < at <= sent_at + ON_ITS_WAY * self._trip for at in self._replies)
            if beside >= max(self._most + 1, ceil(MORE * self._most)) and not place_made:
                self._over_most += 1
        self._replies.append(now)
        if self._over_most > LUCK:
            self.at_once = self._most if self._events == 1 else None
            self._end(slots)

    def refused(
        self, beside: int, sent_at: float, now: float, slots: Slots, *, known: bool, retry_after: float | None = None
    ) -> bool:
        """Whether a refusal is put down to the crowd. *known*: another limit was found. Call it before ``give``."""
        self._replies.append(now)
        beside, others = max(beside, slots.in_flight), max(slots.in_flight - 1, 1)
        if self._over:
            return False
        if self._since is None:
            if known or beside <= 1 or self._passed_with(beside) > CHANCE or (retry_after or 0.0) > WAIT:
                return False
            self._named = retry_after
        elif retry_after != self._named and max(retry_after or 0.0, self._named or 0.0) > SHORT:
            if not self._proven:
                self._end(slots)
            return False
        elif sent_at <= self._since:  # one more of the same event
            self._most = min(self._most, others)
            return True
        elif slots.limit > self._most:  # the one more
            self._events += 1
            self._since, self._proven, self._over_most, slots.doubtful = now, True, 0, False
            return True
        elif known or beside <= 1 or not self._may_doubt(slots):
            self._proven = False
            self._end(slots)
            return False
        self._events += 1
        self._since, self._most, self._proven = now, others, False
        self._trip, self._answers, self._over_most = now - sent_at, 0, 0
        slots.doubtful = True
        return True

    def _may_doubt(self, slots: Slots) -> bool:
        """Whether it may be a limit in flight all the same: a lower one, or a reply was on its way. Not for ever."""
        self._doubts = CHANCE if self._answers >= TRUSTED else self._doubts - 1
        return self._doubts >= 0 and (self._proven or slots.in_flight >= self._most > 1)

    def _passed_with(self, least: int) -> int:
        return sum(answers for beside, answers in self._passed.items() if beside >= least)

    def _end(self, slots: Slots) -> None:
        """It was something else, or it is a limit in flight no more."""
        self._over, self._since, self._over_most = not self._proven, None, 0
        slots.forget()
