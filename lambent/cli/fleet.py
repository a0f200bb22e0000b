"""`lambent ps`, `lambent nodes` and `lambent concurrency`: what the fleet looks like, and what it may run."""

from typing import TYPE_CHECKING

import click

from lambent.cli.connection import with_client
from lambent.cli.options import json_option

if TYPE_CHECKING:
    from lambent.client import Client


@click.command()
@click.argument("name", default="", metavar="[NAME]")
@json_option
@with_client
async def ps(client: "Client", name: str, as_json: bool) -> None:
    """List the instances, of one function or of all."""
    from lambent.cli.output import facts, print_json, print_table

    listed = await client.list_instances(name)
    instances = listed.instances
    for shard in listed.missing_shards:
        click.echo(f"The leader of shard {shard} does not answer: its instances are missing.", err=True)
    if as_json:
        print_json([facts(instance) for instance in instances])
        return
    rows = [
        (i.id, i.function_name, i.version, i.node, i.state, i.memory_mb, f"{i.idle_s:.0f}", i.frontend)
        for i in instances
    ]
    columns = ("instance", "function", "version", "node", "state", "memory MB", "idle s", "leased to")
    print_table(columns, rows, "No instances: nothing was called lately.")


@click.command()
@json_option
@with_client
async def nodes(client: "Client", as_json: bool) -> None:
    """List the workers, what they can take, how they isolate instances, and what is missing in that."""
    from lambent.cli.output import facts, print_json, print_table

    fleet = await client.nodes()
    if as_json:
        print_json(facts(fleet))
        return
    several = len(fleet.shards) > 1
    upgrading = len({node.release for node in fleet.nodes}) > 1
    rows = [
        (
            node.name,
            *((node.shard,) if several else ()),
            node.state,
            node.address,
            f"{node.memory_used_mb}/{node.memory_mb}",
            node.instances,
            node.backend,
            node.isolation,
            ", ".join(node.missing_protections) or "nothing",
            " ".join(node.labels),
            *((node.release or "unknown",) if upgrading else ()),
        )
        for node in fleet.nodes
    ]
    columns = (
        "node",
        *(("shard",) if several else ()),
        "state",
        "address",
        "memory MB",
        "instances",
        "backend",
        "isolation",
        "missing",
        "labels",
        *(("release",) if upgrading else ()),
    )
    print_table(columns, rows, "No workers: start one with `lambent worker --config FILE`.")
    if not several:
        click.echo(f"The placement at {fleet.leader} leads, epoch {fleet.epoch}.", err=True)
        return
    for shard in fleet.shards:
        leads = f"The placement at {shard.leader} leads shard {shard.number}, epoch {shard.epoch}."
        click.echo(f"Shard {shard.number}: {shard.missing}." if shard.missing else leads, err=True)


@click.command()
@click.argument("limit", type=click.IntRange(min=1), required=False, metavar="[LIMIT]")
@json_option
@with_client
async def concurrency(client: "Client", limit: int | None, as_json: bool) -> None:
    """Show how many instances may run at one time in the whole fleet, or set it.

    Functions that reserve a concurrency have theirs out of it; all others share what is left. A change takes
    effect at once.
    """
    from lambent.cli.output import facts, print_json, print_table, size

    fleet = await (client.concurrency() if limit is None else client.set_concurrency(limit))
    if as_json:
        print_json(facts(fleet))
        return
    row = (fleet.concurrency, fleet.reserved, fleet.unreserved, fleet.functions, size(fleet.code_size))
    print_table(("concurrency", "reserved", "shared", "functions", "code"), [row], "")
    if fleet.shards > 1:
        most = -(-fleet.unreserved // fleet.shards)
        each = f"Each of the {fleet.shards} shards has an equal part of what is shared, {most} at most."
        click.echo(each, err=True)
