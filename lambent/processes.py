"""Several frontends behind one pair of ports: `lambent frontend --processes N`.

Each is a frontend like any other, with a name, leases and a queue of its own, that listens on the same ports;
the kernel gives each new connection to one of them. This process starts them, starts those again that end,
and stops them; it serves nothing itself.
"""

import asyncio
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import structlog

from lambent.children import NotStarted, PartChild, keep
from lambent_chassis.serve import Started
from lambent_chassis.settings import BadSettings, variable
from lambent_frontend.queue.sqlite import CannotOpen, unfinished
from lambent_frontend.settings import FrontendSettings
from lambent_proto import identity

_log = structlog.get_logger()


async def run(settings: FrontendSettings, config: Path | None, started: Started) -> None:
    """Serves until it is cancelled. Raises OSError if something else has one of the ports, and NotStarted."""
    with ExitStack() as reserved:
        ports = [
            reserved.enter_context(_reserved(host, port))
            for host, port in (
                (settings.grpc_host, settings.grpc_port),
                (settings.http_host, settings.http_port),
            )
        ]
        children = [_child(settings, config, number, *ports) for number in range(settings.processes)]
        try:
            await _start(children)
            grpc, http = (f"{it}:{port}" for it, port in zip(_hosts(settings), ports, strict=True))
            started(grpc=grpc, http=http)
            async with asyncio.TaskGroup() as tasks:
                for child in children:
                    tasks.create_task(keep(child, _say, lambda: None))
        finally:
            await asyncio.gather(*(child.stop() for child in children))


def check_queues(settings: FrontendSettings) -> None:
    """Raises BadSettings if there is a queue of a process that is not to run, with events that nobody would
    run."""
    if settings.data is None or settings.nats or settings.share_ports:
        return
    for folder in settings.data.glob("process-*"):
        name = folder.name.removeprefix("process-")
        if not (name.isascii() and name.isdecimal()):
            continue  # somebody's own, as a copy of one
        number = int(name)
        if number >= settings.processes and (left := _left_in(folder)):
            raise BadSettings(
                f"processes: {left} events in {folder} are for process {number}, and with processes = "
                f"{settings.processes} nobody runs them: start it with {number + 1} until "
                f"`lambent async queue` shows none that waits"
            )


def _left_in(folder: Path) -> int:
    """Raises BadSettings."""
    try:
        return unfinished(folder)
    except CannotOpen as error:
        raise BadSettings(f"processes: {error}") from error


def settings_of(settings: FrontendSettings, number: int, grpc_port: int, http_port: int) -> Mapping[str, str]:
    """What process `number` is told otherwise than the whole, by the names of the settings. The first one
    has the data and the record that a single process has."""
    told = {
        "name": identity.process_name(settings.name, number),
        "processes": "1",
        "share_ports": "true",
        "shards": str(settings.shards),
        "grpc_port": str(grpc_port),
        "http_port": str(http_port),
    }
    if settings.control_port:
        told["control_port"] = str(settings.control_port + number)
    if settings.metrics_port:
        told["metrics_port"] = str(settings.metrics_port + number)
    if number and settings.data is not None:
        told["data"] = str(settings.data / f"process-{number}")
    if number and settings.record is not None:
        record = settings.record
        told["record"] = str(record.with_name(f"{record.stem}-{number}{record.suffix}"))
    return told


def _child(
    settings: FrontendSettings, config: Path | None, number: int, grpc_port: int, http_port: int
) -> PartChild:
    told = settings_of(settings, number, grpc_port, http_port)
    environment = os.environ | {variable(key): value for key, value in told.items()}
    child = PartChild("frontend", told["name"], config, None, environment)
    child.stop_s += settings.drain_s
    return child


async def _start(children: list[PartChild]) -> None:
    """All at once; raises the first NotStarted."""
    try:
        async with asyncio.TaskGroup() as tasks:
            for child in children:
                tasks.create_task(child.start())
    except* NotStarted as failures:
        raise failures.exceptions[0] from None


def _hosts(settings: FrontendSettings) -> tuple[str, str]:
    return settings.grpc_host, settings.http_host


@contextmanager
def _reserved(host: str, port: int) -> Iterator[int]:
    """The port, 0 being replaced by a free one, which stays this fleet's until the end: without a listener
    it takes no connection.

    Raises OSError if anything listens there that is not to share it.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    address = host.strip("[]"), port
    with socket.socket(family) as bound:
        try:
            with socket.create_server(address, family=family):  # it would hear of none who share it
                pass
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            bound.bind(address)
        except OSError as error:
            raise OSError(f"cannot listen on {host}:{port}: is something else there? ({error})") from None
        yield int(bound.getsockname()[1])


def _say(text: str) -> None:
    _log.warning("frontend_process", what=text)
