"""A database with one job, filled as a run would fill it: for tests of what reads it."""

from collections.abc import Mapping
from pathlib import Path

from batchrunner.db.store import Closing, Opening, Sample, Store, recount
from batchrunner.task import TaskState, Usage

START = 1_700_000_000.0
USAGE = Usage(prompt_tokens=10, completion_tokens=5, cached_tokens=4, reasoning_tokens=2)
ANSWER = b'{"choices": [{"message": {"content": "good"}}]}'


class Filled:
    """Tasks go in by ``add`` and end by ``answer`` or ``fail``; every attempt takes 2 s unless told."""

    def __init__(self, path: Path, *, name: str = "reviews") -> None:
        self.path = path
        self.store = Store(path)
        self.job = self._job(name)
        self.run = self.store.begin_run(
            self.job, started_at=START, pid=7, host="here", version="1", endpoint="https://x/v1", settings="{}"
        )
        self._ids: dict[str, int] = {}
        self._sends: dict[str, int] = {}
        self._at = START

    def add(
        self, custom_id: str, *, row: str | None = None, body: str = '{"model":"m"}', retired: bool = False
    ) -> None:
        with self.store.transaction() as connection:
            task = connection.exec_driver_sql(
                "INSERT INTO task (job_id, custom_id, fingerprint, position, seen, state) VALUES (?, ?, ?, ?, 1, ?)",
                (self.job, custom_id, b"0" * 16, len(self._ids) + 1, "cancelled" if retired else "pending"),
            ).lastrowid
            connection.exec_driver_sql(
                "INSERT INTO request VALUES (?, 'chat/completions', 'm', ?, ?)", (task, body, row)
            )
            if retired:
                connection.exec_driver_sql("UPDATE task SET retired = id WHERE id = ?", (task,))
            else:
                connection.exec_driver_sql(
                    "UPDATE tally SET count = count + 1 WHERE job_id = ? AND state = 'pending'", (self.job,)
                )
        self._ids[custom_id] = task

    def reject(self, line: int, reason: str) -> None:
        with self.store.transaction() as connection:
            connection.exec_driver_sql("INSERT INTO rejected VALUES (?, ?, 0, ?)", (self.job, line, reason))

    def answer(self, custom_id: str, body: bytes = ANSWER, *, took: float = 2.0, simulated: bool = False) -> None:
        opening = self._send(custom_id)
        closing = Closing(
            attempt_id=opening.attempt_id,
            task_id=opening.task_id,
            outcome="success",
            state=TaskState.SUCCEEDED,
            sent_at=self._at,
            finished_at=self._at + took,
            status=200,
            request_id=f"req-{custom_id}",
            usage=USAGE,
            finish_reason="stop",
            simulated=simulated,
            body=body,
        )
        self.store.exchange(self.job, self.run, closings=[closing], openings=[])

    def fail(
        self,
        custom_id: str,
        error_class: str,
        *,
        status: int | None = None,
        code: str | None = None,
        message: str | None = None,
        body: bytes | None = None,
        again: bool = False,
    ) -> None:
        """The attempt fails; the task with it, or with *again* it is to be sent once more."""
        opening = self._send(custom_id)
        closing = Closing(
            attempt_id=opening.attempt_id,
            task_id=opening.task_id,
            outcome="failure",
            state=TaskState.PENDING if again else TaskState.FAILED,
            sent_at=self._at,
            finished_at=self._at + 2.0,
            status=status,
            error_class=error_class,
            error_code=code,
            message=message,
            possibly_charged=error_class == "timeout",
            body=body,
        )
        self.store.exchange(self.job, self.run, closings=[closing], openings=[])

    def lease(self, custom_id: str) -> None:
        """The task is in flight and stays there."""
        self._send(custom_id)

    def sample(self, at: float, **changed: object) -> Sample:
        gauges: Mapping[str, object] = {"in_flight": 3, "slots": 5, "limiting": "slots"} | changed
        numbers = dict.fromkeys(("succeeded", "failed", "pending", "sent_1m", "tokens_1m", "refused_1m"), 0)
        unknown = dict.fromkeys(("rpm_limit", "tpm_limit", "p50", "p95"))
        sample = Sample(at=at, **(numbers | unknown | dict(gauges)))  # type: ignore[arg-type]
        self.store.exchange(self.job, self.run, closings=[], openings=[], sample=sample)
        return sample

    def close(self) -> Path:
        self.store.close()
        return self.path

    def _send(self, custom_id: str) -> Opening:
        number = self._sends[custom_id] = self._sends.get(custom_id, 0) + 1
        self._at += 10.0
        opening = Opening(
            attempt_id=self.store.last_attempt_id() + 1,
            task_id=self._ids[custom_id],
            number=number,
            leased_at=self._at,
            cost=100.0,
        )
        self.store.exchange(self.job, self.run, closings=[], openings=[opening])
        return opening

    def _job(self, name: str) -> int:
        with self.store.transaction() as connection:
            job = connection.exec_driver_sql(
                "INSERT INTO job (name, source, shape, digest, stamp, state, settings, created_at) "
                "VALUES (?, ?, 'batch', x'00', '', 'loaded', '{}', ?)",
                (name, f"/jobs/{name}.jsonl", START),
            ).lastrowid
            recount(connection, job)
            return job
