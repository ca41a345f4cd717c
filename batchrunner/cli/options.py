"""Options that several commands share, each with its BATCHRUNNER_ variable."""

from collections.abc import Callable
from typing import Any, TypeVar

import rich_click as click

F = TypeVar("F", bound=Callable[..., Any])
PREFIX = "BATCHRUNNER_"


def option(*names: str, **keywords: Any) -> Callable[[F], F]:
    """click's, with the variable named after the option: --base-url is BATCHRUNNER_BASE_URL too."""
    longest = max(names, key=len).split("/")[0].lstrip("-")
    keywords.setdefault("envvar", PREFIX + longest.replace("-", "_").upper())
    if keywords.get("show_default") is None and not keywords.get("is_flag"):
        keywords["show_default"] = keywords.get("default") is not None
    return click.option(*names, **keywords)


def together(*decorators: Callable[[F], F]) -> Callable[[F], F]:
    """Several options as one decorator, in the order they are given."""

    def decorate(function: F) -> F:
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return decorate


db_option = option("--db", metavar="FILE", help="The database, if not the one beside the job file.")
json_option = option("--json", "as_json", is_flag=True, envvar=None, help="One JSON object on standard output.")
job_argument = click.argument("job", required=False)

input_options = together(
    option("-m", "--model", help="Model of every request; wins over what a line says."),
    option("--prompt", metavar="TEXT", help="Prompt made from each row: 'Classify: {{ text }}' (jinja2)."),
    option("--template", metavar="FILE", help="The same, from a file."),
    option("--system", metavar="TEXT", help="System message, for rows, prompts and lines."),
    option("--param", "params", metavar="KEY=VALUE", multiple=True, help="Set in every body, such as temperature=0."),
    option("--id-column", metavar="NAME", help="Column that holds the custom_id. [custom_id or id, if there is one]"),
    option(
        "--input-format",
        type=click.Choice(["auto", "batch", "body", "prompt", "rows", "lines"]),
        default="auto",
        help="What a line is, where that can't be told.",
    ),
    option(
        "--on-bad-line",
        type=click.Choice(["stop", "skip"]),
        default="stop",
        help="A line that is no request: stop before anything is sent, or leave it out and count it.",
    ),
    option(
        "--changed",
        type=click.Choice(["ask", "redo", "keep", "stop"]),
        default="ask",
        help="Lines edited since they were loaded: ask on a terminal (else stop), redo them, or keep their answers.",
    ),
)

provider_options = together(
    option("-p", "--provider", metavar="NAME", help="zhipu, zai or openai: base URL and key variables are known."),
    option("--base-url", metavar="URL", help="Any OpenAI-compatible endpoint, such as https://host/v1."),
    option("--key-env", metavar="NAME", help="Variable that holds the key."),
    option("--key-file", metavar="FILE", type=click.Path(dir_okay=False), help="File that holds the key (mode 600)."),
    option("--key-cmd", metavar="COMMAND", help="Command that prints the key, such as 'pass show glm'."),
    option("--proxy", metavar="URL", help="HTTP proxy; none is taken from the environment."),
    option("--ca-file", metavar="FILE", type=click.Path(dir_okay=False), help="Certificates to trust instead."),
)

speed_options = together(
    option("--rpm", type=click.FloatRange(min=0, min_open=True), help="Requests a minute. [learned]"),
    option("--tpm", type=click.FloatRange(min=0, min_open=True), help="Tokens a minute. [learned]"),
    option("-c", "--concurrency", type=click.IntRange(min=1), help="Requests in flight. [learned, at most 64]"),
    option("--headroom", type=click.FloatRange(0, 0.9), default=0.0, help="Share of --rpm and --tpm left unused."),
    option("--timeout", type=click.FloatRange(min=0, min_open=True), default=600.0, help="Seconds for one attempt."),
    option("--attempts", type=click.IntRange(min=1), default=3, help="Tries of a task; rate limits use up none."),
    option("--no-learned", is_flag=True, help="Start without what earlier runs learned of the limits."),
)

stop_options = together(
    option("--limit", type=click.IntRange(min=1), help="Only the first N tasks of the job."),
    option("--grace", type=click.FloatRange(min=0, min_open=True), default=60.0, help="Seconds a drain may take."),
    option(
        "--in-flight",
        type=click.Choice(["retry", "hold"]),
        default="retry",
        help="Requests that were in flight at a crash, perhaps paid for: send again, or hold for you to decide.",
    ),
)

output_options = together(
    option("-o", "--output", "outputs", metavar="FILE", multiple=True, help="Result file; .jsonl, .csv, .tsv or -."),
    option("--errors", "errors_file", metavar="FILE", help="Failures. [beside the output: X.errors.jsonl]"),
    option("--format", "layout", type=click.Choice(["openai", "flat"]), help="Form of a .jsonl output. [openai]"),
    option("--extras", is_flag=True, help="Add our own figures to each openai line, under 'batchrunner'."),
    option("--prefix", default="", metavar="P", help="Before our column names, where they clash with yours."),
    option("--for-excel", is_flag=True, help="BOM, and cells that look like formulas are quoted."),
    option("--force", is_flag=True, help="Replace an output that is not ours."),
)

talk_options = together(
    option(
        "--progress",
        type=click.Choice(["auto", "full", "plain", "json", "none"]),
        default="auto",
        help="A display on a terminal, a line each 30 s elsewhere.",
    ),
    json_option,
    option("-q", "--quiet", is_flag=True, help="Say nothing if all goes well."),
    option("--ascii", "ascii_only", is_flag=True, help="No characters beyond ASCII in the display."),
    option("--exit-zero", is_flag=True, help="Exit 0 although some tasks failed."),
)
