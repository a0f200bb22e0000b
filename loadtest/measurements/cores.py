"""Whether a second frontend process is worth a second one: calls for each second of CPU, of one and of two.

A process is at its end when it uses a core whole. What it does with that core is its calls over its CPU,
which a machine that others use tells as well; the callers' CPU is no part of it.
Each process is given as much to do at one time, however many there are: a call is cheaper among many.
"""

import asyncio
import statistics
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass, field
from typing import Any, Final

import grpc.aio

from lambent_chassis import grpc_options
from lambent_proto.v1 import async_invocations_pb2 as queue_pb2
from lambent_proto.v1 import (
    async_invocations_pb2_grpc,
    functions_pb2,
    functions_pb2_grpc,
    invoke_pb2,
    invoke_pb2_grpc,
)
from loadtest import echo
from loadtest.bare import PAYLOAD
from loadtest.figures import Budget, Figures, Table, spread
from loadtest.fleet import ANY_ISOLATION, Fleet, Off, fleet
from loadtest.measurement import Measurement, Plan
from loadtest.processes import tree

AT_ONCE: Final = 8
"""Calls in flight of each connection."""
INSTANCES: Final = 24
"""More than calls in flight: who shares scarce ones is not the question here."""
MOST_TRIES: Final = 200
"""Connections that are made until each process has its share of them."""
LEAST_GAIN: Final = 1.7


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    processes: int = 2
    connections: int = 1
    """To each process."""
    stream_calls: int = 8_000
    """Of each connection in a round."""
    unary_calls: int = 2_000


@dataclass
class Callers:
    """Connections to one fleet, as many to each of its frontend processes."""

    running: Fleet
    channels: dict[str, list[grpc.aio.Channel]]
    """By the frontend's name."""
    rates: dict[str, list[float]] = field(default_factory=dict)
    """Calls for a second of CPU, all processes together, of each round, by how they are made."""

    async def round(self, kind: str, call: "Call", count: int) -> None:
        pids = _pids(self.running, len(self.channels))
        before = {pid: tree(pid)[pid].cpu_s for pid in pids}
        stubs = [
            invoke_pb2_grpc.InvocationsStub(channel) for them in self.channels.values() for channel in them
        ]
        await asyncio.gather(*(call(stub, count) for stub in stubs))
        of_each = count * len(stubs) / len(pids)
        rate = sum(of_each / (tree(pid)[pid].cpu_s - before[pid]) for pid in pids)
        self.rates.setdefault(kind, []).append(rate)


Call = Callable[[Any, int], Awaitable[None]]


async def streamed(stub: Any, count: int) -> None:
    stream = stub.InvokeStream()
    request = invoke_pb2.InvokeRequest(function_name=echo.NAME, payload=PAYLOAD)
    items = [invoke_pb2.StreamedInvocation(id=number, request=request) for number in range(AT_ONCE)]
    message = invoke_pb2.InvokeStreamRequest(invocations=items)
    for _ in range(count // AT_ONCE):
        await stream.write(message)
        left = AT_ONCE
        while left:
            answer = await stream.read()
            if any(it.HasField("error") for it in answer.results):
                raise Off(f"a call failed: {answer}")
            left -= len(answer.results)
    await stream.done_writing()


async def unary(stub: Any, count: int) -> None:
    request = invoke_pb2.InvokeRequest(function_name=echo.NAME, payload=PAYLOAD)

    async def some() -> None:
        for _ in range(count // AT_ONCE):
            await stub.Invoke(request, timeout=60)

    await asyncio.gather(*(some() for _ in range(AT_ONCE)))


def run(setup: Setup, plan: Plan) -> Figures:
    with ExitStack() as stack:
        fleets = {
            number: stack.enter_context(
                fleet("--workers", "1", "--frontend-processes", str(number), *ANY_ISOLATION)
            )
            for number in (1, setup.processes)
        }
        for running in fleets.values():
            echo.deploy(running.endpoint, INSTANCES)
        rates = asyncio.run(_measured(fleets, setup, plan))
    return _figures(rates, setup)


async def _measured(fleets: dict[int, Fleet], setup: Setup, plan: Plan) -> dict[int, dict[str, list[float]]]:
    async with AsyncExitStack() as stack:
        calling = {}
        for number, running in fleets.items():
            connected = await _connected(stack, running, number, setup.connections)
            calling[number] = Callers(running, connected)
        for turn in range(plan.repeats + 1):
            plan.say(f"round {turn} of {plan.repeats}" if turn else "until everything is warm")
            for kind, call, count in (
                ("stream", streamed, setup.stream_calls),
                ("unary", unary, setup.unary_calls),
            ):
                for it in calling.values():
                    await it.round(kind, call, count)
            if not turn:
                for it in calling.values():
                    it.rates.clear()
        return {number: it.rates for number, it in calling.items()}


async def _connected(
    stack: AsyncExitStack, running: Fleet, processes: int, each: int
) -> dict[str, list[grpc.aio.Channel]]:
    """So many connections to each; which of them has a new one the kernel says. Raises Off."""
    found: dict[str, list[grpc.aio.Channel]] = {}
    for _ in range(MOST_TRIES):
        channel = grpc.aio.insecure_channel(running.endpoint, options=grpc_options.CHANNEL)
        stub = async_invocations_pb2_grpc.AsyncInvocationsStub(channel)
        frontend = (await stub.GetQueue(queue_pb2.GetQueueRequest())).frontend
        if len(found.setdefault(frontend, [])) == each:
            await channel.close()
            continue
        await _knows(channel)
        found[frontend].append(await stack.enter_async_context(channel))
        if len(found) == processes and all(len(it) == each for it in found.values()):
            return found
    raise Off(
        f"after {MOST_TRIES} connections {processes} processes have {[len(it) for it in found.values()]}"
    )


async def _knows(channel: grpc.aio.Channel) -> None:
    """Waits until this frontend has heard of the function that another one deployed."""
    stub = functions_pb2_grpc.FunctionsStub(channel)
    async with asyncio.timeout(30):
        while True:
            try:
                await stub.GetFunction(functions_pb2.GetFunctionRequest(name=echo.NAME))
            except grpc.aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.NOT_FOUND:
                    raise
            else:
                return


def _pids(running: Fleet, processes: int) -> list[int]:
    """Of the frontends that serve: not of their parent."""
    parent = running.pids["frontend"]
    pids = [parent] if processes == 1 else [pid for pid in tree(parent) if pid != parent]
    if len(pids) != processes:
        raise Off(f"{len(pids)} frontend processes run, and {processes} should")
    return pids


def _figures(rates: dict[int, dict[str, list[float]]], setup: Setup) -> Figures:
    found = Figures()
    rows = []
    for kind in ("stream", "unary"):
        one, several = rates[1][kind], rates[setup.processes][kind]
        gain = statistics.median(b / a for a, b in zip(one, several, strict=True))
        found.flat[f"{kind}_gain"] = round(gain, 3)
        found.flat[f"{kind}_one_per_cpu_s"] = round(statistics.median(one))
        found.flat[f"{kind}_several_per_cpu_s"] = round(statistics.median(several))
        rows.append([kind, spread(one), spread(several), f"**{gain:.2f}**"])
        found.budgets.append(
            Budget(
                f"{setup.processes} frontend processes against one, {kind}",
                gain,
                LEAST_GAIN * setup.processes / 2,
                "times the calls",
                at_most=False,
            )
        )
    heads = ("", "one process", f"{setup.processes} processes, a core each", "times")
    found.tables.append(Table(heads, rows, "Calls a second of frontends that use their cores whole:"))
    return found


MEASUREMENT: Final = Measurement(
    name="cores",
    title="Several frontend processes",
    says="""\
What one frontend process makes of a core, and what two behind one port make of two, by CPU accounting: the
calls that each process answered over the CPU that it used, added up. Each process has as many connections,
with eight calls in flight on each. The CPU of callers, workers and instances is no part of it.""",
    takes_s=(80, 30),
    run=run,
    full=Setup(),
    quick=Setup(stream_calls=2_000, unary_calls=500),
)
