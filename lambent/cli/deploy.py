"""`lambent deploy`: a folder or a ZIP becomes a function."""

import sys
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from lambent.cli.connection import with_client
from lambent.cli.failures import USAGE, FailedCommand
from lambent.cli.options import configuration_options, json_option, publish_option, tag_option
from lambent_proto.errors import PlatformError, UnknownFunction

if TYPE_CHECKING:
    from lambent.client import Client
    from lambent_proto.v1.functions_pb2 import Function

_WORTH_A_WORD_BYTES: Final = 1_000_000


@click.command()
@click.argument(
    "source", metavar="[DIR_OR_ZIP]", required=False, type=click.Path(exists=True, path_type=Path)
)
@click.option(
    "--stored",
    "stored_zip",
    default="",
    metavar="uploads/NAME",
    help="In the place of DIR_OR_ZIP: a ZIP that is in the fleet's package store.",
)
@click.option("--name", required=True, help="The function's name; one that exists is updated.")
@configuration_options
@tag_option
@publish_option
@json_option
@with_client
async def deploy(
    client: "Client", source: Path | None, stored_zip: str, name: str, as_json: bool, **configuration: Any
) -> None:
    """Create a function from a folder or a ZIP, or give an existing one this code.

    Of an existing function only what is given changes. A new one needs --handler; its runtime is by default
    the Python that runs this command. A folder is packed as it is, with the dependencies that were installed
    into it: `pip install --target DIR ...`.
    """
    from lambent.cli.function import print_function

    if (source is None) == (not stored_zip):
        raise click.UsageError("Give either DIR_OR_ZIP or --stored.")
    code = b"" if source is None else read_code(source)
    with uploading(code):
        function = await _deploy(client, name, code, configuration | {"stored_zip": stored_zip})
    print_function(function, as_json=as_json)
    await warn_of_runtime(client, function.runtime)


async def warn_of_runtime(client: "Client", runtime: str) -> None:
    """Says it if no node of the fleet has the runtime now; what was deployed is deployed all the same."""
    from lambent_proto.runtimes import runs

    try:
        nodes = (await client.nodes()).nodes
    except PlatformError:
        return  # nobody knows of the nodes at the moment
    if not any(runs(node.runtimes, runtime) for node in nodes):
        click.echo(
            f"Warning: no node of the fleet has the runtime {runtime} now; calls wait until one has. "
            "`lambent runtimes` lists what there is.",
            err=True,
        )


async def _deploy(client: "Client", name: str, code: bytes, configuration: dict[str, Any]) -> "Function":
    try:
        await client.get_function(name)
    except UnknownFunction:
        return await client.create_function(name, code, **_for_new(configuration))
    tags = configuration.pop("tags")
    return await client.update_function(name, code, add_tags=tags, **configuration)


def _for_new(configuration: dict[str, Any]) -> dict[str, Any]:
    if configuration["handler"] is None:
        raise click.UsageError("A new function needs --handler, such as --handler app.handler.")
    defaults: dict[str, Any] = {}
    if configuration["runtime"] is None:
        defaults["runtime"] = f"python{sys.version_info.major}.{sys.version_info.minor}"
    if configuration["concurrency"] == "default":
        defaults["concurrency"] = None
    return configuration | defaults


def read_code(source: Path) -> bytes:
    """The ZIP, or the folder as one."""
    from lambent.packing import CannotPack, pack

    try:
        return pack(source) if source.is_dir() else source.read_bytes()
    except CannotPack as error:
        raise FailedCommand(f"{error}\nNothing was deployed.", USAGE) from error
    except OSError as error:
        raise FailedCommand(f"{error.filename} cannot be read: {error.strerror}", USAGE) from error


def uploading(code: bytes) -> AbstractContextManager[object]:
    """A sign of life on a terminal while a large package is on its way."""
    if len(code) < _WORTH_A_WORD_BYTES or not sys.stderr.isatty():
        return nullcontext()
    from rich.console import Console

    return Console(stderr=True).status(f"uploading {len(code) / 1e6:.1f} MB")
