"""Requests a window, tokens a window and requests in flight, as one decision: all admit, or none is charged."""

from dataclasses import dataclass

from batchrunner.simulator.config import WINDOW, Limits, Rules
from batchrunner.simulator.rules import (
    Bound,
    Charge,
    Concurrency,
    FixedWindow,
    Limiter,
    Refusal,
    SlidingLog,
    State,
    TokenBucket,
    check,
)
from batchrunner.simulator.shared import Shared


@dataclass(frozen=True, slots=True)
class Levels:
    """Where the limits stand; None = there is no such limit. ``utc``: the time, where a reset is told as an instant."""

    requests: State | None
    tokens: State | None
    utc: float = 0.0
    window: float = WINDOW


@dataclass(frozen=True, slots=True)
class Admission:
    """Leave to work on one request; ``finish`` it exactly once."""

    tokens: Charge | None
    reserved: float


class Gate:
    """The server's limits, all of them.

    ``origin``: the instant at which the wall clock stood at 0, for windows aligned to it and for resets told by it.
    """

    def __init__(self, rules: Rules, *, now: float, origin: float = 0.0) -> None:
        self._rules = rules
        self._origin = origin
        self._requests = self._limiter(Bound.REQUESTS, rules.rpm, now)
        self._tokens = self._limiter(Bound.TOKENS, rules.tpm, now)
        self._concurrency = Concurrency(rules.concurrency)

    def _limiter(self, bound: Bound, limit: int | None, now: float) -> Limiter | None:
        if limit is None:
            return None
        limiter = self._alone(bound, limit, now)
        share = self._rules.foreign
        return Shared(limiter, share=share, window=self._rules.window) if share else limiter

    def _alone(self, bound: Bound, limit: int, now: float) -> Limiter:
        window = self._rules.window
        if self._rules.algorithm == "bucket":
            return TokenBucket(bound, limit=limit, window=window, now=now)
        if self._rules.algorithm == "sliding":
            return SlidingLog(bound, limit=limit, window=window)
        return FixedWindow(bound, limit=limit, window=window, origin=self._origin if self._rules.aligned else None)

    def admit(self, tokens: float, now: float) -> Admission | Refusal:
        """*tokens* is what to charge now; 0 (charged afterwards) still asks for one token to be left."""
        refusal = self._check(tokens, now)
        if refusal is not None:
            if self._rules.charge_refused:
                self._penalise(tokens, now)
            return refusal
        if self._requests is not None:
            self._requests.charge(1, now)
        self._concurrency.in_flight += 1
        charge = None if self._tokens is None else self._tokens.charge(tokens, now)
        return Admission(charge, tokens)

    def _check(self, tokens: float, now: float) -> Refusal | None:
        refusal = self._concurrency.check()
        if refusal is None and self._requests is not None:
            refusal = check(self._requests, 1, now)
        if refusal is None and self._tokens is not None:
            refusal = check(self._tokens, max(1, tokens), now)
        return refusal

    def _penalise(self, tokens: float, now: float) -> None:
        if self._requests is not None:
            self._requests.penalise(1, now)
        if self._tokens is not None:
            self._tokens.penalise(tokens, now)

    def finish(self, admission: Admission, tokens: float, now: float) -> None:
        """The request is done and comes to *tokens*: its place is free, its charge corrected."""
        self._concurrency.in_flight -= 1
        if self._tokens is None or admission.tokens is None or tokens == admission.reserved:
            return
        if admission.reserved:
            self._tokens.settle(admission.tokens, tokens, now)
        else:
            self._tokens.charge(tokens, now)  # charged afterwards means: when it ends, not when it began

    def levels(self, now: float) -> Levels:
        return Levels(
            None if self._requests is None else self._requests.state(now),
            None if self._tokens is None else self._tokens.state(now),
            now - self._origin,
            self._rules.window,
        )

    def set_limits(self, limits: Limits, now: float) -> None:
        self._requests = self._changed(self._requests, Bound.REQUESTS, limits.rpm, now)
        self._tokens = self._changed(self._tokens, Bound.TOKENS, limits.tpm, now)
        self._concurrency.limit = limits.concurrency

    def _changed(self, limiter: Limiter | None, bound: Bound, limit: int | None, now: float) -> Limiter | None:
        if limiter is None or limit is None:
            return self._limiter(bound, limit, now)
        if limit != limiter.limit:
            limiter.set_limit(limit, now)
        return limiter
