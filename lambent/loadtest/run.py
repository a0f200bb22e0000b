"""One load test from its first call to its last answer: connections, the fleet's instances, Ctrl-C."""

import asyncio
import signal
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

import grpc.aio

from lambent.client import Client
from lambent.loadtest.engine import Engine
from lambent.loadtest.results import STEP_S, Results
from lambent.loadtest.schedule import Send
from lambent.loadtest.transports import Http, HttpRequest, Stream, Transport, Unary
from lambent.messages import Priority, fill_request
from lambent_chassis import grpc_options
from lambent_proto.errors import LambentError
from lambent_proto.v1 import invoke_pb2, invoke_pb2_grpc

TICK_S: Final = 0.5


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
    priority: Priority = "normal"
    tenant: str = ""
    sticky_key: str = ""


@dataclass(frozen=True, slots=True)
class Open:
    sends: Iterable[Send]
    seconds: float


@dataclass(frozen=True, slots=True)
class Closed:
    concurrency: int
    seconds: float


async def run(
    calls: Calls,
    load: Open | Closed,
    results: Results,
    drain_s: float,
    tick: Callable[[Engine], None],
) -> None:
    """Fills `results`. SIGINT ends it, with what there is so far; `tick` is called twice a second."""
    loop = asyncio.get_running_loop()
    async with _transport(calls) as transport, Client(calls.endpoint, access_key=calls.token) as client:
        engine = Engine(transport, results, drain_s)
        making = asyncio.create_task(_made(engine, load, len(calls.functions)))
        watching = [
            asyncio.create_task(_ticking(engine, tick)),
            asyncio.create_task(_instances(client, calls.functions, engine)),
        ]
        loop.add_signal_handler(signal.SIGINT, making.cancel)
        try:
            await asyncio.wait([making])
        finally:
            loop.remove_signal_handler(signal.SIGINT)
            for task in (making, *watching):
                task.cancel()
            await asyncio.gather(making, *watching, return_exceptions=True)
        if not making.cancelled():
            making.result()  # raises what has gone wrong


async def _made(engine: Engine, load: Open | Closed, targets: int) -> None:
    if isinstance(load, Closed):
        await engine.closed_loop(load.concurrency, load.seconds, targets)
    else:
        await engine.open_loop(load.sends, load.seconds)


async def _ticking(engine: Engine, tick: Callable[[Engine], None]) -> None:
    while True:
        await asyncio.sleep(TICK_S)
        tick(engine)


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
    made: Transport
    if calls.via == "http":
        made = Http(
            calls.http, [HttpRequest(name, calls.payload, _headers(calls)) for name in calls.functions]
        )
        try:
            yield made
        finally:
            await made.close()
        return
    async with grpc.aio.insecure_channel(calls.endpoint, options=grpc_options.CHANNEL) as channel:
        stub = invoke_pb2_grpc.InvocationsStub(channel)
        metadata = [("authorization", f"Bearer {calls.token}")] if calls.token else []
        requests = [_request(calls, name) for name in calls.functions]
        made = (Stream if calls.via == "stream" else Unary)(stub, requests, metadata)
        try:
            yield made
        finally:
            await made.close()


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
        ("Authorization", f"Bearer {calls.token}" if calls.token else ""),
        ("x-lambent-priority", "" if calls.priority == "normal" else calls.priority),
        ("x-lambent-tenant", calls.tenant),
        ("x-lambent-sticky-key", calls.sticky_key),
    ]
    return [(name, value) for name, value in said if value]
