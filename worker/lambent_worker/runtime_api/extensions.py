"""Lambda's Extensions API: companions of a runtime that are told of each call, and of the end."""

import json
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from lambent_proto.ids import ACCOUNT
from lambent_worker.event import Event
from lambent_worker.runtime_api.errors import refuse, refused
from lambent_worker.runtime_api.http import Connection, Request
from lambent_worker.runtime_api.machine import (
    ExtensionAsk,
    ExtensionMachine,
    ExtensionState,
    Refusal,
)

_PREFIX: Final = "/2020-01-01/extension/"
REGISTER: Final = f"{_PREFIX}register"
NEXT: Final = f"{_PREFIX}event/next"
INIT_ERROR: Final = f"{_PREFIX}init/error"
EXIT_ERROR: Final = f"{_PREFIX}exit/error"
METHODS: Final[Mapping[str, str]] = {REGISTER: "POST", NEXT: "GET", INIT_ERROR: "POST", EXIT_ERROR: "POST"}

MOST: Final = 10
"""Lambda's limit, external and internal ones together."""

LONGEST_REPORT: Final = 256
"""Characters of the error type that an extension reports; the rest is cut."""

ID_HEADER: Final = "lambda-extension-identifier"
NAME_HEADER: Final = "lambda-extension-name"
FEATURE_HEADER: Final = "lambda-extension-accept-feature"
ERROR_TYPE_HEADER: Final = "lambda-extension-function-error-type"

OK: Final = b'{"status":"OK"}\n'

_FAILED: Final = frozenset({ExtensionState.INIT_FAILED, ExtensionState.EXIT_FAILED})
_WAITS: Final = _FAILED | {ExtensionState.READY}


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What an extension is told of the function when it registers."""

    name: str
    version: str
    handler: str
    memory_mb: int = 0
    external: frozenset[str] = frozenset()
    """File names in /opt/extensions that are launched; all others are internal: parts of the runtime."""
    initialization: str = "on-demand"
    """Lambda's word for how its instance comes about."""
    snapstart: bool = False
    """Its runtime is to be copied once it has initialised: only then there is `restore`."""


@dataclass(slots=True, eq=False)
class Extension:
    name: str
    external: bool
    machine: ExtensionMachine = field(default_factory=ExtensionMachine)
    id: str = ""
    events: frozenset[str] = frozenset()
    connection: Connection | None = None
    """It waits on it for its next event."""
    inbox: list[dict[str, Any]] = field(default_factory=list)


class Extensions:
    def __init__(
        self, facts: Facts, changed: Callable[[], None], failed: Callable[[str, str, str], None]
    ) -> None:
        """`changed` is called when an extension has asked for its next event; `failed` when one says that it
        cannot go on, with its name, Lambda's error type, and the one that it reported."""
        self._facts = facts
        self._changed = changed
        self._failed = failed
        self.restart()

    def restart(self) -> None:
        """None runs any more; the external ones are launched again."""
        self._all = {name: Extension(name, external=True) for name in self._facts.external}
        self._by_id: dict[str, Extension] = {}
        self._open = True

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
        return not self._all or all(it.machine.state in _WAITS for it in self._all.values())

    def invoked(self, event: Event) -> None:
        """Tells those that want to know of calls."""
        if not self._by_id:
            return
        told = {
            "eventType": "INVOKE",
            "deadlineMs": event.deadline_ms,
            "requestId": event.request_id,
            "invokedFunctionArn": event.arn,
            "tracing": {"type": "X-Amzn-Trace-Id", "value": event.trace},
        }
        for it in self._by_id.values():
            if "INVOKE" in it.events and it.machine.state not in _FAILED:  # it asks for nothing any more
                self._tell(it, told)

    def shut_down(self, reason: str, deadline_ms: int) -> bool:
        """Tells those who want to know of the end: `spindown`, `timeout` or `failure`. False if none does."""
        wanting = [it for it in self._by_id.values() if "SHUTDOWN" in it.events]
        for it in wanting:
            self._tell(it, {"eventType": "SHUTDOWN", "shutdownReason": reason, "deadlineMs": deadline_ms})
        return bool(wanting)

    def lost(self, connection: Connection) -> None:
        """The connection has ended. Who waited on it may ask again, and is waited for until then."""
        for it in self._by_id.values():
            if it.connection is connection:
                it.connection = None
                it.machine.told()

    def asked(self, connection: Connection, request: Request) -> bool:
        """Answers a request of this API; False if it is of another one."""
        if METHODS.get(request.path) != request.method:
            return False
        if request.path == REGISTER:
            self._register(connection, request)
        elif (it := self.identified(connection, request)) is None:
            pass  # it was refused
        elif request.path == NEXT:
            self._next(connection, it)
        elif request.path == INIT_ERROR:
            self._reported(connection, request, it, ExtensionAsk.INIT_ERROR)
        else:
            self._reported(connection, request, it, ExtensionAsk.EXIT_ERROR)
        return True

    def _register(self, connection: Connection, request: Request) -> None:
        name = request.headers.get(NAME_HEADER, "")
        wanted = _wanted(request.body)
        if not name:
            refuse_as(connection, 403, "Extension.InvalidExtensionName", "Empty extension name")
        elif isinstance(wanted, str):
            refuse_as(connection, 403, "InvalidRequestFormat", wanted)
        elif not refused(connection, self._cannot_register(name, wanted)):
            it = self._all.setdefault(name, Extension(name, external=False))
            if not refused(connection, it.machine.asks(ExtensionAsk.REGISTER, name)):
                it.events, it.id = frozenset(wanted), str(uuid.uuid4())
                self._by_id[it.id] = it
                headers = {"Lambda-Extension-Identifier": it.id}
                connection.answer(200, self._told_of_function(request), headers)

    def _cannot_register(self, name: str, events: list[str]) -> Refusal | None:
        external = name in self._facts.external
        for event in events:
            if event not in ("INVOKE", "SHUTDOWN"):
                return _refusal("Extension.InvalidEventType", f"{event}: InvalidEventType")
            if event == "SHUTDOWN" and not external:
                why = f"{event}: ShutdownEventNotSupportedForInternalExtension"
                return _refusal("Extension.InvalidEventType", why)
        if external:
            return None
        if not self._open:
            return _refusal("Extension.RegistrationClosed", "Extension registration closed already")
        if len(self._all) >= MOST and name not in self._all:
            return _refusal("Extension.TooManyExtensions", f"Extension limit ({MOST}) reached")
        if name in self._all:
            why = "Extension with this name already registered"
            return _refusal("Extension.InvalidExtensionState", why)
        return None

    def _told_of_function(self, request: Request) -> bytes:
        told = {
            "functionName": self._facts.name,
            "functionVersion": self._facts.version,
            "handler": self._facts.handler,
        }
        if "accountId" in [it.strip() for it in request.headers.get(FEATURE_HEADER, "").split(",")]:
            told["accountId"] = ACCOUNT
        return json.dumps(told).encode()

    def identified(self, connection: Connection, request: Request) -> Extension | None:
        """Which registered extension asks; None if it could not say that, and was refused."""
        id_ = request.headers.get(ID_HEADER, "")
        if (it := self._by_id.get(id_)) is not None:
            return it
        if not id_:
            why = "Missing Lambda-Extension-Identifier header"
            refuse_as(connection, 403, "Extension.MissingExtensionIdentifier", why)
        elif _is_uuid(id_):
            refuse_as(connection, 403, "Extension.UnknownExtensionIdentifier", f"Unknown extension {id_}")
        else:
            why = "Invalid Lambda-Extension-Identifier"
            refuse_as(connection, 403, "Extension.InvalidExtensionIdentifier", why)
        return None

    def _next(self, connection: Connection, it: Extension) -> None:
        if refused(connection, it.machine.asks(ExtensionAsk.NEXT, it.id)):
            return
        it.connection = connection
        self._flush(it)
        self._changed()

    def _reported(self, connection: Connection, request: Request, it: Extension, ask: ExtensionAsk) -> None:
        reported = request.headers.get(ERROR_TYPE_HEADER, "")
        if not reported:
            why = "Lambda-Extension-Function-Error-Type not found"
            refuse_as(connection, 403, "Extension.MissingHeader", why)
            return
        before = it.machine.state
        if refused(connection, it.machine.asks(ask, it.id)):
            return
        connection.answer(202, OK)
        if it.machine.state is not before:  # only the first one counts
            self._failed(it.name, f"Extension.{ask.value}", reported[:LONGEST_REPORT])

    def _tell(self, it: Extension, event: dict[str, Any]) -> None:
        it.inbox.append(event)
        self._flush(it)

    def _flush(self, it: Extension) -> None:
        if it.connection is None or not it.inbox:
            return
        connection, it.connection = it.connection, None
        it.machine.told()
        connection.answer(
            200,
            json.dumps(it.inbox.pop(0)).encode(),
            {"Lambda-Extension-Event-Identifier": str(uuid.uuid4())},
        )


def _wanted(body: bytes) -> list[str] | str:
    """The events it wants to be told, or why that cannot be read."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as error:
        return f"The body is no JSON: {error}"
    events = document.get("events") if isinstance(document, dict) else None
    if events is None and isinstance(document, dict):
        return []
    if not isinstance(events, list) or not all(isinstance(it, str) for it in events):
        return "The body has to be a JSON object with a list of strings as events"
    if document.get("configurationKeys"):
        return "configurationKeys are deprecated; use environment variables instead"
    return events


def _is_uuid(text: str) -> bool:
    try:
        uuid.UUID(text)
    except ValueError:
        return False
    return True


def _refusal(error_type: str, message: str) -> Refusal:
    return Refusal(403, error_type, message)


def refuse_as(connection: Connection, status: int, error_type: str, message: str) -> None:
    refuse(connection, Refusal(status, error_type, message))
