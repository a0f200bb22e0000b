"""The warm path without a network: a frontend's stream, driver and core, and workers' agents and cores, with
the real frames between them as bytes. What it takes can be counted.

Instances are played: they answer at once with what they were given. Placement has given all leases before.
"""

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import grpc.aio

from lambent_frontend.core import events as on
from lambent_frontend.driver import Driver
from lambent_frontend.invoker import Invoker
from lambent_frontend.stream import InvocationStream
from lambent_proto import frames
from lambent_proto.definition import Definition
from lambent_proto.ids import (
    Epoch,
    FrontendId,
    FunctionName,
    InstanceId,
    NodeId,
    RequestId,
    lease_number,
)
from lambent_proto.v1 import invoke_pb2
from lambent_worker.agent import Agent
from lambent_worker.core import events as at_worker
from lambent_worker.event import Event

FRONTEND: Final = FrontendId("front.1")
PAYLOAD: Final = b'{"text":"%s"}' % (b"x" * 89)
"""100 bytes."""
IN_FLIGHT: Final = 64
FOREVER: Final = 1e9
CALLS_A_TICK: Final = 512
"""A frontend with 10,000 calls a second makes so many between two of its ticks."""


@dataclass(frozen=True, slots=True)
class Size:
    functions: int = 1
    """That are called, in turn."""
    deployed: int = 0
    """Further ones, that nobody calls."""
    instances: int = 16
    """Idle ones, of all functions together."""
    workers: int = 2


class Meter(Protocol):
    """Measures what is done within it, by part: `frontend` or `worker`."""

    def of(self, part: str) -> Any:
        """A context manager."""


class _Host:
    """A worker's instances, played."""

    def __init__(self) -> None:
        self.delivered: list[tuple[InstanceId, Event]] = []

    def start(self, instance: InstanceId, definition: Definition, *, provisioned: bool = False) -> None:
        pass

    def deliver(self, instance: InstanceId, event: Event, *, timeout_s: float, tail: bool) -> None:
        self.delivered.append((instance, event))


class _Worker:
    """One agent, and both ends of its connection to the frontend."""

    peer_names = None

    def __init__(self, node: NodeId) -> None:
        self.peer = node
        self.inbox: list[bytes] = []
        self.outbox: list[bytes] = []
        self.hears = frames.Decoder(frames.TO_WORKER)
        self.heard = frames.Decoder(frames.TO_FRONTEND)
        self.agent = Agent(node, memory_mb=10**9)
        self._host = _Host()
        self.agent.host = self._host  # type: ignore[assignment]
        self.agent.report = lambda _: None
        self.agent.feed(at_worker.RegistrationRenewed(FOREVER))
        self._take(_bytes(frames.encode(frames.Hello(FRONTEND))))
        list(self.heard.feed(b"".join(self.outbox)))  # its own greeting
        self.outbox.clear()

    def send(self, message: object) -> None:
        """As a Link of the worker's has it."""
        self.outbox.append(_bytes(message))

    def give(self, definition: Definition, instance: InstanceId, serial: int) -> None:
        grant = at_worker.GrantArrived(
            Epoch(1), instance, definition.key, 128, lease_number(Epoch(1), serial), FRONTEND, 0.0
        )
        self.agent.granted(definition, grant)
        self.agent.ready(instance, 1.0, 1.0, False)
        self.outbox.clear()

    def work(self) -> None:
        """Everything that has come goes to its instances, and is answered."""
        self._take(b"".join(self.inbox))
        self.inbox.clear()
        for instance, event in self._host.delivered:
            self.agent.answered(instance, RequestId(event.request_id), False, event.body, b"", 0.1)
        self._host.delivered.clear()

    def _take(self, data: bytes) -> None:
        for frame in self.hears.feed(data):
            self.agent.on_frame(self, frame)  # type: ignore[arg-type]


class Bare:
    """A frontend and its workers, with everything warm."""

    levels: dict[NodeId, str]
    streaming: set[NodeId]
    tracing: set[NodeId]

    def __init__(self, size: Size, meter: Meter) -> None:
        self.meter = meter
        self.levels = {}
        self.streaming = set()
        self.tracing = set()
        self.answered = 0
        self.driver = Driver(
            max_waiting=1000, max_waiting_bytes=10**9, rate_per_concurrency=0.0, linger_s=FOREVER
        )
        self.driver.workers = self
        self.driver.to_placement = lambda _: None
        self.driver.feed(on.PlacementAttached(0.0))
        self.workers = {
            NodeId(f"w{number}@1"): _Worker(NodeId(f"w{number}@1")) for number in range(size.workers)
        }
        for node in self.workers:
            self.levels[node] = "namespaces"
            self.driver.feed(on.LinkUp(node))
        self.definitions = {it.name: it for it in map(_function, range(size.functions))}
        for number in range(size.functions + size.deployed):
            definition = _function(number)
            self.driver.function_changed(definition.name, None, definition)
        nodes, there = list(self.workers), list(self.definitions.values())
        for number in range(size.instances):
            node, definition = nodes[number % len(nodes)], there[number % len(there)]
            instance = InstanceId(f"i-{number:08x}")
            self.workers[node].give(definition, instance, number)
            lease = lease_number(Epoch(1), number)
            given = instance, lease, node, definition.key, False, "most_recently_used"
            self.driver.feed(on.LeaseGiven(*given, 0.0))
        self.invoker = Invoker(self, self.driver, waiting_s=30.0)

    # The catalogue

    def get(self, name: FunctionName) -> Definition | None:
        return self.definitions.get(name)

    def resolve(self, name: FunctionName, qualifier: str, chance: float) -> Definition | None:
        raise NotImplementedError

    # The connections

    def send(self, node: NodeId, event: frames.Event) -> None:
        self.workers[node].inbox.append(_bytes(frames.encode(event)))

    def flow(self, node: NodeId, frame: frames.Taken | frames.Unheard) -> None:
        raise NotImplementedError

    def unlink(self, node: NodeId) -> None:
        raise NotImplementedError

    def work(self) -> None:
        """All that was sent to workers is answered, and their answers are heard."""
        for worker in self.workers.values():
            if not worker.inbox:
                continue
            with self.meter.of("worker"):
                worker.work()
            said = b"".join(worker.outbox)
            worker.outbox.clear()
            with self.meter.of("frontend"):
                for frame in worker.heard.feed(said):
                    assert isinstance(frame, frames.Answer)
                    self.driver.answered(frame)

    def calls(self, count: int) -> None:
        """Makes so many over one stream, 64 in a message, and the ticks that come meanwhile."""
        names = list(self.definitions)
        messages = []
        for first in range(0, count, IN_FLIGHT):
            message = invoke_pb2.InvokeStreamRequest()
            for number in range(first, min(first + IN_FLIGHT, count)):
                message.invocations.add(id=number + 1).request.CopyFrom(
                    invoke_pb2.InvokeRequest(function_name=names[number % len(names)], payload=PAYLOAD)
                )
            messages.append(message.SerializeToString())
        before = self.answered
        asyncio.run(self._streamed(messages))
        assert self.answered - before == count

    async def _streamed(self, messages: Sequence[bytes]) -> None:
        context = _Context(self, messages)
        with self.meter.of("frontend"):
            stream = InvocationStream(context, self.driver, self.invoker.checked)  # type: ignore[arg-type]
        await stream.run()


class _Context:
    """The stream's end of gRPC. The next message comes when the one before is answered."""

    def __init__(self, bare: Bare, messages: Sequence[bytes]) -> None:
        self._bare = bare
        self._messages: Iterator[bytes] = iter(messages)
        self._written = asyncio.Event()
        self._due = 0
        self._calls = 0

    def time_remaining(self) -> None:
        return None

    async def read(self) -> Any:
        while self._due:
            self._bare.work()
            self._written.clear()
            await self._written.wait()
        data = next(self._messages, None)
        if data is None:
            return grpc.aio.EOF
        message = invoke_pb2.InvokeStreamRequest.FromString(data)
        self._due = len(message.invocations)
        self._calls += self._due
        if self._calls >= CALLS_A_TICK:
            self._calls = 0
            with self._bare.meter.of("frontend"):
                self._bare.driver.tick()
        return message

    async def write(self, message: invoke_pb2.InvokeStreamResponse) -> None:
        for result in invoke_pb2.InvokeStreamResponse.FromString(message.SerializeToString()).results:
            assert result.response.payload == PAYLOAD, result
            self._bare.answered += 1
            self._due -= 1
        self._written.set()


def _function(number: int) -> Definition:
    return Definition(
        name=FunctionName(f"f{number}"),
        revision="r1",
        runtime="python3.11",
        handler="a.b",
        code_sha256="00",
        code_size=1,
        concurrency=10_000,
    )


def _bytes(message: object) -> bytes:
    assert isinstance(message, bytes), "these payloads are in one frame"
    return message
