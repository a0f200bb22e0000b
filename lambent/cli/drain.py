"""`lambent drain`: empties a node so that no call notices."""

import asyncio
from typing import TYPE_CHECKING, Final

import click

from lambent.cli.connection import with_client
from lambent.cli.failures import FailedCommand
from lambent.cli.options import json_option

if TYPE_CHECKING:
    from lambent.client import Client
    from lambent_proto.v1.fleet_pb2 import Node

LOOK_EVERY_S: Final = 0.2


@click.command()
@click.argument("node")
@click.option("--undo", is_flag=True, help="Let it have instances again.")
@click.option("--wait/--no-wait", default=True, show_default=True, help="Until it is empty.")
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(min=0),
    default=300.0,
    show_default=True,
    metavar="S",
    help="0 waits for ever.",
)
@json_option
@with_client
async def drain(client: "Client", node: str, undo: bool, wait: bool, timeout_s: float, as_json: bool) -> None:
    """Empty NODE: nothing new starts there, its instances have stand-ins elsewhere before they go.

    Calls in flight finish. It stays so until `--undo`, after the worker was started again too.
    """
    from lambent.cli.output import facts, print_json

    await client.drain(node, undo=undo)
    if undo:
        click.echo(f"{node} may have instances again.", err=True)
        return
    found = await _emptied(client, node, timeout_s) if wait else await _found(client, node)
    if as_json:
        print_json(facts(found) if found else None)
    elif wait:
        click.echo(f"{node} is empty: its worker can be stopped.", err=True)


async def _found(client: "Client", name: str) -> "Node | None":
    return next((it for it in (await client.nodes()).nodes if it.name == name), None)


async def _emptied(client: "Client", name: str, timeout_s: float) -> "Node | None":
    """None if its worker has ended, which is as good."""
    left = -1
    try:
        async with asyncio.timeout(timeout_s or None):
            while (found := await _found(client, name)) and found.state != "drained":
                if found.instances != left:
                    left = found.instances
                    click.echo(f"{name}: {left} instances left, {found.state}", err=True)
                await asyncio.sleep(LOOK_EVERY_S)
            return found
    except TimeoutError:
        raise FailedCommand(
            f"{name} is not empty after {timeout_s:g} s: {left} instances are left, and it goes on draining"
        ) from None
