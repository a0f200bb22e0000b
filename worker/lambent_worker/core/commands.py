"""What must now be done. The shell carries commands out in the order given and decides nothing."""

from lambent_proto.ids import FrontendId, InstanceId, LeaseNumber, RequestId, VersionKey
from lambent_proto.messages import message
from lambent_worker.core.events import Refusal


@message
class Deliver:
    """Hand the event to the instance's runtime."""

    instance: InstanceId
    request: RequestId


@message
class Answer:
    """Send the runtime's answer to the frontend that asked; if it is gone, drop it."""

    frontend: FrontendId
    request: RequestId
    instance: InstanceId


@message
class Refuse:
    """Tell the frontend that the runtime never took this event."""

    frontend: FrontendId
    request: RequestId
    reason: Refusal


@message
class Lose:
    """Tell the frontend that the instance is gone that had this event, and that there is no answer."""

    frontend: FrontendId
    request: RequestId
    instance: InstanceId
    reason: str


@message
class TimeOut:
    """Answer the event with the function's timeout error, and end the runtime. The instance stays."""

    frontend: FrontendId
    request: RequestId
    instance: InstanceId
    timeout_s: float


@message
class Start:
    instance: InstanceId
    version: VersionKey
    provisioned: bool = False


@message
class Kill:
    instance: InstanceId
    reason: str


@message
class Announce:
    """Tell the lease holder directly that its instance is ready."""

    frontend: FrontendId
    instance: InstanceId
    number: LeaseNumber
    starting_ms: float
    init_ms: float
    restored: bool = False


@message
class ReportReady:
    instance: InstanceId
    starting_ms: float
    init_ms: float
    restored: bool = False


@message
class ReportGone:
    instance: InstanceId
    reason: str
    error: bytes


@message
class ReportFreed:
    """Answers a fence. With `busy` an event still runs, and another report follows when it has ended."""

    instance: InstanceId
    number: LeaseNumber
    busy: bool


@message
class ReportRefused:
    """A grant was not carried out, and never will be."""

    instance: InstanceId
    reason: str


@message
class ReportLeaving:
    """Ask placement to move everything away."""


@message
class SayBye:
    """Nothing runs here, and nothing will: tell every frontend to let go when it has all its answers."""


@message
class Retire:
    """Fenced, and nothing runs here any more: this registration is over."""

    reason: str


Command = (
    Deliver
    | Answer
    | Refuse
    | Lose
    | TimeOut
    | Start
    | Kill
    | Announce
    | ReportReady
    | ReportGone
    | ReportFreed
    | ReportRefused
    | ReportLeaving
    | SayBye
    | Retire
)
