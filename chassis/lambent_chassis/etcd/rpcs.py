"""etcd's calls: their paths and their messages."""

from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from google.protobuf.message import Message

from lambent_chassis.etcd import wire_pb2 as wire

Request = TypeVar("Request", bound=Message)
Answer = TypeVar("Answer", bound=Message)


@dataclass(frozen=True, slots=True, eq=False)
class Rpc(Generic[Request, Answer]):
    """One call. `streaming` is true where etcd takes and gives a stream of messages."""

    path: str
    request: type[Request]
    answer: type[Answer]
    streaming: bool = False


RANGE: Final = Rpc("/etcdserverpb.KV/Range", wire.RangeRequest, wire.RangeResponse)
PUT: Final = Rpc("/etcdserverpb.KV/Put", wire.PutRequest, wire.PutResponse)
DELETE: Final = Rpc("/etcdserverpb.KV/DeleteRange", wire.DeleteRangeRequest, wire.DeleteRangeResponse)
TRANSACTION: Final = Rpc("/etcdserverpb.KV/Txn", wire.TransactionRequest, wire.TransactionResponse)
GRANT: Final = Rpc("/etcdserverpb.Lease/LeaseGrant", wire.LeaseGrantRequest, wire.LeaseGrantResponse)
REVOKE: Final = Rpc("/etcdserverpb.Lease/LeaseRevoke", wire.LeaseRevokeRequest, wire.LeaseRevokeResponse)
KEEP_ALIVE: Final = Rpc(
    "/etcdserverpb.Lease/LeaseKeepAlive",
    wire.LeaseKeepAliveRequest,
    wire.LeaseKeepAliveResponse,
    streaming=True,
)
WATCH: Final = Rpc("/etcdserverpb.Watch/Watch", wire.WatchRequest, wire.WatchResponse, streaming=True)
STATUS: Final = Rpc("/etcdserverpb.Maintenance/Status", wire.StatusRequest, wire.StatusResponse)
MEMBERS: Final = Rpc("/etcdserverpb.Cluster/MemberList", wire.MemberListRequest, wire.MemberListResponse)
LINEARIZABLE: Final = frozenset(it.path for it in (RANGE, PUT, DELETE, TRANSACTION))
"""Those whose answers have a revision never older than one that came before they were sent."""
AUTHENTICATE: Final = Rpc(
    "/etcdserverpb.Auth/Authenticate", wire.AuthenticateRequest, wire.AuthenticateResponse
)
