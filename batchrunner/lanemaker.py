"""Makes lanes that remember: with what earlier runs learned of their limits, and what was sent there a moment ago.

And keeps what this run learns, in the job's database and for all jobs of this user.
"""

from collections.abc import Callable, Iterable
from dataclasses import asdict
from hashlib import blake2b
from pathlib import Path

from batchrunner.config import Endpoint, Route
from batchrunner.db.earlier import Earlier
from batchrunner.db.store import Store
from batchrunner.lane import Lane
from batchrunner.learned import find_learned, keep_learned, read_learned
from batchrunner.limits.estimate import TokenEstimate
from batchrunner.limits.limiter import Limiter
from batchrunner.record import Belief
from batchrunner.size import Measure, by_bytes

UNUSABLE = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)  # what beliefs of no use raise


class LaneMaker:
    """*learned* is the file in which all jobs of this user keep what they learned; *believe*: start from that."""

    def __init__(
        self,
        store: Store,
        job_id: int,
        *,
        canary: int,
        believe: bool,
        learned: Path | None,
        measure: Measure = by_bytes,
        warn: Callable[[str], None],
    ) -> None:
        self._earlier, self._job_id = Earlier(store), job_id
        self._canary, self._learned, self._warn = canary, learned, warn
        self._believes, self._measure = believe, measure
        self._counts = measure is not by_bytes
        self._shared = read_learned(learned, warn=warn) if believe and learned is not None else []

    def make(self, route: Route, model: str, siblings: list[Lane], now: float) -> Lane:
        """What the user states holds for all models of a route together, so they have one limiter from the start."""
        name = f"{route.name}/{model}"
        limiter, estimate = self._start(route, model, now)
        if siblings and (route.limits.rpm or route.limits.tpm):
            limiter = siblings[0].limiter
        for sent in self._earlier.recent_sends(name, since=now - limiter.memory):
            if not sent.refused:
                limiter.remember(sent.at, sent.cost, now)
        return Lane(
            route,
            model,
            limiter,
            siblings=siblings,
            estimate=estimate,
            answered=self._earlier.has_answered(self._job_id, name),
            canary=self._canary,
            measure=self._measure,
        )

    def keep(self, lanes: Iterable[Lane], now: float) -> None:
        """In the database, so that a run that is killed has not learned it in vain."""
        self._earlier.believe(*(self._belief(lane, now) for lane in lanes))

    def share(self, lanes: Iterable[Lane], now: float) -> None:
        """With the other jobs of this user."""
        if self._learned is not None:
            keep_learned(self._learned, *(self._belief(lane, now) for lane in lanes), warn=self._warn)

    def _start(self, route: Route, model: str, now: float) -> tuple[Limiter, TokenEstimate]:
        """As an earlier run left them, or blank."""
        for belief in self._known(route, model):
            limiter, estimate = _blank(route, now), TokenEstimate()
            try:
                limiter.believe(belief.value, now=now)
                prompts = belief.value.get("prompts")
                if prompts is not None and prompts["counted"] == self._counts:
                    estimate.believe(prompts)
            except UNUSABLE:  # of another version, or edited: half of it may be believed by now
                self._warn("what an earlier run learned of the limits can't be used, and is learned anew")
            else:
                return limiter, estimate
        return _blank(route, now), TokenEstimate()

    def _belief(self, lane: Lane, now: float) -> Belief:
        endpoint, prompts = lane.route.endpoint, lane.estimate.beliefs()
        value = {**lane.limiter.beliefs(), "state": asdict(lane.limiter.state(now))}
        if prompts is not None:
            value["prompts"] = {"counted": self._counts, **prompts}
        key = _fingerprint(endpoint)
        return Belief(endpoint=endpoint.base_url, key_label=key, model=lane.model, value=value, at=now)

    def _known(self, route: Route, model: str) -> list[Belief]:
        """What earlier runs of this job, and other jobs of this user, learned of these limits; the newest first."""
        if not self._believes:
            return []
        key = (route.endpoint.base_url, _fingerprint(route.endpoint), model)
        known = [self._earlier.belief(*key), find_learned(self._shared, key)]
        return sorted((belief for belief in known if belief is not None), key=lambda belief: -belief.at)


def _blank(route: Route, now: float) -> Limiter:
    limits = route.limits
    return Limiter(limits, now=now, start=limits.concurrency if limits.stated_concurrency else 1)


def _fingerprint(endpoint: Endpoint) -> str:
    """One way: a key is told from another by it, and not found out."""
    return "" if endpoint.key is None else blake2b(endpoint.key.reveal().encode(), digest_size=4).hexdigest()
