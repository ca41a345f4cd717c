"""``batchrunner providers``: who is known by name, and all that is known of one."""

import json
import sys

import rich_click as click

from batchrunner.cli.options import json_option


@click.command()
@click.argument("name", required=False)
@json_option
def providers(name: str | None, *, as_json: bool) -> int:
    """Who is known by name: address, key variables, models and prices.

    With NAME, all that is known of one; NAME may also be a file of your own, ./mine.toml. A price that is not known is
    left out, and never shown as 0.
    """
    from batchrunner.cli.settings import environment
    from batchrunner.provider import load_provider, provider_names
    from batchrunner.report.providers import provider_json, provider_text, providers_text
    from batchrunner.report.terminal import can_show

    chosen = [load_provider(each) for each in ((name,) if name else provider_names())]
    environ = environment()
    ascii_only = not can_show(sys.stdout)
    if as_json:
        shown = [provider_json(each, environ) for each in chosen]
        click.echo(json.dumps(shown[0] if name else shown, ensure_ascii=False))
    elif name:
        click.echo(provider_text(chosen[0], environ, ascii_only=ascii_only))
    else:
        click.echo(providers_text(chosen, environ, ascii_only=ascii_only))
    return 0
