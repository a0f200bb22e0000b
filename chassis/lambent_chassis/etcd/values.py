"""What goes into etcd and comes out of it, as plain values."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from lambent_chassis.etcd import wire_pb2 as wire

if TYPE_CHECKING:
    from lambent_chassis.etcd.lease import Lease


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """How to trust etcd and be trusted by it; all files are PEM.

    Without `ca_file` the system's roots are taken. `server_name` is the name expected in etcd's certificate
    where that is not the endpoint's host.
    """

    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    server_name: str = ""


@dataclass(frozen=True, slots=True)
class KeyValue:
    """One key as it was at some revision. `lease_id` is 0 for a key without a lease."""

    key: str
    value: bytes
    create_revision: int
    mod_revision: int
    lease_id: int = 0


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All keys under a prefix as of one revision, in the order of the keys."""

    revision: int
    items: list[KeyValue]


@dataclass(frozen=True, slots=True)
class Change:
    """One key put or deleted at `mod_revision`. A deleted one has no value, and create_revision 0."""

    kind: Literal["put", "delete"]
    key: str
    value: bytes
    mod_revision: int
    create_revision: int


@dataclass(frozen=True, slots=True)
class Put:
    """Sets a key; without a lease the key is taken off the one it had."""

    key: str
    value: bytes
    lease: "Lease | None" = None


@dataclass(frozen=True, slots=True)
class Delete:
    """Deletes one key, or with `prefix` every key that begins so."""

    key: str
    prefix: bool = False


@dataclass(frozen=True, slots=True)
class Compare:
    """What must be true of a key for a transaction to succeed."""

    key: str
    target: Literal["create", "mod"]
    revision: int

    @classmethod
    def absent(cls, key: str) -> "Compare":
        return cls(key, "create", 0)

    @classmethod
    def create_revision(cls, key: str, revision: int) -> "Compare":
        """The key is the one created at `revision`, whatever its value now: a fence; 0 if it is absent."""
        return cls(key, "create", revision)

    @classmethod
    def mod_revision(cls, key: str, revision: int) -> "Compare":
        """The key is as it was last changed at `revision`; 0 if it is absent."""
        return cls(key, "mod", revision)


@dataclass(frozen=True, slots=True)
class TransactionResult:
    """`succeeded` says which branch was carried out; `revision` is etcd's after it."""

    succeeded: bool
    revision: int


def to_bytes(key: str) -> bytes:
    return key.encode("utf-8", "surrogateescape")


def to_text(key: bytes) -> str:
    """A key that is not UTF-8 is kept in a form that `to_bytes` turns back."""
    return key.decode("utf-8", "surrogateescape")


def prefix_range(prefix: str) -> tuple[bytes, bytes]:
    """First key of a prefix and the first one behind it, as etcd's ranges want them."""
    first = to_bytes(prefix)
    if stem := first.rstrip(b"\xff"):
        return first, stem[:-1] + bytes([stem[-1] + 1])
    return first or b"\0", b"\0"


def key_value(kv: wire.KeyValue) -> KeyValue:
    return KeyValue(to_text(kv.key), kv.value, kv.create_revision, kv.mod_revision, kv.lease)


def change(event: wire.Event) -> Change:
    kind: Literal["put", "delete"] = "delete" if event.type == wire.Event.DELETE else "put"
    kv = event.kv
    return Change(kind, to_text(kv.key), kv.value, kv.mod_revision, kv.create_revision)


def put_request(put: Put) -> wire.PutRequest:
    return wire.PutRequest(key=to_bytes(put.key), value=put.value, lease=put.lease.id if put.lease else 0)


def transaction_request(
    compare: Sequence[Compare], success: Sequence[Put | Delete], failure: Sequence[Put | Delete]
) -> wire.TransactionRequest:
    return wire.TransactionRequest(
        compare=[_compare(item) for item in compare],
        success=[_operation(item) for item in success],
        failure=[_operation(item) for item in failure],
    )


def _compare(item: Compare) -> wire.Compare:
    key = to_bytes(item.key)
    if item.target == "create":
        return wire.Compare(target=wire.Compare.CREATE, key=key, create_revision=item.revision)
    return wire.Compare(target=wire.Compare.MOD, key=key, mod_revision=item.revision)


def _operation(item: Put | Delete) -> wire.Operation:
    if isinstance(item, Put):
        return wire.Operation(put=put_request(item))
    if item.prefix:
        first, end = prefix_range(item.key)
        return wire.Operation(delete=wire.DeleteRangeRequest(key=first, range_end=end))
    return wire.Operation(delete=wire.DeleteRangeRequest(key=to_bytes(item.key)))
