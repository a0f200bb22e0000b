"""Lambent with its own gRPC server in grpcio's place."""

from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Final

from loadtest.peers import lambent
from loadtest.peers.serving import run

PEER: Final = replace(
    lambent.PEER,
    name="lambent-own-grpc",
    title="Lambent, own gRPC server",
    paths=tuple(path for path in lambent.PEER.paths if path.kind != "HTTP"),
    runs='the same with `grpc_server = "own"`',
)


def serve(processes: int) -> AbstractContextManager[dict[str, str]]:
    return lambent.serve(processes, grpc_server="own")


if __name__ == "__main__":
    run(serve, lambent.call)
