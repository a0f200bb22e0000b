"""All of triggers in one frontend, put together: what people see of them, and the keeper of those it has."""

from collections.abc import Mapping

from lambent_chassis.etcd import Etcd
from lambent_frontend.catalogue import Catalogue
from lambent_frontend.invoker import Invoker
from lambent_frontend.queue.destinations import Destinations
from lambent_frontend.triggers.holding import AnySource, Holding, Lag
from lambent_frontend.triggers.keeper import Held, Keeper
from lambent_frontend.triggers.names import folders_of
from lambent_frontend.triggers.on_failure import OnFailure
from lambent_frontend.triggers.poller import Poller
from lambent_frontend.triggers.sources import source_of
from lambent_frontend.triggers.store import Claim, TriggerStore
from lambent_frontend.triggers.triggers import Triggers
from lambent_proto.ids import FrontendId
from lambent_proto.triggers import Trigger


class Keeping:
    def __init__(
        self,
        etcd: Etcd,
        frontend: FrontendId,
        catalogue: Catalogue,
        sources: Mapping[str, str],
        destinations: Destinations,
    ) -> None:
        self._etcd = etcd
        self._frontend = frontend
        self._sources = sources
        self._store = TriggerStore(etcd)
        self._destinations = destinations
        self._keeper: Keeper | None = None
        self.shown = Triggers(self._store, catalogue, destinations.check, sources)

    async def run(self, invoker: Invoker) -> None:
        """Never returns; when it is cancelled, calls under way are waited for."""
        on_failure = OnFailure(invoker, self._destinations)

        def make(claim: Claim, held: Held) -> Holding:
            kept = _Kept(self._store, claim)

            async def source(trigger: Trigger) -> AnySource:
                return await source_of(trigger, self._sources, kept)

            def poller(trigger: Trigger, opened: AnySource) -> Poller:
                return Poller(trigger, opened, invoker, on_failure, held, kept)

            return Holding(self._frontend, claim, self._store, source, poller)

        of_folders = folders_of(self._sources)
        self._keeper = Keeper(self._etcd, self._store, self._frontend, make, of_folders)
        await self._keeper.run()

    def lags(self) -> list[Lag]:
        """Of the triggers that this frontend has, where the source says."""
        return [] if self._keeper is None else self._keeper.lags()


class _Kept:
    def __init__(self, store: TriggerStore, claim: Claim) -> None:
        self._store = store
        self._claim = claim

    async def places(self) -> Mapping[str, str]:
        return await self._store.places(self._claim.trigger_id)

    async def place(self, line: str, at: str) -> None:
        await self._store.place(self._claim, line, at)

    async def failures(self) -> Mapping[str, bytes]:
        return await self._store.failures(self._claim.trigger_id)

    async def keep_failures(self, line: str, failures: bytes) -> None:
        await self._store.keep_failures(self._claim, line, failures)
