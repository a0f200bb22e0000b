"""Ray Serve: replicas behind its HTTP and gRPC proxies."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from loadtest.peers.peer import GRPC_CALLER, GRPC_WITH, HTTP_CALLER, HTTP_WITH, Path, Peer
from loadtest.peers.ray_actors import PIP, head
from loadtest.peers.serving import free_port, run

PEER: Final = Peer(
    name="ray-serve",
    title="Ray Serve",
    paths=(
        Path(kind="HTTP", name="HTTP", caller=HTTP_CALLER, called_with=HTTP_WITH),
        Path(kind="gRPC", name="gRPC", caller=GRPC_CALLER, called_with=GRPC_WITH),
    ),
    pip=PIP,
    environment="ray",
    runs="`ray start --head`, and `serve.run` of one deployment with a replica for each process",
    gives="batches of calls in one function, graphs of deployments, replicas on GPUs, many calls at a time "
    "in a replica",
    lacks="isolation of one function from another, packages as Lambda takes them, other languages",
)


def add_to_server(servicer: Any, server: Any) -> None:
    """What protoc would have generated for a service of one method; Ray Serve asks for it by its name."""
    import grpc
    from google.protobuf.wrappers_pb2 import BytesValue

    method = grpc.unary_unary_rpc_method_handler(
        servicer.Call,
        request_deserializer=BytesValue.FromString,
        response_serializer=BytesValue.SerializeToString,
    )
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("peers.Echo", {"Call": method}),))


@contextmanager
def serve(processes: int) -> Iterator[dict[str, str]]:
    import ray
    import ray.serve
    from google.protobuf.wrappers_pb2 import BytesValue
    from ray.serve.config import gRPCOptions

    class Echo:
        async def __call__(self, request: Any) -> Any:
            return await request.json()

        async def Call(self, request: BytesValue) -> BytesValue:  # noqa: N802 - the method's name on the wire
            return BytesValue(value=json.dumps(json.loads(request.value)).encode())

    http, unary = free_port(), free_port()
    with head(2 * processes) as address:
        ray.init(address=address, log_to_driver=False, logging_level="warning")
        ray.serve.start(
            http_options={"host": "127.0.0.1", "port": http},
            grpc_options=gRPCOptions(
                port=unary, grpc_servicer_functions=["loadtest.peers.ray_serve.add_to_server"]
            ),
            logging_config={"enable_access_log": False},
        )
        deployment = ray.serve.deployment(Echo).options(num_replicas=processes, max_ongoing_requests=64)
        ray.serve.run(deployment.bind())
        yield {"HTTP": f"127.0.0.1:{http}", "gRPC": f"127.0.0.1:{unary}"}
        ray.serve.shutdown()
        ray.shutdown()


if __name__ == "__main__":
    run(serve)
