"""A request and its answer, whole, as the protocol reads and writes them."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from lambent_frontend.wire import new_request_id
from lambent_proto.ids import RequestId
from lambent_proto.tracing import read

JSON: Final = "application/json"


class CutOff(Exception):
    """What an answer's parts raise whose end does not come, and why is known: it is no bug."""


@dataclass(slots=True)
class Request:
    method: str
    path: str
    """As it was sent: still percent-encoded, without the query."""
    query: str = ""
    headers: Mapping[bytes, bytes] = field(default_factory=dict)
    """Names in lower case; of a name that came twice the last one counts."""
    body: bytes = b""
    id: RequestId = field(default_factory=new_request_id)
    """What the answer's `x-amzn-RequestId` says; of an invocation its request id."""
    fields: Sequence[tuple[bytes, bytes]] = ()
    """All headers, in their order."""
    source: str = ""
    """The address that it came from."""
    takes_chunks: bool = True
    """Its client speaks HTTP/1.1: an answer of unknown length has its end in it, not in the connection's."""

    def header(self, name: bytes) -> str:
        """Empty if it was not sent."""
        return self.headers.get(name, b"").decode("latin-1")

    @property
    def given_trace(self) -> str:
        """The trace that it belongs to; empty if it does not say one. W3C's goes before X-Ray's, which load
        balancers add to what comes without."""
        for name in (b"traceparent", b"x-amzn-trace-id"):
            if name in self.headers and read(given := self.header(name)) is not None:
                return given
        return ""


@dataclass(slots=True)
class Response:
    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Those beside Content-Type, Content-Length, Date and Connection, as latin-1 carries them."""
    content_type: str = JSON
    """Of a body, where there is one."""
    cookies: Sequence[str] = ()
    """A Set-Cookie of its own for each."""
    parts: AsyncGenerator[bytes, None] | None = None
    """The body where it comes in parts, `body` being empty: none of them empty, taken as fast as the client
    reads, and closed if it leaves. It begins to run once the head is written; raising cuts the answer off."""
    size: int | None = None
    """Bytes of all parts together, where that is known; or of the body that an answer to HEAD stands for."""
