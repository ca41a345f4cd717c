"""The tables of the queue, with their invariants as CHECKs, and the plain-text views for outside tools.

One word one table: a *job* is a loaded file, a *task* one of its lines, a *request* what the task asks, an *attempt*
one send, a *result* the task's one immutable answer. The hot rows (task, attempt) are narrow; the wide ones (request,
result, reply) stand apart, so that moving a task never rewrites a body. All times are UTC seconds.
"""

from sqlalchemy import (
    BLOB,
    INTEGER,
    REAL,
    TEXT,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    MetaData,
    Table,
    UniqueConstraint,
    text,
)
from sqlalchemy.types import UserDefinedType

APPLICATION_ID = 0x42524E52  # "BRNR"
VERSION = 3  # user_version; grows with each migration
HEAD = "0003"  # the migration that VERSION stands for


class Any(UserDefinedType[str | bytes]):
    """Text where a body is UTF-8 (so that every tool can read it), a blob where it is not. Strict tables keep both."""

    cache_ok = True

    def get_col_spec(self, **_: object) -> str:
        return "ANY"


metadata = MetaData()


def _table(name: str, *parts: Column[object] | CheckConstraint | UniqueConstraint) -> Table:
    return Table(name, metadata, *parts, sqlite_strict=True)


def _id() -> Column[object]:
    return Column("id", INTEGER, primary_key=True)


def _fk(target: str, *, nullable: bool = False) -> Column[object]:
    return Column(f"{target}_id", INTEGER, ForeignKey(f"{target}.id"), nullable=nullable)


def _integer(name: str, default: int | None = None) -> Column[object]:
    if default is None:
        return Column(name, INTEGER)
    return Column(name, INTEGER, nullable=False, server_default=text(str(default)))


STATES = "'pending', 'running', 'succeeded', 'failed', 'held', 'cancelled'"

job = _table(
    "job",
    _id(),
    Column("name", TEXT, nullable=False),
    Column("source", TEXT, nullable=False, unique=True),  # the file's real path: what makes the same command go on
    Column("shape", TEXT, nullable=False),
    Column("digest", BLOB, nullable=False),  # of the options that shape requests
    Column("stamp", TEXT, nullable=False),  # the file as it was when read; JSON, empty while it is not known
    Column("state", TEXT, CheckConstraint("state IN ('loading', 'loaded')"), nullable=False),
    _integer("generation", 1),  # how often the file was read from its start
    # what becomes of an edited line in this generation
    Column("policy", TEXT, CheckConstraint("policy IN ('redo', 'keep')"), nullable=False, server_default="redo"),
    _integer("offset", 0),  # where loading goes on after a kill
    _integer("line", 0),
    _integer("record", 0),
    Column("settings", TEXT, nullable=False),  # options of the first run, JSON; never a key
    Column("created_at", REAL, nullable=False),
)

task = _table(
    "task",
    _id(),
    _fk("job"),
    Column("custom_id", TEXT, nullable=False),
    Column("fingerprint", BLOB, CheckConstraint("length(fingerprint) = 16"), nullable=False),
    Column("position", INTEGER, nullable=False),  # the line in the job file: the order of results
    Column("seen", INTEGER, nullable=False),  # the last generation that held this line
    _integer("retired", 0),  # 0 = current; its own id once the line was edited away or removed
    Column("state", TEXT, CheckConstraint(f"state IN ({STATES})"), nullable=False, server_default="pending"),
    _integer("attempts", 0),  # leases taken: the number of the last one
    _integer("failures", 0),  # sends that used up a try
    Column("available_at", REAL, nullable=False, server_default=text("0")),
    _fk("run", nullable=True),
    Column("finished_at", REAL),
    Column("error_class", TEXT),
    UniqueConstraint("job_id", "custom_id", "retired"),
    CheckConstraint("(state = 'running') = (run_id IS NOT NULL)"),
    CheckConstraint("(state IN ('succeeded', 'failed')) = (finished_at IS NOT NULL)"),
    CheckConstraint("(state = 'failed') = (error_class IS NOT NULL)"),
    CheckConstraint("retired = 0 OR (retired = id AND state NOT IN ('pending', 'running'))"),
    CheckConstraint("failures <= attempts"),
)
Index("task_claim", task.c.job_id, task.c.available_at, task.c.id, sqlite_where=text("state = 'pending'"))
Index("task_order", task.c.job_id, task.c.position)

request = _table(
    "request",
    Column("task_id", INTEGER, ForeignKey("task.id"), primary_key=True),
    Column("endpoint", TEXT, nullable=False),
    Column("model", TEXT),
    Column("body", TEXT, nullable=False),  # sent as it stands
    Column("row", TEXT),  # the input row, JSON, for joining answers back
)

model = _table(  # the models that a job's lines name, empty for none: each has a queue of its own
    "model",
    Column("job_id", INTEGER, ForeignKey("job.id"), primary_key=True),
    Column("name", TEXT, primary_key=True),
)

attempt = _table(
    "attempt",
    _id(),
    _fk("task"),
    _fk("run"),
    Column("number", INTEGER, CheckConstraint("number > 0"), nullable=False),
    Column("outcome", TEXT, CheckConstraint("outcome IN ('success', 'failure', 'released', 'unknown')")),  # NULL: open
    Column("leased_at", REAL, nullable=False),
    Column("sent_at", REAL),
    Column("finished_at", REAL),
    Column("cost", REAL, nullable=False),  # tokens reserved
    Column("status", INTEGER),
    Column("error_class", TEXT),
    Column("error_code", TEXT),
    Column("message", TEXT),
    Column("request_id", TEXT),
    _integer("prompt_tokens"),
    _integer("completion_tokens"),
    _integer("cached_tokens"),
    _integer("reasoning_tokens"),
    _integer("possibly_charged", 0),
    Column("lane", TEXT),  # where it went, and so whose limits it took from: route/model
    Column("model", TEXT),  # as sent, where the lane has another name for it
    Column("first_token_at", REAL),  # of a stream
    _integer("reserved"),  # money, the most it could cost; billionths of the run's currency, like ``spent``
    _integer("spent"),  # NULL: no price is known
    UniqueConstraint("task_id", "number"),
    CheckConstraint("(outcome IS NULL) = (finished_at IS NULL)"),
    CheckConstraint("(outcome IS 'failure') = (error_class IS NOT NULL)"),
)
Index("attempt_open", attempt.c.id, sqlite_where=text("outcome IS NULL"))

result = _table(
    "result",
    Column("task_id", INTEGER, ForeignKey("task.id"), primary_key=True),
    _fk("attempt"),
    Column("status", INTEGER, nullable=False),
    Column("body", Any, nullable=False),
    Column("finish_reason", TEXT),
    _integer("simulated", 0),
    Column("received_at", REAL, nullable=False),
)

late_result = _table(  # a second paid answer to the same task: kept, never used
    "late_result",
    Column("attempt_id", INTEGER, ForeignKey("attempt.id"), primary_key=True),
    _fk("task"),
    Column("body", Any, nullable=False),
    Column("received_at", REAL, nullable=False),
)

reply = _table(  # what came instead of an answer, as received
    "reply",
    Column("attempt_id", INTEGER, ForeignKey("attempt.id"), primary_key=True),
    Column("body", Any, nullable=False),
)

rejected = _table(
    "rejected",
    Column("job_id", INTEGER, ForeignKey("job.id"), primary_key=True),
    Column("line", INTEGER, primary_key=True),
    Column("offset", INTEGER, nullable=False),
    Column("reason", TEXT, nullable=False),
)

tally = _table(  # how many current tasks are in each state, moved along with them; checked against them at every exit
    "tally",
    Column("job_id", INTEGER, ForeignKey("job.id"), primary_key=True),
    Column("state", TEXT, CheckConstraint(f"state IN ({STATES})"), primary_key=True),
    Column("count", INTEGER, CheckConstraint("count >= 0"), nullable=False),
)

run = _table(
    "run",
    _id(),
    _fk("job"),
    Column("started_at", REAL, nullable=False),
    Column("ended_at", REAL),
    Column("pid", INTEGER, nullable=False),
    Column("host", TEXT, nullable=False),
    Column("version", TEXT, nullable=False),
    Column("endpoint", TEXT, nullable=False),
    Column("settings", TEXT, nullable=False),
    Column("exit_code", INTEGER),
    Column("reason", TEXT),
    Column("currency", TEXT),
    CheckConstraint("(ended_at IS NULL) = (exit_code IS NULL)"),
)

sample = _table(  # a row a second while something changes, for screens and reports
    "sample",
    _fk("run"),
    Column("at", REAL, nullable=False),
    Column("succeeded", INTEGER, nullable=False),
    Column("failed", INTEGER, nullable=False),
    Column("pending", INTEGER, nullable=False),
    Column("in_flight", INTEGER, nullable=False),
    Column("slots", INTEGER, nullable=False),
    Column("sent_1m", INTEGER, nullable=False),
    Column("tokens_1m", INTEGER, nullable=False),
    Column("refused_1m", INTEGER, nullable=False),
    Column("rpm_limit", REAL),
    Column("tpm_limit", REAL),
    Column("p50", REAL),
    Column("p95", REAL),
    Column("limiting", TEXT, nullable=False),
    _integer("spent"),
    UniqueConstraint("run_id", "at"),
)

belief = _table(  # what was learned of a limit; a belief at the next start, not a fact
    "belief",
    Column("endpoint", TEXT, primary_key=True),
    Column("key_label", TEXT, primary_key=True),  # a short one-way fingerprint, never the key
    Column("model", TEXT, primary_key=True),
    Column("value", TEXT, nullable=False),  # JSON
    Column("updated_at", REAL, nullable=False),
)

event = _table(  # a belief about a limit that changed, and why
    "event",
    _id(),
    _fk("run"),
    Column("at", REAL, nullable=False),
    Column("what", TEXT, nullable=False),
    Column("old", TEXT, nullable=False),
    Column("new", TEXT, nullable=False),
    Column("evidence", TEXT, nullable=False),
)

IMMUTABLE = """
CREATE TRIGGER result_is_immutable BEFORE UPDATE ON result
BEGIN SELECT raise(ABORT, 'a result is never changed'); END
"""

_ANSWER = """CASE WHEN json_valid(result.body) THEN coalesce(
                   json_extract(result.body, '$.choices[0].message.content'),
                   json_extract(result.body, '$.choices[0].text')) END"""

VIEWS = {
    "tasks": """
        SELECT task.id, job.name AS job, task.position, task.custom_id, task.state, task.error_class,
               task.attempts, task.failures, task.finished_at
        FROM task JOIN job ON job.id = task.job_id WHERE task.retired = 0
    """,
    "results": f"""
        SELECT task.id, job.name AS job, task.position, task.custom_id, task.state, task.error_class,
               {_ANSWER} AS answer, result.finish_reason, task.attempts, attempt.prompt_tokens,
               attempt.completion_tokens, attempt.cached_tokens, attempt.reasoning_tokens,
               attempt.finished_at - attempt.sent_at AS latency_s,
               attempt.first_token_at - attempt.sent_at AS first_token_s, attempt.spent / 1e9 AS spent, attempt.lane,
               coalesce(attempt.model, request.model) AS model, attempt.request_id,
               result.simulated, datetime(result.received_at, 'unixepoch') AS at,
               request.row AS "row", request.body AS request, result.body AS response
        FROM task JOIN job ON job.id = task.job_id JOIN request ON request.task_id = task.id
             LEFT JOIN result ON result.task_id = task.id LEFT JOIN attempt ON attempt.id = result.attempt_id
        WHERE task.retired = 0
    """,  # noqa: S608  (no input: a constant of ours)
    "errors": """
        SELECT task.id, job.name AS job, task.position, task.custom_id, task.error_class, attempt.error_code,
               attempt.message, attempt.status, task.attempts, request.model,
               datetime(task.finished_at, 'unixepoch') AS at, request.body AS request, reply.body AS response
        FROM task JOIN job ON job.id = task.job_id JOIN request ON request.task_id = task.id
             LEFT JOIN attempt ON attempt.task_id = task.id AND attempt.number = task.attempts
             LEFT JOIN reply ON reply.attempt_id = attempt.id
        WHERE task.retired = 0 AND task.state = 'failed'
    """,
    "attempts": """
        SELECT attempt.id, task.custom_id, attempt.run_id AS run, attempt.number, attempt.outcome,
               datetime(attempt.leased_at, 'unixepoch') AS leased_at, datetime(attempt.sent_at, 'unixepoch') AS sent_at,
               attempt.finished_at - attempt.sent_at AS latency_s,
               attempt.first_token_at - attempt.sent_at AS first_token_s, attempt.status, attempt.error_class,
               attempt.error_code, attempt.message, attempt.cost, attempt.prompt_tokens, attempt.completion_tokens,
               attempt.cached_tokens, attempt.reasoning_tokens, attempt.possibly_charged, attempt.request_id,
               attempt.lane, attempt.model, attempt.reserved / 1e9 AS reserved, attempt.spent / 1e9 AS spent
        FROM attempt JOIN task ON task.id = attempt.task_id
    """,
    "runs": """
        SELECT run.id, job.name AS job, datetime(run.started_at, 'unixepoch') AS started_at,
               datetime(run.ended_at, 'unixepoch') AS ended_at, run.exit_code, run.reason, run.endpoint,
               run.pid, run.host, run.version, run.settings, run.currency
        FROM run JOIN job ON job.id = run.job_id
    """,
    "samples": "SELECT datetime(sample.at, 'unixepoch') AS time, sample.* FROM sample",
    "limits": "SELECT belief.*, datetime(belief.updated_at, 'unixepoch') AS time FROM belief",
    "events": """
        SELECT event.id, event.run_id AS run, datetime(event.at, 'unixepoch') AS time, event.what, event.old,
               event.new, event.evidence
        FROM event
    """,
}
