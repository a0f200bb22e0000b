"""Where the ZIP of a function or a layer is written to."""

from collections.abc import AsyncIterator
from pathlib import Path

import click

from lambent.cli.failures import USAGE, FailedCommand

output_option = click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    required=True,
    metavar="FILE",
    help="Where to write the ZIP.",
)


async def download(parts: AsyncIterator[bytes], output: Path) -> None:
    """Writes them beside the file and puts it in its place once it is whole."""
    part = output.with_name(f"{output.name}.part")
    try:
        with part.open("wb") as file:
            async for data in parts:
                file.write(data)
        part.replace(output)
    except OSError as error:
        raise FailedCommand(f"{output} cannot be written: {error.strerror}", USAGE) from error
    finally:
        part.unlink(missing_ok=True)
    click.echo(f"{output} is written.", err=True)
