"""What an extension subscribes to with the Telemetry API, or with the older Logs API that it grew out of."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

HOSTS: Final = frozenset({"sandbox", "sandbox.localdomain"})
"""An extension's own names for its loopback."""
RESERVED_PORT: Final = 9001
"""The Runtime API's."""

CATEGORIES: Final = frozenset({"platform", "function", "extension"})
RANGES: Final[Mapping[str, range]] = {
    "maxItems": range(1_000, 10_001),
    "maxBytes": range(262_144, 1_048_577),
    "timeoutMs": range(25, 30_001),
}
DEFAULTS: Final[Mapping[str, int]] = {"maxItems": 10_000, "maxBytes": 262_144, "timeoutMs": 1_000}
"""Lambda's, both."""

_LOGS: Final = frozenset(
    f"platform.{it}" for it in ("start", "end", "report", "extension", "logsSubscription", "logsDropped")
)
_TELEMETRY: Final = frozenset(
    f"platform.{it}"
    for it in (
        "initStart",
        "initRuntimeDone",
        "initReport",
        "start",
        "runtimeDone",
        "report",
        "extension",
        "telemetrySubscription",
        "logsDropped",
    )
)


@dataclass(frozen=True, slots=True)
class Api:
    """One of the two."""

    name: str
    invalid: str
    """The error type of a body that is not as it has to be."""
    schemas: Mapping[str, frozenset[str]]
    """Which events of the platform each version of the schema knows."""
    default: str = ""
    """The version where a body names none; empty if it has to."""


TELEMETRY: Final = Api(
    "Telemetry",
    "ValidationError",
    dict.fromkeys(("2022-07-01", "2022-12-13", "2025-01-29"), _TELEMETRY),
)
LOGS: Final = Api(
    "Logs",
    "Logs.ValidationError",
    {"2020-08-15": _LOGS, "2021-03-18": _LOGS | {"platform.runtimeDone"}},
    "2020-08-15",
)
PATHS: Final[Mapping[str, Api]] = {"/2022-07-01/telemetry": TELEMETRY, "/2020-08-15/logs": LOGS}


class Invalid(Exception):
    """The message says all that is wrong with it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscription:
    api: Api
    types: tuple[str, ...]
    platform: frozenset[str]
    """The events of the platform that it can be told."""
    port: int
    method: str
    """POST or PUT; empty for plain TCP, with a line for each event."""
    path: str
    max_items: int
    max_bytes: int
    timeout_s: float

    def wants(self, kind: str) -> bool:
        return kind in self.types or ("platform" in self.types and kind in self.platform)


def read(body: bytes, api: Api) -> Subscription:
    """Raises Invalid."""
    try:
        document: Any = json.loads(body)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise Invalid("the body has to be a JSON object")
    wrong: list[str] = []
    schema = document.get("schemaVersion", api.default)
    if not isinstance(schema, str) or schema not in api.schemas:
        wrong.append(f"schemaVersion should be one of {', '.join(api.schemas)}")
    types = _types(document.get("types"), wrong)
    port, method, path = _destination(document.get("destination"), wrong)
    sizes = _buffering(document.get("buffering", {}), wrong)
    if wrong:
        raise Invalid("; ".join(wrong))
    return Subscription(
        api=api,
        types=types,
        platform=api.schemas[schema],
        port=port,
        method=method,
        path=path,
        max_items=sizes["maxItems"],
        max_bytes=sizes["maxBytes"],
        timeout_s=sizes["timeoutMs"] / 1000,
    )


def _types(types: Any, wrong: list[str]) -> tuple[str, ...]:
    if not isinstance(types, list) or not types:
        wrong.append("types should not be empty")
    elif not all(isinstance(it, str) and it in CATEGORIES for it in types):
        wrong.append(f"types should be of {', '.join(sorted(CATEGORIES))}")
    else:
        return tuple(dict.fromkeys(types))
    return ()


def _destination(destination: Any, wrong: list[str]) -> tuple[int, str, str]:
    """Port, method and path."""
    if not isinstance(destination, dict):
        wrong.append("destination should not be empty")
        return 0, "", ""
    port, path = destination.get("port"), ""
    if destination.get("URI") is not None:
        port, path = _address(destination["URI"], wrong)
    match destination.get("protocol"):
        case "TCP":
            method = ""
        case "HTTP":
            method = destination.get("method", "POST")
            if method not in ("POST", "PUT"):
                wrong.append("destination method should be POST or PUT")
            if "URI" not in destination:
                wrong.append("destination URI is not provided")
        case _:
            wrong.append("destination protocol should be HTTP or TCP")
            method = ""
    if type(port) is not int or not 0 < port < 65536:
        wrong.append("URI port is not provided")
        port = 0
    elif port == RESERVED_PORT:
        wrong.append(f"port {RESERVED_PORT} is the Runtime API's own")
    return port, method, path


def _address(uri: Any, wrong: list[str]) -> tuple[int | None, str]:
    """Port and path."""
    try:
        parts = urlsplit(uri if isinstance(uri, str) else "")
        port = parts.port
    except ValueError:
        wrong.append("destination URI is none")
        return None, ""
    if parts.scheme not in ("http", "tcp") or parts.hostname not in HOSTS:
        wrong.append("destination URI should be http://sandbox.localdomain:PORT")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    if not path.isascii() or not path.isprintable() or " " in path:
        wrong.append("destination URI should be of printable ASCII characters")
    return port, path


def _buffering(given: Any, wrong: list[str]) -> Mapping[str, int]:
    if not isinstance(given, dict):
        wrong.append("buffering should be an object")
        return DEFAULTS
    for name, allowed in RANGES.items():
        value = given.get(name, DEFAULTS[name])
        if type(value) is not int or value not in allowed:
            wrong.append(f"buffering {name} should be {allowed.start} to {allowed.stop - 1}")
    return {**DEFAULTS, **given}
