"""What can stop the program: one exception a cause, each with a sentence for the user.

    BatchRunnerError                 the base; ``exit_code`` says what the command line answers
      ConfigError                    an option, a key or an endpoint is missing or makes no sense
      JobFileError                   the job file can't be used: says file, line, byte offset and reason
      StoreError                     the database can't be used
        DatabaseBusy                 another runner owns it
        SchemaTooNew                 it was written by a newer batchrunner
        SchemaTooOld                 it was written by an older one, and whoever writes to it upgrades it
      AccountingError                the sums do not add up: a bug of ours

An answer of the provider that we do not like is never an exception: it is a ``Failure`` (see task.py).
"""


class BatchRunnerError(Exception):
    """The program can't go on; the message says what, where and what to do."""

    exit_code = 1


class ConfigError(BatchRunnerError):
    """An option, a key or an endpoint is missing or makes no sense."""


class JobFileError(BatchRunnerError):
    """A job file, or one of its lines, can't be used.

    ``path``: the file as the user named it. ``line``: counted from 1, None if the whole file is meant.
    ``offset``: where that line begins, in (decompressed) bytes.
    """

    def __init__(self, path: str, reason: str, *, line: int | None = None, offset: int | None = None) -> None:
        self.path = path
        self.reason = reason
        self.line = line
        self.offset = offset
        where = path if line is None else f"{path}:{line}"
        at = "" if offset is None else f" (byte {offset:,})"
        super().__init__(f"{where}{at}: {reason}")


class StoreError(BatchRunnerError):
    """The database can't be used."""


class DatabaseBusy(StoreError):  # noqa: N818  (a state of things, like BlockingIOError's kin)
    """Another runner owns the database."""

    exit_code = 6


class SchemaTooNew(StoreError):  # noqa: N818
    """The database was written by a newer batchrunner."""


class SchemaTooOld(StoreError):  # noqa: N818
    """The database was written by an older batchrunner; opening it to write upgrades it."""


class AccountingError(BatchRunnerError):
    """The sums do not add up: a bug of ours, never to be passed over."""

    exit_code = 70
