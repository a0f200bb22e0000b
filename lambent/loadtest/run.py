"""One load test from its first call to its last answer: connections, the fleet's instances, Ctrl-C."""

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Final

import grpc.aio

from lambent.client import Client
from lambent.loadtest.engine import Engine, Progress
from lambent.loadtest.load import WHOLE, Closed, Load, Part
from lambent.loadtest.results import STEP_S, Results
from lambent.loadtest.transports import Http, HttpRequest, Stream, Transport, Unary
from lambent.messages import Priority, fill_request
from lambent.rpc import https_of_environment, tls_of_environment
from lambent_chassis import grpc_options
from lambent_chassis.clock import monotonic_s
from lambent_proto.errors import LambentError
from lambent_proto.v1 import invoke_pb2, invoke_pb2_grpc

TICK_S: Final = 0.5

Tick = Callable[[Progress], bool]
"""Called twice a second while a run goes on; True if it is to stop."""

Begin = Callable[[], Awaitable[float]]
"""Asked once all is ready: when to begin, by this machine's monotonic clock."""


@dataclass(frozen=True, slots=True)
class Calls:
    """What is called, how and where."""

    functions: Sequence[str]
    payload: bytes
    via: str
    """`stream`, `unary` or `http`."""
    endpoint: str
    http: str
    token: str
    """Of an access key; empty where none is asked for."""
    signed: bool = False
    """With that key, over HTTP; else the token itself is sent."""
    priority: Priority = "normal"
    tenant: str = ""
    sticky_key: str = ""


async def run(
    calls: Calls,
    load: Load,
    results: Results,
    drain_s: float,
    tick: Tick,
    part: Part = WHOLE,
    begin: Begin | None = None,
) -> None:
    """Fills `results`. SIGINT ends it, with what there is so far.

    Without `begin` it does so at once.
    """
    loop = asyncio.get_running_loop()
    async with _transport(calls) as transport, Client(calls.endpoint, access_key=calls.token) as client:
        engine = Engine(transport, results, drain_s)
        making = asyncio.create_task(_made(engine, load, part, len(calls.functions), begin))
        watching = [asyncio.create_task(_ticking(engine, tick, making))]
        if part.number == 0:
            watching.append(asyncio.create_task(_instances(client, calls.functions, engine)))
        loop.add_signal_handler(signal.SIGINT, making.cancel)
        try:
            await asyncio.wait([making])
        finally:
            loop.remove_signal_handler(signal.SIGINT)
            for task in (making, *watching):
                task.cancel()
            await asyncio.gather(making, *watching, return_exceptions=True)
        if making.cancelled():
            results.interrupted = not results.stopped
        else:
            making.result()  # raises what has gone wrong


async def _made(engine: Engine, load: Load, part: Part, targets: int, begin: Begin | None) -> None:
    if begin is not None:
        await asyncio.sleep(await begin() - monotonic_s())
    if isinstance(load, Closed):
        await engine.closed_loop(load.callers(part), load.seconds, targets)
    else:
        await engine.open_loop(islice(load.sends(targets), part.number, None, part.of), load.seconds)


async def _ticking(engine: Engine, tick: Tick, making: "asyncio.Task[None]") -> None:
    while True:
        await asyncio.sleep(TICK_S)
        if tick(engine.progress()) and not engine.results.draining:
            engine.results.stopped = True
            making.cancel()
            return


async def _instances(client: Client, functions: Sequence[str], engine: Engine) -> None:
    """Once a second; where nobody may ask or nobody answers, they are not known."""
    called = {name.rpartition(":function:")[2].partition(":")[0] for name in functions}
    while True:
        await asyncio.sleep(STEP_S)
        try:
            listed = await client.list_instances(next(iter(called)) if len(called) == 1 else "")
        except LambentError:
            continue
        states = [it.state == "leased" for it in listed.instances if it.function_name in called]
        step = engine.results.step(max(0.0, engine.now() - STEP_S))
        step.leased, step.other = sum(states), len(states) - sum(states)


@asynccontextmanager
async def _transport(calls: Calls) -> AsyncIterator[Transport]:
    """Raises InvalidRequest if what the environment says of TLS cannot be."""
    made: Transport
    if calls.via == "http":
        key = calls.token if calls.signed else ""
        requests = [HttpRequest(name, calls.payload, _headers(calls), key) for name in calls.functions]
        made = Http(calls.http, requests, https_of_environment())
        try:
            yield made
        finally:
            await made.close()
        return
    async with _channel(calls.endpoint) as channel:
        stub = invoke_pb2_grpc.InvocationsStub(channel)
        metadata = [("authorization", f"Bearer {calls.token}")] if calls.token else []
        messages = [_request(calls, name) for name in calls.functions]
        made = (Stream if calls.via == "stream" else Unary)(stub, messages, metadata)
        try:
            yield made
        finally:
            await made.close()


def _channel(endpoint: str) -> grpc.aio.Channel:
    tls = tls_of_environment()
    if tls is None:
        return grpc.aio.insecure_channel(endpoint, options=grpc_options.CHANNEL)
    return grpc.aio.secure_channel(endpoint, tls, options=grpc_options.CHANNEL)


def _request(calls: Calls, name: str) -> invoke_pb2.InvokeRequest:
    request = invoke_pb2.InvokeRequest()
    fill_request(
        request,
        name,
        calls.payload,
        tail=False,
        timeout_s=None,
        client_context=None,
        priority=calls.priority,
        tenant=calls.tenant,
        sticky_key=calls.sticky_key,
    )
    return request


def _headers(calls: Calls) -> list[tuple[str, str]]:
    said = [
        ("authorization", f"Bearer {calls.token}" if calls.token and not calls.signed else ""),
        ("x-lambent-priority", "" if calls.priority == "normal" else calls.priority),
        ("x-lambent-tenant", calls.tenant),
        ("x-lambent-sticky-key", calls.sticky_key),
    ]
    return [(name, value) for name, value in said if value]
