"""`lambent runtimes`: in which languages functions can run, in the fleet or on this host."""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from lambent.cli.connection import with_client
from lambent.cli.options import json_option

if TYPE_CHECKING:
    from lambent.client import Client
    from lambent_worker.runtimes.registry import Runtimes

_ANY_PYTHON: Final = "any Python (its release does not say which)"


@click.command()
@click.option("--here", is_flag=True, help="Those of this host instead, and why not the rest.")
@json_option
@with_client
async def runtimes(client: "Client", here: bool, as_json: bool) -> None:
    """List the runtimes of each node of the fleet."""
    if here:
        _print_here(as_json=as_json)
    else:
        await _print_fleet(client, as_json=as_json)


async def _print_fleet(client: "Client", *, as_json: bool) -> None:
    from lambent.cli.output import print_json, print_table

    nodes = (await client.nodes()).nodes
    if as_json:
        print_json([{"name": it.name, "state": it.state, "runtimes": list(it.runtimes)} for it in nodes])
        return
    rows = [(it.name, it.state, ", ".join(sorted(it.runtimes)) or _ANY_PYTHON) for it in nodes]
    empty = "No workers: start one with `lambent worker --config FILE`."
    print_table(("node", "state", "runtimes"), rows, empty)


def _print_here(*, as_json: bool) -> None:
    from lambent.cli.output import print_json, print_table
    from lambent_worker.runtimes.registry import build_folder, discover

    with tempfile.TemporaryDirectory(prefix="lambent-runtimes-") as data:
        found = discover(build_folder(Path(data)))
    if as_json:
        print_json(_facts(found))
        return
    rows = [(name, it.name, it.version.partition("\n")[0], "") for name, it in found.by_name.items()]
    rows += [(missing.name, "-", "", missing.why) for missing in found.unavailable]
    print_table(("runtime", "runs as", "version", "why not"), sorted(rows), "")


def _facts(found: "Runtimes") -> dict[str, list[dict[str, str]]]:
    available = [
        {"name": name, "runs_as": runtime.name, "version": runtime.version}
        for name, runtime in sorted(found.by_name.items())
    ]
    unavailable = [{"name": missing.name, "why": missing.why} for missing in found.unavailable]
    return {"available": available, "unavailable": unavailable}
