"""The Runtime API of one instance, on the listening socket that stands in its sandbox.

To its instance it is what a channel is to one of our own runtimes: what the runtime says comes as frames,
with the same heads and bodies (docs/instance.md), and events go the other way with `deliver`.
"""

import base64
import binascii
import json
import re
import socket
from collections.abc import Callable
from typing import Any, Final

from lambent_proto.ids import MAX_PAYLOAD_BYTES
from lambent_worker.event import Event
from lambent_worker.runtime_api.delivery import Connect
from lambent_worker.runtime_api.extensions import Extensions, Facts
from lambent_worker.runtime_api.http import Connection, Listener, Request
from lambent_worker.runtime_api.machine import Machine, Refusal
from lambent_worker.runtime_api.telemetry import Telemetry

PREFIX: Final = "/2018-06-01/runtime/"

MOST_CONNECTIONS: Final = 64
"""One for the runtime, one for each extension, and some for those that open several."""

OK: Final = b'{"status":"OK"}\n'
TOO_LARGE_TEXT: Final = (
    f"Response payload size exceeded maximum allowed payload size ({MAX_PAYLOAD_BYTES} bytes)."
)
TOO_LARGE: Final = json.dumps(
    {"errorType": "Function.ResponseSizeTooLarge", "errorMessage": TOO_LARGE_TEXT}, separators=(",", ":")
).encode()
"""What the caller gets."""

_TOO_LARGE: Final = Refusal(
    413,
    "RequestEntityTooLarge",
    f"Exceeded maximum allowed payload size ({MAX_PAYLOAD_BYTES} bytes).",
)
_BAD_MODE: Final = Refusal(400, "InvalidFunctionResponseMode", "Invalid function response mode")
_NOT_FOUND: Final = Refusal(404, "NotFound", "The Runtime API has no such path")

_INVOCATION: Final = re.compile(r"invocation/([^/]+)/(response|error)")
_ERROR_TYPE: Final = re.compile(r"(?:Runtime|Function)\.[A-Z][a-zA-Z]+")

MODE_HEADER: Final = "lambda-runtime-function-response-mode"
ERROR_TYPE_HEADER: Final = "lambda-runtime-function-error-type"
ERROR_BODY_HEADER: Final = "lambda-runtime-function-error-body"

OnFrame = Callable[[list[object], bytes], None]


class RuntimeApi:
    """`on_frame` is called with `["ready"]`, `["init_error"]`, `["answer", id]`, `["error", id]`, while it
    streams `["chunk", id]`, and with extensions `["settled", id]` once all of them have done with a call."""

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
        self.extensions = Extensions(facts, self._may_be_settled)
        self.telemetry = Telemetry(facts, self.extensions, connect)
        self._on_frame = on_frame
        self._send = send
        self._machine = Machine()
        self._waits = False
        self._waiting: Connection | None = None
        """The runtime's, in `next`."""
        self._restoring: Connection | None = None
        self._event: Event | None = None
        """Delivered, and not handed out yet."""
        self._stream = False
        self._pieces: list[bytes] = []
        self._is_ready = False
        self._unsettled = ""
        self._listener = Listener(listener, self, MOST_CONNECTIONS)

    # The instance's side

    def deliver(self, event: Event, *, stream: bool = False) -> None:
        """Handed out when the runtime asks. With `stream` pieces of a streamed answer come as they are."""
        self._event = event
        self._stream = stream
        self._hand_out()

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
        self._pieces = []

    def restored(self) -> None:
        """`restore/next` may return: this is a copy."""
        self._machine.restored()
        if (connection := self._restoring) is not None:
            self._restoring = None
            connection.answer(200, b"")

    def restart(self) -> None:
        """Everything that ran in the sandbox has ended, and a runtime is launched anew."""
        self._listener.close_connections()
        self._waiting = self._restoring = self._event = None
        self._waits = False
        self._machine = Machine()
        self._pieces = []
        self._is_ready = False
        self._unsettled = ""
        self.extensions.restart()
        self.telemetry.restart()

    def close(self) -> None:
        self.telemetry.close()
        self._listener.close()

    # Handler of the connections

    def begun(self, connection: Connection, request: Request) -> None:
        if MODE_HEADER in request.headers and request.path.endswith("/response"):
            self._stream_begun(connection, request)

    def piece(self, connection: Connection, request: Request, data: bytes) -> None:
        if self._stream:
            self._on_frame(["chunk", self._machine.request_id], data)
        elif sum(map(len, self._pieces)) <= MAX_PAYLOAD_BYTES:
            self._pieces.append(data)

    def complete(self, connection: Connection, request: Request) -> None:
        if connection.request is not request:
            return  # it was answered when it began
        if request.path.startswith(PREFIX):
            self._runtime_asks(connection, request, request.path[len(PREFIX) :])
        elif not self.extensions.asked(connection, request) and not self.telemetry.asked(connection, request):
            refuse(connection, _NOT_FOUND)

    def lost(self, connection: Connection, request: Request | None) -> None:
        if connection is self._waiting:
            self._waiting = None
            self._machine.next_lost()
        elif connection is self._restoring:
            self._restoring = None
        elif request is not None and request.streamed:
            self._stream_broke()
        self.extensions.lost(connection)

    # The runtime's side

    def _runtime_asks(self, connection: Connection, request: Request, what: str) -> None:
        match request.method, what:
            case "GET", "invocation/next":
                self._next(connection)
            case "POST", "init/error":
                self._init_error(connection, request)
            case "GET", "restore/next":
                if not refused(connection, self._machine.restore_next()):
                    self._restoring = connection
                    self._on_frame(["restorable"], b"")
            case "POST", "restore/error":
                if not refused(connection, self._machine.restore_error()):
                    connection.answer(202, OK)
                    self._on_frame(["init_error"], normalised(request.body))
            case "POST", _ if found := _INVOCATION.fullmatch(what):
                self._answered(connection, request, *found.groups())
            case _:
                refuse(connection, _NOT_FOUND)

    def _next(self, connection: Connection) -> None:
        if refused(connection, self._machine.next()):
            return
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
        if event.client_context:
            headers["Lambda-Runtime-Client-Context"] = _one_line(event.client_context)
        connection.answer(200, event.body, headers)

    def _init_error(self, connection: Connection, request: Request) -> None:
        if refused(connection, self._machine.init_error()):
            return
        connection.answer(202, OK)
        self._on_frame(["init_error"], normalised(request.body))

    def _answered(self, connection: Connection, request: Request, request_id: str, kind: str) -> None:
        if request.streamed:
            self._stream_ended(connection, request)
            return
        if kind == "error":
            if not refused(connection, self._machine.error(request_id)):
                connection.answer(202, OK)
                self._say("error", request_id, normalised(request.body))
            return
        if refused(connection, self._machine.response(request_id)):
            return
        self._machine.response_ended()
        if request.too_large:
            refuse(connection, _TOO_LARGE)
            self._say("error", request_id, TOO_LARGE)
        else:
            connection.answer(202, OK)
            self._say("answer", request_id, request.body)

    def _say(self, kind: str, request_id: str, body: bytes) -> None:
        if self.extensions.registered:
            self._unsettled = request_id
        self._on_frame([kind, request_id], body)

    # Streamed answers

    def _stream_begun(self, connection: Connection, request: Request) -> None:
        found = _INVOCATION.fullmatch(request.path.removeprefix(PREFIX))
        if request.headers[MODE_HEADER].lower() != "streaming":
            refuse(connection, _BAD_MODE)
        elif found and not refused(connection, self._machine.response(found[1])):
            request.streamed = True
            self._pieces = []

    def _stream_ended(self, connection: Connection, request: Request) -> None:
        request_id = self._machine.request_id
        self._machine.response_ended()
        pieces, self._pieces = b"".join(self._pieces), []
        if request.too_large:
            refuse(connection, _TOO_LARGE)
            self._say("error", request_id, TOO_LARGE)
            return
        connection.answer(202, OK)
        if not request_id:
            return  # it was decided meanwhile
        if ERROR_TYPE_HEADER in request.headers:
            self._say("error", request_id, _from_trailers(request.headers))
        elif len(pieces) > MAX_PAYLOAD_BYTES:
            self._say("error", request_id, TOO_LARGE)
        else:
            self._say("answer", request_id, pieces)

    def _stream_broke(self) -> None:
        """The runtime's connection ended in the middle of an answer."""
        request_id = self._machine.request_id
        self._machine.response_ended()
        self._pieces = []
        if request_id:
            document = {"errorType": "Runtime.TruncatedResponse", "errorMessage": "Response was truncated"}
            self._say("error", request_id, json.dumps(document, separators=(",", ":")).encode())


def refused(connection: Connection, refusal: Refusal | None) -> bool:
    """Answers with the refusal, if there is one."""
    if refusal is None:
        return False
    refuse(connection, refusal)
    return True


def refuse(connection: Connection, refusal: Refusal) -> None:
    document = {"errorMessage": refusal.message, "errorType": refusal.error_type}
    connection.answer(refusal.status, json.dumps(document, separators=(",", ":")).encode() + b"\n")


def normalised(body: bytes) -> bytes:
    """An error document as callers get it: what a runtime sent if it is one, else one that says so."""
    try:
        document: Any = json.loads(body)
    except (ValueError, RecursionError):
        document = None
    if isinstance(document, dict) and ("errorType" in document or "errorMessage" in document):
        return body
    unknown = {
        "errorType": "Runtime.Unknown",
        "errorMessage": "The runtime sent an unreadable error",
    }
    return json.dumps(unknown, separators=(",", ":")).encode()


def _from_trailers(headers: dict[str, str]) -> bytes:
    try:
        return normalised(base64.b64decode(headers.get(ERROR_BODY_HEADER, ""), validate=True))
    except binascii.Error:
        return normalised(b"")


def _one_line(text: str) -> str:
    """The same JSON as a header can have it."""
    try:
        return json.dumps(json.loads(text))
    except (ValueError, RecursionError):
        return "{}"
