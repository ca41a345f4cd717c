"""What a server charges for a request, of what we reckon: learned from the fall of ``remaining`` over many of them.

Some charge the prompt alone, some the prompt and max_tokens, some what was really used, afterwards, and some give back
then what was not used (Azure and Nebius do).
"""

from dataclasses import dataclass, replace
from enum import StrEnum

from batchrunner.limits.burst import LENGTH, Burst, Sums

CHARGES = 32  # requests whose charges are looked at together
ALONE = 8  # the same, where nothing else is in flight
SHUFFLES = 8  # times what may arrive in another order
RIGHT = 0.15  # off, and it is most likely our snapshots that are
MOST = 50.0
SURE = 4  # replies more than not tell the same as the one before,
SAME = 0.1  # of what a request is charged
UNTIL = 8  # answers tell as much as what we reckon
FORGET = 0.99  # per answer
GROWN = 0.5  # of what was sent is in flight now, more than before: then the fall tells what is charged at first


class When(StrEnum):
    """When is the charge for a request known to the server?"""

    ADMISSION = "at admission"  # and it is kept, whatever the answer took
    SETTLED = "settled by the answer"  # charged at admission; what the answer did not use is given back
    ANSWER = "with the answer"  # nothing is charged before


@dataclass(frozen=True, slots=True)
class Rule:
    """``factor``: charged for a request, over what we reckon; where it is settled, until its answer is there."""

    factor: float
    when: When = When.ADMISSION


RECKONED = Rule(1.0)  # what we reckon, until something else is known


@dataclass(frozen=True, slots=True)
class Fall:
    """So much less was left after a while, but for what came back with time, and that was sent, answered and used."""

    fallen: float
    sums: Sums

    def fits(self, rule: Rule) -> bool:
        charged = rule.factor * self.sums.sent
        given_back = self.unused(rule) if rule.when is When.SETTLED else 0.0
        return abs(self.fallen - charged + given_back) < RIGHT * charged

    def unused(self, rule: Rule) -> float:
        """What answers took less than was charged."""
        return rule.factor * self.sums.done - self.sums.used

    def decides(self, rule: Rule) -> bool:
        """Whether it makes a difference if that is given back."""
        return abs(self.unused(rule)) > 2 * RIGHT * rule.factor * self.sums.sent

    @property
    def kept(self) -> Rule:
        """By which it was charged, if nothing was given back."""
        return Rule(_bounded(self.fallen / self.sums.sent))

    @property
    def given_back(self) -> Rule | None:
        """By which it was charged, if answers corrected it; None if it does not tell."""
        sent = self.sums.sent - self.sums.done
        if sent < GROWN * self.sums.sent:
            return None
        return Rule(_bounded((self.fallen - self.sums.used) / sent), When.SETTLED)


class Charging:
    """``rule``: as far as is known.

    Where nothing is charged before the answer, replies to one burst tell the same, and no more than answers told of.
    """

    def __init__(self) -> None:
        self.rule = RECKONED
        self.done = self.used = 0.0  # what was answered, as reckoned, and its tokens
        self._decided = False  # whether it is known if answers correct the charge
        self._known: tuple[float, Sums] = (0.0, Sums())  # what was left when nothing was on its way
        self._last: tuple[Burst | None, float] | None = None  # reply to one of a burst
        self._votes = 0
        self._tokens = self._reckoned = 0.0  # of late
        self._since: Burst | None = None
        self._clean = self._refused = 0.0  # what was sent until the fall told nothing last, and until a refusal
        self._strange: Fall | None = None  # does not fit the rule
        self._falls = 1  # that the factor is the mean of

    @property
    def factor(self) -> float:
        """What is charged for a request, over what we reckon."""
        return self.rule.factor

    @property
    def is_later(self) -> bool:
        """Whether nothing is charged before the answer is there."""
        return self.rule.when is When.ANSWER

    @property
    def is_corrected(self) -> bool:
        """Whether answers change what is charged: then replies to what is in flight do not tell all of it."""
        return self.rule.when is not When.ADMISSION

    def believe(self, when: When) -> None:
        """An earlier run saw it charged so; by what factor, depends on what its requests asked for."""
        self.rule = Rule(self.factor, when)

    @property
    def doubtful(self) -> float:
        """What answers took less than was charged since that was known, if nobody knows whether it was given back."""
        if self._decided or self.is_later:
            return 0.0
        return self._unused(Sums(done=self.done, used=self.used).since(self._known[1]))

    def roll(self, remaining: float, sums: Sums) -> None:
        """A window is over, and *remaining* left of the next: that is no fall."""
        self._restart(sums.sent)
        self.anchor(remaining, sums)

    def anchor(self, remaining: float, sums: Sums) -> None:
        """What is left is known, with all that was given back until then."""
        self._known = remaining, sums

    def compare(self, remaining: float, sums: Sums, *, late: float | None, limit: float, least: float) -> None:
        """A reply told whether what answers did not use, if more than *least*, is left again.

        *late*: what may not have been charged yet when it was written; None = it went alone.
        """
        before, sums_then = self._known
        if sums_then.sent < self._refused:
            return
        sums = sums.since(sums_then)
        expected = min(before + sums.back - self.factor * sums.sent, limit)
        unused = min(self._unused(sums), limit - expected)
        if self._decided or self.is_later or unused < least:
            return
        seen, given_back = Fall(before - remaining + sums.back, sums), Rule(self.factor, When.SETTLED)
        more = remaining - expected - (late or 0.0)
        if more > unused / 2 and (seen.fits(given_back) or remaining >= limit - least):
            self.rule, self._decided = given_back, True
        elif late is None and sums.sent >= ALONE * least / self.factor:  # kept, and maybe less than we thought
            self.rule, self._decided = Rule(min(self.factor, max(seen.kept.factor, self.used / self.done))), True

    def told(self, used: float, *, burst: Burst | None, request: float, tells: bool) -> None:
        """A reply to one of a burst told of so much; *request*: what is charged for one. *tells*: what is in flight is
        so much that it can't have come back already.
        """
        last, self._last = self._last, (burst, used)
        if abs(self._votes) >= SURE or burst is None or last is None or last[0] is not burst:
            return
        if used <= 0 and not tells:
            return
        self._vote(later=abs(used - last[1]) <= SAME * request and used <= self.used)

    def uncharged(self) -> None:
        """Seen without a burst: nothing was charged for a request before its answer."""
        if abs(self._votes) < SURE:
            self._vote(later=True)

    def _vote(self, *, later: bool) -> None:
        self._votes += 1 if later else -1
        if self._votes >= SURE:
            self.rule = Rule(self.factor, When.ANSWER)
        elif self._votes <= -SURE and self.is_later:  # an earlier run was told something else
            self.rule = Rule(self.factor)

    def answered(self, tokens: float, reckoned: float) -> None:
        """An answer took so many."""
        self.done += reckoned
        self.used += tokens
        if not self._reckoned:
            self._tokens = self._reckoned = UNTIL * reckoned
        self._tokens = self._tokens * FORGET + tokens
        self._reckoned = self._reckoned * FORGET + reckoned
        if self.is_later:
            self.rule = self._by(_bounded(self._tokens / self._reckoned))

    def needs(self, tokens: float, reckoned: float) -> None:
        """A request that we reckon to take *reckoned* is charged *tokens* at the least."""
        self.rule = self._by(min(max(self.factor, tokens / reckoned), MOST))

    def refused(self, sent: float) -> None:
        """Some of what was *sent* until now was not charged, so the fall tells nothing."""
        self._refused = sent
        self._restart(sent)

    def full(self, sent: float) -> None:
        """As the last of what was *sent* until then came, all was there: less came back with time than could have."""
        self._restart(sent)

    def learn(self, burst: Burst, *, request: float, rate: float, gain: float, over_time: bool) -> None:
        """All of a burst was told of. *request*: what is reckoned for one. *rate*: what comes back in a second.

        *gain*: of a small difference, which is believed by and by. *over_time*: what comes back between bursts is
        known well enough.
        """
        if self.is_later:
            return
        self._learn_alone(burst, back=rate * LENGTH)
        if not over_time or burst.first.sent < self._clean:
            return
        since = self._since
        sums = burst.last if since is None else burst.last.since(since.last)
        if since is None:
            self._since = burst
        elif sums.sent >= CHARGES * request + SHUFFLES * burst.shuffled / self.factor:
            self._since = burst
            self._see(Fall(since.least - burst.least + sums.back, sums), gain=gain)

    def _learn_alone(self, burst: Burst, *, back: float) -> None:
        """Nothing but itself can have lowered what is left, so it tells what is charged at first.

        *back*: what may have come back meanwhile.
        """
        sums = burst.last.since(burst.first)
        if not burst.alone or burst.told <= ALONE or sums.done:
            return
        fallen, sent = burst.most - burst.least, sums.sent * (burst.told - 1) / (burst.count - 1)
        if (most := (fallen + sums.back + back) / sent) < (1 - 2 * RIGHT) * self.factor:
            self.rule, self._falls = self._by(max(most, 1 / MOST)), 1
        else:
            self.needs(fallen, sent)

    def _by(self, factor: float) -> Rule:
        """The same rule with another factor."""
        return replace(self.rule, factor=factor)

    def _unused(self, sums: Sums) -> float:
        return self.factor * sums.done - sums.used

    def _restart(self, sent: float) -> None:
        self._since, self._clean = None, sent

    def _see(self, seen: Fall, *, gain: float) -> None:
        if seen.fits(self.rule):
            self._strange = None
            self._decided = self._decided or seen.decides(self.rule)
            factor = ((seen.given_back if self.rule.when is When.SETTLED else seen.kept) or self.rule).factor
            self._falls += 1
            gain = max(gain, 1 / self._falls) if gain else 0.0
            self.rule = self._by(self.factor + (factor - self.factor) * gain)
            return
        self._strange, strange = seen, self._strange
        if strange is None:
            return
        for rule in self._thinkable(seen, strange):
            if seen.fits(rule) and strange.fits(rule):
                self._decided = seen.decides(rule) or strange.decides(rule)
                self.rule, self._strange, self._falls = rule, None, 1
                return

    def _thinkable(self, *strange: Fall) -> list[Rule]:
        """How it may have been charged, the likeliest first."""
        return [Rule(self.factor, When.SETTLED), *(each.kept for each in strange)]


def _bounded(factor: float) -> float:
    return min(max(factor, 1 / MOST), MOST)
