"""What a plan asks of a job's database: which lines are known and how they stand, and what answers took so far."""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from batchrunner.cost import longest
from batchrunner.db.reader import Reader
from batchrunner.size import Measure, Size
from batchrunner.task import TaskState

PAGE = 50  # requests read at once: their bodies may be large

_STATES = """
    SELECT custom_id, fingerprint, state FROM task
    WHERE job_id = ? AND retired = 0 AND custom_id IN (SELECT value FROM json_each(?))
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


class History(Reader):
    """A reader that also knows what a plan needs."""

    def states(self, job_id: int, custom_ids: Sequence[str]) -> Mapping[str, tuple[bytes, TaskState]]:
        """Fingerprint and state of those of *custom_ids* that are tasks of the job."""
        rows = self._all(_STATES, job_id, json.dumps(custom_ids))
        return {row[0]: (row[1], TaskState(row[2])) for row in rows}

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
