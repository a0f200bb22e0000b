"""Ray's actors, called by one driver."""

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from loadtest.peers.closed_loop import EVENT, checked, measured_async
from loadtest.peers.peer import Path, Peer
from loadtest.peers.serving import beside_python, free_port, run, started, until_listening

PIP: Final = ("ray[serve-grpc]==2.60.0",)

PEER: Final = Peer(
    name="ray-actors",
    title="Ray actors",
    paths=(Path(kind="own", name="actors", called_with="a driver that awaits the actors' methods, in turn"),),
    pip=PIP,
    environment="ray",
    runs="`ray start --head` without its dashboard, and an actor for each process",
    gives="objects shared between tasks in memory, actors with state, a scheduler for GPUs and clusters",
    lacks="isolation of one function from another, a limit of time for a call, versions, an API that is "
    "not of its own clients",
)


@contextmanager
def head(processes: int) -> Iterator[str]:
    """A node of Ray; the address for drivers."""
    port = free_port()
    ray = (
        beside_python("ray"),
        "start",
        "--head",
        "--block",
        "--node-ip-address=127.0.0.1",
        f"--port={port}",
    )
    of_its_own = (
        "--include-dashboard=false",
        "--disable-usage-stats",
        f"--temp-dir={os.environ['PEER_WORK']}",
    )
    with started([*ray, *of_its_own, f"--num-cpus={processes}"]) as process:
        yield until_listening(port, process)


@contextmanager
def serve(processes: int) -> Iterator[dict[str, str]]:
    with head(processes) as address:
        yield {"actors": address}


def call(address: str, in_flight: int) -> None:
    import ray

    class Echo:
        def handle(self, event: dict[str, str]) -> dict[str, str]:
            return event

    ray.init(address=address, log_to_driver=False, logging_level="warning")
    processes = int(ray.cluster_resources()["CPU"])
    actors = [ray.remote(Echo).remote() for _ in range(processes)]

    def caller(actor: Any) -> Callable[[], Awaitable[None]]:
        async def once() -> None:
            checked(await actor.handle.remote(EVENT))

        return once

    measured_async(asyncio.new_event_loop(), [caller(actors[n % processes]) for n in range(in_flight)])
    ray.shutdown()


if __name__ == "__main__":
    run(serve, call)
