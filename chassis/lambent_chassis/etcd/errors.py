"""Every way an etcd operation can fail.

EtcdError
├── EtcdUnavailable   no member answered; `unknown` says whether the operation may have been carried out
├── EtcdClosed        this session was closed
├── EtcdDenied        wrong user or password, or no permission
├── EtcdRefused       the request itself is wrong: too large, too many operations, the same key twice
├── EtcdFull          the database has reached its quota
├── Compacted         the asked revision is no longer kept
├── LeaseLost         the lease has run out or was revoked
├── EtcdReplaced      it is not the etcd that this session began with
└── EtcdNotStarted    no etcd program, or the one started did not become ready
"""

import grpc
import grpc.aio


class EtcdError(Exception):
    """Base of all; never raised itself."""


class EtcdUnavailable(EtcdError):
    """No member answered in time.

    `unknown` is True when a member may have taken the operation before the answer was lost. It may then
    still be carried out, even seconds later: read the key again before deciding.
    """

    def __init__(self, message: str, *, unknown: bool = False) -> None:
        super().__init__(message)
        self.unknown = unknown


class EtcdClosed(EtcdError):
    """The session was closed while the operation ran, or before."""


class EtcdDenied(EtcdError):
    """etcd knows neither this user and password, nor a permission of it for the key."""


class EtcdRefused(EtcdError):
    """etcd will refuse this request every time it is sent."""


class EtcdFull(EtcdError):
    """The database has reached its quota: reads and deletes still work, writes and new leases do not."""


class Compacted(EtcdError):
    """The revision asked for is gone; `compact_revision` is the oldest one kept, 0 if etcd did not say."""

    def __init__(self, compact_revision: int) -> None:
        super().__init__(f"etcd keeps no revision older than {compact_revision}: list again")
        self.compact_revision = compact_revision


class LeaseLost(EtcdError):
    """etcd does not know the lease any more, and has deleted its keys."""


class EtcdReplaced(EtcdError):
    """Another etcd answers than the one that this session began with, or it has gone back in time: it was
    restored from a backup. Nothing that was learnt from the one before is worth anything; a session that has
    raised this raises it again."""

    def __init__(self, endpoint: str, how: str) -> None:
        super().__init__(
            f"etcd at {endpoint} is not the one that this process began with ({how}). "
            "If it was restored from a backup, all is well: this process has to start anew."
        )


class EtcdNotStarted(EtcdError):
    """There is no etcd program here, or the one started ended or did not become ready."""


_UNSENT = ("etcdserver: no leader", "etcdserver: too many requests")
"""etcd's words for a request that it refused before proposing it."""

_TOKEN = (
    "etcdserver: invalid auth token",
    "etcdserver: revision of auth store is old",
    "etcdserver: user name is empty",
    "etcdserver: permission denied",
)
"""etcd's words for a token it does not take; 3.5.1 answers a stale one with the last."""

_TRANSIENT = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.ABORTED,
    }
)


def wants_token(reason: str) -> bool:
    """True if a fresh token may help."""
    return any(words in reason for words in _TOKEN)


def from_rpc(error: grpc.aio.AioRpcError, endpoint: str) -> EtcdError:
    """The error for a failed call to one member."""
    details = error.details() or ""
    code = error.code()
    said = f"etcd at {endpoint}: {details or code.name}"
    if any(words in details for words in _UNSENT):
        return EtcdUnavailable(said)
    if code in _TRANSIENT:
        return EtcdUnavailable(said, unknown=True)
    if wants_token(details) or "authentication failed" in details:
        return EtcdDenied(f"{said}. Check the etcd user, its password and its permission for /lambent/.")
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        return EtcdFull(f"{said}. Compact and defragment it, lift its alarm, raise --quota-backend-bytes.")
    if code is grpc.StatusCode.OUT_OF_RANGE:
        return Compacted(0)
    if "requested lease not found" in details:
        return LeaseLost(f"{said}: it ran out or was revoked, and its keys are deleted")
    return EtcdRefused(said)
