"""What must now be done. The shell carries commands out in the order given and decides nothing."""

from enum import Enum

from lambent_proto.ids import InstanceId, LeaseNumber, NodeId, RequestId, VersionKey
from lambent_proto.messages import message


class Outcome(Enum):
    """How an invocation ended. There is exactly one for each that was accepted and not abandoned."""

    ANSWERED = "answered"
    """The runtime answered: a result or a function error, which the shell holds."""
    INIT_FAILED = "init_failed"
    """The function's own initialisation failed: `error` is the answer, a function error."""
    THROTTLED = "throttled"
    """It never ran: the line was full, the function is off, or nothing became free in time."""
    DEADLINE = "deadline"
    """The caller's deadline passed while it ran."""
    LOST = "lost"
    """The worker, or the way to it, was lost while it ran: it may have run."""
    REMOVED = "removed"
    """The function was deleted while it waited."""


@message
class Dispatch:
    """Send the event to the instance under this lease, and remember why for the explanation."""

    node: NodeId
    instance: InstanceId
    number: LeaseNumber
    request: RequestId
    cold: bool
    """The call waited for this instance to start."""
    reason: str
    waited_s: float
    waited_for: str
    starting_ms: float
    init_ms: float
    restored: bool = False
    """It is `cold`, and the instance was forked of a snapshot."""


@message
class Finish:
    request: RequestId
    outcome: Outcome
    detail: str = ""
    error: bytes = b""
    throttle: str = ""
    """Why it was throttled, by Lambda's name; empty if it has none."""
    refusal: str = ""
    """Why it was throttled, by our own."""
    waited_for: str = ""
    """What its line waits for, as placement has it."""


@message
class Unlink:
    """Close the data connection to a worker for good: nothing is under way there."""

    node: NodeId


@message
class Demand:
    """Tell placement how many instances could be used in all: busy ones and waiting calls. A level."""

    version: VersionKey
    wanted: int
    oldest_wait_s: float
    keys: tuple[int, ...] = ()
    """Sticky keys of the calls that have waited longest."""


@message
class Release:
    """Give leases back. Not `sure`: the instance may still be busy with an event of ours."""

    leases: list[tuple[InstanceId, LeaseNumber]]
    sure: bool


@message
class AnswerRecall:
    """Give back what is idle at once; what is still owed follows as it becomes free."""

    version: VersionKey
    leases: list[tuple[InstanceId, LeaseNumber]]


@message
class TellServed:
    """Which sticky keys were served since this was last told, and by whom."""

    calls: list[tuple[InstanceId, int]]


@message
class ReportLink:
    node: NodeId
    up: bool


@message
class Attach:
    """The first message on a new stream to placement: everything this frontend holds and wants."""

    leases: list[tuple[InstanceId, LeaseNumber]]
    demands: list[Demand]
    links: list[NodeId]


Command = Dispatch | Finish | Demand | Release | AnswerRecall | TellServed | ReportLink | Attach | Unlink
