"""`lambent logs`: what a function wrote."""

import json
from contextlib import suppress
from typing import TYPE_CHECKING

import click

from lambent.cli.connection import with_client
from lambent.cli.options import json_option

if TYPE_CHECKING:
    from lambent.client import Client


@click.command()
@click.argument("name")
@click.option("-f", "--follow", is_flag=True, help="Go on until Ctrl-C.")
@json_option
@with_client
async def logs(client: "Client", name: str, follow: bool, as_json: bool) -> None:
    """Print the log of a function over all nodes, oldest line first; with --json one object a line."""
    from lambent.cli.output import facts, time_of
    from lambent_proto.errors import AccessDenied

    said = False
    async for line in client.logs(name, follow=follow):
        said = True
        if as_json:
            click.echo(json.dumps(facts(line), ensure_ascii=False))
        else:
            click.echo(
                f"{click.style(f'{time_of(line.at)} {line.node} {line.instance}', dim=True)} {line.text}"
            )
    if not said:
        with suppress(AccessDenied):  # who may read logs alone is not told whether there is such a function
            await client.get_function(name)  # which says that there is none, if so
        click.echo(
            f"{name} has written nothing that is kept: it was not called, or its log went with its node.",
            err=True,
        )
