"""Identifiers and constants that every part shares. Plain types only: the cores import this module."""

from functools import lru_cache
from typing import Final, NewType

NodeId = NewType("NodeId", str)
"""One registration of one worker, `NAME@INCARNATION`: a restarted worker is another node."""

InstanceId = NewType("InstanceId", str)
"""One sandbox with one copy of a function version, unique over the fleet and for all time."""

FrontendId = NewType("FrontendId", str)
"""One frontend process, `NAME.INCARNATION`: a restarted frontend has another one."""

FunctionName = NewType("FunctionName", str)

VersionKey = NewType("VersionKey", str)
"""What an instance was started from, `NAME:VERSION:REVISION`: other code or configuration is another key."""

LATEST: Final = "$LATEST"
"""The version that is not published yet, and changes."""

RequestId = NewType("RequestId", str)
"""One invocation, a UUID as Lambda writes it."""

LeaseNumber = NewType("LeaseNumber", int)
"""Grows with every lease on an instance, over fail-overs too: `lease_number(epoch, serial)`."""

Epoch = NewType("Epoch", int)
"""How many times placement's leadership has changed hands. A worker refuses orders of an older epoch."""

NO_EPOCH: Final = Epoch(0)
"""Before any leader has been seen."""

REGION: Final = "us-east-1"
ACCOUNT: Final = "000000000000"
"""What stands in ARNs where AWS has its region and account."""

MAX_PAYLOAD_BYTES: Final = 6 * 1024 * 1024 + 100
"""Largest event and largest answer of a synchronous invocation: Lambda's own constant, 6,291,556 bytes."""

MIN_MEMORY_MB: Final = 128
MAX_MEMORY_MB: Final = 10_240
"""Memory of a function in MB, Lambda's range."""

FUNCTION_NAME: Final = r"[a-zA-Z0-9-_]{1,64}"
VARIABLE_NAME: Final = r"[a-zA-Z]([a-zA-Z0-9_])+"
"""Patterns, Lambda's; the second one is of an environment variable."""

_SERIAL_BITS: Final = 40


def lease_number(epoch: Epoch, serial: int) -> LeaseNumber:
    """The number of the `serial`-th lease of an epoch: larger than every number of every earlier epoch."""
    return LeaseNumber(epoch << _SERIAL_BITS | serial)


def node_name(node: NodeId) -> str:
    """What people call a node: its registration's name without the incarnation."""
    return node.partition("@")[0]


def frontend_name(frontend: FrontendId) -> str:
    """What people call a frontend: its id without the incarnation."""
    return frontend.rpartition(".")[0]


@lru_cache(65_536)
def function_of(version: VersionKey) -> FunctionName:
    """The function that a version belongs to."""
    return FunctionName(version.split(":", 1)[0])


def qualifier_of(version: VersionKey) -> str:
    """What it is called within its function: `$LATEST`, or the number it was published under."""
    return version.split(":", 2)[1]
