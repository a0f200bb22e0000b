"""Commands that talk to a fleet."""

import asyncio
import functools
import re
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    pass

_ENDPOINT = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\s/:\[\]]+):(\d{1,5})")
_MAX_PORT = 65_535


def checked_endpoint(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
    if value is None:
        return None
    found = _ENDPOINT.fullmatch(value)
    if found is None or int(found[2]) > _MAX_PORT:  # gRPC takes a larger one for what is left of 16 bits
        raise click.BadParameter(f"{value!r} is not HOST:PORT, such as 127.0.0.1:50051")
    return value


def with_client(command: "Callable[..., Awaitable[int | None]]") -> Callable[..., int | None]:
    """Gives the command `--endpoint`, and as its first argument a client connected there."""

    @click.option(
        "--endpoint",
        envvar="LAMBENT_ENDPOINT",
        show_envvar=True,
        metavar="HOST:PORT",
        callback=checked_endpoint,
        help="The fleet's frontend; by default 127.0.0.1:50051.",
    )
    @functools.wraps(command)
    def connected(endpoint: str | None, **options: Any) -> int | None:
        return asyncio.run(_run(command, endpoint, options))

    return connected


async def _run(
    command: "Callable[..., Awaitable[int | None]]", endpoint: str | None, options: dict[str, Any]
) -> int | None:
    from lambent.client import Client

    async with Client(endpoint) as client:
        return await command(client, **options)
