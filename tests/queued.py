"""A store with a job whose tasks are leased and ended by hand: for tests of what a database keeps."""

from pathlib import Path
from typing import Any

from batchrunner.db.jobs import Jobs
from batchrunner.db.store import NO_LAST, Closing, Opening, Store
from batchrunner.db.waiting import Waiting
from batchrunner.task import Request, TaskState

NOW = 1_700_000_000.0
RUN: dict[str, Any] = {"started_at": NOW, "pid": 1, "host": "h", "version": "1", "endpoint": "e", "settings": "{}"}


class Queue:
    """A store with one job of *size* pending tasks, numbered from 1, and a run of each job."""

    def __init__(self, path: Path, size: int, *, body: str = "{}") -> None:
        self.store = Store(path)
        self.runs: dict[int, int] = {}
        self.job = self.add_job("a.jsonl", size, body=body)
        self.run = self.runs[self.job]

    def add_job(self, source: str, size: int, *, body: str = "{}") -> int:
        jobs = Jobs(self.store)
        jobs.create(name=source, source=source, shape="", digest=b"", stamp="", settings="{}", at=NOW)
        job = jobs.find(source)
        assert job is not None
        jobs.add(job, [request(n, body) for n in range(1, size + 1)], [], (0, 0, 0))
        jobs.finish(job)
        self.runs[job.id] = self.store.begin_run(job.id, **RUN)
        return job.id

    def lease(self, *tasks: int, job: int = 1, at: float = NOW) -> list[Opening]:
        first = self.store.last_attempt_id() + 1
        opened = [
            Opening(attempt_id=n, task_id=task, number=self.attempts(task) + 1, leased_at=at, cost=5.0)
            for n, task in enumerate(tasks, first)
        ]
        self.store.exchange(job, self.runs[job], closings=[], openings=opened)
        return opened

    def fresh(self, job: int = 1, *, after: int = 0, limit: int = 9, last: int = NO_LAST) -> list[int]:
        found, _ = Waiting(self.store, job, last=last).fresh("m", after=after, limit=limit)
        return [task.task_id for task in found]

    def due(self, now: float, *, limit: int = 9) -> list[int]:
        return [task.task_id for task in Waiting(self.store, 1).due("m", now=now, limit=limit)]

    def end(self, *closings: Closing, job: int = 1) -> None:
        self.store.exchange(job, self.runs[job], closings=closings, openings=[])

    def attempts(self, task: int) -> int:
        ((attempts,),) = self.query("SELECT attempts FROM task WHERE id = ?", task)
        return int(attempts)

    def state(self, task: int) -> TaskState:
        ((state,),) = self.query("SELECT state FROM task WHERE id = ?", task)
        return TaskState(state)

    def execute(self, sql: str, *parameters: object) -> None:
        with self.store.transaction() as connection:
            connection.exec_driver_sql(sql, parameters)

    def query(self, sql: str, *parameters: object) -> list[tuple[Any, ...]]:
        with self.store.transaction() as connection:
            return [tuple(row) for row in connection.exec_driver_sql(sql, parameters)]


def request(number: int, body: str = "{}") -> Request:
    return Request(
        custom_id=f"r{number}",
        endpoint="chat/completions",
        body=body,
        model="m",
        row=None,
        line=number,
        offset=0,
        fingerprint=number.to_bytes(16),
    )


def success(opening: Opening, body: bytes = b'{"ok":1}', **more: Any) -> Closing:
    return _closing(opening, "success", TaskState.SUCCEEDED, status=200, body=body, **more)


def failure(opening: Opening, state: TaskState = TaskState.FAILED, **more: Any) -> Closing:
    return _closing(opening, "failure", state, **({"error_class": "timeout", "used_up_a_try": True} | more))


def released(opening: Opening) -> Closing:
    return _closing(opening, "released", TaskState.PENDING)


def _closing(opening: Opening, outcome: str, state: TaskState, **more: Any) -> Closing:
    defaults: dict[str, Any] = {"sent_at": NOW, "finished_at": NOW + 1}
    ids: dict[str, Any] = {"attempt_id": opening.attempt_id, "task_id": opening.task_id}
    return Closing(**ids, outcome=outcome, state=state, **(defaults | more))
