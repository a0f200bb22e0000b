"""The leaders of a fleet with several shards: together they run no more than the fleet's concurrency."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from lambent_placement.core import invariants
from lambent_placement.core.commands import Command, Grant, TellUnmet, Unmet
from lambent_placement.core.scheduler import Scheduler
from lambent_placement.driver import Driver, Leading
from lambent_placement.functions import ShardFunctions
from lambent_proto import keys
from lambent_proto.definition import Definition
from lambent_proto.ids import Epoch, FunctionName, NodeId, VersionKey
from lambent_proto.shards import Shard, shard_of
from lambent_proto.versions import encode_provisioned
from tests.unit.placement.scheduler_rows import F, attached, defined, demanded, node

NAMES = [FunctionName(f"f{number}") for number in range(6)]
News = dict[str, bytes | None]


class Leader:
    """The leader of one shard, as etcd's news reach it."""

    def __init__(self, shard: Shard, fleet: int) -> None:
        self.core = Scheduler(Epoch(1), shard=shard)
        self.driver = Driver(Leading(Epoch(1), lambda: float("inf")), self.core)
        self.functions = ShardFunctions(shard, self.driver)
        self.driver.set_concurrency(fleet)

    def hear(self, news: News) -> None:
        self.functions.change(news.items())
        invariants.check(self.core.books)


def leaders(fleet: int, shards: int) -> list[Leader]:
    return [Leader(Shard(number, shards), fleet) for number in range(shards)]


def deployed(name: str, reserved: int | None, version: str = "$LATEST") -> News:
    function = FunctionName(name)
    definition = Definition(
        name=function, revision="1", runtime="python3.11", handler="a.b", code_sha256="00", code_size=1
    )
    definition = replace(definition, concurrency=reserved, version=version)
    key = keys.function(function) if version == "$LATEST" else keys.version(function, version)
    return {key: definition.encode()}


def ready(name: str, count: int) -> News:
    key = keys.provisioned(FunctionName(name), "1")
    return deployed(name, None, "1") | {key: encode_provisioned(count) if count else None}


def deleted(name: str) -> News:
    function = FunctionName(name)
    every = keys.function(function), keys.version(function, "1"), keys.provisioned(function, "1")
    return dict.fromkeys(every)


names = st.sampled_from(NAMES)
changes = st.one_of(
    st.builds(deployed, names, st.none() | st.integers(0, 12)),
    st.builds(ready, names, st.integers(0, 6)),
    st.builds(deleted, names),
)


@given(fleet=st.integers(1, 60), shards=st.integers(1, 5), news=st.lists(changes, max_size=25))
def test_reservations_and_shares_add_up_to_the_fleets_concurrency(
    fleet: int, shards: int, news: list[News]
) -> None:
    """Whatever is deployed, reserved, provisioned and deleted where: exactly, once all have heard of it."""
    every = leaders(fleet, shards)
    there: dict[str, bytes] = {}
    for change in news:
        known = {key: value for key, value in change.items() if value is not None or key in there}
        for key, value in known.items():
            there.pop(key, None)
            if value is not None:
                there[key] = value
        for leader in every:
            leader.hear(known)
    pools = [leader.core.books.pool for leader in every]
    reserved = sum(pool.reserved for pool in pools)
    assert [pool.reserved + pool.elsewhere for pool in pools] == [reserved] * shards
    assert sum(pool.size for pool in pools) == max(0, fleet - reserved)
    fresh = leaders(fleet, shards)
    for leader, known_leader in zip(fresh, every, strict=True):
        leader.functions.replace(there)
        pool, before = leader.core.books.pool, known_leader.core.books.pool
        assert (pool.size, pool.reserved) == (before.size, before.reserved), "a new leader counts alike"


def test_a_leader_knows_of_no_functions_but_its_own() -> None:
    """Each is known to one of them alone, with its versions."""
    every = leaders(10, 3)
    for name in NAMES:
        for leader in every:
            leader.hear(deployed(name, 1) | deployed(name, 1, "1"))
    for number, leader in enumerate(every):
        assert set(leader.core.books.functions) == {it for it in NAMES if shard_of(it, 3) == number}


def version(name: str) -> VersionKey:
    return VersionKey(f"{name}:$LATEST:1")


def asked(leader: Leader, name: str, wanted: int) -> list[Command]:
    return leader.core.handle(demanded(F, wanted, 1.0, version=version(name)))


def test_what_runs_in_all_shards_is_the_fleets_concurrency() -> None:
    """Of 11, 4 are reserved; of the other 7 the first shard has 4 and the second 3, and no call gets more."""
    every = leaders(11, 2)
    for number, leader in enumerate(every):
        own = NodeId(f"n{number}@1")
        for event in (*node(own, 1_000_000), attached(F, links=(own,))):
            leader.core.handle(event)
        leader.driver.reserve_elsewhere(0 if number == 0 else 4)
    every[0].core.handle(defined(4, version("reserved")))
    for leader, name in ((every[0], "reserved"), (every[0], "a"), (every[1], "b")):
        if name != "reserved":
            leader.core.handle(defined(None, version(name)))
    commands = [asked(every[0], "reserved", 50), asked(every[0], "a", 50), asked(every[1], "b", 50)]
    assert [sum(isinstance(it, Grant) for it in some) for some in commands] == [4, 4, 3]
    told = [it for it in commands[2] if isinstance(it, TellUnmet)]
    assert told[0].reason is Unmet.FLEET_LIMIT
    assert told[0].detail == (
        "3 instances run that share the 3 that shard 1 of 2 has of the fleet's concurrency of 11, "
        "4 of it reserved"
    )


def test_instances_of_two_shards_have_two_names() -> None:
    """Both leaders are in their first epoch; the first shard's are called as in a fleet of one."""
    granted = []
    for leader in leaders(10, 2):
        own = NodeId("n@1")
        for event in (*node(own, 1_000_000), attached(F, links=(own,)), defined(None, version("a"))):
            leader.core.handle(event)
        granted += [it.instance for it in asked(leader, "a", 1) if isinstance(it, Grant)]
    assert granted == ["1-1", "s1-1-1"]
