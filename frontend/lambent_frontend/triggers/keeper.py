"""Which triggers this frontend has: each is had by one frontend, and moves when that one goes.

Of all frontends that are there one is each trigger's own, by a digest of both names, so that they share the
triggers out without a word. It claims the trigger in etcd under a lease of its own; one that is another's by
now, since a frontend has come, is given up as soon as the calls under way are over. Whoever loses its lease,
or has not heard of it for as long as it lasts, stops at once.
"""

import asyncio
import contextlib
import hashlib
from collections.abc import Callable
from typing import Final, NamedTuple

import structlog

from lambent_chassis.clock import monotonic_s
from lambent_chassis.etcd import Change, Etcd, EtcdError, Lease, Snapshot
from lambent_frontend.triggers.holding import Holding, Known, Lag
from lambent_frontend.triggers.names import source_named
from lambent_frontend.triggers.store import Claim, NotOurs, TriggerStore
from lambent_proto import keys
from lambent_proto.errors import LambentError
from lambent_proto.ids import FrontendId
from lambent_proto.triggers import BadTrigger, Trigger

LEASE_TTL_S: Final = 5
PAUSE_S: Final = 1.0
"""Between two attempts to claim what somebody still has, and to have a lease."""
MARGIN_S: Final = 1.0
"""Before a lease may run out whoever relies on it stops."""
STOP_S: Final = 4.0
"""How long calls under way are waited for when the frontend stops. They come again elsewhere."""

Held = Callable[[], None]
"""Raises NotOurs unless the lease is good still."""
Make = Callable[[Claim, Held], Holding]

_log = structlog.get_logger()


class _Had(NamedTuple):
    claim: Claim
    holding: Holding
    task: "asyncio.Task[None]"


class Keeper:
    def __init__(
        self,
        etcd: Etcd,
        store: TriggerStore,
        frontend: FrontendId,
        make: Make,
        folders: frozenset[str] = frozenset(),
    ) -> None:
        """`folders` are the names of those that this frontend has."""
        self._etcd = etcd
        self._store = store
        self._frontend = frontend
        self._make = make
        self._triggers: dict[str, Known] = {}
        self._folders = folders
        self._frontends: dict[str, frozenset[str]] = {frontend: folders}
        """With the names of the folders that each has."""
        self._held: dict[str, _Had] = {}
        self._failed: dict[str, tuple[Claim, float]] = {}
        """Claims of what failed, and from when on they are given back: whose they are next is asked anew."""
        self._changed = asyncio.Event()

    def lags(self) -> list[Lag]:
        """Of the triggers that this frontend has."""
        return [lag for had in self._held.values() if (lag := had.holding.lag) is not None]

    async def run(self) -> None:
        """Never returns. When it is cancelled, calls under way are waited for and claims are given back."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._follow(keys.TRIGGERS, self._trigger_set))
            tasks.create_task(self._follow(keys.FRONTENDS, self._frontend_set))
            tasks.create_task(self._follow(keys.TRIGGER_CLAIMS, lambda *_: None))
            while True:
                try:
                    await self._with_a_lease()
                except EtcdError as failed:
                    _log.warning("triggers_not_claimed", reason=str(failed))
                await asyncio.sleep(PAUSE_S)

    # What there is

    async def _follow(self, prefix: str, told: Callable[[str, bytes | None, int], None]) -> None:
        there: set[str] = set()
        async for news in self._etcd.follow_prefix(prefix):
            for key, value, revision in _told(news, there):
                told(key.removeprefix(prefix), value, revision)
                (there.discard if value is None else there.add)(key)
            self._changed.set()

    def _trigger_set(self, trigger_id: str, value: bytes | None, revision: int) -> None:
        """One that cannot be read is as if it were not there, and harms no other."""
        self._triggers.pop(trigger_id, None)
        if value is not None:
            try:
                self._triggers[trigger_id] = Known(Trigger.decode(value), revision)
            except BadTrigger as error:
                _log.error("trigger_unreadable", trigger=trigger_id, error=str(error))
        if trigger_id in self._held:
            self._held[trigger_id].holding.set(self._triggers.get(trigger_id))

    def _frontend_set(self, frontend: str, value: bytes | None, _: int) -> None:
        self._frontends.pop(frontend, None)
        if value is not None:
            self._frontends[frontend] = frozenset(value.decode(errors="replace").split(","))

    def _is_ours(self, trigger_id: str) -> bool:
        return chosen(trigger_id, self._able(trigger_id)) == self._frontend

    def _able(self, trigger_id: str) -> set[str]:
        """Those that have the trigger's folder, if it is of one. If none has it any of them may say so."""
        frontends = {**self._frontends, self._frontend: self._folders}
        known = self._triggers.get(trigger_id)
        if known is None or known.trigger.kind != "folder":
            return set(frontends)
        name = source_named(known.trigger.source).name
        return {it for it, folders in frontends.items() if name in folders} or set(frontends)

    # What we have

    async def _with_a_lease(self) -> None:
        """Returns when the lease was lost, after all that relied on it has stopped."""
        lease = await self._etcd.lease(LEASE_TTL_S)

        def held() -> None:
            if lease.lost.is_set() or monotonic_s() > lease.valid_until - MARGIN_S:
                raise NotOurs("the lease on the trigger has run out")

        keeping = asyncio.create_task(self._keep(lease, held))
        try:
            while not lease.lost.is_set() and (left_s := lease.valid_until - MARGIN_S - monotonic_s()) > 0:
                await asyncio.wait([keeping], timeout=min(left_s, LEASE_TTL_S / 4))
                if keeping.done():
                    keeping.result()
        except asyncio.CancelledError:
            await self._give_all_up(keeping)
            raise
        finally:
            await self._stop_at_once(keeping)
            with contextlib.suppress(EtcdError, TimeoutError):
                async with asyncio.timeout(PAUSE_S):
                    await lease.revoke()

    async def _keep(self, lease: Lease, held: Held) -> None:
        while True:
            for trigger_id in list(self._triggers):
                if trigger_id not in self._held.keys() | self._failed.keys() and self._is_ours(trigger_id):
                    await self._claim(trigger_id, lease, held)
            for trigger_id, had in list(self._held.items()):
                if had.task.done():
                    del self._held[trigger_id]
                    self._ended(trigger_id, had)
                elif not self._is_ours(trigger_id):
                    had.holding.give_up()
            for trigger_id, (claim, at) in list(self._failed.items()):
                if monotonic_s() >= at:
                    await self._give_back(trigger_id, claim)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(PAUSE_S):
                    await self._changed.wait()
            self._changed.clear()

    async def _claim(self, trigger_id: str, lease: Lease, held: Held) -> None:
        try:
            claim = await self._store.claim(trigger_id, self._frontend, lease)
        except (EtcdError, LambentError) as error:
            _log.warning("trigger_not_claimed", trigger=trigger_id, reason=str(error))
            return
        if claim is None:
            return
        holding = self._make(claim, held)
        holding.set(self._triggers.get(trigger_id))
        task = asyncio.create_task(holding.run())
        task.add_done_callback(lambda _: self._changed.set())
        self._held[trigger_id] = _Had(claim, holding, task)

    def _ended(self, trigger_id: str, had: _Had) -> None:
        if not had.task.cancelled() and (error := had.task.exception()) is not None:
            _log.error("trigger_failed", trigger=trigger_id, error=repr(error))
            self._failed[trigger_id] = had.claim, monotonic_s() + PAUSE_S

    async def _give_back(self, trigger_id: str, claim: Claim) -> None:
        try:
            await self._store.release(claim)
            del self._failed[trigger_id]
        except LambentError as error:
            _log.warning("trigger_not_given_back", trigger=trigger_id, reason=str(error))
            self._failed[trigger_id] = claim, monotonic_s() + PAUSE_S

    async def _give_all_up(self, keeping: "asyncio.Task[None]") -> None:
        keeping.cancel()
        for had in self._held.values():
            had.holding.give_up()
        if self._held:
            await asyncio.wait([had.task for had in self._held.values()], timeout=STOP_S)

    async def _stop_at_once(self, keeping: "asyncio.Task[None]") -> None:
        tasks = [keeping, *(had.task for had in self._held.values())]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._held.clear()
        self._failed.clear()


def chosen(trigger_id: str, frontends: set[str]) -> str:
    """Whose the trigger is: if a frontend comes or goes, only its own triggers move."""
    return max(frontends, key=lambda it: hashlib.sha256(f"{trigger_id}\0{it}".encode()).digest())


def _told(news: Snapshot | list[Change], there: set[str]) -> list[tuple[str, bytes | None, int]]:
    """Of a fresh snapshot also that what it has not is gone."""
    if isinstance(news, Snapshot):
        now = {item.key for item in news.items}
        gone: list[tuple[str, bytes | None, int]] = [(key, None, 0) for key in sorted(there - now)]
        return gone + [(item.key, item.value, item.mod_revision) for item in news.items]
    return [(it.key, it.value if it.kind == "put" else None, it.mod_revision) for it in news]
