"""A request and its answer, whole, as the protocol reads and writes them."""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from lambent_frontend.wire import new_request_id
from lambent_proto.ids import RequestId

JSON: Final = "application/json"


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

    def header(self, name: bytes) -> str:
        """Empty if it was not sent."""
        return self.headers.get(name, b"").decode("latin-1")


@dataclass(slots=True)
class Response:
    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Those beside Content-Type, Content-Length, Date and Connection, as latin-1 carries them."""
    content_type: str = JSON
    """Of a body, if there is any."""
    cookies: Sequence[str] = ()
    """A Set-Cookie of its own for each."""
    parts: AsyncIterator[bytes] | None = None
    """The body piece by piece, in the place of `body`; each is asked for once the last was taken."""
    size: int = 0
    """Bytes of all parts together."""
