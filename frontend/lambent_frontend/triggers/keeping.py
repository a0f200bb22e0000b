"""All of triggers in one frontend, put together: what people see of them, and the keeper of those it has."""

from collections.abc import Callable, Mapping

from lambent_chassis.etcd import Etcd
from lambent_frontend.catalogue import Catalogue
from lambent_frontend.invoker import Invoker
from lambent_frontend.triggers.destinations import Destinations
from lambent_frontend.triggers.holding import AnySource, Holding
from lambent_frontend.triggers.keeper import Held, Keeper
from lambent_frontend.triggers.names import folders_of
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
        allowed: Callable[[str], None],
    ) -> None:
        """`allowed` is as Triggers has it."""
        self._etcd = etcd
        self._frontend = frontend
        self._sources = sources
        self._store = TriggerStore(etcd)
        self.shown = Triggers(self._store, catalogue, allowed, sources)

    async def run(self, invoker: Invoker) -> None:
        """Never returns; when it is cancelled, calls under way are waited for."""
        destinations = Destinations(invoker, self._sources)

        def make(claim: Claim, held: Held) -> Holding:
            async def source(trigger: Trigger) -> AnySource:
                return await self._source_of(trigger, claim)

            def poller(trigger: Trigger, opened: AnySource) -> Poller:
                return Poller(trigger, opened, invoker, destinations, held)

            return Holding(self._frontend, claim, self._store, source, poller)

        await Keeper(self._etcd, self._store, self._frontend, make, folders_of(self._sources)).run()

    async def _source_of(self, trigger: Trigger, claim: Claim) -> AnySource:
        async def places() -> Mapping[str, str]:
            return await self._store.places(trigger.id)

        async def place(line: str, at: str) -> None:
            await self._store.place(claim, line, at)

        return await source_of(trigger, self._sources, places, place)
