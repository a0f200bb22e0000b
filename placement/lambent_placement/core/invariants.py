"""What is true of the books after every event, whatever came in what order.

Simulated fleets ask after each of their steps, and spend a good part of their time here: so the instances
are gone through once, and what they say is counted for all indexes together.
"""

from collections import defaultdict
from dataclasses import dataclass, field

from lambent_placement.core.books import Books
from lambent_placement.core.histogram import Histogram
from lambent_placement.core.records import (
    FENCING,
    IDLE,
    LEASED,
    STOPPING,
    Frontend,
    Function,
    Instance,
    Node,
    Version,
)
from lambent_proto.ids import FrontendId, FunctionName, InstanceId, VersionKey, function_of


@dataclass(slots=True)
class Counted:
    """What the instances say by themselves, to be compared with what the books have counted and indexed."""

    idle: set[InstanceId] = field(default_factory=set)
    """Ready and leased to nobody."""
    idle_memory_mb: int = 0
    ends: set[InstanceId] = field(default_factory=set)
    """Of the idle ones those that may end or give way: they are not provisioned."""
    stays: set[InstanceId] = field(default_factory=set)
    """Provisioned, and not being stopped."""
    held: dict[FrontendId, set[InstanceId]] = field(default_factory=lambda: defaultdict(set))
    leased: dict[tuple[VersionKey, FrontendId | None], int] = field(default_factory=lambda: defaultdict(int))
    fencing: dict[VersionKey, int] = field(default_factory=lambda: defaultdict(int))
    instances: dict[VersionKey, int] = field(default_factory=lambda: defaultdict(int))
    running: dict[VersionKey, int] = field(default_factory=lambda: defaultdict(int))
    running_of: dict[FunctionName, int] = field(default_factory=lambda: defaultdict(int))

    def count(self, instance: Instance) -> None:
        state, version, name = instance.state, instance.version, instance.id
        self.instances[version] += 1
        if instance.running:
            self.running[version] += 1
            self.running_of[function_of(version)] += 1
        if instance.frontend is not None:
            self.held[instance.frontend].add(name)
        if instance.provisioned and state is not STOPPING:
            self.stays.add(name)
        if state is LEASED:
            self.leased[version, instance.frontend] += 1
        elif state is IDLE and instance.ready:
            self.idle.add(name)
            self.idle_memory_mb += instance.memory_mb
            if not instance.provisioned:
                self.ends.add(name)
        elif state is FENCING and not instance.busy:
            self.fencing[version] += 1


def check(books: Books) -> None:
    """Raises AssertionError, with the fact that does not hold, if any index or count has drifted."""
    counted = Counted()
    for instance in books.instances.values():
        counted.count(instance)
        _check_instance(books, instance)
    for node in books.nodes.values():
        _check_node(node, counted)
    for function in books.functions.values():
        _check_function(function, counted)
    for version in books.versions.values():
        _check_version(books, version, counted)
        _check_provisioned(books, version)
    for frontend in books.frontends.values():
        _check_frontend(frontend, counted)
    _check_fleet(books)
    _check_indexes(books, counted)
    _check_places(books)
    _check_pool(books)
    _check_keep(books)


def _check_instance(books: Books, instance: Instance) -> None:
    state = instance.state
    held_by = instance.frontend is not None
    assert held_by == (state is LEASED), f"{instance.id} is {state} and held"
    known = books.functions[function_of(instance.version)].instances.get(instance.id)
    assert known is instance, f"{instance.id} is not its function's"
    certain = state is not STOPPING  # that one may have been either before
    assert not certain or instance.running == (state is LEASED or state is FENCING), (
        f"{instance.id} is {state}, and counts wrongly"
    )


def _check_node(node: Node, counted: Counted) -> None:
    held, idle = 0, set()
    for instance in node.instances.values():
        held += instance.memory_mb
        if instance.id in counted.ends:
            idle.add(instance.id)
    assert node.used_mb == held, f"{node.id} counts {node.used_mb} MB, its instances take {held} MB"
    assert node.used_mb <= node.memory_mb, f"{node.id} is given more memory than it has"
    assert node.idle.keys() == idle, f"{node.id}: what is idle there has drifted"
    is_open = node.registered and node.connected and not node.is_emptied
    assert node.is_open == is_open, f"{node.id}: whether it is open has drifted"


def _check_function(function: Function, counted: Counted) -> None:
    idle, on_nodes = set(), defaultdict[str, int](int)
    for instance in function.instances.values():
        on_nodes[instance.node] += 1
        if instance.id in counted.ends:
            idle.add(instance.id)
    assert function.idle.keys() == idle, f"{function.name}: idle ones have drifted"
    assert function.nodes == on_nodes, f"{function.name}: its nodes have drifted"
    current, provisioned, beyond = set(), 0, 0
    for version in function.versions.values():
        provisioned += version.provisioned
        if version.running > version.provisioned:
            beyond += version.running - version.provisioned
        if version.current:
            current.add(version.key)
        assert version.running == counted.running[version.key], f"{function.name}: versions are miscounted"
    named = {version.key for version in function.current.values()}
    assert current == named, f"{function.name}: its current versions have drifted"
    assert function.provisioned == provisioned, f"{function.name}: provisioned"
    assert function.beyond == beyond, f"{function.name} counts {function.beyond}, takes {beyond} of the pool"
    running = counted.running_of[function.name]
    assert function.running == running, f"{function.name} counts {function.running} running, has {running}"


def _check_version(books: Books, version: Version, counted: Counted) -> None:
    key = version.key
    assert version.function is books.functions.get(function_of(key)), f"{key} is nobody's"
    assert version.function.versions.get(key) is version, f"{key} is not its function's"
    assert version.count == counted.instances[key], f"{key}: its instances are miscounted"
    assert version.fencing == counted.fencing[key], f"{key}: fences are miscounted"
    waiting = False
    for frontend, wanted in version.wanted.items():
        count = counted.leased[key, frontend]
        assert wanted.held == count, f"{frontend} counts {wanted.held} of {key}, holds {count}"
        waiting = waiting or bool(wanted.missing and books.frontends[frontend].attached)
    assert not waiting or key in books.needy, f"{key} is wanted and nobody looks at it"


def _check_provisioned(books: Books, version: Version) -> None:
    key, marked = version.key, version.marked
    kept = {i for i, it in marked.items() if it.state is IDLE and it.ready} if marked else set()
    assert version.kept.keys() == kept, f"{key}: what is kept ready has drifted"
    assert len(marked) <= version.provisioned, f"{key} has more than it is to have ready"
    assert bool(version.provisioned) == (key in books.provisioned)


def _check_frontend(frontend: Frontend, counted: Counted) -> None:
    held = counted.held[frontend.id]
    assert frontend.held.keys() == held, f"{frontend.id}: what it holds has drifted"


def _check_fleet(books: Books) -> None:
    on_nodes, unreported, emptied = 0, 0, set()
    for node in books.nodes.values():
        on_nodes += len(node.instances)
        if node.registered and not node.reported:
            unreported += node.most_instances
        if node.is_emptied:
            emptied.add(node.id)
    of_functions = sum([len(function.instances) for function in books.functions.values()])
    assert len(books.instances) == on_nodes == of_functions, "an instance is not counted where it belongs"
    assert books.emptied.keys() == emptied, f"what is emptied has drifted: {set(books.emptied) ^ emptied}"
    assert books.unreported == unreported, f"{books.unreported} instances are unreported, not {unreported}"


def _check_indexes(books: Books, counted: Counted) -> None:
    idle, ends, stays = counted.idle, counted.ends, counted.stays
    indexed, marked, rooms = set[InstanceId](), set[InstanceId](), defaultdict[VersionKey, int](int)
    for favoured in books.room_for.values():
        rooms[favoured] += 1
    for version in books.versions.values():
        indexed.update(version.idle, version.kept)
        marked.update(version.marked)
        assert version.making_room == rooms[version.key], f"{version.key}: evictions are miscounted"
    assert idle == indexed, f"the warm index has drifted: {idle ^ indexed}"
    assert books.idle_mb == counted.idle_memory_mb, (
        f"{books.idle_mb} MB count as idle, {counted.idle_memory_mb} MB are"
    )
    assert stays == marked, f"what is provisioned has drifted: {stays ^ marked}"
    assert books.idle.keys() == ends, f"what is idle has drifted: {set(books.idle) ^ ends}"
    ages = [instance.idle_since for instance in books.idle.values()]
    assert ages == sorted(ages), "what is idle is not in the order in which it was used"


def _check_pool(books: Books) -> None:
    used = reserved = 0
    for function in books.functions.values():
        if function.reserved is None:
            used += function.beyond
            reserved += function.provisioned
        else:
            reserved += function.reserved
    pool = books.pool
    assert pool.used == used, f"the pool counts {pool.used}, {used} run of it"
    assert pool.reserved == reserved, f"{pool.reserved} count as reserved, {reserved} are"
    left = max(0, pool.concurrency - pool.reserved - pool.elsewhere)
    assert pool.size == pool.shard.share(left), f"the pool is {pool.size}, of {left} that are left"


def _check_places(books: Books) -> None:
    """Each open node is in the index once, where it is looked for, and no other node is."""
    index, open_nodes, free_mb, memory_mb = books.index, 0, 0, 0
    for node in books.nodes.values():
        if not node.is_open:
            continue
        open_nodes, free_mb, memory_mb = open_nodes + 1, free_mb + node.free_mb, memory_mb + node.memory_mb
        place = index.kinds[node.runtimes, node.labels], (node.free_mb, -len(node.instances))
        assert index.places[node.id] == place, f"{node.id} has another place among the nodes"
        assert node.id in place[0].of[place[1]], f"{node.id} is not in its place among the nodes"
    assert (index.free_mb, index.memory_mb) == (free_mb, memory_mb), "the fleet's memory has drifted"
    count = 0
    for ranked in index.kinds.values():
        assert ranked.ranks == sorted(ranked.of), "ranks are missing or out of order"
        for equals in ranked.of.values():
            count += len(equals)
            assert equals == sorted(equals), "nodes are out of order"
    assert count == len(index.places) == open_nodes, "a node that is not open has a place"


def _check_keep(books: Books) -> None:
    """The policy knows all that idles and nothing else, in its own order."""
    keep = books.keep
    nodes = list(keep.nodes())
    with_idle = sorted([node.id for node in books.nodes.values() if node.idle])
    assert sorted([node.id for node in nodes]) == with_idle, "nodes with idle instances are unknown to keep"
    for node in books.nodes.values():
        order = list(keep.on_node(node))
        assert len(order) == len(node.idle), f"{node.id}: what keep has there has drifted"
        assert {i.id for i in order} == node.idle.keys(), f"{node.id}: what keep has there has drifted"
        if len(order) > 1:
            worths = [keep.worth(instance) for instance in order]
            assert worths == sorted(worths), f"{node.id}: not in the order in which it gives way"
    if len(nodes) > 1:
        firsts = [keep.worth(next(iter(keep.on_node(node)))) for node in nodes]
        assert firsts == sorted(firsts), "nodes are not in the order in which they give way"
    if isinstance(keep, Histogram):
        for function in books.functions.values():
            if function.idle:
                looked_at = keep.habits[function.name].look_at, function.name
                assert looked_at in keep.agenda, f"{function.name} is kept for ever"
