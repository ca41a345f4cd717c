"""The servers that a limiter must get along with, each with what it must achieve there: the rows of limits.py.

A row is a server, a job, what our command is told (mostly nothing), and what the fixed-rate client is told: always the
right number, by hand.
"""

from dataclasses import dataclass

ACTUAL, PROMPT = 292, 224  # tokens of a request: what its answer reports, and what a server guesses from the prompt
MAX_TOKENS = 512  # where they are charged at admission: far more than an answer uses
WORK = 0.5  # seconds a request takes on the average, where only the places are limited
IN_FLIGHT = "64"


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """``efficiency``: at least, None = at most one window's time may be lost. ``refused``: share of the sends, at most.

    ``late``: what was refused in the first window does not count, for nobody could know.
    """

    efficiency: float | None
    refused: float
    late: bool = False

    def __str__(self) -> str:
        time = "lost <= 1 window" if self.efficiency is None else f">= {self.efficiency:g}"
        return f"{time}, {'late ' if self.late else ''}<= {self.refused:.1%}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """``limit`` requests a window of ``window`` seconds, and a job of ``windows`` limits' worth."""

    window: float
    limit: int
    windows: float

    @property
    def tasks(self) -> int:
        return round(self.limit * self.windows)

    def times(self, factor: float) -> "Size":
        """The same server, a longer or shorter job."""
        return Size(window=self.window, limit=self.limit, windows=self.windows * factor)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A row. ``server``, ``told``, ``paced``: options of the simulator, of our command and of the fixed-rate client."""

    what: str
    window: float
    tasks: int
    server: tuple[str, ...]
    paced: tuple[str, ...]
    target: Target
    told: tuple[str, ...] = ()
    max_tokens: int = 64


OPENAI = ("--dialect", "openai")
SILENT = ("--dialect", "none")
RETRY_AFTER = ("--dialect", "retry-after")
MISTRAL = ("--as", "mistral")  # tells limit and remaining, and never a reset
MOONSHOT = ("--as", "moonshot")  # names its limit, by the minute, where it refuses
ZHIPU_WINDOW = ("--algorithm", "fixed", "--dialect", "zhipu")

BUCKET = Target(efficiency=0.98, refused=0.001)
WINDOW = Target(efficiency=0.97, refused=0.001, late=True)
SLIDING = Target(efficiency=0.95, refused=0.005)
UNTOLD = Target(efficiency=0.90, refused=0.02)
STATED = Target(efficiency=0.98, refused=0.001)
TOKENS = Target(efficiency=0.95, refused=0.005)
CHANGED = Target(efficiency=None, refused=0.01)
FOREIGN = Target(efficiency=0.90, refused=0.01)

SHORT = Size(window=10, limit=300, windows=4)
FULL = Size(window=60, limit=1_200, windows=3)
MINUTES = Size(window=60, limit=600, windows=2)  # where limits a minute are stated, they must be right


def cases(*, full: bool) -> list[Case]:
    """All rows, in the order in which limiter targets are usually told: what is known first."""
    size, stated = (FULL, FULL) if full else (SHORT, MINUTES)
    longer = size.times(2)
    return [
        _requests("bucket, OpenAI headers", size, BUCKET, *OPENAI),
        _requests("fixed window, Zhipu headers", size, WINDOW, *ZHIPU_WINDOW),
        _requests("fixed window, OpenAI headers", size, WINDOW, "--algorithm", "fixed", *OPENAI),
        _requests("fixed window, Anthropic headers", size, WINDOW, "--algorithm", "fixed", "--dialect", "anthropic"),
        _requests("fixed window, IETF headers", size, WINDOW, "--algorithm", "fixed", "--dialect", "ietf"),
        _requests("fixed window on the clock's grid, Zhipu headers", size, WINDOW, "--aligned", *ZHIPU_WINDOW),
        _requests("sliding log, OpenAI headers", size, SLIDING, "--algorithm", "sliding", *OPENAI),
        _requests("sliding log, Zhipu headers", size, SLIDING, "--algorithm", "sliding", "--dialect", "zhipu"),
        _requests("bucket, 429 only", longer, UNTOLD, *SILENT),
        _requests("bucket, 429 with Retry-After", longer, UNTOLD, *RETRY_AFTER),
        _requests("fixed window, 429 only", longer, UNTOLD, "--algorithm", "fixed", *SILENT),
        _requests("fixed window, 429 with Retry-After", longer, UNTOLD, "--algorithm", "fixed", *RETRY_AFTER),
        _requests("bucket, no reset told", longer, WINDOW, *MISTRAL),
        _requests("fixed window, no reset told", longer, WINDOW, "--algorithm", "fixed", *MISTRAL),
        _requests("bucket, named by refusals only", stated, UNTOLD, *MOONSHOT),
        _requests("fixed window, named by refusals only", stated, UNTOLD, "--algorithm", "fixed", *MOONSHOT),
        *(_places(places, seconds=120 if full else 40) for places in (1, 5, 20)),
        _stated("RPM told: bucket, OpenAI headers", stated, *OPENAI),
        _stated("RPM told: fixed window, Zhipu headers", stated, *ZHIPU_WINDOW),
        _stated("RPM told: bucket, 429 only", stated, *SILENT),
        _stated("RPM told: fixed window, 429 only", stated, "--algorithm", "fixed", *SILENT),
        _tokens_stated("RPM+TPM told: bucket, OpenAI headers", stated, *OPENAI),
        _tokens_stated("RPM+TPM told: bucket, 429 only", stated, *SILENT),
        _tokens("TPM, prompt + max_tokens at admission", size, "max_tokens", ACTUAL),
        _tokens("TPM, actual usage afterwards", size, "actual", ACTUAL),
        _tokens("TPM, estimate of the prompt", size, "estimate", PROMPT),
        _changed("limit halves: bucket, OpenAI headers", size, 0.5, *OPENAI),
        _changed("limit doubles: bucket, OpenAI headers", longer, 2, *OPENAI),
        _changed("limit halves: fixed window, Zhipu headers", size, 0.5, *ZHIPU_WINDOW),
        _changed("limit doubles: fixed window, Zhipu headers", longer, 2, *ZHIPU_WINDOW),
        _foreign("second client: bucket, OpenAI headers", size.times(0.7), *OPENAI),
        _foreign("second client: fixed window, Zhipu headers", size.times(0.7), *ZHIPU_WINDOW),
    ]


def _server(size: Size, *options: str, latency: str = "0.1") -> tuple[str, ...]:
    return ("--rpm", str(size.limit), "--window", f"{size.window:g}", "--latency", latency, *options)


def _paced(size: Size, share: float = 1.0) -> tuple[str, ...]:
    return ("--limit", f"{size.limit * share:g}", "--window", f"{size.window:g}", "--in-flight", IN_FLIGHT)


def _requests(what: str, size: Size, target: Target, *server: str, told: tuple[str, ...] = ()) -> Case:
    return Case(
        what=what,
        window=size.window,
        tasks=size.tasks,
        server=_server(size, *server),
        paced=_paced(size),
        target=target,
        told=told,
    )


def _stated(what: str, size: Size, *server: str) -> Case:
    return _requests(what, size, STATED, *server, told=("--rpm", str(size.limit)))


def _places(places: int, *, seconds: float) -> Case:
    """Only so many in flight, and GLM's error code; one refusal at least is needed to find that out."""
    return Case(
        what=f"{places} in flight, GLM's 1302 only",
        window=seconds,
        tasks=round(seconds / WORK * places),
        server=("--concurrency", str(places), "--dialect", "glm", "--latency", f"uniform:{WORK - 0.1}:{WORK + 0.1}"),
        paced=("--in-flight", str(places)),
        target=UNTOLD,
    )


def _tokens(what: str, size: Size, charging: str, tokens: int) -> Case:
    """Requests have a limit as well, but tokens bind."""
    server = ("--tpm", str(size.limit * tokens), "--charging", charging, *OPENAI)
    return Case(
        what=what,
        window=size.window,
        tasks=size.tasks,
        server=_server(Size(window=size.window, limit=2 * size.limit, windows=1), *server),
        paced=_paced(size),
        target=TOKENS,
        max_tokens=MAX_TOKENS,
    )


def _tokens_stated(what: str, size: Size, *server: str) -> Case:
    """Both are stated; tokens bind a little more."""
    tpm = str(round(0.9 * size.limit * ACTUAL))
    return Case(
        what=what,
        window=size.window,
        tasks=size.tasks,
        server=_server(size, "--tpm", tpm, "--charging", "actual", *server),
        paced=_paced(size, 0.9),
        target=STATED,
        told=("--rpm", str(size.limit), "--tpm", tpm),
        max_tokens=MAX_TOKENS,
    )


def _changed(what: str, size: Size, factor: float, *server: str) -> Case:
    """In the middle of the second window; the fixed-rate client keeps the rate that was right at first."""
    change = f"{1.5 * size.window:g}:rpm={round(size.limit * factor)}"
    return _requests(what, size, CHANGED, "--changes", change, *server)


def _foreign(what: str, size: Size, *server: str) -> Case:
    """No whole number of windows is left for us: by a hair, one more would be needed."""
    return Case(
        what=what,
        window=size.window,
        tasks=size.tasks,
        server=_server(size, "--foreign", "0.5", *server),
        paced=_paced(size, 0.5),
        target=FOREIGN,
    )
