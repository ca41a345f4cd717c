"""The first schema."""

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# as it was then: never changed, whatever becomes of the schema
STATEMENTS = (
    """
    CREATE TABLE job (
        id INTEGER NOT NULL,
        name TEXT NOT NULL,
        source TEXT NOT NULL,
        shape TEXT NOT NULL,
        digest BLOB NOT NULL,
        stamp TEXT NOT NULL,
        state TEXT NOT NULL CHECK (state IN ('loading', 'loaded')),
        generation INTEGER DEFAULT 1 NOT NULL,
        policy TEXT DEFAULT 'redo' NOT NULL CHECK (policy IN ('redo', 'keep')),
        "offset" INTEGER DEFAULT 0 NOT NULL,
        line INTEGER DEFAULT 0 NOT NULL,
        record INTEGER DEFAULT 0 NOT NULL,
        settings TEXT NOT NULL,
        created_at REAL NOT NULL,
        PRIMARY KEY (id),
        UNIQUE (source)
    ) STRICT
    """,
    """
    CREATE TABLE belief (
        endpoint TEXT NOT NULL,
        key_label TEXT NOT NULL,
        model TEXT NOT NULL,
        value TEXT NOT NULL,
        updated_at REAL NOT NULL,
        PRIMARY KEY (endpoint, key_label, model)
    ) STRICT
    """,
    """
    CREATE TABLE rejected (
        job_id INTEGER NOT NULL,
        line INTEGER NOT NULL,
        "offset" INTEGER NOT NULL,
        reason TEXT NOT NULL,
        PRIMARY KEY (job_id, line),
        FOREIGN KEY(job_id) REFERENCES job (id)
    ) STRICT
    """,
    """
    CREATE TABLE tally (
        job_id INTEGER NOT NULL,
        state TEXT NOT NULL CHECK (state IN ('pending', 'running', 'succeeded', 'failed', 'held', 'cancelled')),
        count INTEGER NOT NULL CHECK (count >= 0),
        PRIMARY KEY (job_id, state),
        FOREIGN KEY(job_id) REFERENCES job (id)
    ) STRICT
    """,
    """
    CREATE TABLE run (
        id INTEGER NOT NULL,
        job_id INTEGER NOT NULL,
        started_at REAL NOT NULL,
        ended_at REAL,
        pid INTEGER NOT NULL,
        host TEXT NOT NULL,
        version TEXT NOT NULL,
        endpoint TEXT NOT NULL,
        settings TEXT NOT NULL,
        exit_code INTEGER,
        reason TEXT,
        PRIMARY KEY (id),
        CHECK ((ended_at IS NULL) = (exit_code IS NULL)),
        FOREIGN KEY(job_id) REFERENCES job (id)
    ) STRICT
    """,
    """
    CREATE TABLE task (
        id INTEGER NOT NULL,
        job_id INTEGER NOT NULL,
        custom_id TEXT NOT NULL,
        fingerprint BLOB NOT NULL CHECK (length(fingerprint) = 16),
        position INTEGER NOT NULL,
        seen INTEGER NOT NULL,
        retired INTEGER DEFAULT 0 NOT NULL,
        state TEXT DEFAULT 'pending' NOT NULL CHECK (state IN ('pending', 'running', 'succeeded', 'failed', 'held',
            'cancelled')),
        attempts INTEGER DEFAULT 0 NOT NULL,
        failures INTEGER DEFAULT 0 NOT NULL,
        available_at REAL DEFAULT 0 NOT NULL,
        run_id INTEGER,
        finished_at REAL,
        error_class TEXT,
        PRIMARY KEY (id),
        UNIQUE (job_id, custom_id, retired),
        CHECK ((state = 'running') = (run_id IS NOT NULL)),
        CHECK ((state IN ('succeeded', 'failed')) = (finished_at IS NOT NULL)),
        CHECK ((state = 'failed') = (error_class IS NOT NULL)),
        CHECK (retired = 0 OR (retired = id AND state NOT IN ('pending', 'running'))),
        CHECK (failures <= attempts),
        FOREIGN KEY(job_id) REFERENCES job (id),
        FOREIGN KEY(run_id) REFERENCES run (id)
    ) STRICT
    """,
    """
    CREATE INDEX task_order ON task (job_id, position)
    """,
    """
    CREATE INDEX task_claim ON task (job_id, available_at, id) WHERE state = 'pending'
    """,
    """
    CREATE TABLE sample (
        run_id INTEGER NOT NULL,
        at REAL NOT NULL,
        succeeded INTEGER NOT NULL,
        failed INTEGER NOT NULL,
        pending INTEGER NOT NULL,
        in_flight INTEGER NOT NULL,
        slots INTEGER NOT NULL,
        sent_1m INTEGER NOT NULL,
        tokens_1m INTEGER NOT NULL,
        refused_1m INTEGER NOT NULL,
        rpm_limit REAL,
        tpm_limit REAL,
        p50 REAL,
        p95 REAL,
        limiting TEXT NOT NULL,
        UNIQUE (run_id, at),
        FOREIGN KEY(run_id) REFERENCES run (id)
    ) STRICT
    """,
    """
    CREATE TABLE request (
        task_id INTEGER NOT NULL,
        endpoint TEXT NOT NULL,
        model TEXT,
        body TEXT NOT NULL,
        "row" TEXT,
        PRIMARY KEY (task_id),
        FOREIGN KEY(task_id) REFERENCES task (id)
    ) STRICT
    """,
    """
    CREATE TABLE attempt (
        id INTEGER NOT NULL,
        task_id INTEGER NOT NULL,
        run_id INTEGER NOT NULL,
        number INTEGER NOT NULL CHECK (number > 0),
        outcome TEXT CHECK (outcome IN ('success', 'failure', 'released', 'unknown')),
        leased_at REAL NOT NULL,
        sent_at REAL,
        finished_at REAL,
        cost REAL NOT NULL,
        status INTEGER,
        error_class TEXT,
        error_code TEXT,
        message TEXT,
        request_id TEXT,
        prompt_tokens INTEGER,
        completion_tokens INTEGER,
        cached_tokens INTEGER,
        reasoning_tokens INTEGER,
        possibly_charged INTEGER DEFAULT 0 NOT NULL,
        PRIMARY KEY (id),
        UNIQUE (task_id, number),
        CHECK ((outcome IS NULL) = (finished_at IS NULL)),
        CHECK ((outcome IS 'failure') = (error_class IS NOT NULL)),
        FOREIGN KEY(task_id) REFERENCES task (id),
        FOREIGN KEY(run_id) REFERENCES run (id)
    ) STRICT
    """,
    """
    CREATE INDEX attempt_open ON attempt (id) WHERE outcome IS NULL
    """,
    """
    CREATE TABLE result (
        task_id INTEGER NOT NULL,
        attempt_id INTEGER NOT NULL,
        status INTEGER NOT NULL,
        body ANY NOT NULL,
        finish_reason TEXT,
        simulated INTEGER DEFAULT 0 NOT NULL,
        received_at REAL NOT NULL,
        PRIMARY KEY (task_id),
        FOREIGN KEY(task_id) REFERENCES task (id),
        FOREIGN KEY(attempt_id) REFERENCES attempt (id)
    ) STRICT
    """,
    """
    CREATE TABLE late_result (
        attempt_id INTEGER NOT NULL,
        task_id INTEGER NOT NULL,
        body ANY NOT NULL,
        received_at REAL NOT NULL,
        PRIMARY KEY (attempt_id),
        FOREIGN KEY(attempt_id) REFERENCES attempt (id),
        FOREIGN KEY(task_id) REFERENCES task (id)
    ) STRICT
    """,
    """
    CREATE TABLE reply (
        attempt_id INTEGER NOT NULL,
        body ANY NOT NULL,
        PRIMARY KEY (attempt_id),
        FOREIGN KEY(attempt_id) REFERENCES attempt (id)
    ) STRICT
    """,
    """
    CREATE TRIGGER result_is_immutable BEFORE UPDATE ON result
    BEGIN SELECT raise(ABORT, 'a result is never changed'); END
    """,
    """
    CREATE VIEW tasks AS
        SELECT task.id, job.name AS job, task.position, task.custom_id, task.state, task.error_class,
               task.attempts, task.failures, task.finished_at
        FROM task JOIN job ON job.id = task.job_id WHERE task.retired = 0
    """,
    """
    CREATE VIEW results AS
        SELECT task.id, job.name AS job, task.position, task.custom_id, task.state, task.error_class,
               CASE WHEN json_valid(result.body) THEN coalesce(
                   json_extract(result.body, '$.choices[0].message.content'),
                   json_extract(result.body, '$.choices[0].text')) END AS answer, result.finish_reason,
                       task.attempts, attempt.prompt_tokens,
               attempt.completion_tokens, attempt.cached_tokens, attempt.reasoning_tokens,
               attempt.finished_at - attempt.sent_at AS latency_s, request.model, attempt.request_id,
               result.simulated, datetime(result.received_at, 'unixepoch') AS at,
               request.row AS "row", request.body AS request, result.body AS response
        FROM task JOIN job ON job.id = task.job_id JOIN request ON request.task_id = task.id
             LEFT JOIN result ON result.task_id = task.id LEFT JOIN attempt ON attempt.id = result.attempt_id
        WHERE task.retired = 0
    """,
    """
    CREATE VIEW errors AS
        SELECT task.id, job.name AS job, task.position, task.custom_id, task.error_class, attempt.error_code,
               attempt.message, attempt.status, task.attempts, request.model,
               datetime(task.finished_at, 'unixepoch') AS at, request.body AS request, reply.body AS response
        FROM task JOIN job ON job.id = task.job_id JOIN request ON request.task_id = task.id
             LEFT JOIN attempt ON attempt.task_id = task.id AND attempt.number = task.attempts
             LEFT JOIN reply ON reply.attempt_id = attempt.id
        WHERE task.retired = 0 AND task.state = 'failed'
    """,
    """
    CREATE VIEW attempts AS
        SELECT attempt.id, task.custom_id, attempt.run_id AS run, attempt.number, attempt.outcome,
               datetime(attempt.leased_at, 'unixepoch') AS leased_at, datetime(attempt.sent_at, 'unixepoch') AS
                   sent_at,
               attempt.finished_at - attempt.sent_at AS latency_s, attempt.status, attempt.error_class,
               attempt.error_code, attempt.message, attempt.cost, attempt.prompt_tokens, attempt.completion_tokens,
               attempt.cached_tokens, attempt.reasoning_tokens, attempt.possibly_charged, attempt.request_id
        FROM attempt JOIN task ON task.id = attempt.task_id
    """,
    """
    CREATE VIEW runs AS
        SELECT run.id, job.name AS job, datetime(run.started_at, 'unixepoch') AS started_at,
               datetime(run.ended_at, 'unixepoch') AS ended_at, run.exit_code, run.reason, run.endpoint,
               run.pid, run.host, run.version, run.settings
        FROM run JOIN job ON job.id = run.job_id
    """,
    """
    CREATE VIEW samples AS SELECT datetime(sample.at, 'unixepoch') AS time, sample.* FROM sample
    """,
    """
    CREATE VIEW limits AS SELECT belief.*, datetime(belief.updated_at, 'unixepoch') AS time FROM belief
    """,
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)
