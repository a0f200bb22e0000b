"""Parsl with its high-throughput executor, whose processes are the caller's children."""

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Final

from loadtest.peers.closed_loop import EVENT, checked, measured_async
from loadtest.peers.peer import Path, Peer
from loadtest.peers.serving import run

PEER: Final = Peer(
    name="parsl-htex",
    title="Parsl high-throughput",
    paths=(Path(kind="own", name="apps", called_with="a `python_app`, its futures awaited"),),
    pip=("parsl==2026.10.26",),
    environment="parsl",
    runs="`HighThroughputExecutor` with a `LocalProvider` of one block and N workers",
    gives="tasks on the batch systems of supercomputers, files staged for them, dependencies between futures",
    lacks="isolation, deployed functions, an API for others than the one program that started it",
)


@contextmanager
def serve(processes: int) -> Iterator[dict[str, str]]:
    yield {"apps": f"{processes}"}


def handler(event: dict[str, str]) -> dict[str, str]:
    return event


def call(address: str, in_flight: int) -> None:
    import parsl
    from parsl.config import Config
    from parsl.executors import HighThroughputExecutor
    from parsl.providers import LocalProvider

    executor = HighThroughputExecutor(
        address="127.0.0.1",
        max_workers_per_node=int(address),
        cores_per_worker=1e-6,
        provider=LocalProvider(init_blocks=1, max_blocks=1),
    )
    folder = os.path.join(os.environ["PEER_WORK"], f"run-{os.getpid()}")
    with parsl.load(Config(executors=[executor], run_dir=folder, usage_tracking=0)):
        echo = parsl.python_app(handler)

        async def once() -> None:
            checked(await asyncio.wrap_future(echo(EVENT)))

        callers: list[Callable[[], Awaitable[None]]] = [once] * in_flight
        measured_async(asyncio.new_event_loop(), callers)


if __name__ == "__main__":
    run(serve, call)
