"""What there is to know of a system before it is started. Standard library only."""

from dataclasses import dataclass
from typing import Final, Literal

IN_FLIGHT: Final = (64, 1)
"""In this order: what is called 64 at a time has all its processes up when it is called one at a time."""

Kind = Literal["own", "gRPC", "HTTP"]
"""Who is called with the same client stands in one table; `own` is a system's own Python client."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Path:
    """One way to call a system."""

    kind: Kind
    name: str
    """What its row says after the system's title."""
    caller: tuple[str, ...] = ()
    """The module that calls, and its arguments before the address; none if it is the system's own file."""
    in_flight: tuple[int, ...] = IN_FLIGHT
    called_with: str
    """In words, for the page."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    name: str
    """On the command line, and with `_` the name of its file."""
    title: str
    paths: tuple[Path, ...]
    pip: tuple[str, ...] = ()
    """Exact requirements. Who has none runs in Lambent's own environment."""
    no_dependencies: bool = False
    """Of the first of them: what is wanted of it needs none."""
    npm: tuple[str, ...] = ()
    environment: str = ""
    """The folder under build/peers, where it is not the name: some share one."""
    programs: tuple[str, ...] = ()
    """That have to be on the PATH, and tell their versions with --version."""
    runs: str
    """What is started, for the page."""
    gives: str
    """That Lambent does not."""
    lacks: str
    """That Lambent does."""
    floor: bool = False
    """Nothing but a server, to see how much of a call is its."""

    @property
    def module(self) -> str:
        return f"loadtest.peers.{self.name.replace('-', '_')}"

    @property
    def folder(self) -> str:
        return self.environment or self.name


HTTP_CALLER: Final = ("loadtest.peers.http_caller",)
GRPC_CALLER: Final = ("loadtest.peers.grpc_caller",)

HTTP_WITH: Final = "HTTP/1.1 over connections that are kept, one for each call in flight"
GRPC_WITH: Final = "unary calls of `grpc.aio` over one channel"
