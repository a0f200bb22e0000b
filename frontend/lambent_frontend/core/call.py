"""One accepted invocation that has no outcome yet."""

from dataclasses import dataclass
from enum import IntEnum

from lambent_proto.ids import InstanceId, RequestId, VersionKey
from lambent_proto.sticky import NO_KEY


class Priority(IntEnum):
    """The class of a call, the highest first."""

    HIGH = 0
    NORMAL = 1
    LOW = 2


@dataclass(slots=True, eq=False)
class Call:
    request: RequestId
    version: VersionKey
    deadline: float
    arrived_at: float
    priority: Priority
    tenant: str
    size: int
    """Bytes that it holds while it waits."""
    sticky: int = NO_KEY
    running_on: InstanceId | None = None
    waited_for: str = ""
    had_turn: bool = False
    """It was sent and never ran, as its worker proved."""
