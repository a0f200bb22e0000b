"""An asyncio session with etcd, with the method names of `etcd3`."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from typing import Final

import structlog

from lambent_chassis.etcd import wire_pb2 as wire
from lambent_chassis.etcd.answers import Answers
from lambent_chassis.etcd.errors import Compacted, EtcdClosed, EtcdUnavailable
from lambent_chassis.etcd.lease import Lease
from lambent_chassis.etcd.member import Endpoint
from lambent_chassis.etcd.rpcs import DELETE, PUT, RANGE, STATUS, TRANSACTION
from lambent_chassis.etcd.transport import PAUSE_S, Transport
from lambent_chassis.etcd.values import (
    Change,
    Compare,
    Delete,
    KeyValue,
    Put,
    Snapshot,
    Tls,
    TransactionResult,
    key_value,
    prefix_range,
    put_request,
    to_bytes,
    transaction_request,
)
from lambent_chassis.etcd.versions import parse_version, warning
from lambent_chassis.etcd.watch import watch

CONNECT_S: Final = 5.0
"""How long `connect` waits for a member with a leader."""
PAGE_KEYS: Final = 1_000
"""Keys asked for at a time when listing; all pages are of one revision."""


class Etcd:
    """One session with an etcd cluster, for one event loop; an async context manager.

    Reads are linearizable. An operation raises EtcdUnavailable when no member answered in time; where its
    `unknown` is set, the operation may have been carried out, or still be. Reads, `put`, leases and watches
    are repeated on another member meanwhile; anything conditional is not, unless said otherwise.
    """

    def __init__(
        self, endpoints: Sequence[str], *, tls: Tls | None = None, user: str = "", password: str = ""
    ) -> None:
        """Endpoints are `host:port`, `http://host:port` or `https://host:port`; one that works is enough."""
        if not endpoints:
            raise ValueError("give at least one etcd endpoint")
        self._endpoints = [Endpoint(text, tls) for text in endpoints]
        self._credentials = (user, password)
        self._transport: Transport | None = None
        self._leases: list[Lease] = []

    async def __aenter__(self) -> "Etcd":
        await self.connect()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def connect(self) -> None:
        """Finds a member that answers.

        Raises:
            EtcdUnavailable: none has a leader and answers within five seconds; names the endpoints.
            EtcdDenied: etcd does not take the user and password.
        """
        self._transport = transport = Transport(self._endpoints, *self._credentials)
        try:
            status = await transport.call(STATUS, wire.StatusRequest(), repeat=True, budget_s=CONNECT_S)
            if transport.has_user:
                await transport.renew_token("")
        except BaseException:
            await self.close()
            raise
        if doubt := warning(parse_version(status.version)):
            structlog.get_logger().warning("etcd_version", version=status.version, warning=doubt)

    async def close(self) -> None:
        """Leases are not revoked: they run out by themselves, unless their holder revoked them."""
        for lease in self._leases:
            await lease.stop()
        self._leases.clear()
        if self._transport is not None:
            await self._transport.close()

    async def get(self, key: str) -> KeyValue | None:
        answer = await self.transport.call(RANGE, wire.RangeRequest(key=to_bytes(key)), repeat=True)
        return key_value(answer.kvs[0]) if answer.kvs else None

    async def get_prefix(self, prefix: str) -> Snapshot:
        """All keys under a prefix, as of one revision, however many bytes that is."""
        while True:
            try:
                return await self._list(prefix)
            except Compacted:  # between two pages
                await asyncio.sleep(PAUSE_S)

    async def put(self, key: str, value: bytes, lease: Lease | None = None) -> int:
        """Sets a key and returns the revision. Without a lease the key is taken off the one it had.

        It is sent again when the answer is lost, and a member that was hung may carry out the lost one
        later, after a newer put. Where that matters, write with `replace` or a transaction.

        Raises:
            LeaseLost: the lease is gone; nothing was written.
        """
        answer = await self.transport.call(PUT, put_request(Put(key, value, lease)), repeat=True)
        return answer.header.revision

    async def put_if_not_exists(self, key: str, value: bytes, lease: Lease | None = None) -> bool:
        """Sets a key that is absent; False if it is there."""
        return (await self.transaction([Compare.absent(key)], [Put(key, value, lease)])).succeeded

    async def replace(self, key: str, value: bytes, mod_revision: int, lease: Lease | None = None) -> bool:
        """Sets a key that was last changed at `mod_revision`; False if it was changed since, or is gone."""
        fence = Compare.mod_revision(key, mod_revision)
        return (await self.transaction([fence], [Put(key, value, lease)])).succeeded

    async def delete(self, key: str) -> bool:
        """Deletes a key; False if there was none."""
        request = wire.DeleteRangeRequest(key=to_bytes(key))
        return (await self.transport.call(DELETE, request, repeat=False)).deleted > 0

    async def delete_prefix(self, prefix: str) -> int:
        """Deletes all keys under a prefix and returns how many there were."""
        first, end = prefix_range(prefix)
        request = wire.DeleteRangeRequest(key=first, range_end=end)
        return (await self.transport.call(DELETE, request, repeat=False)).deleted

    async def transaction(
        self,
        compare: Sequence[Compare],
        success: Sequence[Put | Delete],
        failure: Sequence[Put | Delete] = (),
        *,
        repeat: bool = False,
    ) -> TransactionResult:
        """Carries out `success` if everything compared is true, else `failure`; one revision for all of it.

        At most 128 operations, and no key twice. Set `repeat` where carrying it out twice does no harm: it is
        then sent again when the answer is lost, and `succeeded` tells of the last time.
        """
        request = transaction_request(compare, success, failure)
        answer = await self.transport.call(TRANSACTION, request, repeat=repeat)
        return TransactionResult(answer.succeeded, answer.header.revision)

    async def lease(self, ttl_s: int) -> Lease:
        """A new lease, kept alive every third of its TTL until it is revoked or this session is closed."""
        lease = await Lease.grant(self.transport, ttl_s)
        self._leases = [held for held in self._leases if not held.lost.is_set()]
        self._leases.append(lease)
        return lease

    def watch(self, key: str, start_revision: int) -> AsyncGenerator[list[Change], None]:
        """The changes of one key from a revision on; otherwise as `watch_prefix`."""
        return watch(self.transport, to_bytes(key), b"", start_revision)

    def watch_prefix(self, prefix: str, start_revision: int) -> AsyncGenerator[list[Change], None]:
        """All changes under a prefix from a revision on, in order, none lost and none twice.

        Goes on over lost connections, hung members and members without a leader for as long as it takes.

        Raises:
            Compacted: etcd does not keep the next revision any more.
            EtcdReplaced: it is another etcd than before.
            EtcdDenied: the user may not read the prefix.
        """
        return watch(self.transport, *prefix_range(prefix), start_revision)

    async def follow_prefix(self, prefix: str) -> AsyncGenerator[Snapshot | list[Change], None]:
        """What is under a prefix, and from then on every change of it.

        First a Snapshot, then batches of changes; after a compaction that overtook the watch a fresh
        Snapshot, which replaces everything known before. Waits for etcd for as long as it takes.

        Raises:
            EtcdReplaced: it is another etcd than before.
        """
        while True:
            try:
                snapshot = await self.get_prefix(prefix)
            except EtcdUnavailable:
                await asyncio.sleep(PAUSE_S)
                continue
            yield snapshot
            changes = self.watch_prefix(prefix, snapshot.revision + 1)
            try:
                async for batch in changes:
                    yield batch
            except Compacted as gone:
                structlog.get_logger().info("etcd_list_again", prefix=prefix, compacted=gone.compact_revision)
            finally:
                await changes.aclose()

    async def _list(self, prefix: str) -> Snapshot:
        first, end = prefix_range(prefix)
        items: list[KeyValue] = []
        revision = 0
        while True:
            request = wire.RangeRequest(key=first, range_end=end, limit=PAGE_KEYS, revision=revision)
            answer = await self.transport.call(RANGE, request, repeat=True)
            revision = revision or answer.header.revision
            items += [key_value(kv) for kv in answer.kvs]
            if not answer.more:
                return Snapshot(revision, items)
            first = answer.kvs[-1].key + b"\0"

    @property
    def cluster(self) -> int:
        """etcd's own number of the cluster that this session is with: one restored from a backup has another,
        if it was given a token of its own."""
        return self.transport.cluster

    @property
    def answers(self) -> Answers:
        """How it went with all of this session's requests."""
        return self.transport.answers

    @property
    def transport(self) -> Transport:
        """What the session's calls go through."""
        if self._transport is None:
            raise EtcdClosed("this etcd session is not connected: call connect() first")
        return self._transport
