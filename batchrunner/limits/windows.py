"""All windows of one endpoint, key and model, and three kinds of watch on them.

* *told*: a window that replies report on. Trusted most; corrected by each reply (meter.py).
* *stated*: what the user configured, or what only refusals name, or a number without what is left of it (stated.py),
  until replies confirm the limit.
* *found*: the server refuses without saying why (found.py).
"""

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from batchrunner.limits import beliefs
from batchrunner.limits.algorithm import Algorithm
from batchrunner.limits.charging import RECKONED, When
from batchrunner.limits.diary import Diary
from batchrunner.limits.found import Found, Mode
from batchrunner.limits.mark import Mark
from batchrunner.limits.meter import Meter
from batchrunner.limits.spent import Spent
from batchrunner.limits.stated import USED_UP, Stated
from batchrunner.limits.written import Written
from batchrunner.quota import Dimension, Window
from batchrunner.task import Failure, Usage

MINUTE = 60.0
CONFIRMED = 0.95  # of a stated limit, told by the server, is the same limit
LONG = 3600.0  # seconds
UNTOLD = 8  # replies
PARKED = 900.0  # seconds; a longer wait for what nobody says when it is renewed is no matter of pace
STATED, NAMED, TOLD = "stated", "named", "told"  # by the user, by refusals only, by replies
FINDABLE = (Dimension.REQUESTS, Dimension.TOKENS)

Key = tuple[Dimension, str]
Marks = tuple[tuple[Key, Mark], ...]


class Windows:
    """What is left, over all of them. *cost* is tokens; a window of requests counts one."""

    def __init__(self, *, now: float) -> None:
        self._told: dict[Key, Meter] = {}
        self._met: dict[Key, Mark] = {}  # of the send by whose reply it was met
        self._stated: dict[Key, Stated] = {}
        self._found = {dimension: Found(now=now) for dimension in FINDABLE}
        self._doubted = False  # what is found: nobody waits for it
        self._confirmed: frozenset[Key] = frozenset()  # of those, what is told as well
        self._written = Written()
        self._noted: dict[Dimension, int] = {}

    def state(self, dimension: Dimension, limit: float, *, now: float) -> None:
        """The user says: *limit* a minute."""
        self._stated[dimension, STATED] = Stated(dimension, limit, now=now, period=MINUTE)

    # -- may it go?

    @property
    def undecided(self) -> bool:
        """Whether a single reply should be seen before the others go."""
        return any(meter.undecided for meter in self._told.values())

    def waits(self, cost: float, now: float, *, alone: bool) -> Iterator[tuple[float, str]]:
        """Seconds that each window asks for, and its name; *alone*: nothing is in flight."""
        for (dimension, _), meter in self._told.items():
            yield meter.wait(dimension.share(cost), now, alone=alone), _NAMES.get(dimension, dimension)
        for key, stated in self._stated.items():
            if key not in self._confirmed:
                yield stated.wait(key[0].share(cost), now, alone=alone), _NAMES.get(key[0], key[0])
        for dimension, found in ({} if self._doubted else self._found).items():
            yield found.wait(dimension.share(cost), now), _NAMES[dimension]

    def used_up(self, cost: float, now: float, *, refused: bool) -> Window | None:
        """The long window without a reset that holds less than *cost*, and for a long time, or *refused* it."""
        for (dimension, _), meter in self._told.items():
            share = dimension.share(cost)
            if not _is_allowance(meter) or meter.level(now) >= share * meter.factor:
                continue
            if refused or meter.wait(share, now, alone=True) > PARKED:
                left = max(meter.remaining, 0.0)
                return Window(dimension=dimension, limit=meter.limit, remaining=left, period=meter.period)
        return None

    def forget_allowances(self) -> None:
        """The next reply tells of them anew; and what refused with plenty left was no hidden rate, but one of them."""
        self._told = {key: meter for key, meter in self._told.items() if not _is_allowance(meter)}
        told = {dimension for dimension, _ in self._told}
        self._found = {dimension: found for dimension, found in self._found.items() if dimension not in told}

    def take(self, cost: float, at: float) -> Marks:
        """Charge a send that leaves at *at* to all of them."""
        for dimension, found in self._found.items():
            found.take(dimension.share(cost), at)
        return tuple((key, watch.take(key[0].share(cost), at)) for key, watch in self._watches())

    # -- what came of it

    def release(self, marks: Marks) -> None:
        """A send has ended, however it did."""
        for key, mark in marks:
            if (watch := self._watch(key)) is not None:
                watch.release(mark)

    def refund(self, marks: Marks, cost: float) -> None:
        """A send that was not charged."""
        for _, watch, mark in self._charged(marks, cost):
            watch.charge(-mark.cost)
        for dimension, found in self._found.items():
            found.refund(dimension.share(cost))

    def use(self, tokens: float) -> None:
        """So many tokens more than reckoned were used: what is told corrects itself, elsewhere usage is the truth."""
        for (dimension, _), stated in self._stated.items():
            if dimension is Dimension.TOKENS:
                stated.charge(tokens)
        if (found := self._found.get(Dimension.TOKENS)) is not None:
            found.charge(tokens)

    def answered(self, marks: Marks, cost: float, usage: Usage, now: float) -> None:
        """What an answer took of windows that are told: some servers charge it only now."""
        known = dict(marks)
        for key, meter in self._told.items():
            tokens_of = _TOKENS_OF.get(key[0])
            if tokens_of is not None and (mark := known.get(key) or self._met.pop(key, None)) is not None:
                meter.answered(mark, float(tokens_of(usage)), now, reckoned=cost)

    def unseen(self, marks: Marks, now: float) -> None:
        """Nobody saw the answer, and there may have been one: what servers charge with it, they charged then."""
        for key, mark in marks:
            if (meter := self._told.get(key)) is not None:
                meter.unseen(mark, now)

    def observe(
        self, window: Window, marks: Marks, cost: float, *, sent_at: float, received_at: float, refused: bool
    ) -> bool:
        """Take in what a reply told of one window; returns whether it is a new one that limits us from now on."""
        unseen = refused or window.remaining is None
        key, mark, new = self._key(window, refused=unseen), None, False
        meter = self._told.get(key)
        if meter is None and unseen:
            return self._name(key, window, received_at) and not refused
        if meter is None:
            meter = self._meet(key, window, cost, min(sent_at, received_at))
            if meter is None:
                return False
            mark, new = meter.take(key[0].share(cost), sent_at), True
            meter.release(mark)
            self._met[key] = mark
        mark = mark or dict(marks).get(key) or Mark(meter.account, meter.account, meter.clock.epoch, 0.0)
        meter.observe(window, mark, sent_at=sent_at, received_at=received_at, refused=refused)
        self._confirmed = frozenset(key for key in self._stated if self._is_confirmed(key))
        return new and meter.period <= LONG  # of a day's quota: there is most likely a minute's as well

    def arrived(self, sent: float, by: float | None) -> None:
        """What was to leave at *sent* was at the server at *by*, and counts from then on; None = nobody knows."""
        for _, watch in self._watches():
            watch.arrived(sent, by)
        for found in self._found.values():
            found.log.arrived(sent, by)

    def accepted(self, marks: Marks, cost: float, *, sent_at: float, now: float) -> bool:
        """It was let through; returns whether a window is known that nobody told of."""
        self._forget_untold(now)
        for key, mark in marks:
            if (stated := self._stated.get(key)) is not None:
                stated.passed(mark, now)
        for dimension, found in self._found.items():
            found.accepted(dimension.share(cost), sent_at, now)
        return bool(self._stated) or any(found.is_known for found in self._found.values())

    def refused(self, marks: Marks, cost: float, failure: Failure, *, sent_at: float, now: float) -> bool:
        """Whichever window is exhausted refused; if none is, something hidden did. Returns False if it was no window:
        the server says that there was enough, and refuses all the same, so most likely it was too many at once.
        """
        told = {self._key(window, refused=True): window for window in failure.quota.windows}
        self._fell_short(told, dict(marks), cost)
        short = {key for key, window in told.items() if key in self._told and window.lacks(self._charge(key, cost))}
        short = short or {key for key, window in told.items() if key in self._stated and not window.has(cost)}
        if not told:  # a moment too early, most likely
            short = self._used_up({key for key, _ in self._watches() if failure.dimension in (None, key[0])})
        for key, watch, mark in self._charged(marks, cost):
            if key in short:
                watch.refused(mark, now, told.get(key), failure.retry_after)
            else:
                watch.charge(-mark.cost)
        hidden = failure.dimension if failure.dimension in FINDABLE else Dimension.REQUESTS
        for dimension, found in self._found.items():
            if dimension is not hidden or short:
                found.charge(-dimension.share(cost))
        if short:
            return True
        share = hidden.share(cost)
        if hidden not in self._found:
            self._found[hidden] = Found(now=now, log=self._log(hidden))
            self._found[hidden].take(share, sent_at)
        self._found[hidden].refused(share, sent_at, now, retry_after=failure.retry_after)
        return True

    def is_untold(self, failure: Failure, cost: float) -> bool:
        """Whether a refusal does not say what refused, and it is no limit that a reply or the user told of."""
        if failure.dimension is not None or self._stated:
            return False
        told = failure.quota.windows
        return (
            all(window.has(self._charge(self._key(window, refused=True), cost)) for window in told)
            if told
            else not self._told
        )

    def let_in(self, at_once: int | None) -> None:
        """So many of a burst were let in where nothing is told, whatever the rate; None = nobody knows."""
        if at_once is not None and (found := self._found.get(Dimension.REQUESTS)) is not None:
            found.at_once = float(at_once)

    def doubt(self) -> None:
        """Something else may refuse; until that is decided, what is looked for holds nobody."""
        self._doubted = True

    def decide(self, now: float, *, found: bool) -> None:
        """Whether it is there."""
        if not self._doubted:
            return
        self._doubted = False
        for dimension, each in self._found.items():
            if found:
                each.excuse()
            else:
                self._found[dimension] = Found(now=now, log=each.log)

    @property
    def is_found(self) -> bool:
        """Whether something that refuses was found, or is being looked for."""
        return not self._doubted and any(found.mode is not Mode.OPEN for found in self._found.values())

    # -- what is believed

    @property
    def pace(self) -> tuple[float, float] | None:
        """Sends a second that the tightest bucket allows, and how many at once; None if none is known."""
        watches = [watch for (seen, _), watch in self._watches() if seen is Dimension.REQUESTS]
        buckets = [watch for watch in watches if watch.algorithm is Algorithm.BUCKET]
        if not buckets or len(buckets) < len(watches):
            return None
        tightest = min(buckets, key=lambda watch: watch.rate)
        return tightest.rate, max(tightest.limit, 1.0)

    def largest(self, dimension: Dimension) -> float | None:
        """The most one request may ever cost: the smallest limit told or stated in that dimension."""
        return min((watch.limit for (seen, _), watch in self._watches() if seen is dimension), default=None)

    def per_minute(self, dimension: Dimension) -> float | None:
        rates = [watch.rate for (seen, _), watch in self._watches() if seen is dimension]
        if (found := self._found.get(dimension)) is not None and found.is_known:
            rates.append(found.rate)
        return min(rates) * MINUTE if rates else None

    def beliefs(self) -> list[dict[str, Any]]:
        """What was learned, as JSON for the database."""
        seen = [beliefs.watched(dimension, kind, watch) for (dimension, kind), watch in self._watches()]
        return seen + [beliefs.found(dimension, found) for dimension, found in self._found.items() if found.is_known]

    def believe(self, seen: Mapping[str, Any], *, now: float) -> None:
        """One of an earlier run's beliefs. Raises KeyError, TypeError or ValueError for what is none."""
        was = beliefs.remembered(seen)
        key = was.dimension, was.kind
        if was.kind == "found":
            self._found[was.dimension] = Found(now=now)
            self._found[was.dimension].believe(was.limit, was.period, was.algorithm, now=now)
            self._found[was.dimension].at_once = was.at_once
        elif was.kind.startswith(NAMED):
            self._stated[key] = Stated(was.dimension, was.limit, now=now, period=was.period)
        elif was.kind != STATED and (was.period <= LONG or was.algorithm is not Algorithm.SLIDING):
            # what is left of a day or a month that does not end at once, the first reply tells
            meter = Meter(was.dimension, was.limit, now=now, algorithm=was.algorithm, written=self._written)
            meter.clock.period = was.period
            if was.charged is not None:
                meter.believe(was.charged)
            self._told[key] = meter
            self._found.pop(was.dimension, None)

    @property
    def memory(self) -> float:
        """Seconds of earlier sends that only we can know of: of the longest window that no reply tells of."""
        untold = [watch.period for watch in self._stated.values()]
        found = [found.period for found in self._found.values() if found.mode is Mode.WINDOW]
        return max([MINUTE, *untold, *found])

    def remember(self, sent: float, cost: float, now: float) -> None:
        """A send of an earlier run, at *sent*, oldest first: it still counts in every window that was open then."""
        for (dimension, _), watch in self._watches():
            if sent > now - watch.period:
                watch.restore(dimension.share(cost), sent)
        for dimension, found in self._found.items():
            if sent > now - found.period:
                found.restore(dimension.share(cost), sent)

    def note(self, diary: Diary, now: float, evidence: str) -> None:
        """Write down which beliefs are new."""
        for (dimension, kind), meter in self._told.items():
            told = evidence or f"{meter.replies} replies, {meter.refusals} refusals"
            diary.note(f"{dimension} {kind} limit", meter.limit, now, told)
            diary.note(f"{dimension} {kind} algorithm", f"{meter.algorithm} of {meter.period:g}s", now, told)
            if (rule := meter.rule) is not None and rule != RECKONED:
                diary.note(f"{dimension} {kind} charged", rule.when, now, told)
                if rule.when is not When.ANSWER:  # there it is what was used, whatever we reckon
                    diary.note(f"{dimension} {kind} charge", rule.factor, now, told)
        for dimension, found in self._found.items():
            if found.is_known and self._noted.get(dimension) != found.version:
                self._noted[dimension] = found.version
                diary.note(f"{dimension} found", found.limit, now, evidence or found.evidence)
                what = f"{found.algorithm} of {found.period:g}s"
                diary.note(f"{dimension} found algorithm", what, now, found.evidence)

    # -- private

    def _watches(self) -> Iterator[tuple[Key, Meter | Stated]]:
        yield from self._stated.items()
        yield from self._told.items()

    def _watch(self, key: Key) -> Meter | Stated | None:
        return self._stated.get(key) or self._told.get(key)

    def _charged(self, marks: Marks, cost: float) -> Iterator[tuple[Key, Meter | Stated, Mark]]:
        """All that a send was charged to; what a refusal named since then has it in its log."""
        known = dict(marks)
        for key, watch in self._watches():
            if (mark := known.get(key)) is not None:
                yield key, watch, mark
            elif key in self._stated:
                yield key, watch, Mark(0.0, 0.0, 0, key[0].share(cost))

    def _charge(self, key: Key, cost: float) -> float:
        """What is charged there for a request that we reckon to cost so much."""
        return cost * self._told[key].factor if key in self._told else cost

    def _forget_untold(self, now: float) -> None:
        """An earlier run was told of a window that no reply tells of now, though they tell of others: it is gone."""
        if not any(meter.replies >= UNTOLD for meter in self._told.values()):
            return
        for dimension, kind in [key for key, meter in self._told.items() if not meter.replies]:
            log = self._told.pop((dimension, kind)).log
            if dimension in FINDABLE and all(seen is not dimension for seen, _ in self._told):
                self._found.setdefault(dimension, Found(now=now, log=log))

    def _fell_short(self, told: Mapping[Key, Window], marks: Mapping[Key, Mark], cost: float) -> None:
        """Of what a refusal tells, the window with the least left, of what such a request takes there, refused."""
        left = {
            key: window.remaining / key[0].share(self._charge(key, cost))
            for key, window in told.items()
            if key in self._told and window.remaining is not None
        }
        key = min(left, key=left.__getitem__, default=None)
        if key is not None and (mark := marks.get(key)) is not None:
            self._told[key].fell_short(told[key], mark)

    def _used_up(self, keys: Collection[Key]) -> set[Key]:
        """Which of them is used up, and more so than any other."""
        used = {key: watch.used for key in keys if (watch := self._watch(key)) is not None}
        return {key for key, share in used.items() if share == max(used.values()) and share >= USED_UP}

    def _key(self, window: Window, *, refused: bool = False) -> Key:
        """Which watch a window belongs to: by its name; by its limit, where only a refusal names the period."""
        name = (f"{window.period:g}s" if window.period else "", window.scope)
        key = (window.dimension, " ".join(filter(None, (TOLD, *name))))
        if key in self._told:
            return key
        for (dimension, kind), meter in self._told.items():
            if window.period and dimension is window.dimension and meter.limit == window.limit:
                return dimension, kind
        return (window.dimension, " ".join(filter(None, (NAMED, *name)))) if refused else key

    def _meet(self, key: Key, window: Window, cost: float, at: float) -> Meter | None:
        """A window that no reply reported on before."""
        limit = window.limit
        if limit is None and window.remaining is not None:
            limit = window.remaining + key[0].share(cost)
        if limit is None or limit <= 0:
            return None
        meter = Meter(window.dimension, limit, now=at, period=window.period, written=self._written)
        self._told[key] = meter
        self._found.pop(window.dimension, None)
        return meter

    def _name(self, key: Key, window: Window, now: float) -> bool:
        """A limit of which only the number is told, or only by a refusal; returns whether it is a new one."""
        if key in self._stated or not window.limit:
            return False
        period = window.period or MINUTE
        log = self._log(window.dimension)
        self._stated[key] = Stated(window.dimension, window.limit, now=now, period=period, log=log)
        return period <= LONG

    def _log(self, dimension: Dimension) -> Spent:
        """A copy of what was sent until now, as whoever watched it knows."""
        if (found := self._found.get(dimension)) is not None:
            return found.log.copy()
        watches = [watch for (seen, _), watch in self._watches() if seen is dimension]
        return max(watches, key=lambda watch: watch.period).log.copy() if watches else Spent()

    def _is_confirmed(self, key: Key) -> bool:
        """Whether replies tell of the limit that was stated, or a tighter one; a day's says nothing of a minute's."""
        stated = self._stated[key]
        told = (meter for (seen, _), meter in self._told.items() if seen is key[0] and meter.period <= stated.period)
        return any(stated.rate >= CONFIRMED * meter.rate for meter in told)


def _is_allowance(meter: Meter) -> bool:
    """Whether it is one of a day or more, and no reply told when it is renewed."""
    return meter.period > LONG and meter.clock.presumed


_NAMES = {Dimension.REQUESTS: "rpm", Dimension.TOKENS: "tpm"}
_TOKENS_OF = {
    Dimension.TOKENS: lambda usage: usage.total,
    Dimension.INPUT_TOKENS: lambda usage: usage.prompt_tokens,
    Dimension.OUTPUT_TOKENS: lambda usage: usage.completion_tokens,
}
