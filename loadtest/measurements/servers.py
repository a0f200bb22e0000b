"""What the two gRPC servers take of the CPU for a call, in turns on one machine.

Each serves the same echo of `Invocations` in a process of its own, on uvloop, without a fleet behind it. The
clients are grpcio's: unary calls one at a time and 64 at a time, and an `InvokeStream` with 64 invocations in
each message. What counts is the server's CPU; it is what a busy machine leaves comparable.
"""

import asyncio
import statistics
import subprocess
import sys
from dataclasses import dataclass
from typing import Any, Final

import click
import grpc.aio
import uvloop

from lambent_chassis import grpc_options
from lambent_frontend.grpc_door.server import OwnServer
from lambent_proto.v1 import invoke_pb2, invoke_pb2_grpc
from loadtest.figures import Figures, Table, spread
from loadtest.measurement import Measurement, Plan
from loadtest.processes import tree

SERVERS: Final = ("grpcio", "own")
PAYLOAD: Final = b'"' + b"x" * 98 + b'"'
MESSAGE: Final = 64
"""Invocations in one of a stream."""


async def echo(request: invoke_pb2.InvokeRequest, context: Any) -> invoke_pb2.InvokeResponse:
    context.set_trailing_metadata((("lambent-request-id", "0" * 36),))
    return invoke_pb2.InvokeResponse(payload=request.payload)


async def echo_stream(_: object, context: Any) -> None:
    while (message := await context.read()) is not grpc.aio.EOF:
        answer = invoke_pb2.InvokeStreamResponse()
        for item in message.invocations:
            result = answer.results.add(id=item.id)
            result.response.payload = item.request.payload
        await context.write(answer)


def handlers() -> dict[str, Any]:
    unary: Any = grpc.unary_unary_rpc_method_handler
    streamed: Any = grpc.stream_stream_rpc_method_handler
    asked, answered = invoke_pb2.InvokeRequest, invoke_pb2.InvokeResponse
    asked_many, answered_many = invoke_pb2.InvokeStreamRequest, invoke_pb2.InvokeStreamResponse
    return {
        "Invoke": unary(echo, asked.FromString, answered.SerializeToString),
        "InvokeStream": streamed(echo_stream, asked_many.FromString, answered_many.SerializeToString),
    }


async def serve(which: str) -> None:
    """Until it is killed; its first line is its port."""
    server: Any = OwnServer() if which == "own" else grpc.aio.server(options=grpc_options.SERVER)
    server.add_registered_method_handlers("lambent.v1.Invocations", handlers())
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    click.echo(port)
    await asyncio.Event().wait()


def main(which: str) -> None:
    """Of a server's process."""
    uvloop.run(serve(which))


async def unary(stub: Any, calls: int, at_once: int) -> None:
    request = invoke_pb2.InvokeRequest(function_name="echo", payload=PAYLOAD)

    async def some() -> None:
        for _ in range(calls // at_once):
            await stub.Invoke(request, timeout=30)

    await asyncio.gather(*(some() for _ in range(at_once)))


async def streamed(stub: Any, calls: int, at_once: int) -> None:
    stream = stub.InvokeStream()
    request = invoke_pb2.InvokeRequest(function_name="echo", payload=PAYLOAD)
    items = [invoke_pb2.StreamedInvocation(id=number, request=request) for number in range(at_once)]
    message = invoke_pb2.InvokeStreamRequest(invocations=items)
    for _ in range(calls // at_once):
        await stream.write(message)
        await stream.read()
    await stream.done_writing()


MANY: Final = "unary, 64 in flight"
PATHS: Final = {
    "unary, 1 in flight": (unary, 500, 1),
    MANY: (unary, 3_200, 64),
    "InvokeStream, 1 a message": (streamed, 1_000, 1),
    f"InvokeStream, {MESSAGE} a message": (streamed, 12_800, MESSAGE),
}


def measure(rounds: int, scale: float) -> dict[tuple[str, str], list[float]]:
    """Microseconds of the server's CPU for a call, by path and server."""
    program = "import sys; from loadtest.measurements import servers; servers.main(sys.argv[1])"
    command = [sys.executable, "-c", program]
    servers = {
        name: subprocess.Popen([*command, name], stdout=subprocess.PIPE, text=True) for name in SERVERS
    }
    try:
        ports = {name: it.stdout.readline().strip() for name, it in servers.items() if it.stdout}
        return asyncio.run(_measured(rounds, scale, ports, {name: it.pid for name, it in servers.items()}))
    finally:
        for server in servers.values():
            server.kill()
            server.communicate()


async def _measured(
    rounds: int, scale: float, ports: dict[str, str], pids: dict[str, int]
) -> dict[tuple[str, str], list[float]]:
    found: dict[tuple[str, str], list[float]] = {(path, it): [] for path in PATHS for it in SERVERS}
    for turn in range(rounds + 1):
        for path, (call, most, at_once) in PATHS.items():
            calls = max(at_once, int(most * scale) // at_once * at_once)
            for name in SERVERS:
                async with grpc.aio.insecure_channel(f"127.0.0.1:{ports[name]}") as channel:
                    stub = invoke_pb2_grpc.InvocationsStub(channel)
                    await call(stub, at_once, at_once)
                    before = tree(pids[name])[pids[name]].cpu_s
                    await call(stub, calls, at_once)
                    spent = tree(pids[name])[pids[name]].cpu_s - before
                if turn:  # the first one warms
                    found[path, name].append(spent / calls * 1e6)
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    scale: float = 1.0
    """Of the number of calls in a round."""


def run(setup: Setup, plan: Plan) -> Figures:
    seen = measure(plan.repeats, setup.scale)
    rows = [[path, *(spread(seen[path, of]) for of in SERVERS)] for path in PATHS]
    found = Figures(
        tables=[Table(("", *(f"`{it}`" for it in SERVERS)), rows, "µs of the server's CPU a call:")]
    )
    for of in SERVERS:
        found.flat[f"server_{of}_unary_cpu_us"] = round(statistics.median(seen[MANY, of]), 1)
    return found


MEASUREMENT: Final = Measurement(
    name="servers",
    title="The two gRPC servers",
    says="""\
Each answers the same echo from a process of its own, with no fleet behind it, in turns; the clients are
grpcio's. Why there are two: [decision 0026](decisions/0026-a-grpc-server-of-our-own.md).""",
    takes_s=(70, 15),
    run=run,
    full=Setup(),
    quick=Setup(scale=0.3),
)
