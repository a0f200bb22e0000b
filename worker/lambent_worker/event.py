"""What a function is called with."""

from dataclasses import dataclass

from lambent_proto.ids import RequestId
from lambent_worker.flow import Flow


@dataclass(frozen=True, slots=True)
class Event:
    request_id: RequestId
    deadline_ms: int
    """Unix time."""
    arn: str
    client_context: str
    """JSON, or empty."""
    body: bytes
    flow: Flow | None = None
    """Of the answer's parts; None if it is wanted whole."""
    trace: str = ""
    """X-Ray's form: `lambent_proto.tracing`."""
