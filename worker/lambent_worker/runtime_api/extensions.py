"""Lambda's Extensions API: companions of a runtime that are told of each call, and of the end."""

import json
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final

from lambent_worker.event import Event
from lambent_worker.runtime_api.http import Connection, Request

PREFIX: Final = "/2020-01-01/extension/"
MOST: Final = 10
"""Lambda's limit, external and internal ones together."""

ID_HEADER: Final = "lambda-extension-identifier"
NAME_HEADER: Final = "lambda-extension-name"
OK: Final = b'{"status":"OK"}\n'


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What an extension is told of the function when it registers."""

    name: str
    version: str
    handler: str
    memory_mb: int = 0
    external: frozenset[str] = frozenset()
    """File names in /opt/extensions that are launched; all others are internal: parts of the runtime."""


class State(Enum):
    LAUNCHED = "launched"
    REGISTERED = "registered"
    WAITING = "waiting"
    WORKING = "working"
    FAILED = "failed"


@dataclass(slots=True, eq=False)
class Extension:
    name: str
    external: bool
    state: State = State.LAUNCHED
    id: str = ""
    events: frozenset[str] = frozenset()
    connection: Connection | None = None
    """It waits on it for its next event."""
    inbox: list[dict[str, Any]] = field(default_factory=list)


class Extensions:
    def __init__(self, facts: Facts, changed: Callable[[], None]) -> None:
        """`changed` is called when an extension has asked for its next event, or has failed."""
        self._facts = facts
        self._changed = changed
        self.failed = ""
        """Name of one that said that it cannot go on; empty if none did."""
        self.restart()

    def restart(self) -> None:
        """None runs any more; the external ones are launched again."""
        self._all = {name: Extension(name, external=True) for name in self._facts.external}
        self._by_id: dict[str, Extension] = {}
        self._open = True
        self.failed = ""

    def close_registration(self) -> None:
        self._open = False

    @property
    def open(self) -> bool:
        """Init is not over: they may register, and subscribe to telemetry."""
        return self._open

    def all_registered(self) -> Iterable[Extension]:
        return self._by_id.values()

    @property
    def registered(self) -> bool:
        return bool(self._by_id)

    @property
    def all_wait(self) -> bool:
        """All that were launched or have registered wait for their next event. True if there are none."""
        return all(it.state in (State.WAITING, State.FAILED) for it in self._all.values())

    def invoked(self, event: Event) -> None:
        """Tells those that want to know of calls."""
        told = {
            "eventType": "INVOKE",
            "deadlineMs": event.deadline_ms,
            "requestId": event.request_id,
            "invokedFunctionArn": event.arn,
            "tracing": {"type": "X-Amzn-Trace-Id", "value": ""},
        }
        for it in self._by_id.values():
            if "INVOKE" in it.events:
                self._tell(it, told)

    def shut_down(self, reason: str, deadline_ms: int) -> bool:
        """Tells those who want to know of the end: `spindown`, `timeout` or `failure`. False if none does."""
        wanting = [it for it in self._by_id.values() if "SHUTDOWN" in it.events]
        for it in wanting:
            self._tell(it, {"eventType": "SHUTDOWN", "shutdownReason": reason, "deadlineMs": deadline_ms})
        return bool(wanting)

    def lost(self, connection: Connection) -> None:
        for it in self._by_id.values():
            if it.connection is connection:
                it.connection = None

    def asked(self, connection: Connection, request: Request) -> bool:
        """Answers a request of this API; False if it is of another one."""
        if not request.path.startswith(PREFIX):
            return False
        match request.method, request.path[len(PREFIX) :]:
            case "POST", "register":
                self._register(connection, request)
            case "GET", "event/next":
                if (it := self.identified(connection, request)) is not None:
                    self._next(connection, it)
            case "POST", ("init/error" | "exit/error"):
                if (it := self.identified(connection, request)) is not None:
                    self._failed(connection, request, it)
            case _:
                return False
        return True

    def _register(self, connection: Connection, request: Request) -> None:
        name = request.headers.get(NAME_HEADER, "")
        external = name in self._facts.external
        it = self._all.get(name)
        if not name:
            refuse_as(connection, 403, "Extension.InvalidExtensionName", "Empty extension name")
        elif not self._open:
            refuse_as(
                connection, 403, "Extension.RegistrationClosed", "Extension registration closed already"
            )
        elif it is not None and it.state is not State.LAUNCHED:
            refuse_as(
                connection,
                403,
                "Extension.InvalidExtensionState",
                f"State transition from {it.state.value} to registered failed for extension {name}",
            )
        elif it is None and len(self._all) >= MOST:
            refuse_as(connection, 403, "Extension.TooManyExtensions", f"At most {MOST} extensions")
        elif (events := _events(request.body)) is None or (not external and events - {"INVOKE"}):
            refuse_as(connection, 403, "Extension.InvalidEventType", "Invalid event type")
        else:
            it = self._all.setdefault(name, Extension(name, external))
            it.state, it.events, it.id = State.REGISTERED, events, str(uuid.uuid4())
            self._by_id[it.id] = it
            facts: dict[str, str] = {
                "functionName": self._facts.name,
                "functionVersion": self._facts.version,
                "handler": self._facts.handler,
            }
            if "accountId" in request.headers.get("lambda-extension-accept-feature", ""):
                facts["accountId"] = "000000000000"
            connection.answer(200, json.dumps(facts).encode(), {"Lambda-Extension-Identifier": it.id})

    def identified(self, connection: Connection, request: Request) -> Extension | None:
        """Which registered extension asks; None if it could not say that, and was refused."""
        id_ = request.headers.get(ID_HEADER, "")
        if (it := self._by_id.get(id_)) is not None:
            return it
        if not id_:
            refuse_as(
                connection, 403, "Extension.MissingExtensionIdentifier", "Missing Lambda-Extension-Identifier"
            )
        elif _is_uuid(id_):
            refuse_as(connection, 403, "Extension.UnknownExtensionIdentifier", f"Unknown extension {id_}")
        else:
            refuse_as(connection, 403, "Extension.InvalidExtensionIdentifier", "Invalid extension identifier")
        return None

    def _next(self, connection: Connection, it: Extension) -> None:
        if it.state is State.FAILED or (it.state is State.WAITING and it.connection is not None):
            refuse_as(connection, 403, "Extension.InvalidExtensionState", f"{it.name} is {it.state.value}")
            return
        it.state = State.WAITING
        it.connection = connection
        self._flush(it)
        self._changed()

    def _failed(self, connection: Connection, request: Request, it: Extension) -> None:
        if "lambda-extension-function-error-type" not in request.headers:
            refuse_as(
                connection, 403, "Extension.MissingHeader", "Lambda-Extension-Function-Error-Type not found"
            )
            return
        it.state = State.FAILED
        self.failed = it.name
        connection.answer(202, OK)
        self._changed()

    def _tell(self, it: Extension, event: dict[str, Any]) -> None:
        it.inbox.append(event)
        self._flush(it)

    def _flush(self, it: Extension) -> None:
        if it.connection is None or not it.inbox:
            return
        connection, it.connection = it.connection, None
        it.state = State.WORKING
        connection.answer(
            200,
            json.dumps(it.inbox.pop(0)).encode(),
            {"Lambda-Extension-Event-Identifier": str(uuid.uuid4())},
        )


def _events(body: bytes) -> frozenset[str] | None:
    """What it wants to be told; None if that cannot be."""
    try:
        events = frozenset(json.loads(body or b"{}").get("events", []))
    except (ValueError, AttributeError, TypeError, RecursionError):
        return None
    return events if events <= {"INVOKE", "SHUTDOWN"} else None


def _is_uuid(text: str) -> bool:
    try:
        uuid.UUID(text)
    except ValueError:
        return False
    return True


def refuse_as(connection: Connection, status: int, error_type: str, message: str) -> None:
    connection.answer(status, json.dumps({"errorType": error_type, "errorMessage": message}).encode())
