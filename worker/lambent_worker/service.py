"""The worker's own gRPC service: its functions' logs, for people to read. It takes no orders."""

from contextlib import aclosing
from typing import Any

import grpc.aio

from lambent_chassis import grpc_options
from lambent_chassis.peering import Peering, only
from lambent_proto.internal import control_pb2 as wire
from lambent_proto.internal import control_pb2_grpc
from lambent_worker.logs import FunctionLogs

Context = grpc.aio.ServicerContext[Any, Any]


class WorkerLogs(control_pb2_grpc.WorkerLogsServicer):
    def __init__(self, logs: FunctionLogs) -> None:
        self._logs = logs

    # grpc.aio also takes a coroutine that writes by itself, which the generated types do not know.
    async def ReadLogs(self, request: wire.ReadWorkerLogsRequest, context: Context) -> None:  # type: ignore[override]
        await only(context, "frontend")
        async with aclosing(self._logs.read(request.function_name, request.follow)) as batches:
            async for lines in batches:
                await context.write(
                    wire.WorkerLogLines(
                        lines=[
                            wire.WorkerLogLine(
                                at=line.at,
                                instance=line.instance,
                                request_id=line.request_id,
                                text=line.text,
                            )
                            for line in lines
                        ]
                    )
                )


async def serve(logs: FunctionLogs, host: str, port: int, peering: Peering) -> tuple[grpc.aio.Server, int]:
    """Starts the service; returns it with its port. Raises OSError if it cannot listen there."""
    server = grpc.aio.server(options=grpc_options.SERVER)
    control_pb2_grpc.add_WorkerLogsServicer_to_server(WorkerLogs(logs), server)
    bound = peering.listen(server, f"{host}:{port}")
    await server.start()
    return server, bound
