"""Why a line can't become a request: raised while it is read, turned into a ``RejectedLine`` by the reader."""


class Refused(Exception):  # noqa: N818  (a verdict on one line, never seen outside this package)
    """This line can't be used; the message says what is wrong with it and what to do."""
