"""The fleet's concurrency, and the rule that reservations leave something to the functions without one.

Two reservations made at the same moment at two frontends may together leave less than the rule wants. The
count is exact all the same: placement gives the pool what the reservations leave, were it nothing.
"""

from collections.abc import Callable, Mapping

from lambent_chassis.etcd import Compare, Etcd, EtcdError, KeyValue, Put, Snapshot
from lambent_frontend.catalogue import Catalogue
from lambent_frontend.commits import Store, commit
from lambent_proto import concurrency, keys
from lambent_proto.definition import Definition
from lambent_proto.errors import Contended, InvalidRequest, NotReady
from lambent_proto.ids import FunctionName
from lambent_proto.v1 import limits_pb2


async def follow_concurrency(etcd: Etcd, told: Callable[[int], None]) -> None:
    """Tells the fleet's concurrency, now and whenever it is changed. Never returns."""
    async for news in etcd.follow_prefix(keys.CONCURRENCY):
        values = [item.value for item in (news.items if isinstance(news, Snapshot) else news)]
        told(concurrency.decode(values[-1]) if values and values[-1] else concurrency.DEFAULT)


class Limits:
    def __init__(self, store: Store, catalogue: Catalogue, shards: int = 1) -> None:
        self._shards = shards
        self._store = store
        self._catalogue = catalogue

    async def check(self, definition: Definition) -> None:
        """Whether a function may have the reservation that its definition asks for.

        Raises InvalidRequest, and NotReady when etcd does not answer.
        """
        ready = self._provisioned(definition.name)
        if definition.concurrency is not None and definition.concurrency < ready:
            raise InvalidRequest(
                f"a concurrency of {definition.concurrency} for {definition.name!r} is lower than what its "
                f"versions have provisioned together, {ready}: take some of that away first"
            )
        if not definition.concurrency:
            return
        fleet = await self._concurrency()
        others = self._reserved(without=definition.name)
        left = fleet - others - definition.concurrency
        least = concurrency.least_unreserved(fleet, self._shards)
        if left < least:
            raise InvalidRequest(
                f"a concurrency of {definition.concurrency} for {definition.name!r} would leave "
                f"{max(left, 0)} of the fleet's {fleet} to the functions without one, and {least} must stay: "
                f"reserve {max(0, fleet - others - least)} at most, or raise the fleet's with "
                "`lambent concurrency`"
            )

    async def get_concurrency(self, request: limits_pb2.GetConcurrencyRequest) -> limits_pb2.FleetConcurrency:
        return self._described(await self._concurrency())

    async def set_concurrency(self, request: limits_pb2.SetConcurrencyRequest) -> limits_pb2.FleetConcurrency:
        wanted = request.concurrency
        lowest = max(concurrency.LEAST, self._shards)
        if not lowest <= wanted <= concurrency.MOST:
            each = ", one for each shard at least" if self._shards > 1 else ""
            raise InvalidRequest(
                f"the concurrency is {wanted}; allowed: {lowest} to {concurrency.MOST:,}{each}"
            )
        reserved = self._reserved()
        least = concurrency.least_unreserved(wanted, self._shards)
        if wanted - reserved < least:
            raise InvalidRequest(
                f"functions reserve {reserved}, and of {wanted} at least {least} must be left to the others: "
                "lower their reservations first"
            )
        found = await self._get()
        key = keys.CONCURRENCY
        fence = Compare.mod_revision(key, found.mod_revision) if found else Compare.absent(key)
        # By compare and swap: a change that was held up must not undo a later one.
        change = Put(key, concurrency.encode(wanted))
        if await commit(self._store, [fence], [change], "the fleet's concurrency") is None:
            raise Contended(
                "the concurrency was changed by somebody else meanwhile: look at it and decide again"
            )
        return self._described(wanted)

    async def _get(self) -> KeyValue | None:
        try:
            return await self._store.get(keys.CONCURRENCY)
        except EtcdError as error:
            raise NotReady(f"the metadata store does not answer: {error}") from error

    async def _concurrency(self) -> int:
        found = await self._get()
        return concurrency.decode(found.value) if found else concurrency.DEFAULT

    async def check_provisioned(
        self, definition: Definition, counts: Mapping[str, int], changed: str
    ) -> None:
        """Whether so many instances of a function may be ready, by version or alias, one of which is new.

        Raises InvalidRequest, and NotReady when etcd does not answer.
        """
        wanted = sum(counts.values())
        if definition.concurrency is not None:
            if wanted > definition.concurrency:
                raise InvalidRequest(
                    "Requested Provisioned Concurrency should not be greater than the "
                    "reservedConcurrentExecution for function: "
                    f"{wanted} is more than {definition.concurrency}"
                )
            return
        fleet = await self._concurrency()
        others = self._reserved(without=definition.name)
        least = concurrency.least_unreserved(fleet, self._shards)
        left = fleet - others - wanted
        if left < least:
            most = max(0, left - least + counts[changed])
            raise InvalidRequest(
                f"{wanted} provisioned for {definition.name!r} would leave {max(left, 0)} of the fleet's "
                f"{fleet} to the others, and {least} must stay: ask for {most} at most, "
                "or raise the fleet's with `lambent concurrency`"
            )

    def _provisioned(self, name: FunctionName) -> int:
        return sum(self._catalogue.deployed(name).provisioned.values())

    def _reserved(self, without: FunctionName | None = None) -> int:
        """By all functions but one; what has no reservation takes what it has provisioned."""
        known = (self._catalogue.get(name) for name in self._catalogue.names() if name != without)
        return sum(
            self._provisioned(it.name) if it.concurrency is None else it.concurrency for it in known if it
        )

    def _described(self, fleet: int) -> limits_pb2.FleetConcurrency:
        reserved = self._reserved()
        functions = [it for it in map(self._catalogue.get, self._catalogue.names()) if it]
        return limits_pb2.FleetConcurrency(
            functions=len(functions),
            code_size=sum(it.code_size for it in functions),
            concurrency=fleet,
            reserved=reserved,
            unreserved=max(0, fleet - reserved),
            shards=self._shards,
        )
