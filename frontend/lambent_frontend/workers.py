"""The data connections: one to every worker of a shard that is registered in etcd, as long as it is."""

import asyncio
from collections.abc import Callable
from typing import Final

import structlog

from lambent_chassis import link
from lambent_chassis.clock import monotonic_s
from lambent_chassis.etcd import Etcd, Snapshot
from lambent_chassis.peering import Peering
from lambent_frontend.core import events as on
from lambent_frontend.driver import Driver
from lambent_proto import frames, identity, keys, registrations
from lambent_proto.ids import FrontendId, NodeId, node_name
from lambent_proto.protocol import apart, common

REDIAL_S: Final = 0.25
"""Pause between two attempts to reach a worker."""

Link = link.Link[frames.Frame]


class Workers:
    """Follows the registrations, dials, and turns frames into events of the driver's."""

    def __init__(
        self, etcd: Etcd, driver: Driver, frontend: FrontendId, shard: int, peering: Peering
    ) -> None:
        self.known = asyncio.Event()
        """Set once the workers that were registered at the start are being dialled."""
        self._etcd = etcd
        self._driver = driver
        self._peering = peering
        self._frontend = frontend
        self._nodes = keys.nodes(shard)
        self.levels: dict[NodeId, str] = {}
        self.streaming: set[NodeId] = set()
        self.tracing: set[NodeId] = set()
        self._links: dict[NodeId, Link] = {}
        self._left: set[NodeId] = set()
        """Those that have said goodbye: nobody dials them again."""
        self._dialling: dict[NodeId, asyncio.Task[None]] = {}
        self._log = structlog.get_logger()
        driver.workers = self

    def send(self, node: NodeId, event: frames.Event) -> None:
        self._links[node].send(frames.encode(event))

    def flow(self, node: NodeId, frame: frames.Taken | frames.Unheard) -> None:
        if (connection := self._links.get(node)) is not None:
            connection.send(frames.encode(frame))

    def unlink(self, node: NodeId) -> None:
        """Closes the connection; nothing is due on it."""
        self._links.pop(node).close()

    async def run(self) -> None:
        """Never returns. A worker whose key is gone is let go; what ran there is lost with its connection."""
        async with asyncio.TaskGroup() as tasks:
            async for news in self._etcd.follow_prefix(self._nodes):
                if isinstance(news, Snapshot):
                    self._let_go(set(self._dialling) - {keys.node_of_key(item.key) for item in news.items})
                    for item in news.items:
                        self._keep(tasks, item.value)
                    self.known.set()
                    continue
                for change in news:
                    if change.kind == "put":
                        self._keep(tasks, change.value)
                    else:
                        self._let_go({keys.node_of_key(change.key)})

    def _keep(self, tasks: asyncio.TaskGroup, value: bytes) -> None:
        worker = registrations.decode(registrations.Worker, value)
        self.levels[worker.node] = worker.isolation
        if worker.streams:
            self.streaming.add(worker.node)
        if worker.traces:
            self.tracing.add(worker.node)
        if worker.node not in self._dialling:
            self._dialling[worker.node] = tasks.create_task(self._stay_linked(worker))

    def _let_go(self, nodes: set[NodeId]) -> None:
        for node in nodes:
            self.levels.pop(node, None)
            self.streaming.discard(node)
            self.tracing.discard(node)
            self._left.discard(node)
            if task := self._dialling.pop(node, None):
                task.cancel()

    async def _stay_linked(self, worker: registrations.Worker) -> None:
        host, _, port = worker.data_address.rpartition(":")
        unreached = ""
        if far := apart(worker.node, worker.protocol, worker.release):
            self._log.error("worker_too_far_apart", node=worker.node, reason=far)
            return
        try:
            while worker.node not in self._left:
                lost = asyncio.Event()
                try:
                    connection = await self._dial(worker, host, int(port), lost.set)
                except (
                    OSError,
                    ValueError,
                ) as error:  # nobody there, not trusted, or an address that is none
                    if str(error) != unreached:
                        unreached = str(error)
                        self._log.info("worker_not_reached", node=worker.node, reason=unreached)
                    await asyncio.sleep(REDIAL_S)
                    continue
                if lost.is_set():  # right behind its greeting
                    await asyncio.sleep(REDIAL_S)
                    continue
                self._links[worker.node] = connection
                self._driver.feed(on.LinkUp(worker.node))
                if worker.node in self._left:  # it said so with its greeting
                    self._driver.feed(on.WorkerLeaves(worker.node, monotonic_s()))
                await lost.wait()
                await asyncio.sleep(REDIAL_S)
        finally:
            if last := self._links.get(worker.node):
                last.abort()
                self._unlink(worker.node, last, "its registration ended")

    def _unlink(self, node: NodeId, connection: Link, why: object) -> None:
        """At once, before anything else can be sent there."""
        if self._links.get(node) is connection:
            del self._links[node]
            self._log.info("worker_link_lost", node=node, reason=str(why))
            self._driver.link_down(node)

    async def _dial(
        self, worker: registrations.Worker, host: str, port: int, lost: Callable[[], None]
    ) -> Link:
        """Connects and exchanges greetings; a worker that is another one than expected is not it."""
        node = worker.node
        greeted: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def frame(connection: Link, frame: frames.Frame) -> None:
            if isinstance(frame, frames.Hello) and frame.sender == node and not greeted.done():
                greeted.set_result(None)
            else:
                self._heard(node, frame)

        def over(connection: Link, fault: Exception | None) -> None:
            if not greeted.done():
                greeted.set_exception(ConnectionError(f"{node} closed the connection: {fault}"))
            self._unlink(node, connection, fault)
            lost()

        connection: Link = await link.dial(
            host,
            port,
            decoder=lambda: frames.Decoder(frames.TO_FRONTEND),
            on_frame=frame,
            on_lost=over,
            ssl=(secure := self._peering.dialling()),
            name=identity.dns_name("worker", node_name(node)) if secure else None,
            timeout_s=2.0,
        )
        connection.send(_bytes(frames.encode(frames.Hello(self._frontend, common(worker.protocol)))))
        async with asyncio.timeout(2.0):
            await greeted
        return connection

    def _heard(self, node: NodeId, frame: frames.Frame) -> None:
        match frame:
            case frames.Answer():
                self._driver.answered(frame)
            case frames.Part():
                self._driver.part(frame)
            case frames.Begun():
                self._driver.begun(frame)
            case frames.Refused():
                self._driver.refused(frame)
            case frames.Lost():
                self._driver.lost(frame)
            case frames.Ready():
                how = frame.starting_ms, frame.init_ms, monotonic_s(), frame.restored
                self._driver.feed(on.LeaseReady(frame.instance, frame.number, *how))
            case frames.Bye():
                self._left.add(node)
                self._driver.feed(on.WorkerLeaves(node, monotonic_s()))
            case _:
                raise frames.BadFrame(f"not what {node} says")


def _bytes(encoded: object) -> bytes:
    assert isinstance(encoded, bytes)
    return encoded
