"""What the process tells its parent when it ends: a stable contract for cron, systemd and scripts."""

from enum import IntEnum


class ExitCode(IntEnum):
    """Exit codes; one that is not in here means failure."""

    OK = 0
    CANNOT_START = 1
    USAGE = 2
    SOME_FAILED = 3
    STOPPED_PROVIDER = 4
    STOPPED_LIMIT = 5
    BUSY = 6
    STOPPED_LATER = 7
    INTERNAL = 70
    INTERRUPTED = 130
    TERMINATED = 143

    @property
    def label(self) -> str:
        """The name in documents and in the summary event; SIGINT and SIGTERM share one."""
        return "interrupted" if self is ExitCode.TERMINATED else self.name.lower().replace("_", "-")

    @property
    def meaning(self) -> str:
        return _MEANINGS[self]


_MEANINGS = {
    ExitCode.OK: "everything succeeded, or nothing was left to do; failures are within --tolerate",
    ExitCode.CANNOT_START: "a problem with the job file, the settings, the key or the database; nothing was sent",
    ExitCode.USAGE: "the command line makes no sense",
    ExitCode.SOME_FAILED: "finished, and some tasks failed, were rejected or are held; see 'batchrunner errors'",
    ExitCode.STOPPED_PROVIDER: "the key, the balance, the model or the endpoint needs a human; tasks stay pending",
    ExitCode.STOPPED_LIMIT: "a limit of your own was reached; the next run goes on",
    ExitCode.BUSY: "another runner owns this database",
    ExitCode.STOPPED_LATER: "the provider's quota or an outage lasts longer than the run may wait; run it again later",
    ExitCode.INTERNAL: "a bug of ours, or the accounts do not add up; please report it",
    ExitCode.INTERRUPTED: "stopped by Ctrl-C; the next run goes on",
    ExitCode.TERMINATED: "stopped by a signal; the next run goes on",
}
