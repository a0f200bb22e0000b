"""Our own small session with etcd: endpoints, leases, watches, elections, and a server as a child process."""

from lambent_chassis.etcd.binary import EtcdBinary, find_etcd
from lambent_chassis.etcd.election import Leadership, campaign, resign
from lambent_chassis.etcd.errors import (
    Compacted,
    EtcdClosed,
    EtcdDenied,
    EtcdError,
    EtcdFull,
    EtcdNotStarted,
    EtcdRefused,
    EtcdReplaced,
    EtcdUnavailable,
    LeaseLost,
)
from lambent_chassis.etcd.lease import Lease
from lambent_chassis.etcd.server import EtcdServer
from lambent_chassis.etcd.session import Etcd
from lambent_chassis.etcd.values import (
    Change,
    Compare,
    Delete,
    KeyValue,
    Put,
    Snapshot,
    Tls,
    TransactionResult,
)

__all__ = [
    "Change",
    "Compacted",
    "Compare",
    "Delete",
    "Etcd",
    "EtcdBinary",
    "EtcdClosed",
    "EtcdDenied",
    "EtcdError",
    "EtcdFull",
    "EtcdNotStarted",
    "EtcdRefused",
    "EtcdReplaced",
    "EtcdServer",
    "EtcdUnavailable",
    "KeyValue",
    "Leadership",
    "Lease",
    "LeaseLost",
    "Put",
    "Snapshot",
    "Tls",
    "TransactionResult",
    "campaign",
    "find_etcd",
    "resign",
]
