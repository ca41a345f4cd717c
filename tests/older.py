"""A database turned back into one that the first release could have written."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path

# as that release wrote it: a clock called "window", a kind that holds the period
BELIEF = {
    "meters": [{"dimension": "requests", "kind": "told 60s", "limit": 600, "period": 60.0, "algorithm": "window"}],
    "slots": 4,
    "slots_refused_at": None,
}

# as migration 0002 left them
ADDED = (
    ("attempt", "lane"),
    ("attempt", "model"),
    ("attempt", "first_token_at"),
    ("attempt", "reserved"),
    ("attempt", "spent"),
    ("run", "currency"),
    ("sample", "spent"),
)
VIEWS = {
    "results": """
        SELECT task.id, job.name AS job, task.position, task.custom_id, task.state, task.error_class,
               CASE WHEN json_valid(result.body) THEN coalesce(
                   json_extract(result.body, '$.choices[0].message.content'),
                   json_extract(result.body, '$.choices[0].text')) END AS answer,
               result.finish_reason, task.attempts, attempt.prompt_tokens,
               attempt.completion_tokens, attempt.cached_tokens, attempt.reasoning_tokens,
               attempt.finished_at - attempt.sent_at AS latency_s, request.model, attempt.request_id,
               result.simulated, datetime(result.received_at, 'unixepoch') AS at,
               request.row AS "row", request.body AS request, result.body AS response
        FROM task JOIN job ON job.id = task.job_id JOIN request ON request.task_id = task.id
             LEFT JOIN result ON result.task_id = task.id LEFT JOIN attempt ON attempt.id = result.attempt_id
        WHERE task.retired = 0
    """,
    "attempts": """
        SELECT attempt.id, task.custom_id, attempt.run_id AS run, attempt.number, attempt.outcome,
               datetime(attempt.leased_at, 'unixepoch') AS leased_at, datetime(attempt.sent_at, 'unixepoch') AS sent_at,
               attempt.finished_at - attempt.sent_at AS latency_s, attempt.status, attempt.error_class,
               attempt.error_code, attempt.message, attempt.cost, attempt.prompt_tokens, attempt.completion_tokens,
               attempt.cached_tokens, attempt.reasoning_tokens, attempt.possibly_charged, attempt.request_id
        FROM attempt JOIN task ON task.id = attempt.task_id
    """,
    "runs": """
        SELECT run.id, job.name AS job, datetime(run.started_at, 'unixepoch') AS started_at,
               datetime(run.ended_at, 'unixepoch') AS ended_at, run.exit_code, run.reason, run.endpoint,
               run.pid, run.host, run.version, run.settings
        FROM run JOIN job ON job.id = run.job_id
    """,
    "samples": "SELECT datetime(sample.at, 'unixepoch') AS time, sample.* FROM sample",
}


def turn_back(path: Path) -> None:
    """Undo migrations 0003 and 0002, and what is believed with the latter."""
    with closing(sqlite3.connect(path)) as connection, connection:
        for view in ("results", "attempts", "runs", "samples"):
            connection.execute(f"DROP VIEW {view}")
        for table, column in ADDED:
            connection.execute(f"ALTER TABLE {table} DROP COLUMN {column}")
        for view, query in VIEWS.items():
            connection.execute(f"CREATE VIEW {view} AS {query}")
        connection.execute("DROP TABLE model")
        connection.execute("DROP VIEW events")
        connection.execute("DROP TABLE event")
        connection.execute("UPDATE alembic_version SET version_num = '0001'")
        connection.execute("UPDATE belief SET value = ?", (json.dumps(BELIEF),))
        connection.execute("PRAGMA user_version = 1")
