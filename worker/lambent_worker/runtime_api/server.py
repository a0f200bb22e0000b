"""The Runtime API of one instance, on the listening socket that stands in its sandbox.

To its instance it is what a channel is to one of our own runtimes: what the runtime says comes as frames,
with the same heads and bodies (docs/instance.md), and events go the other way with `deliver`.
"""

import json
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from lambent_proto.ids import MAX_PAYLOAD_BYTES
from lambent_worker.event import Event
from lambent_worker.flow import Flow
from lambent_worker.runtime_api import errors
from lambent_worker.runtime_api.delivery import Connect
from lambent_worker.runtime_api.errors import refuse, refused
from lambent_worker.runtime_api.extensions import METHODS as EXTENSION_METHODS
from lambent_worker.runtime_api.extensions import Extensions, Facts
from lambent_worker.runtime_api.http import MOST_STREAMED_BYTES, TEXT, Connection, Listener, Request
from lambent_worker.runtime_api.machine import Ask, Machine
from lambent_worker.runtime_api.subscription import PATHS as TELEMETRY_PATHS
from lambent_worker.runtime_api.telemetry import Telemetry

PREFIX: Final = "/2018-06-01/runtime/"
NEXT: Final = f"{PREFIX}invocation/next"
INIT_ERROR: Final = f"{PREFIX}init/error"
RESTORE_NEXT: Final = f"{PREFIX}restore/next"
RESTORE_ERROR: Final = f"{PREFIX}restore/error"
_INVOCATION: Final = f"{PREFIX}invocation/"
_ANSWERS: Final[Mapping[str, Ask]] = {"response": Ask.RESPONSE, "error": Ask.ERROR}
_METHODS: Final[Mapping[str, str]] = {
    NEXT: "GET",
    INIT_ERROR: "POST",
    RESTORE_NEXT: "GET",
    RESTORE_ERROR: "POST",
    **EXTENSION_METHODS,
    **dict.fromkeys(TELEMETRY_PATHS, "PUT"),
}

MOST_CONNECTIONS: Final = 64
"""One for the runtime, one for each extension, and some for those that open several."""

OK: Final = b'{"status":"OK"}\n'
_NOT_FOUND: Final = b"404 page not found\n"

MODE_HEADER: Final = "lambda-runtime-function-response-mode"
OCTETS: Final = "application/octet-stream"
MOST_CONTENT_TYPE: Final = 256
"""Characters."""

OnFrame = Callable[[list[object], bytes], None]


@dataclass(slots=True, eq=False)
class Answer:
    """What the runtime has begun to send for the running call."""

    ask: Ask
    connection: Connection
    request: Request


class RuntimeApi:
    """`on_frame` is called with `["ready"]`, `["init_error"]`, `["restorable"]`, `["answer", id]`,
    `["error", id]`, and before these, if it streams to who wants that, `["begun", id, content_type]` and for
    each part `["part", id]`; with extensions `["settled", id]` once all of them
    have done with a call, and `["extension_error", name, error_type, what it reported]`."""

    def __init__(
        self,
        listener: socket.socket,
        on_frame: OnFrame,
        facts: Facts,
        connect: Connect,
        send: Callable[[Event], None] | None = None,
    ) -> None:
        """`connect` leads to ports inside the sandbox.

        With `send` the runtime itself is reached that way, and this is for its extensions: `waits` tells when
        it is ready for its next event.
        """
        self.extensions = Extensions(facts, self._may_be_settled, self._extension_failed)
        self.telemetry = Telemetry(facts, self.extensions, connect)
        self._facts = facts
        self._on_frame = on_frame
        self._send = send
        self._machine = Machine()
        self._waits = False
        self._waiting: Connection | None = None
        """The runtime's, in `next`."""
        self._restoring: Connection | None = None
        self._event: Event | None = None
        """Delivered, and not handed out yet."""
        self._flow: Flow | None = None
        """Of the answer to the event that was delivered last."""
        self._answer: Answer | None = None
        self._is_ready = False
        self._unsettled = ""
        self._listener = Listener(listener, self, MOST_CONNECTIONS)

    # The instance's side

    def deliver(self, event: Event) -> None:
        """Handed out when the runtime asks. If it has a flow, parts of a streamed answer come as they are."""
        self._event = event
        self._flow = event.flow
        self._hand_out()

    def flows(self) -> None:
        """The running call's flow has changed: there may be room again."""
        if self._answer is not None and self._flow is not None and not self._flow.full:
            self._answer.connection.resume()

    def waits(self) -> None:
        """The runtime that is reached with `send` has initialised, or has answered."""
        if self._is_ready and self.extensions.registered:
            self._unsettled = self._machine.request_id
        self._waits = True
        self._may_be_settled()

    @property
    def holds_event(self) -> bool:
        return self._event is not None

    def abandon(self) -> None:
        """The running call is decided; nothing more is taken for it."""
        self._machine.abandoned()
        self._event = None
        if (answer := self._answer) is not None:
            self._answer = None
            self._machine.answered()
            answer.connection.close()

    def restored(self) -> None:
        """`restore/next` may return: this is a copy."""
        self._machine.restored()
        if (connection := self._restoring) is not None:
            self._restoring = None
            connection.answer(200, b"")

    def restart(self) -> None:
        """Everything that ran in the sandbox has ended, and a runtime is launched anew."""
        self._listener.restart()
        self._waiting = self._restoring = self._event = self._answer = None
        self._waits = False
        self._machine = Machine()
        self._is_ready = False
        self._unsettled = ""
        self.extensions.restart()
        self.telemetry.restart()

    def close(self) -> None:
        self.telemetry.close()
        self._listener.close()

    # Handler of the connections

    def begun(self, connection: Connection, request: Request) -> None:
        if request.method != "POST" or not request.path.startswith(_INVOCATION):
            return
        request_id, _, kind = request.path[len(_INVOCATION) :].partition("/")
        ask = _ANSWERS.get(kind)
        if ask is None or refused(connection, self._machine.answers(ask, request_id)):
            return
        mode = request.headers.get(MODE_HEADER, "") if ask is Ask.RESPONSE else ""
        if mode not in ("", "streaming"):
            refuse(connection, errors.INVALID_RESPONSE_MODE)
            self._answered("error", errors.INVALID_MODE)
            return
        self._answer = Answer(ask, connection, request)
        request.streamed = bool(mode) and self._flow is not None
        request.limit = MOST_STREAMED_BYTES if request.streamed else MAX_PAYLOAD_BYTES
        if request.streamed:
            self._on_frame(["begun", self._machine.request_id, _content_type(request)], b"")

    def piece(self, connection: Connection, request: Request, data: bytes) -> None:
        answer, flow = self._answer, self._flow
        if answer is None or answer.request is not request or flow is None:
            return
        if request.too_large:
            self._answer = None
            self._take(answer)
        elif flow.heard:
            flow.sent(len(data))
            self._on_frame(["part", self._machine.request_id], data)
            if flow.full:
                connection.pause()

    def complete(self, connection: Connection, request: Request) -> None:
        answer = self._answer
        if answer is not None and answer.request is request:
            self._answer = None
            self._take(answer)
        elif request.method == "GET" and request.path == NEXT and self._send is None:
            self._next(connection)
        elif request.too_large and request.path not in (INIT_ERROR, RESTORE_ERROR):
            refuse(connection, errors.too_large(request.limit))
        elif not (
            self._runtime_asked(connection, request)
            or self.extensions.asked(connection, request)
            or self.telemetry.asked(connection, request)
        ):
            known = request.path in _METHODS and request.method != _METHODS[request.path]
            connection.answer(*((405, b"") if known else (404, _NOT_FOUND)), content_type=TEXT)

    def lost(self, connection: Connection, request: Request | None) -> None:
        if connection is self._waiting:
            self._waiting = None
            self._machine.lost()
        elif connection is self._restoring:
            self._restoring = None
            self._machine.lost()
        elif self._answer is not None and self._answer.request is request:
            self._answer = None
            self._answered("error", errors.TRUNCATED)
        self.extensions.lost(connection)

    # The runtime's side

    def _runtime_asked(self, connection: Connection, request: Request) -> bool:
        if self._send is not None:
            return False
        match request.method, request.path:
            case "POST", "/2018-06-01/runtime/init/error":
                self._init_error(connection, request, Ask.INIT_ERROR)
            case "POST", "/2018-06-01/runtime/restore/error" if self._facts.snapstart:
                self._init_error(connection, request, Ask.RESTORE_ERROR)
            case "GET", "/2018-06-01/runtime/restore/next" if self._facts.snapstart:
                if not refused(connection, self._machine.asks(Ask.RESTORE_NEXT)):
                    self._restoring = connection
                    self._on_frame(["restorable"], b"")
            case _:
                return False
        return True

    def _next(self, connection: Connection) -> None:
        if not refused(connection, self._machine.asks(Ask.NEXT)):
            self._waiting = connection
            self._may_be_settled()

    def _may_be_ready(self) -> None:
        """Init ends when the runtime and all extensions have asked for their first event."""
        if not self._is_ready and self._runtime_waits and self.extensions.all_wait:
            self._is_ready = True
            self.extensions.close_registration()
            self._on_frame(["ready"], b"")

    def _may_be_settled(self) -> None:
        """Whoever had to has asked for its next event."""
        self._may_be_ready()
        if self._unsettled and self._runtime_waits and self.extensions.all_wait:
            settled, self._unsettled = self._unsettled, ""
            self._on_frame(["settled", settled], b"")
        self._hand_out()

    @property
    def _runtime_waits(self) -> bool:
        return self._waits or self._waiting is not None

    def _hand_out(self) -> None:
        event = self._event
        if event is None or not self._runtime_waits or not self.extensions.all_wait:
            return
        connection, self._waiting = self._waiting, None
        self._event, self._waits = None, False
        self.extensions.invoked(event)
        if connection is None:
            self._machine.request_id = event.request_id
            if self._send is not None:
                self._send(event)
            return
        self._machine.handed_out(event.request_id)
        headers = {
            "Lambda-Runtime-Aws-Request-Id": event.request_id,
            "Lambda-Runtime-Deadline-Ms": str(event.deadline_ms),
            "Lambda-Runtime-Invoked-Function-Arn": event.arn,
        }
        if event.trace:
            headers["Lambda-Runtime-Trace-Id"] = event.trace
        if event.client_context:
            headers["Lambda-Runtime-Client-Context"] = _one_line(event.client_context)
        connection.answer(200, event.body, headers)

    def _init_error(self, connection: Connection, request: Request, ask: Ask) -> None:
        if refused(connection, self._machine.asks(ask)):
            return
        connection.answer(202, OK)
        self._on_frame(["init_error"], errors.of_caller(request.body, request.headers))

    def _take(self, answer: Answer) -> None:
        """All of an answer is there, or more than may be."""
        request = answer.request
        answer.connection.resume()
        if request.too_large:
            refuse(answer.connection, errors.too_large(request.limit))
            self._answered("error", errors.response_too_large(request.limit))
            return
        answer.connection.answer(202, OK)
        if answer.ask is Ask.ERROR:
            self._answered("error", errors.of_caller(request.body, request.headers))
        elif MODE_HEADER in request.headers and errors.TYPE_HEADER in request.headers:
            self._answered("error", errors.of_trailers(request.headers))
        else:
            self._answered("answer", request.body)

    def _answered(self, kind: str, body: bytes) -> None:
        request_id = self._machine.request_id
        self._machine.answered()
        if self.extensions.registered:
            self._unsettled = request_id
        self._on_frame([kind, request_id], body)

    def _extension_failed(self, name: str, error_type: str, reported: str) -> None:
        self._on_frame(["extension_error", name, error_type, reported], b"")


def _content_type(request: Request) -> str:
    """As the runtime says; what is too long to be one is none."""
    said = request.headers.get("content-type", "")
    return said if 0 < len(said) <= MOST_CONTENT_TYPE and said.isprintable() else OCTETS


def _one_line(text: str) -> str:
    """The same JSON as a header can have it."""
    try:
        return json.dumps(json.loads(text))
    except (ValueError, RecursionError):
        return "{}"
