"""The lanes of a run: made when a model first asks for one, found by name, closed together where a key is no good.

Which lane a task takes is decided here: the one that may send first, of those the one with more room, then the one
that was named first.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from batchrunner.config import Route
from batchrunner.lane import Lane, LaneState
from batchrunner.record import Change
from batchrunner.retry import Stop
from batchrunner.task import FailureClass

# What is wrong with the key, the account or the address, whatever the model.
OF_ROUTE = frozenset(
    {FailureClass.AUTH, FailureClass.QUOTA_EXHAUSTED, FailureClass.CERTIFICATE, FailureClass.WRONG_ENDPOINT}
)

Make = Callable[[Route, str, list[Lane], float], Lane]


class Lanes:
    """*make* gives the lane of a route for a model, by the name that the route has for it."""

    def __init__(self, routes: Sequence[Route], make: Make) -> None:
        self._routes, self._make = routes, make
        self._by_name: dict[str, Lane] = {}
        self._serving: dict[str, tuple[Lane, ...]] = {}
        self._siblings: dict[str, list[Lane]] = {route.name: [] for route in routes}

    def __iter__(self) -> Iterator[Lane]:
        return iter(self._by_name.values())

    def __getitem__(self, name: str) -> Lane:
        return self._by_name[name]

    def __len__(self) -> int:
        return len(self._by_name)

    def serving(self, model: str, now: float) -> tuple[Lane, ...]:
        """The lanes that take this model of the job file, in the order the routes were named."""
        if model not in self._serving:
            routes = [route for route in self._routes if route.serves(model)]
            self._serving[model] = tuple(self._lane(route, route.name_of(model), now) for route in routes)
        return self._serving[model]

    def close(self, lane: Lane, stop: Stop, now: float) -> list[Lane]:
        """Close it, and its siblings where the reason is theirs too. Returns those for which that is news."""
        shut = lane.siblings if stop.reason.kind in OF_ROUTE else [lane]
        return [one for one in shut if one.close(stop, now)]

    def changes(self) -> list[Change]:
        """Beliefs that changed; where there are several lanes, each says whose it is."""
        if len(self) == 1:
            return [change for lane in self for change in lane.changes()]
        return [replace(change, what=f"{lane.name}: {change.what}") for lane in self for change in lane.changes()]

    def states(self, now: float) -> tuple[LaneState, ...]:
        limiters = {lane.limiter: lane.limiter.state(now) for lane in self}
        return tuple(lane.state(limiters[lane.limiter], now) for lane in self)

    def _lane(self, route: Route, model: str, now: float) -> Lane:
        name = f"{route.name}/{model}"
        if name not in self._by_name:
            self._by_name[name] = self._make(route, model, self._siblings[route.name], now)
        return self._by_name[name]


def first_free(choices: Sequence[tuple[Lane, float]], now: float) -> tuple[Lane, float]:
    """Of lanes, each with what the task costs there: the one that may send first, then the one with most room."""
    if len(choices) == 1:
        return choices[0]
    return min(choices, key=lambda choice: (choice[0].wait(choice[1], now), -choice[0].free))
