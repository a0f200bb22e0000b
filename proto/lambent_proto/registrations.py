"""What the parts write about themselves into etcd, each under its own lease (`keys` says where)."""

from dataclasses import asdict, dataclass, field
from typing import Any, TypeVar

import msgpack

from lambent_proto.ids import NodeId

R = TypeVar("R", "Worker", "Leader")


@dataclass(frozen=True, slots=True, kw_only=True)
class Worker:
    """A worker's registration: where it is reached and what it has."""

    node: NodeId
    data_address: str
    """HOST:PORT for frames."""
    control_address: str
    """HOST:PORT for reading its logs."""
    memory_mb: int
    isolation: str
    """The level of isolation that its sandboxes reach."""
    backend: str = ""
    """What isolates them."""
    missing_protections: list[str] = field(default_factory=list)
    runtimes: list[str] = field(default_factory=list)
    """Names of those that it can run; the bare name of a family stands for the newest of its kind."""
    labels: list[str] = field(default_factory=list)
    streams: bool = False
    """It takes events with a window, whose answers may be streamed."""
    traces: bool = False
    """It takes events with a trace."""
    protocol: int = 0
    """What it speaks (`protocol.PROTOCOL`); 0 from a release before parts said so."""
    release: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Leader:
    """The leading placement."""

    address: str
    """HOST:PORT of its control service."""
    epoch: int
    protocol: int = 0
    """As a worker's."""
    release: str = ""


def encode(registration: Worker | Leader) -> bytes:
    return bytes(msgpack.packb(asdict(registration)))


def decode(kind: type[R], value: bytes) -> R:
    """Fields of a newer release are ignored."""
    fields: dict[str, Any] = msgpack.unpackb(value)
    return kind(**{name: fields[name] for name in kind.__dataclass_fields__ if name in fields})
