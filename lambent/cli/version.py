"""`lambent version`, `lambent alias` and `lambent provisioned`: published versions and what is kept ready."""

from typing import TYPE_CHECKING, Any

import click

from lambent.cli.connection import with_client
from lambent.cli.function import print_function
from lambent.cli.options import json_option

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lambent.client import Client
    from lambent_proto.v1.versions_pb2 import Alias, Provisioned


@click.group()
def version() -> None:
    """Publish, list and delete versions of functions."""


@version.command("publish")
@click.argument("name")
@click.option("--description", default="", metavar="TEXT")
@click.option("--revision", "revision_id", default="", help="Only if this is the current revision.")
@json_option
@with_client
async def publish(client: "Client", name: str, description: str, revision_id: str, as_json: bool) -> None:
    """Give what a function is now a number. What has that number never changes.

    If nothing has changed since the newest version, that one is shown. `lambent invoke NAME:N` runs it.
    """
    published = await client.versions.publish(name, description=description, revision_id=revision_id)
    print_function(published, as_json=as_json)


@version.command("ls")
@click.argument("name")
@json_option
@with_client
async def ls(client: "Client", name: str, as_json: bool) -> None:
    """List the versions of a function, $LATEST first."""
    from lambent.cli.output import facts, print_json, print_table, size

    versions = await client.versions.list_versions(name)
    if as_json:
        print_json([facts(it) for it in versions])
        return
    rows = [
        (v.version, v.runtime, v.memory_mb, size(v.code_size), facts(v)["last_modified"], v.description)
        for v in versions
    ]
    print_table(("version", "runtime", "memory MB", "code", "modified", "description"), rows, "")


@version.command("delete")
@click.argument("name")
@click.argument("number")
@with_client
async def delete(client: "Client", name: str, number: str) -> None:
    """Delete a version that no alias points to. Calls that run are finished, waiting ones fail."""
    await client.versions.delete(name, number)
    click.echo(f"{name}:{number} is deleted.", err=True)


@click.group()
def alias() -> None:
    """Names that point to versions of functions."""


def _weight(
    _context: click.Context, _parameter: click.Parameter, text: str | None
) -> "Mapping[str, float] | None":
    if text is None:
        return None
    if text == "none":
        return {}
    number, _, share = text.partition("=")
    try:
        return {number: float(share)}
    except ValueError:
        raise click.BadParameter(f"{text!r} is neither VERSION=SHARE, such as 2=0.1, nor `none`") from None


weight_option = click.option(
    "--weight",
    "weights",
    callback=_weight,
    metavar="VERSION=SHARE",
    help="Another version, and its share of the calls, 0 to 1; `none`: no other.",
)


@alias.command("create")
@click.argument("name")
@click.argument("alias_name", metavar="ALIAS")
@click.argument("number", metavar="VERSION")
@weight_option
@click.option("--description", default="", metavar="TEXT")
@json_option
@with_client
async def create_alias(
    client: "Client", name: str, alias_name: str, number: str, as_json: bool, **fields: Any
) -> None:
    """Have a name of a function point to a version. `lambent invoke NAME:ALIAS` runs it."""
    _print_alias(await client.versions.create_alias(name, alias_name, number, **fields), as_json=as_json)


@alias.command("update")
@click.argument("name")
@click.argument("alias_name", metavar="ALIAS")
@click.option("--version", "version", default="", metavar="VERSION", help="Point to this version.")
@weight_option
@click.option("--description", metavar="TEXT")
@click.option("--revision", "revision_id", default="", help="Only if this is the current revision.")
@json_option
@with_client
async def update_alias(client: "Client", name: str, alias_name: str, as_json: bool, **changes: Any) -> None:
    """Change what is given of an alias, and leave the rest."""
    _print_alias(await client.versions.update_alias(name, alias_name, **changes), as_json=as_json)


@alias.command("get")
@click.argument("name")
@click.argument("alias_name", metavar="ALIAS")
@json_option
@with_client
async def get_alias(client: "Client", name: str, alias_name: str, as_json: bool) -> None:
    """Show one alias."""
    _print_alias(await client.versions.get_alias(name, alias_name), as_json=as_json)


@alias.command("ls")
@click.argument("name")
@json_option
@with_client
async def ls_aliases(client: "Client", name: str, as_json: bool) -> None:
    """List the aliases of a function."""
    from lambent.cli.output import facts, print_json, print_table

    aliases = await client.versions.list_aliases(name)
    if as_json:
        print_json([facts(it) for it in aliases])
        return
    rows = [(it.name, it.version, _shares(it), it.description) for it in aliases]
    print_table(("alias", "version", "weight", "description"), rows, f"{name} has no aliases.")


@alias.command("delete")
@click.argument("name")
@click.argument("alias_name", metavar="ALIAS")
@with_client
async def delete_alias(client: "Client", name: str, alias_name: str) -> None:
    """Delete an alias, and what is kept ready for it."""
    await client.versions.delete_alias(name, alias_name)
    click.echo(f"{name}:{alias_name} is deleted.", err=True)


@click.group()
def provisioned() -> None:
    """Instances that are started before anybody calls."""


@provisioned.command("set")
@click.argument("name")
@click.argument("qualifier", metavar="VERSION_OR_ALIAS")
@click.argument("count", type=click.IntRange(min=1))
@json_option
@with_client
async def put_provisioned(client: "Client", name: str, qualifier: str, count: int, as_json: bool) -> None:
    """Have COUNT instances of a version or an alias ready from now on.

    They count towards the function's reserved concurrency, or else towards what the fleet shares. More calls
    than that at a time start instances as usual.
    """
    from lambent.cli.output import facts, print_json

    known = await client.versions.put_provisioned(name, qualifier, count)
    if as_json:
        print_json(facts(known))
    else:
        _print_provisioned([known])


@provisioned.command("ls")
@click.argument("name")
@json_option
@with_client
async def ls_provisioned(client: "Client", name: str, as_json: bool) -> None:
    """List what of a function is to be ready, and what is."""
    from lambent.cli.output import facts, print_json

    every = await client.versions.list_provisioned(name)
    if as_json:
        print_json([facts(it) for it in every])
    else:
        _print_provisioned(every)


@provisioned.command("delete")
@click.argument("name")
@click.argument("qualifier", metavar="VERSION_OR_ALIAS")
@with_client
async def delete_provisioned(client: "Client", name: str, qualifier: str) -> None:
    """Keep nothing ready any more. Its instances stay for as long as others do."""
    await client.versions.delete_provisioned(name, qualifier)
    click.echo(f"Nothing is kept ready of {name}:{qualifier}.", err=True)


def _print_alias(alias: "Alias", *, as_json: bool) -> None:
    from lambent.cli.output import facts, print_facts, print_json

    if as_json:
        print_json(facts(alias))
        return
    print_facts(
        {
            "alias": f"{alias.function_name}:{alias.name}",
            "version": alias.version,
            "weight": _shares(alias),
            "description": alias.description,
            "revision": alias.revision_id,
        }
    )


def _shares(alias: "Alias") -> str:
    return " ".join(f"{number}={share:g}" for number, share in sorted(alias.weights.items()))


def _print_provisioned(every: "list[Provisioned]") -> None:
    from lambent.cli.output import print_table

    rows = [(it.qualifier, it.requested, it.allocated, it.status, it.status_reason) for it in every]
    print_table(("of", "requested", "ready", "status", "reason"), rows, "Nothing is kept ready.")
