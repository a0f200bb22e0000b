"""The key layout in etcd: a contract between the parts. Values are msgpack maps, unless said otherwise.

Nothing here is written per invocation. `docs/etcd.md` gives the write rate of each key.
"""

from typing import Final

from lambent_proto.ids import FrontendId, FunctionName, NodeId

FUNCTIONS: Final = "/lambent/fn/"
"""One definition a function, compared and swapped on its mod_revision, written on deploy only."""

NODES: Final = "/lambent/node/"
"""One registration a worker, under its lease: its address and its capacity."""

WARM: Final = "/lambent/warm/"
"""One summary a worker, under its lease, at most once a second: instances by version and state."""

FRONTENDS: Final = "/lambent/frontend/"
"""One registration a frontend, under its lease: its address."""

LEADER: Final = "/lambent/leader/placement"
"""The leading placement's address and epoch, under its lease."""

EPOCH: Final = "/lambent/epoch"
"""How often leadership has changed hands; raised in the transaction that takes it. A decimal number."""


def function(name: FunctionName) -> str:
    return FUNCTIONS + name


def node(node_id: NodeId) -> str:
    return NODES + node_id


def warm(node_id: NodeId) -> str:
    return WARM + node_id


def frontend(frontend_id: FrontendId) -> str:
    return FRONTENDS + frontend_id


def package_name(sha256: str) -> str:
    """Name of a package's ZIP in the package store, by its hex SHA-256."""
    return f"{sha256}.zip"
