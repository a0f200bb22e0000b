"""`lambent function`: what is deployed."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lambent.cli.connection import with_client
from lambent.cli.deploy import read_code, uploading, warn_of_runtime
from lambent.cli.download import download, output_option
from lambent.cli.options import configuration_options, json_option, pairs_of, publish_option
from lambent_proto.sealed import is_sealed

if TYPE_CHECKING:
    from lambent.client import Client
    from lambent_proto.v1.functions_pb2 import Function


@click.group()
def function() -> None:
    """List, show, change and delete functions."""


@function.command("ls")
@click.option("--versions", is_flag=True, help="Of each also its versions, the oldest first.")
@json_option
@with_client
async def ls(client: "Client", versions: bool, as_json: bool) -> None:
    """List all functions."""
    from lambent.cli.output import facts, print_json, print_table, size

    functions = await client.list_functions(all_versions=versions)
    if as_json:
        print_json([facts(function) for function in functions])
        return
    rows = [
        (
            _named(f, versions),
            f.runtime,
            f.handler,
            f.memory_mb,
            f"{f.timeout_s:g}",
            _limit(f),
            size(f.code_size),
        )
        for f in functions
    ]
    columns = ("name", "runtime", "handler", "memory MB", "timeout s", "concurrency", "code")
    print_table(columns, rows, "No functions yet: `lambent deploy` makes one.")


@function.command("get")
@click.argument("name", metavar="NAME[:VERSION_OR_ALIAS]")
@json_option
@with_client
async def get(client: "Client", name: str, as_json: bool) -> None:
    """Show one function, as it is now or a version of it."""
    function_name, _, qualifier = name.partition(":")
    print_function(await client.get_function(function_name, qualifier), as_json=as_json)


@function.command("update")
@click.argument("name")
@click.option(
    "--code",
    type=click.Path(exists=True, path_type=Path),
    metavar="DIR_OR_ZIP",
    help="New code; without it the code stays.",
)
@configuration_options
@click.option("--revision", "revision_id", default="", help="Only if this is the current revision.")
@publish_option
@click.option("--dry-run", is_flag=True, help="Check all of it, show what it would be, and change nothing.")
@json_option
@with_client
async def update(client: "Client", name: str, code: Path | None, as_json: bool, **changes: Any) -> None:
    """Change what is given of a function, and leave the rest."""
    zip_file = read_code(code) if code else b""
    with uploading(zip_file):
        function = await client.update_function(name, zip_file, **changes)
    print_function(function, as_json=as_json)
    if changes["runtime"] is not None:
        await warn_of_runtime(client, function.runtime)


@function.command("tag")
@click.argument("name")
@click.argument(
    "tags", nargs=-1, required=True, metavar="KEY=VALUE...", callback=lambda _, __, it: pairs_of(it)
)
@json_option
@with_client
async def tag(client: "Client", name: str, tags: dict[str, str], as_json: bool) -> None:
    """Add tags to a function, or change their values; others stay."""
    print_function(await client.update_function(name, add_tags=tags), as_json=as_json)


@function.command("untag")
@click.argument("name")
@click.argument("tags", nargs=-1, required=True, metavar="KEY...")
@json_option
@with_client
async def untag(client: "Client", name: str, tags: tuple[str, ...], as_json: bool) -> None:
    """Take tags away from a function."""
    print_function(await client.update_function(name, remove_tags=tags), as_json=as_json)


@function.command("code")
@click.argument("name", metavar="NAME[:VERSION_OR_ALIAS]")
@output_option
@with_client
async def code(client: "Client", name: str, output: Path) -> None:
    """Download the ZIP of a function, as it is now or of a version."""
    function_name, _, qualifier = name.partition(":")
    await download(client.get_code(function_name, qualifier), output)


@function.command("delete")
@click.argument("name")
@with_client
async def delete(client: "Client", name: str) -> None:
    """Delete a function. Calls under way are finished, waiting ones fail."""
    await client.delete_function(name)
    click.echo(f"{name} is deleted.", err=True)


def print_function(function: "Function", *, as_json: bool) -> None:
    from lambent.cli.output import facts, print_facts, print_json, size

    known = facts(function)
    if as_json:
        print_json(known)
        return
    variables = " ".join(
        f"{key} (sealed)" if is_sealed(value) else f"{key}={value}"
        for key, value in sorted(function.environment.items())
    )
    print_facts(
        {
            "name": function.name,
            "version": function.version,
            "revision": function.revision_id,
            "runtime": function.runtime,
            "handler": function.handler,
            "memory": f"{function.memory_mb} MB",
            "timeout": f"{function.timeout_s:g} s",
            "concurrency": _limit(function),
            "tmp": f"{function.tmp_mb} MB",
            "network": _yes(function.network),
            "snapstart": _yes(function.snapstart),
            "require": " ".join(function.require),
            "prefer": " ".join(function.prefer),
            "apart": _yes(function.apart),
            "dead letters": function.dead_letter,
            "layers": " ".join(f"{layer.name}:{layer.version}" for layer in function.layers),
            "environment": variables,
            "tags": " ".join(f"{key}={value}" for key, value in sorted(function.tags.items())),
            "role": function.role,
            "description": function.description,
            "code": f"{size(function.code_size)}, {size(function.unzipped_size)} unzipped, "
            f"SHA-256 {function.code_sha256}",
            "modified": known["last_modified"],
        }
    )


def _named(function: "Function", versions: bool) -> str:
    return f"{function.name}:{function.version}" if versions else function.name


def _limit(function: "Function") -> str:
    return str(function.concurrency) if function.HasField("concurrency") else "default"


def _yes(switched_on: bool) -> str:
    return "yes" if switched_on else "no"
