"""Changes of what is believed of the limits, so that a run can be explained afterwards."""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

STATEMENTS = (
    """
    CREATE TABLE event (
        id INTEGER NOT NULL,
        run_id INTEGER NOT NULL,
        at REAL NOT NULL,
        what TEXT NOT NULL,
        old TEXT NOT NULL,
        new TEXT NOT NULL,
        evidence TEXT NOT NULL,
        PRIMARY KEY (id),
        FOREIGN KEY(run_id) REFERENCES run (id)
    ) STRICT
    """,
    """
    CREATE VIEW events AS
        SELECT event.id, event.run_id AS run, datetime(event.at, 'unixepoch') AS time, event.what, event.old,
               event.new, event.evidence
        FROM event
    """,
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)
