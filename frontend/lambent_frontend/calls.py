"""A call as the public services hand it to the dispatcher, and what they get back."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from lambent_frontend.core.call import Priority
from lambent_proto.definition import Definition
from lambent_proto.errors import LambentError
from lambent_proto.ids import NodeId, RequestId
from lambent_proto.sticky import NO_KEY
from lambent_proto.tracing import made


@dataclass(slots=True)
class Call:
    """One synchronous invocation, checked: the function exists and the payload is not too large."""

    request_id: RequestId
    definition: Definition
    payload: bytes
    tail: bool
    """Whether the answer shall bring the last 4 KB of the log."""
    client_context: str
    """Base64 of JSON; empty if none."""
    deadline_s: float
    """Longest time to wait and run, from now."""
    qualifier: str = ""
    """The version or alias that was asked for; empty: none."""
    priority: Priority = Priority.NORMAL
    tenant: str = ""
    sticky: int = NO_KEY
    parts: "Parts | None" = None
    """Who gets the parts of a streamed answer as they come; None: the answer is wanted whole."""
    given_trace: str = ""
    """As `tracing.carried` has it; empty: its caller gave none."""
    caller: str = ""
    """Id of the access key that it was made with; empty: of none."""

    @property
    def trace(self) -> str:
        """As functions get it."""
        return self.given_trace or made(self.request_id)


@dataclass(slots=True)
class Answer:
    """The function's answer, and how it came about. Times in milliseconds."""

    payload: bytes
    failed: bool
    """The function failed: the payload is Lambda's error document."""
    tail: bytes
    start: str
    """`warm`, `cold` or `snapstart`."""
    reason: str
    node: str
    instance: str
    waiting_ms: float
    starting_ms: float
    init_ms: float
    running_ms: float
    waited_for: str
    isolation: str
    """The level of the node that ran it."""


class Begun(NamedTuple):
    """A streamed answer, of which nothing has come yet."""

    content_type: str
    """As the runtime said it."""
    how: Answer
    """How it came about; its payload is empty and its running time unknown, 0."""


class Parts(Protocol):
    """Told of a streamed answer until the call is `done` or abandoned. Not of one that is not streamed."""

    def began(self, begun: Begun) -> None: ...

    def part(self, data: bytes) -> None: ...


class Candidate(NamedTuple):
    """A node that an instance could have been started on: docs/placement.md has the points."""

    node: NodeId
    points: float
    preferred: int
    instances: int
    package: bool
    free: float
    sticky: bool = False


@dataclass(slots=True)
class Explained:
    """What is remembered of one finished call. `outcome` is one of those in fleet.proto."""

    request_id: RequestId
    function: str
    outcome: str
    message: str
    start: str
    reason: str
    node: str
    instance: str
    waiting_ms: float
    starting_ms: float
    init_ms: float
    running_ms: float
    waited_for: str
    isolation: str
    """The level of the node that ran it."""
    candidates: Sequence[Candidate] = ()
    """Of a cold start: the nodes that were compared, the one taken first."""
    priority: Priority = Priority.NORMAL
    tenant: str = ""


class Counted(NamedTuple):
    """What is counted of calls."""

    what: str
    """`warm`, `cold`, `snapstart`, `waited`, `refused` or `outcome`; of asynchronous calls `attempt`."""
    reason: str
    """From the closed lists in docs/explain.md; an outcome as fleet.proto has it."""


class Dispatcher(Protocol):
    """Carries calls to instances."""

    @property
    def counts(self) -> Counter[Counted]:
        """Of all calls since this frontend began."""

    def submit(self, call: Call, done: Callable[[Answer | LambentError], None]) -> None:
        """Calls `done` exactly once, maybe before it returns, unless the call is abandoned first.

        Of an answer that was begun in parts, the last is its end: without payload unless it failed.
        """

    def taken(self, request_id: RequestId, size: int) -> None:
        """So many bytes of parts were taken: as many more may come. No effect on a call that is over."""

    def abandon(self, request_id: RequestId) -> None:
        """The client went away. A waiting call leaves the line; a running one finishes unheard.

        `done` is not called after this. A call that is over is none of its business: no effect.
        """

    def under_way(self, request_id: RequestId) -> bool:
        """Whether something of the call waits or runs, heard or not: no other may have its id meanwhile."""

    def explain(self, request_id: RequestId) -> Explained | None:
        """None once it is forgotten, or if it was never served here."""
