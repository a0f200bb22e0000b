"""`lambent layer`: files that several functions share."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from lambent.cli.connection import with_client
from lambent.cli.deploy import read_code, uploading
from lambent.cli.download import download, output_option
from lambent.cli.options import json_option, named_version

if TYPE_CHECKING:
    from lambent.client import Client
    from lambent_proto.v1.layers_pb2 import LayerVersion


@click.group()
def layer() -> None:
    """Publish, list, show and delete versions of layers."""


def _version(_: click.Context, __: click.Parameter, text: str) -> tuple[str, int]:
    return named_version(text)


one_version = click.argument("version", metavar="NAME:VERSION", callback=_version)


@layer.command("publish")
@click.argument("source", metavar="DIR_OR_ZIP", type=click.Path(exists=True, path_type=Path))
@click.option("--name", required=True, help="The layer's name; one that exists gets another version.")
@click.option("--description", default="", metavar="TEXT")
@click.option(
    "--runtime",
    "compatible_runtimes",
    multiple=True,
    metavar="R",
    help="A runtime that it is for, as a note. May be repeated.",
)
@json_option
@with_client
async def publish(
    client: "Client",
    source: Path,
    name: str,
    description: str,
    compatible_runtimes: tuple[str, ...],
    as_json: bool,
) -> None:
    """Make the next version of a layer from a folder or a ZIP. Functions find its files at /opt.

    Python finds modules in the layer's folder `python`: `pip install --target DIR/python ...`.
    """
    zip_file = read_code(source)
    with uploading(zip_file):
        version = await client.publish_layer_version(
            name, zip_file, description=description, compatible_runtimes=compatible_runtimes
        )
    _print_version(version, as_json=as_json)


@layer.command("ls")
@click.argument("name", default="", metavar="[NAME]")
@json_option
@with_client
async def ls(client: "Client", name: str, as_json: bool) -> None:
    """List the newest version of each layer, or all versions of one."""
    from lambent.cli.output import facts, print_json, print_table, size

    versions = await (client.list_layer_versions(name) if name else client.list_layers())
    if as_json:
        print_json([facts(version) for version in versions])
        return
    rows = [
        (f"{v.name}:{v.version}", " ".join(v.compatible_runtimes), size(v.unzipped_size), v.description)
        for v in versions
    ]
    columns = ("layer", "runtimes", "unzipped", "description")
    print_table(
        columns, rows, "No such layer." if name else "No layers yet: `lambent layer publish` makes one."
    )


@layer.command("get")
@one_version
@json_option
@with_client
async def get(client: "Client", version: tuple[str, int], as_json: bool) -> None:
    """Show one version of a layer."""
    _print_version(await client.get_layer_version(*version), as_json=as_json)


@layer.command("code")
@one_version
@output_option
@with_client
async def code(client: "Client", version: tuple[str, int], output: Path) -> None:
    """Download the ZIP of one version of a layer."""
    await download(client.get_layer_code(*version), output)


@layer.command("delete")
@one_version
@with_client
async def delete(client: "Client", version: tuple[str, int]) -> None:
    """Delete a version of a layer. Functions that use it go on using it."""
    await client.delete_layer_version(*version)
    click.echo(f"{version[0]}:{version[1]} is deleted.", err=True)


def _print_version(version: "LayerVersion", *, as_json: bool) -> None:
    from lambent.cli.output import facts, print_facts, print_json, size

    known = facts(version)
    if as_json:
        print_json(known)
        return
    print_facts(
        {
            "layer": f"{version.name}:{version.version}",
            "runtimes": " ".join(version.compatible_runtimes),
            "description": version.description,
            "code": f"{size(version.code_size)}, {size(version.unzipped_size)} unzipped, "
            f"SHA-256 {version.code_sha256}",
            "created": known["created_at"],
        }
    )
