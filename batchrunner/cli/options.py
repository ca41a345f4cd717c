"""Options that several commands share, each with its BATCHRUNNER_ variable and its panel of the help page."""

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import rich_click as click

F = TypeVar("F", bound=Callable[..., Any])
PREFIX = "BATCHRUNNER_"
SETTINGS = (
    "Each option has a variable (--rpm is BATCHRUNNER_RPM) and a place in batchrunner.toml (rpm = 60), in "
    "[tool.batchrunner] of pyproject.toml, or in ~/.config/batchrunner/config.toml. The command line wins over the "
    "variables, these over what the job was told before, that over the files."
)


def option(*names: str, **keywords: Any) -> Callable[[F], F]:
    """click's, with the variable named after the option: --base-url is BATCHRUNNER_BASE_URL too."""
    longest = max(names, key=len).split("/")[0].lstrip("-")
    keywords.setdefault("envvar", PREFIX + longest.replace("-", "_").upper())
    if keywords.get("show_default") is None and not keywords.get("is_flag"):
        keywords["show_default"] = keywords.get("default") not in (None, "")
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

input_option = partial(option, panel="Input")
input_options = together(
    input_option("-m", "--model", metavar="NAME", help="Model of every request; wins over what a line says."),
    input_option("--prompt", metavar="TEXT", help="Prompt made from each row: 'Classify: {{ text }}' (jinja2)."),
    input_option("--template", metavar="FILE", help="The same, from a file."),
    input_option("--system", metavar="TEXT", help="System message, for rows, prompts and lines."),
    input_option(
        "--param",
        "params",
        metavar="KEY=VALUE",
        multiple=True,
        help="Set in every body, such as temperature=0; repeatable.",
    ),
    input_option(
        "--id-column", metavar="NAME", help="Column that holds the custom_id. [custom_id or id, if there is one]"
    ),
    input_option(
        "--input-format",
        type=click.Choice(["auto", "batch", "body", "prompt", "rows", "lines"]),
        default="auto",
        help="What a line is, where that can't be told.",
    ),
    input_option(
        "--on-bad-line",
        type=click.Choice(["stop", "skip"]),
        default="stop",
        help="A line that is no request: stop before anything is sent, or leave it out and count it.",
    ),
    input_option(
        "--changed",
        type=click.Choice(["ask", "redo", "keep", "stop"]),
        default="ask",
        help="Lines edited since they were loaded: ask on a terminal (else stop), redo them, or keep their answers.",
    ),
)

tokenizer_option = input_option(
    "--tokenizer",
    metavar="FILE",
    type=click.Path(dir_okay=False),
    help="The model's tokenizer.json, to count prompts by instead of bytes; needs 'batchrunner[tokenizer]'.",
)

provider_option = partial(option, panel="Provider")
provider_options = together(
    provider_option(
        "-p", "--provider", metavar="NAME", help="Who is known by name: zhipu, zai, openai, … (batchrunner providers)."
    ),
    provider_option(
        "--provider-file",
        metavar="FILE",
        type=click.Path(dir_okay=False),
        help="A provider of your own, or one that adds to a known one; see the README.",
    ),
    provider_option(
        "--base-url",
        metavar="URL",
        help="Any OpenAI-compatible endpoint, such as https://host/v1; wins over the provider's.",
    ),
    provider_option(
        "--lane",
        metavar="WORD",
        multiple=True,
        help="Several places to send to, each with its limits: zhipu, openai:KEY_VARIABLE or a base URL; repeatable.",
    ),
    provider_option(
        "--lanes",
        "lanes_file",
        metavar="FILE",
        type=click.Path(dir_okay=False),
        help="The same from a file, with limits and model names for each; see the README.",
    ),
    provider_option("--key-env", metavar="NAME", help="Variable that holds the key."),
    provider_option(
        "--key-file", metavar="FILE", type=click.Path(dir_okay=False), help="File that holds the key (mode 600)."
    ),
    provider_option("--key-cmd", metavar="COMMAND", help="Command that prints the key, such as 'pass show glm'."),
    provider_option("--proxy", metavar="URL", help="HTTP proxy; none is taken from the environment."),
    provider_option(
        "--ca-file", metavar="FILE", type=click.Path(dir_okay=False), help="Certificates to trust instead."
    ),
)

speed_option = partial(option, panel="Speed")
speed_options = together(
    speed_option(
        "--rpm", metavar="N", type=click.FloatRange(min=0, min_open=True), help="Requests a minute. [learned]"
    ),
    speed_option("--tpm", metavar="N", type=click.FloatRange(min=0, min_open=True), help="Tokens a minute. [learned]"),
    speed_option(
        "-c",
        "--concurrency",
        metavar="N",
        type=click.IntRange(min=1),
        help="Requests in flight. [learned, at most 512]",
    ),
    speed_option(
        "--headroom",
        metavar="SHARE",
        type=click.FloatRange(0, 0.9),
        default=0.0,
        help="Part of --rpm and --tpm to leave unused, such as 0.1.",
    ),
    speed_option(
        "--timeout",
        metavar="SECONDS",
        type=click.FloatRange(min=0, min_open=True),
        default=600.0,
        help="For one attempt, from the first byte out to the last byte in.",
    ),
    speed_option(
        "--attempts",
        metavar="N",
        type=click.IntRange(min=1),
        default=3,
        help="Tries of a task; rate limits use up none.",
    ),
    speed_option(
        "--stream/--no-stream",
        default=False,
        help="Ask for answers as streams: limits are told at their start, and no proxy cuts a long silence.",
    ),
    speed_option("--no-learned", is_flag=True, help="Start without what earlier runs learned of the limits."),
)

stop_option = partial(option, panel="Stop and resume")
stop_options = together(
    stop_option(
        "--limit",
        metavar="N",
        type=click.IntRange(min=1),
        help="Only the first N tasks of the job; a later run goes on with the rest.",
    ),
    stop_option(
        "--finish-by",
        metavar="TIME",
        help="Claim nothing after this time, such as 06:00 or 2026-11-24T06:00; exit code 5 if tasks are left.",
    ),
    stop_option(
        "--max-time", metavar="DURATION", help="Claim nothing after so long, such as 6h; exit code 5 if tasks are left."
    ),
    stop_option(
        "--window",
        "windows",
        metavar="FROM-TO",
        multiple=True,
        help="Send only then, every day, such as 00:00-07:00; what is in flight ends, and the run waits. Repeatable.",
    ),
    stop_option(
        "--no-wait",
        is_flag=True,
        help="Where an allowance of hours is used up, stop (exit code 7) instead of waiting until it is renewed.",
    ),
    stop_option(
        "--budget",
        metavar="MONEY",
        help="The most the job may cost, all its runs together: 5.00, 5CNY, '5 USD'. Never passed, not by one request.",
    ),
    stop_option(
        "--alert",
        metavar="SHARE",
        type=click.FloatRange(0, 1, min_open=True),
        default=0.8,
        help="Say so when this share of the budget is gone.",
    ),
    stop_option("--unpriced-ok", is_flag=True, help="With a budget: send what has no known price too, uncounted."),
    stop_option(
        "--canary",
        metavar="N",
        type=click.IntRange(min=0),
        default=3,
        help="The first N tasks go alone, the rest once one is answered; if all fail alike, the run stops. 0: none.",
    ),
    stop_option(
        "--grace",
        metavar="SECONDS",
        type=click.FloatRange(min=0, min_open=True),
        default=60.0,
        help="After Ctrl-C or SIGTERM, how long what is in flight may take to finish.",
    ),
    stop_option(
        "--in-flight",
        type=click.Choice(["retry", "hold"]),
        default="retry",
        help="Requests that were in flight at a crash, perhaps paid for: send again, or hold for you to decide.",
    ),
)

output_option = partial(option, panel="Output")
output_options = together(
    output_option(
        "-o",
        "--output",
        "outputs",
        metavar="FILE",
        type=click.Path(),
        multiple=True,
        help="Result file, .jsonl, .csv or .tsv, or - for standard output; repeatable. [run: JOB.results.jsonl]",
    ),
    output_option(
        "--errors",
        "errors_file",
        metavar="FILE",
        help="Failures. [X.errors.jsonl beside an output X.jsonl; none beside a table, which holds them]",
    ),
    output_option(
        "--format", "layout", type=click.Choice(["openai", "flat"]), help="Form of a .jsonl output. [openai]"
    ),
    output_option("--extras", is_flag=True, help="Add our own figures to each openai line, under 'batchrunner'."),
    output_option("--prefix", default="", metavar="P", help="Before our column names, where they clash with yours."),
    output_option("--for-excel", is_flag=True, help="BOM, and cells that look like formulas are quoted."),
    output_option("--force", is_flag=True, help="Replace an output that is not ours."),
)

talk_option = partial(option, panel="Talk")
talk_options = together(
    talk_option(
        "--progress",
        type=click.Choice(["auto", "full", "plain", "json", "none"]),
        default="auto",
        help="A display on a terminal, a line each 30 s elsewhere.",
    ),
    talk_option("--json", "as_json", is_flag=True, envvar=None, help="Events as JSON lines on standard output."),
    talk_option("-q", "--quiet", is_flag=True, help="Say nothing if all goes well."),
    talk_option("--ascii", "ascii_only", is_flag=True, help="No characters beyond ASCII in the display."),
    talk_option("--exit-zero", is_flag=True, help="Exit 0 although some tasks failed."),
)
