"""Lambent itself, as `lambent up` starts it, called in its three ways."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from loadtest.peers.closed_loop import PAYLOAD
from loadtest.peers.peer import Path, Peer
from loadtest.peers.serving import REMARK, run

WORKERS: Final = 2

PEER: Final = Peer(
    name="lambent",
    title="Lambent",
    paths=(
        Path(
            kind="own",
            name="InvokeStream",
            called_with="one `InvokeStream`, what has gathered in one message",
        ),
        Path(kind="gRPC", name="unary gRPC", called_with="`Invoke` of `grpc.aio` over one channel"),
        Path(kind="HTTP", name="HTTP", called_with="Lambda's `Invoke` over HTTP/1.1 with boto3's headers"),
    ),
    programs=("etcd",),
    runs=f"`lambent up --workers {WORKERS} --require-isolation none`: etcd, a placement, the workers, "
    "a frontend, and a function with a limit of N instances",
    gives="",
    lacks="",
)

_KINDS: Final = {"InvokeStream": "stream", "unary gRPC": "unary", "HTTP": "http"}


@contextmanager
def serve(processes: int) -> Iterator[dict[str, str]]:
    from loadtest import echo
    from loadtest.fleet import ANY_ISOLATION, fleet

    # The interpreters of pyenv are not asked for: a worker starts sooner, and the function runs on ours.
    os.environ["PYENV_ROOT"] = os.environ["PEER_WORK"]
    with fleet("--workers", str(WORKERS), *ANY_ISOLATION) as running:
        echo.deploy(running.endpoint, processes)
        endpoints = {"stream": running.endpoint, "unary": running.endpoint, "http": running.http}
        addresses = {name: f"{kind} {endpoints[kind]}" for name, kind in _KINDS.items()}
        yield {**addresses, REMARK: f"isolation level {running.isolation}"}


def call(address: str, in_flight: int) -> None:
    kind, endpoint = address.split()
    callers = (
        sys.executable,
        "-m",
        "loadtest.callers",
        endpoint,
        "echo",
        kind,
        str(in_flight),
        str(len(PAYLOAD)),
    )
    os.execv(sys.executable, callers)


if __name__ == "__main__":
    run(serve, call)
