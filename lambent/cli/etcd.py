"""Commands that write to etcd itself, and how they find it."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from lambent.cli.failures import USAGE, FailedCommand

if TYPE_CHECKING:
    from lambent_chassis.etcd import Etcd

T = TypeVar("T")


def etcd_options(command: Callable[..., Any]) -> Callable[..., Any]:
    config = click.option(
        "--config",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        metavar="FILE",
        help="The TOML file of any part: what it says of etcd is taken.",
    )
    endpoints = click.option(
        "--etcd", metavar="URL,...", help="The fleet's etcd; else LAMBENT_ETCD, else that of --config."
    )
    return config(endpoints(command))


def with_etcd(config: Path | None, etcd: str | None, work: "Callable[[Etcd], Awaitable[T]]") -> T:
    from lambent_chassis import logs
    from lambent_chassis.etcd import EtcdError
    from lambent_chassis.settings import BadSettings, Settings

    logs.configure("warning")

    async def connected() -> T:
        async with settings.etcd_session() as session:
            return await work(session)

    try:
        settings = Settings.of_any_part(config, etcd)
        return asyncio.run(connected())
    except BadSettings as error:
        raise FailedCommand(str(error), USAGE) from error
    except EtcdError as error:
        raise FailedCommand(f"etcd does not answer as it should: {error}") from error
