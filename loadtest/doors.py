"""`python -m loadtest.doors`: what the two gRPC servers take of the CPU for a call, in turns on one machine.

Each serves the same echo of `Invocations` in a process of its own, on uvloop, without a fleet behind it. The
clients are grpcio's: unary calls one at a time and 64 at a time, and an `InvokeStream` with 64 invocations in
each message. What counts is the server's CPU; it is what a busy machine leaves comparable.
"""

import asyncio
import os
import statistics
import subprocess
import sys
from typing import Any, Final

import click
import grpc.aio
import uvloop

from lambent_chassis import grpc_options
from lambent_frontend.grpc_door.server import OwnServer
from lambent_proto.v1 import invoke_pb2, invoke_pb2_grpc
from loadtest.processes import tree

DOORS: Final = ("grpcio", "own")
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


async def serve(door: str) -> None:
    """Until it is killed; its first line is its port."""
    server: Any = OwnServer() if door == "own" else grpc.aio.server(options=grpc_options.SERVER)
    server.add_registered_method_handlers("lambent.v1.Invocations", handlers())
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    click.echo(port)
    await asyncio.Event().wait()


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


PATHS: Final = {
    "unary, 1 in flight": (unary, 500, 1),
    "unary, 64 in flight": (unary, 3_200, 64),
    "InvokeStream, 1 a message": (streamed, 1_000, 1),
    f"InvokeStream, {MESSAGE} a message": (streamed, 12_800, MESSAGE),
}


def measure(rounds: int) -> dict[tuple[str, str], list[float]]:
    """Microseconds of the server's CPU for a call, by path and door."""
    command = [sys.executable, "-m", "loadtest.doors", "--serve"]
    servers = {door: subprocess.Popen([*command, door], stdout=subprocess.PIPE, text=True) for door in DOORS}
    try:
        ports = {door: it.stdout.readline().strip() for door, it in servers.items() if it.stdout}
        return asyncio.run(_measured(rounds, ports, {door: it.pid for door, it in servers.items()}))
    finally:
        for server in servers.values():
            server.kill()
            server.communicate()


async def _measured(
    rounds: int, ports: dict[str, str], pids: dict[str, int]
) -> dict[tuple[str, str], list[float]]:
    found: dict[tuple[str, str], list[float]] = {(path, door): [] for path in PATHS for door in DOORS}
    for turn in range(rounds + 1):
        for path, (call, calls, at_once) in PATHS.items():
            for door in DOORS:
                async with grpc.aio.insecure_channel(f"127.0.0.1:{ports[door]}") as channel:
                    stub = invoke_pb2_grpc.InvocationsStub(channel)
                    await call(stub, at_once, at_once)
                    before = tree(pids[door])[pids[door]].cpu_s
                    await call(stub, calls, at_once)
                    spent = tree(pids[door])[pids[door]].cpu_s - before
                if turn:  # the first one warms
                    found[path, door].append(spent / calls * 1e6)
    return found


@click.command()
@click.option("--serve", "door", type=click.Choice(DOORS), help="Be the server of a measurement.")
@click.option("--rounds", type=click.IntRange(min=1), default=5, show_default=True)
def main(door: str | None, rounds: int) -> None:
    """Compares the CPU that the two gRPC servers take for a call."""
    if door is not None:
        uvloop.run(serve(door))
        return
    found = measure(rounds)
    click.echo(
        f"load {os.getloadavg()[0]:.1f}; microseconds of server CPU a call, median (range) of {rounds}"
    )
    for (path, of), spent in found.items():
        click.echo(f"{path:28} {of:8} {statistics.median(spent):6.0f} ({min(spent):.0f} to {max(spent):.0f})")


if __name__ == "__main__":
    main()
