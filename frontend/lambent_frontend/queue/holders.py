"""Which queues in JetStream this frontend runs: its own, and those of frontends that are gone.

Each is claimed in etcd under a lease. Two that believe to have one for a moment, as a lease was lost, run an
event twice at worst: what becomes of it the store takes from one of them.
"""

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Final, Protocol

import structlog

from lambent_chassis.clock import monotonic_s
from lambent_chassis.etcd import Etcd, EtcdError, Lease
from lambent_proto import keys
from lambent_proto.errors import LambentError
from lambent_proto.ids import FrontendId

LEASE_TTL_S: Final = 5
PAUSE_S: Final = 1.0
"""Between two looks for queues that nobody has."""
REVOKE_S: Final = 1.0

_log = structlog.get_logger()


class Queues(Protocol):
    """What is needed of `lambent_frontend.queue.jetstream.JetStreamStore`."""

    async def queues(self) -> Sequence[str]: ...

    async def hold(self, queue: str) -> None: ...

    async def give_up(self, queue: str) -> None: ...


class Holders:
    def __init__(self, etcd: Etcd, store: Queues, frontend: FrontendId) -> None:
        self._etcd = etcd
        self._store = store
        self._frontend = frontend
        self._held: set[str] = set()

    async def run(self) -> None:
        """Until it is cancelled; then the claims are given back."""
        while True:
            try:
                await self._with_a_lease()
            except (EtcdError, LambentError) as failed:
                _log.warning("queues_not_held", reason=str(failed))
            await asyncio.sleep(PAUSE_S)

    async def _with_a_lease(self) -> None:
        """Returns when it was lost, or something failed, and nothing is held any more. Raises LambentError
        where that could not be given up: then it is before anything is claimed again.
        """
        await self._give_up()
        lease = await self._etcd.lease(LEASE_TTL_S)
        try:
            why = await self._looking(lease)
            _log.warning("queues_given_up", queues=len(self._held), why=why)
            await self._give_up()
        finally:
            with contextlib.suppress(EtcdError, TimeoutError):
                async with asyncio.timeout(REVOKE_S):
                    await lease.revoke()

    async def _give_up(self) -> None:
        for queue in sorted(self._held):
            await self._store.give_up(queue)
            self._held.remove(queue)

    async def _looking(self, lease: Lease) -> str:
        """Why it ended. After a failure nobody knows what is claimed: a new lease claims it all anew."""
        while not lease.lost.is_set() and monotonic_s() < lease.valid_until:
            try:
                await self._look(lease)
            except (EtcdError, LambentError) as failed:
                return str(failed)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(PAUSE_S):
                    await lease.lost.wait()
        return "the lease on them has run out"

    async def _look(self, lease: Lease) -> None:
        there = {self._frontend, *await self._store.queues()} - self._held
        for queue in sorted(there):
            if await self._etcd.put_if_not_exists(keys.queue_claim(queue), self._frontend.encode(), lease):
                self._held.add(queue)
                await self._store.hold(queue)
                if queue != self._frontend:
                    _log.warning("queue_taken_over", of=queue)
