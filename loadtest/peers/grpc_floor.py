"""A bare server of grpc.aio that answers with what it was sent."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from loadtest.peers.peer import GRPC_CALLER, GRPC_WITH, Path, Peer
from loadtest.peers.serving import free_port, run, started, until_listening

PEER: Final = Peer(
    name="grpc-floor",
    title="bare `grpc.aio`",
    paths=(Path(kind="gRPC", name="", caller=GRPC_CALLER, called_with=GRPC_WITH),),
    runs="one process with `grpc.aio.server` on uvloop, whatever N is",
    gives="nothing: it is here for scale",
    lacks="everything: no function is behind it",
    floor=True,
)


async def listen(port: int) -> None:
    import grpc.aio
    from google.protobuf.wrappers_pb2 import BytesValue

    async def echo(request: BytesValue, _: Any) -> BytesValue:
        return request

    method = grpc.unary_unary_rpc_method_handler(
        echo, request_deserializer=BytesValue.FromString, response_serializer=BytesValue.SerializeToString
    )
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("peers.Echo", {"Call": method}),))
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    await server.wait_for_termination()


@contextmanager
def serve(processes: int) -> Iterator[dict[str, str]]:
    port = free_port()
    with started([sys.executable, "-m", "loadtest.peers.grpc_floor", "listen", str(port)]) as process:
        yield {"": until_listening(port, process)}


if __name__ == "__main__":
    if sys.argv[1] == "listen":
        import uvloop

        uvloop.run(listen(int(sys.argv[2])))
    else:
        run(serve)
