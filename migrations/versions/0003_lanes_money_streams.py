"""Lanes, money and streams: where an attempt went, what it cost, when its first token came."""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

COLUMNS = (
    ("attempt", "lane TEXT"),
    ("attempt", "model TEXT"),
    ("attempt", "first_token_at REAL"),
    ("attempt", "reserved INTEGER"),
    ("attempt", "spent INTEGER"),
    ("run", "currency TEXT"),
    ("sample", "spent INTEGER"),
)
MODELS = (
    """
    CREATE TABLE model (
        job_id INTEGER NOT NULL,
        name TEXT NOT NULL,
        PRIMARY KEY (job_id, name),
        FOREIGN KEY(job_id) REFERENCES job (id)
    ) STRICT
    """,
    """
    INSERT INTO model
        SELECT DISTINCT job_id, coalesce(model, '') FROM task JOIN request ON request.task_id = task.id
    """,
)
VIEWS = {
    "results": """
        SELECT task.id, job.name AS job, task.position, task.custom_id, task.state, task.error_class,
               CASE WHEN json_valid(result.body) THEN coalesce(
                   json_extract(result.body, '$.choices[0].message.content'),
                   json_extract(result.body, '$.choices[0].text')) END AS answer,
               result.finish_reason, task.attempts, attempt.prompt_tokens,
               attempt.completion_tokens, attempt.cached_tokens, attempt.reasoning_tokens,
               attempt.finished_at - attempt.sent_at AS latency_s,
               attempt.first_token_at - attempt.sent_at AS first_token_s, attempt.spent / 1e9 AS spent, attempt.lane,
               coalesce(attempt.model, request.model) AS model, attempt.request_id,
               result.simulated, datetime(result.received_at, 'unixepoch') AS at,
               request.row AS "row", request.body AS request, result.body AS response
        FROM task JOIN job ON job.id = task.job_id JOIN request ON request.task_id = task.id
             LEFT JOIN result ON result.task_id = task.id LEFT JOIN attempt ON attempt.id = result.attempt_id
        WHERE task.retired = 0
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
}


def upgrade() -> None:
    for name in VIEWS:
        op.execute(f"DROP VIEW {name}")
    for table, column in COLUMNS:
        op.execute(f"ALTER TABLE {table} ADD COLUMN {column}")
    for statement in MODELS:
        op.execute(statement)
    for name, query in VIEWS.items():
        op.execute(f"CREATE VIEW {name} AS {query}")
