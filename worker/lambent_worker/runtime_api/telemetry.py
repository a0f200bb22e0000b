"""Lambda's Telemetry API: what happens to the function, and all that is printed, told to its extensions.

What comes during init is kept until it is known who wants it, also from before an extension subscribed. What
a run's extensions have not taken when it ends goes to those of the same name in the next run.
"""

import asyncio
import json
import math
from collections import deque
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from lambent_chassis import clock
from lambent_worker.runtime_api.delivery import FULL_BYTES, MOST_WAITING_BYTES, Connect, Delivery
from lambent_worker.runtime_api.extensions import Extension, Extensions, Facts, refuse_as
from lambent_worker.runtime_api.http import Connection, Request
from lambent_worker.runtime_api.subscription import PATHS, Api, Invalid, Subscription, read

LONGEST_LINE_BYTES: Final = 256 * 1024
"""Longer ones are cut in pieces; as in the log."""

_LEAST_EVENT_BYTES: Final = 300
"""What an event counts while it is kept: a short one costs more than its bytes."""

_FALLEN_BEHIND: Final = "The extension does not take its telemetry as fast as it comes."


class Telemetry:
    def __init__(self, facts: Facts, extensions: Extensions, connect: Connect) -> None:
        self._facts = facts
        self._extensions = extensions
        self._connect = connect
        self._deliveries: dict[str, Delivery] = {}
        self._left: dict[str, list[bytes]] = {}
        """What those of the run before did not take, by extension."""
        self._early: deque[tuple[str, bytes]] | None = deque()
        self._early_bytes = 0
        self._phase = "init"
        self._init = {"initializationType": facts.initialization}
        self._open_lines = {"function": b"", "extension": b""}
        self._subscribing: set[asyncio.Task[None]] = set()

    # The instance's side

    @property
    def subscribed(self) -> bool:
        return bool(self._deliveries)

    def restart(self) -> None:
        """All extensions have ended, and are launched again."""
        self._left = self._end()
        self._early, self._early_bytes = deque(), 0
        self._open_lines = dict.fromkeys(self._open_lines, b"")

    def init_started(self, phase: str) -> None:
        """`phase` is `init`, or `invoke` where that comes out of a call's time."""
        self._phase = phase
        named = {"functionName": self._facts.name, "functionVersion": self._facts.version}
        self._tell("platform.initStart", {**self._init, "phase": phase, **named})

    def init_ended(self, status: str, duration_ms: float) -> None:
        said = {**self._init, "phase": self._phase, "status": status}
        self._tell("platform.initRuntimeDone", said)
        for it in self._extensions.all_registered():
            record = {"name": it.name, "state": "Ready", "events": sorted(it.events)}
            self._tell("platform.extension", record)
        self._tell("platform.initReport", {**said, "metrics": {"durationMs": round(duration_ms, 2)}})
        if not self._extensions.open:
            self._early = None

    def call_started(self, request_id: str) -> None:
        self._tell("platform.start", {"requestId": request_id, "version": self._facts.version})

    def call_ended(
        self,
        request_id: str,
        status: str,
        error: bytes,
        running_ms: float,
        peak_mb: int,
        init_ms: float | None,
    ) -> None:
        """`status` is success, error, failure or timeout; `error` Lambda's error JSON, or empty.

        `init_ms` is there for the first call after an init.
        """
        duration_ms = round(running_ms, 2)
        said = {"requestId": request_id, "status": status}
        if error_type := _error_type(error):
            said["errorType"] = error_type
        self._tell("platform.runtimeDone", {**said, "metrics": {"durationMs": duration_ms}})
        metrics = {
            "durationMs": duration_ms,
            "billedDurationMs": math.ceil(running_ms),
            "memorySizeMB": self._facts.memory_mb,
            "maxMemoryUsedMB": peak_mb,
        }
        if init_ms is not None:
            metrics["initDurationMs"] = round(init_ms, 2)
        self._tell("platform.end", {"requestId": request_id})
        self._tell("platform.report", {**said, "metrics": metrics})

    def output(self, kind: str, data: bytes) -> None:
        """What the `function`, or an `extension`, has printed."""
        *lines, rest = (self._open_lines[kind] + data).split(b"\n")
        while len(rest) > LONGEST_LINE_BYTES:
            lines.append(rest[:LONGEST_LINE_BYTES])
            rest = rest[LONGEST_LINE_BYTES:]
        self._open_lines[kind] = rest
        for number, line in enumerate(lines):
            if not self._has_room(kind):
                self._drop(kind, lines[number:])
                break
            self._tell(kind, line.decode(errors="replace"))

    def _has_room(self, kind: str) -> bool:
        early = self._early is not None and self._early_bytes <= FULL_BYTES
        return early or any(it.subscription.wants(kind) and not it.full for it in self._deliveries.values())

    def _drop(self, kind: str, lines: list[bytes]) -> None:
        size = sum(map(len, lines))
        for delivery in self._deliveries.values():
            if delivery.subscription.wants(kind):
                delivery.drop(len(lines), size)

    def flush(self) -> None:
        """The end is near: what waits is sent now."""
        for delivery in self._deliveries.values():
            delivery.flush()

    def close(self) -> None:
        self._end()

    def _end(self) -> dict[str, list[bytes]]:
        for task in self._subscribing:
            task.cancel()
        ended, self._deliveries = self._deliveries, {}
        return {name: left for name, it in ended.items() if (left := it.close())}

    def _tell(self, kind: str, record: str | Mapping[str, Any]) -> None:
        event = _event(kind, record)
        if self._early is not None and self._early_bytes + len(event) <= MOST_WAITING_BYTES:
            self._early.append((kind, event))
            self._early_bytes += max(len(event), _LEAST_EVENT_BYTES)
        for delivery in self._deliveries.values():
            if delivery.subscription.wants(kind):
                delivery.add(event)

    # The extensions' side

    def asked(self, connection: Connection, request: Request) -> bool:
        """Answers a request of this API, at once or later; False if it is of another one."""
        api = PATHS.get(request.path.removesuffix("/"))
        if api is None or request.method != "PUT":
            return False
        it = self._extensions.identified(connection, request)
        if it is None:
            return True
        if not self._extensions.open:
            refuse_as(connection, 403, f"{api.name}.SubscriptionClosed", f"{api.name} API: init has ended")
            return True
        try:
            wanted = read(request.body, api)
        except Invalid as why:
            refuse_as(connection, 400, api.invalid, str(why))
            return True
        task = asyncio.get_running_loop().create_task(self._subscribe(connection, it, wanted))
        self._subscribing.add(task)
        task.add_done_callback(self._subscribing.discard)
        return True

    async def _subscribe(self, connection: Connection, it: Extension, wanted: Subscription) -> None:
        api = wanted.api
        try:
            first = await self._connect(wanted.port)
        except PermissionError:
            refuse_as(connection, 202, f"{api.name}.NotSupported", f"{api.name} API is not supported")
            return
        except OSError:
            first = None  # it does not listen yet
        before = self._deliveries.get(it.name)
        if before is not None:
            if first is not None:
                first.close()
            if before.subscription.api is not api:
                refuse_as(connection, 400, api.invalid, f"{it.name} has subscribed with the other API")
                return
        else:
            waiting = self._left.pop(it.name, [])
            waiting += [event for kind, event in self._early or () if wanted.wants(kind)]
            self._deliveries[it.name] = Delivery(wanted, self._connect, _dropped, first, waiting)
        self._subscribed(api, it, wanted, "Subscribed" if before is None else "Already subscribed")
        connection.answer(200, b'"OK"')

    def _subscribed(self, api: Api, it: Extension, wanted: Subscription, state: str) -> None:
        record = {"name": it.name, "state": state, "types": wanted.types}
        for kind in ("platform.telemetrySubscription", "platform.logsSubscription"):
            self._tell(kind, record)


def _event(kind: str, record: str | Mapping[str, Any]) -> bytes:
    return json.dumps({"time": _now(), "type": kind, "record": record}, separators=(",", ":")).encode()


def _now() -> str:
    return datetime.fromtimestamp(clock.unix_s(), UTC).isoformat(timespec="milliseconds")[:-6] + "Z"


def _dropped(records: int, size: int) -> bytes:
    record = {"droppedRecords": records, "droppedBytes": size, "reason": _FALLEN_BEHIND}
    return _event("platform.logsDropped", record)


def _error_type(error: bytes) -> str:
    try:
        found = json.loads(error or b"null")
    except (ValueError, RecursionError):
        return ""
    type_ = found.get("errorType") if isinstance(found, dict) else None
    return type_ if isinstance(type_, str) else ""
