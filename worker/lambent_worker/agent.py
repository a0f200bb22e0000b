"""The only caller of the worker's core: frames, orders and news of instances in; frames and reports out.

Nothing here awaits, so nothing comes between an event and what follows from it. Payloads stay here; the
core knows requests by their identifiers.
"""

import base64
import binascii
from collections.abc import Callable, Iterator
from typing import Final, assert_never

import structlog

from lambent_chassis import link
from lambent_chassis.clock import monotonic_s, unix_s
from lambent_proto import frames, identity
from lambent_proto.definition import Definition
from lambent_proto.ids import FrontendId, InstanceId, NodeId, RequestId, VersionKey, frontend_name
from lambent_proto.tracing import made
from lambent_worker.core import commands as do
from lambent_worker.core import events as on
from lambent_worker.core.agent import FENCED
from lambent_worker.core.agent import Agent as Core
from lambent_worker.event import Event
from lambent_worker.flow import Flow
from lambent_worker.host import InstanceHost
from lambent_worker.spans import Spans

TICK_S: Final = 0.05
"""How often timeouts and the worker's own lease are looked at."""

Link = link.Link[frames.Frame]
Report = do.ReportReady | do.ReportGone | do.ReportFreed | do.ReportRefused | do.ReportLeaving


class Agent:
    """Listens to its host's instances (`HostListener`), to frontends' frames and to placement's orders."""

    def __init__(self, node: NodeId, memory_mb: int) -> None:
        self.core = Core(memory_mb=memory_mb)
        self.host: InstanceHost
        self.report: Callable[[Report], None]
        self.retire: Callable[[str], None]
        self.launched: Callable[[str, str], None]
        self.spans: Spans | None = None
        """None: nobody is told of runs."""
        self.node = node
        self._links: dict[FrontendId, Link] = {}
        self._frontends: dict[Link, FrontendId] = {}
        self._asked: dict[tuple[RequestId, InstanceId], Link] = {}
        """Over which connection an event came: its answer goes there or nowhere. One out of a queue may come
        again, for another instance, while the run that its frontend has given up goes on."""
        self._streamed: dict[RequestId, InstanceId] = {}
        """Of these the parts of a streamed answer are wanted as they come."""
        self._definitions: dict[VersionKey, Definition] = {}
        self._event: frames.Event
        """The one that is being decided on."""
        self._answer: frames.Answer
        """Likewise."""
        self._log = structlog.get_logger()

    def feed(self, event: on.Event) -> None:
        for command in self.core.handle(event):
            self._carry_out(command)

    def tick(self) -> None:
        self.feed(on.Tick(monotonic_s()))

    def leave(self) -> None:
        """`retire` follows once nothing runs here and no frontend is linked any more."""
        self.feed(on.StopAsked())
        self._retire_if_alone()

    # From frontends

    def on_frame(self, connection: Link, frame: frames.Frame) -> None:
        match frame:
            case frames.Event():
                self._take(connection, frame)
            case frames.Taken():
                if (instance := self._stream_of(connection, frame.request_id)) is not None:
                    self.host.taken(instance, frame.request_id, frame.size)
            case frames.Unheard():
                if (instance := self._stream_of(connection, frame.request_id)) is not None:
                    self.host.unheard(instance, frame.request_id)
            case frames.Hello():
                self._check(connection, FrontendId(frame.sender))
                connection.send(frames.encode(frames.Hello(self.node, frame.protocol)))
                frontend = FrontendId(frame.sender)
                self._links[frontend] = connection
                self._frontends[connection] = frontend
                self._log.info("frontend_linked", frontend=frontend, peer=connection.peer)
                if self.core.said_bye:
                    connection.send(frames.encode(frames.Bye()))
            case _:
                raise frames.BadFrame("a frontend does not say that")

    def _check(self, connection: Link, frontend: FrontendId) -> None:
        try:
            identity.check(connection.peer_names, "frontend", frontend_name(frontend))
        except identity.NotAllowed as error:
            raise frames.BadFrame(str(error)) from error

    def on_lost(self, connection: Link, fault: Exception | None) -> None:
        """What runs for it is finished, and its answer finds nobody."""
        for request, instance in self._streamed.items():
            if self._asked.get((request, instance)) is connection:
                self.host.unheard(instance, request)
        frontend = self._frontends.pop(connection, None)
        if frontend is not None and self._links.get(frontend) is connection:
            del self._links[frontend]
            self._log.info("frontend_unlinked", frontend=frontend, reason=str(fault))
        self._retire_if_alone()

    def _retire_if_alone(self) -> None:
        """Without frontends there is nobody whose calls a worker that is to end would wait for."""
        if self.core.leaving and not self._frontends:
            self.retire("it was told to stop, and no frontend is linked any more")

    def _take(self, connection: Link, event: frames.Event) -> None:
        frontend = self._frontends.get(connection)
        if frontend is None:
            raise frames.BadFrame("an event before its sender has said who it is")
        self._event = event
        self._asked[event.request_id, event.instance] = connection
        if event.window:
            self._streamed[event.request_id] = event.instance
        self.feed(
            on.EventArrived(
                frontend,
                event.request_id,
                event.instance,
                event.number,
                event.timeout_ms / 1000,
                monotonic_s(),
            )
        )

    def _stream_of(self, connection: Link, request: RequestId) -> InstanceId | None:
        """Where it runs; None if it is over, or another frontend's."""
        instance = self._streamed.get(request)
        asked = instance is not None and self._asked.get((request, instance)) is connection
        return instance if asked else None

    # From the host of the instances

    def ready(self, instance: InstanceId, starting_ms: float, init_ms: float, restored: bool) -> None:
        self.feed(on.InstanceReady(instance, starting_ms, init_ms, restored))

    def begun(self, instance: InstanceId, request_id: RequestId, content_type: str) -> None:
        self._send_on(instance, frames.Begun(request_id, content_type))

    def part(self, instance: InstanceId, request_id: RequestId, data: bytes) -> None:
        self._send_on(instance, frames.Part(request_id, data))

    def answered(
        self,
        instance: InstanceId,
        request_id: RequestId,
        failed: bool,
        body: bytes,
        tail: bytes,
        running_ms: float,
    ) -> None:
        self._answer = frames.Answer(request_id, failed, running_ms, tail or None, body)
        self.feed(on.Answered(instance, request_id))

    def exited(self, instance: InstanceId, reason: str, error: bytes) -> None:
        self.feed(on.InstanceExited(instance, reason, error))

    def lost(self, why: str) -> None:
        self._log.error("sandboxes_lost", reason=why)
        self.retire(f"its sandboxes are gone: {why}")

    # From placement

    def granted(self, definition: Definition, grant: on.GrantArrived) -> None:
        self._definitions[definition.key] = definition
        self.feed(grant)

    # Commands

    def _carry_out(self, command: do.Command) -> None:  # noqa: C901 - a case a command
        match command:
            case do.Deliver():
                self._deliver(command)
            case do.Answer():
                self._send(command.instance, self._answer)
            case do.Refuse():
                self._send(self._event.instance, frames.Refused(command.request, command.reason.value))
            case do.Lose():
                self._send(command.instance, frames.Lost(command.request, command.reason))
            case do.TimeOut():
                self._time_out(command)
            case do.Start():
                self._log.info("instance_starting", instance=command.instance, version=command.version)
                self.host.start(
                    command.instance, self._definitions[command.version], provisioned=command.provisioned
                )
                self._forget_definitions()
            case do.Kill():
                self.host.kill(command.instance, graceful=command.reason != FENCED)
            case do.Announce():
                self._announce(command)
            case do.Retire():
                self.retire(command.reason)
            case do.SayBye():
                self._say_bye()
            case (
                do.ReportReady()
                | do.ReportGone()
                | do.ReportFreed()
                | do.ReportRefused()
                | do.ReportLeaving()
            ):
                self.report(command)
            case _:
                assert_never(command)

    def _deliver(self, command: do.Deliver) -> None:
        event = self._event
        timeout_s = event.timeout_ms / 1000
        context = _plain(event.client_context) if event.client_context else ""
        deadline_ms = int((unix_s() + timeout_s) * 1000)
        flow = Flow(event.window) if event.window else None
        trace = event.trace
        if self.spans is not None:
            trace = self.spans.began(event)
        trace = trace or made(command.request)
        told = Event(command.request, deadline_ms, event.arn, context, event.payload, flow, trace)
        self.host.deliver(command.instance, told, timeout_s=timeout_s, tail=event.tail)

    def _time_out(self, command: do.TimeOut) -> None:
        body, tail = self.host.time_out(command.instance, command.request, command.timeout_s)
        running_ms = command.timeout_s * 1000
        self._send(command.instance, frames.Answer(command.request, True, running_ms, tail or None, body))

    def _send(self, instance: InstanceId, frame: frames.Answer | frames.Refused | frames.Lost) -> None:
        if self.spans is not None:
            self.spans.ended(instance, frame)
        connection = self._asked.pop((frame.request_id, instance), None)
        streamed = self._streamed.get(frame.request_id) == instance
        if streamed:
            del self._streamed[frame.request_id]
        if connection in self._frontends:
            encoded = frames.encode(frame)
            connection.send(_in_turn(encoded) if streamed else encoded)

    def _send_on(self, instance: InstanceId, frame: frames.Begun | frames.Part) -> None:
        connection = self._asked.get((frame.request_id, instance))
        if connection in self._frontends:
            connection.send(_in_turn(frames.encode(frame)))

    def _announce(self, command: do.Announce) -> None:
        if connection := self._links.get(command.frontend):
            how = command.starting_ms, command.init_ms, command.restored
            connection.send(frames.encode(frames.Ready(command.instance, command.number, *how)))

    def _say_bye(self) -> None:
        for connection in self._frontends:
            connection.send(frames.encode(frames.Bye()))

    def _forget_definitions(self) -> None:
        """Only what an instance was started from is worth keeping."""
        used = {instance.version for instance in self.core.instances.values()}
        self._definitions = {key: value for key, value in self._definitions.items() if key in used}


def _in_turn(encoded: bytes | Iterator[bytes]) -> Iterator[bytes]:
    """On the lane of large messages: small frames of other calls pass by the parts of a streamed answer, and
    its end does not."""
    return iter((encoded,)) if isinstance(encoded, bytes) else encoded


def _plain(client_context: str) -> str:
    """The JSON in it; what is no base64 was refused by the frontend, and is nobody's here."""
    try:
        return base64.b64decode(client_context).decode()
    except (binascii.Error, UnicodeDecodeError):
        return ""
