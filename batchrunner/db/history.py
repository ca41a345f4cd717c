"""What a plan asks of a job's database: which lines are known and how they stand, and what answers took so far."""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from batchrunner.cost import longest
from batchrunner.db.reader import Reader
from batchrunner.size import Measure, Size
from batchrunner.task import TaskState

PAGE = 50  # requests read at once: their bodies may be large

_STATES = """
    SELECT custom_id, fingerprint, state, retired FROM task
    WHERE job_id = ? AND custom_id IN (SELECT value FROM json_each(?)) ORDER BY retired = 0, retired
"""
_USAGES = """
    SELECT attempt.id, coalesce(attempt.model, request.model), request.endpoint, request.body, attempt.prompt_tokens,
           attempt.completion_tokens, coalesce(attempt.cached_tokens, 0)
    FROM attempt JOIN request ON request.task_id = attempt.task_id JOIN task ON task.id = attempt.task_id
    WHERE task.job_id = ? AND attempt.outcome = 'success' AND attempt.prompt_tokens IS NOT NULL
          AND attempt.id < ?
    ORDER BY attempt.id DESC LIMIT ?
"""


@dataclass(frozen=True, slots=True)
class Took:
    """Tokens of one reply; ``size`` is that of its request, which asked for at most ``longest``, None = any."""

    model: str | None
    size: Size
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0
    longest: int | None = None


@dataclass(slots=True)
class Known:
    """The tasks of one custom_id: ``states`` by fingerprint, ``current`` is the one that the line has now, if any.

    The others are retired with what was answered: their line was edited or taken out, and brings them back if it is
    again what it was.
    """

    states: dict[bytes, TaskState] = field(default_factory=dict)
    current: bytes | None = None

    def meets(self, fingerprint: bytes, *, keep: bool) -> tuple[bytes, TaskState] | None:
        """The fingerprint and state of the task that such a line has in a run, before it is edited; None if none.

        *keep*: an edited line keeps its task as it is.
        """
        now = self.current
        if now is not None and keep:
            return fingerprint, self.states[now]
        known = fingerprint if fingerprint in self.states else now
        return None if known is None else (known, self.states[known])


class History(Reader):
    """A reader that also knows what a plan needs."""

    def states(self, job_id: int, custom_ids: Sequence[str]) -> Mapping[str, Known]:
        """Those of *custom_ids* that are, or were, tasks of the job."""
        found: dict[str, Known] = {}
        for custom_id, fingerprint, state, retired in self._all(_STATES, job_id, json.dumps(custom_ids)):
            known = found.setdefault(custom_id, Known())
            known.states[fingerprint] = TaskState(state)
            known.current = known.current if retired else fingerprint
        return found

    def took(self, job_id: int, limit: int, measure: Measure) -> list[Took]:
        """The newest answers, the oldest of them first; *measure* is for their requests."""
        found, before = list[Took](), sys.maxsize
        while page := self._all(_USAGES, job_id, before, min(PAGE, limit - len(found))):
            found += [
                Took(model, measure(body), prompt, completion, cached, longest(endpoint, body))
                for _, model, endpoint, body, prompt, completion, cached in page
            ]
            before = page[-1][0]
        return found[::-1]
