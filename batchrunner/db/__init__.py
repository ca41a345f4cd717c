"""The disk: the queue in SQLite."""
