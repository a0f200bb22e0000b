"""How many frontends the fleet has: each says in etcd that it is there, and counts all that do.

A frontend that ends takes its word back; that of one that was killed goes when its lease has run out.
"""

import asyncio
import contextlib
from collections.abc import Callable, Collection
from typing import Final

import structlog

from lambent_chassis.etcd import Etcd, EtcdError, Snapshot
from lambent_proto import keys
from lambent_proto.ids import FrontendId

LEASE_TTL_S: Final = 5
PAUSE_S: Final = 1.0
"""Between two attempts to register."""
REVOKE_S: Final = 1.0
"""How long a frontend that ends tries to take its word back."""


class Peers:
    def __init__(
        self,
        etcd: Etcd,
        frontend: FrontendId,
        counted: Callable[[int], None],
        folders: Collection[str] = (),
        address: str = "",
    ) -> None:
        """`counted` is called with the number of frontends, this one included, whenever it may be another.
        `folders` are those of triggers that are on this machine: the others are told their names, and the
        `address` at which this one is to be asked."""
        self.addresses: dict[FrontendId, str] = {}
        """Where each of the others can be asked; of an older release none can."""
        self.others: set[str] = set()
        """That are there, by their ids."""
        self.known = asyncio.Event()
        """Set once the others have been counted."""
        self._etcd = etcd
        self._key = keys.frontend(frontend)
        self._address_key = keys.frontend_address(frontend)
        self._address = address
        self._counted = counted
        self._folders = ",".join(sorted(folders)).encode()
        self._log = structlog.get_logger()

    async def run(self) -> None:
        """Never returns."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._stay_registered())
            await self._count()

    async def _stay_registered(self) -> None:
        while True:
            try:
                await self._registered()
            except EtcdError as failed:
                self._log.warning("frontend_not_registered", reason=str(failed))
            await asyncio.sleep(PAUSE_S)

    async def _registered(self) -> None:
        """Returns when the lease was lost, which it is if etcd was away for too long."""
        lease = await self._etcd.lease(LEASE_TTL_S)
        try:
            if self._address:
                await self._etcd.put(self._address_key, self._address.encode(), lease)
            await self._etcd.put(self._key, self._folders, lease)
            await lease.lost.wait()
        finally:
            with contextlib.suppress(EtcdError, TimeoutError):
                async with asyncio.timeout(REVOKE_S):
                    await lease.revoke()

    async def _count(self) -> None:
        there: dict[str, bytes] = {}
        async for news in self._etcd.follow_prefix(keys.ALL_OF_FRONTENDS):
            if isinstance(news, Snapshot):
                there = {item.key: item.value for item in news.items}
            else:
                for change in news:
                    if change.kind == "put":
                        there[change.key] = change.value
                    else:
                        there.pop(change.key, None)
            self.addresses = {
                keys.frontend_of_address_key(key): value.decode()
                for key, value in there.items()
                if key.startswith(keys.FRONTEND_ADDRESSES) and key != self._address_key
            }
            registered = {key for key in there if key.startswith(keys.FRONTENDS)}
            self.others = {key.removeprefix(keys.FRONTENDS) for key in registered - {self._key}}
            self._counted(len(registered | {self._key}))
            self.known.set()
