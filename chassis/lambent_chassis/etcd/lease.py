"""A lease that is kept alive in the background, and knows until when its holder may rely on it."""

import asyncio
import contextlib
from typing import Final

import structlog

from lambent_chassis.clock import monotonic_s
from lambent_chassis.etcd import wire_pb2 as wire
from lambent_chassis.etcd.errors import EtcdClosed, EtcdError, EtcdReplaced, LeaseLost
from lambent_chassis.etcd.rpcs import GRANT, KEEP_ALIVE, REVOKE
from lambent_chassis.etcd.transport import PAUSE_S, Transport

REVOKE_S: Final = 5.0
"""Revoking gives up after this long; the lease then runs out by itself."""
LONGEST_TRY_S: Final = 2.0
SHORTEST_TRY_S: Final = 0.5


class Lease:
    """One lease of etcd. Its keys live as long as it does.

    `valid_until` is on the monotonic clock: the time the last answered keep-alive was *sent*, plus the TTL.
    etcd counts from a later moment, so the keys are still there until then; rely on them no longer than
    that. `lost` is set once etcd said that the lease is gone, or it was revoked here. With etcd out of
    reach `lost` stays clear while `valid_until` passes: a holder watches both.
    """

    def __init__(self, transport: Transport, lease_id: int, ttl_s: float, sent_at: float) -> None:
        self.id = lease_id
        self.ttl_s = ttl_s
        """Seconds, as granted: etcd raises a TTL that is shorter than its own election takes."""
        self.valid_until = sent_at + ttl_s
        self.lost = asyncio.Event()
        self._transport = transport
        self._next_at = sent_at + ttl_s / 3
        self._keeping = asyncio.create_task(self._keep(), name=f"etcd lease {lease_id:x}")

    @classmethod
    async def grant(cls, transport: Transport, ttl_s: int) -> "Lease":
        """A grant whose answer is lost leaves a lease that nobody uses and that runs out: safe to repeat."""
        sent_at = monotonic_s()
        granted = await transport.call(GRANT, wire.LeaseGrantRequest(ttl=ttl_s), repeat=True)
        return cls(transport, granted.id, float(granted.ttl), sent_at)

    async def revoke(self) -> None:
        """Ends the lease and deletes its keys; nothing happens if it is gone already.

        Raises:
            EtcdUnavailable: after five seconds; the lease is not kept alive any more and runs out by itself.
        """
        await self.stop()
        self.valid_until = min(self.valid_until, monotonic_s())
        with contextlib.suppress(LeaseLost):
            await self._transport.call(
                REVOKE, wire.LeaseRevokeRequest(id=self.id), repeat=True, budget_s=REVOKE_S
            )
        self.lost.set()

    async def stop(self) -> None:
        """Keeps it alive no longer."""
        self._keeping.cancel()
        await asyncio.gather(self._keeping, return_exceptions=True)

    async def _keep(self) -> None:
        try_s = min(max(self.ttl_s / 6, SHORTEST_TRY_S), LONGEST_TRY_S)
        log = structlog.get_logger()
        while not self.lost.is_set():
            await asyncio.sleep(self._next_at - monotonic_s())
            try:
                await self._renew(try_s)
            except (LeaseLost, EtcdReplaced) as gone:
                log.warning("etcd_lease_lost", lease=self.id, reason=str(gone))
                self._lose()
            except EtcdClosed:
                return
            except EtcdError as failed:
                log.warning("etcd_lease_not_renewed", lease=self.id, reason=str(failed))
                await asyncio.sleep(PAUSE_S)

    async def _renew(self, try_s: float) -> None:
        sent_at = monotonic_s()
        answer = await self._transport.once(KEEP_ALIVE, wire.LeaseKeepAliveRequest(id=self.id), try_s)
        if answer.ttl <= 0:
            self._lose()
            return
        self.valid_until = sent_at + answer.ttl
        self._next_at = sent_at + answer.ttl / 3

    def _lose(self) -> None:
        self.valid_until = min(self.valid_until, monotonic_s())
        self.lost.set()
