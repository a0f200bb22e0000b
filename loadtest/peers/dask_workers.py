"""Dask's distributed scheduler, with workers of one thread each."""

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from loadtest.peers.closed_loop import EVENT, checked, measured_async
from loadtest.peers.peer import Path, Peer
from loadtest.peers.serving import beside_python, free_port, run, started, until_listening

PEER: Final = Peer(
    name="dask-workers",
    title="Dask distributed",
    paths=(Path(kind="own", name="futures", called_with="`Client(asynchronous=True).submit`, awaited"),),
    pip=("distributed==2026.8.0",),
    environment="dask",
    runs="`dask scheduler` without its dashboard and `dask worker --nworkers N --nthreads 1`",
    gives="graphs of tasks that run where their data is, arrays and data frames larger than memory",
    lacks="isolation, limits of time, deployed functions with versions, an API that is not Python's",
)

WORKERS_WITHIN_S: Final = 150.0


@contextmanager
def serve(processes: int) -> Iterator[dict[str, str]]:
    port, work = free_port(), os.environ["PEER_WORK"]
    dask = (beside_python("dask"),)
    quiet = ("--no-dashboard",)
    with started([*dask, "scheduler", "--host", "127.0.0.1", "--port", str(port), *quiet]) as scheduler:
        address = until_listening(port, scheduler)
        workers = ("--nworkers", str(processes), "--nthreads", "1", "--host", "127.0.0.1", *quiet)
        with started([*dask, "worker", address, *workers, "--local-directory", work]):
            asyncio.run(until_there(address, processes))
            yield {"futures": address}


async def until_there(address: str, workers: int) -> None:
    from dask.distributed import Client

    async with Client(address, asynchronous=True) as client:
        await client.wait_for_workers(workers, timeout=WORKERS_WITHIN_S)


def handler(event: dict[str, str]) -> dict[str, str]:
    return event


def call(address: str, in_flight: int) -> None:
    from dask.distributed import Client

    async def connected() -> Any:
        return await Client(address, asynchronous=True)

    loop = asyncio.new_event_loop()
    client = loop.run_until_complete(connected())

    async def once() -> None:
        checked(await client.submit(handler, EVENT, pure=False))

    callers: list[Callable[[], Awaitable[None]]] = [once] * in_flight
    measured_async(loop, callers)
    loop.run_until_complete(client.close())


if __name__ == "__main__":
    run(serve, call)
