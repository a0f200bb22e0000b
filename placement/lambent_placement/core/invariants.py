"""What is true of the books after every event, whatever came in what order."""

from collections import Counter

from lambent_placement.core.books import Books
from lambent_placement.core.histogram import Histogram
from lambent_placement.core.records import Instance, State
from lambent_proto.ids import function_of


def check(books: Books) -> None:
    """Raises AssertionError, with the fact that does not hold, if any index or count has drifted."""
    instances = books.instances.values()
    for node in books.nodes.values():
        held = sum(i.memory_mb for i in node.instances.values())
        assert node.used_mb == held, f"{node.id} counts {node.used_mb} MB, its instances take {held} MB"
        assert node.used_mb <= node.memory_mb, f"{node.id} is given more memory than it has"
    on_nodes = sum(len(n.instances) for n in books.nodes.values())
    of_functions = sum(len(f.instances) for f in books.functions.values())
    assert len(books.instances) == on_nodes == of_functions, "an instance is not counted where it belongs"
    _check_versions(books, list(instances))
    _check_provisioned(books, list(instances))
    _check_indexes(books, list(instances))
    _check_places(books)
    _check_pool(books, list(instances))
    _check_keep(books)
    for instance in instances:
        held_by = instance.frontend is not None
        assert held_by == (instance.state is State.LEASED), f"{instance.id} is {instance.state} and held"
        known = books.functions[function_of(instance.version)].instances.get(instance.id)
        assert known is instance, f"{instance.id} is not its function's"


def _check_versions(books: Books, instances: list[Instance]) -> None:
    fencing = Counter(i.version for i in instances if i.state is State.FENCING and not i.busy)
    leased = Counter((i.version, i.frontend) for i in instances if i.state is State.LEASED)
    rooms = Counter(books.room_for.values())
    idle = {i.id for i in instances if i.state is State.IDLE and i.ready}
    indexed = {i for v in books.versions.values() for i in (*v.idle, *v.kept)}
    assert idle == indexed, f"the warm index has drifted: {idle ^ indexed}"
    idle_mb = sum(books.instances[i].memory_mb for i in idle)
    assert books.idle_mb == idle_mb, f"{books.idle_mb} MB count as idle, {idle_mb} MB are"
    for function in books.functions.values():
        current = {version.key for version in function.versions.values() if version.current}
        assert current == {version.key for version in function.current.values()}, (
            f"{function.name}: its current versions have drifted"
        )
    for version in books.versions.values():
        assert version.function is books.functions.get(function_of(version.key)), f"{version.key} is nobody's"
        assert version.function.versions.get(version.key) is version, f"{version.key} is not its function's"
        assert version.fencing == fencing[version.key], f"{version.key}: fences are miscounted"
        assert version.making_room == rooms[version.key], f"{version.key}: evictions are miscounted"
        for frontend, wanted in version.wanted.items():
            count = leased[version.key, frontend]
            assert wanted.held == count, f"{frontend} counts {wanted.held} of {version.key}, holds {count}"
        waiting = any(w.missing and books.frontends[f].attached for f, w in version.wanted.items())
        assert not waiting or version.key in books.needy, f"{version.key} is wanted and nobody looks at it"


def _check_provisioned(books: Books, instances: list[Instance]) -> None:
    stays = {i.id for i in instances if i.provisioned and i.state is not State.STOPPING}
    marked = {i for v in books.versions.values() for i in v.marked}
    assert stays == marked, f"what is provisioned has drifted: {stays ^ marked}"
    for version in books.versions.values():
        kept = {i for i, it in version.marked.items() if it.state is State.IDLE and it.ready}
        assert set(version.kept) == kept, f"{version.key}: what is kept ready has drifted"
        assert len(version.marked) <= version.provisioned, f"{version.key} has more than it is to have ready"
        assert bool(version.provisioned) == (version.key in books.provisioned)
    running = Counter(i.version for i in instances if i.running)
    for function in books.functions.values():
        versions = function.versions.values()
        assert all(v.running == running[v.key] for v in versions), f"{function.name}: versions are miscounted"
        assert function.provisioned == sum(v.provisioned for v in versions), f"{function.name}: provisioned"
        beyond = sum(max(0, v.running - v.provisioned) for v in versions)
        assert function.beyond == beyond, (
            f"{function.name} counts {function.beyond}, takes {beyond} of the pool"
        )


def _check_indexes(books: Books, instances: list[Instance]) -> None:
    idle = {i.id for i in instances if i.state is State.IDLE and i.ready and not i.provisioned}
    assert set(books.idle) == idle, f"what is idle has drifted: {set(books.idle) ^ idle}"
    ages = [i.idle_since for i in books.idle.values()]
    assert ages == sorted(ages), "what is idle is not in the order in which it was used"
    for node in books.nodes.values():
        assert set(node.idle) == idle & set(node.instances), f"{node.id}: what is idle there has drifted"
        is_open = node.registered and node.connected and not node.is_emptied
        assert node.is_open == is_open, f"{node.id}: whether it is open has drifted"
    for function in books.functions.values():
        assert set(function.idle) == idle & set(function.instances), (
            f"{function.name}: idle ones have drifted"
        )
        on_nodes = Counter(i.node for i in function.instances.values())
        assert function.nodes == on_nodes, f"{function.name}: its nodes have drifted"
    for frontend in books.frontends.values():
        held = {i.id for i in instances if i.frontend == frontend.id}
        assert set(frontend.held) == held, f"{frontend.id}: what it holds has drifted"
    emptied = {node.id for node in books.nodes.values() if node.is_emptied}
    assert set(books.emptied) == emptied, f"what is emptied has drifted: {set(books.emptied) ^ emptied}"
    unreported = sum(n.most_instances for n in books.nodes.values() if n.registered and not n.reported)
    assert books.unreported == unreported, f"{books.unreported} instances are unreported, not {unreported}"
    counts = Counter(i.version for i in instances)
    assert all(v.count == counts[v.key] for v in books.versions.values()), (
        "instances of a version are miscounted"
    )


def _check_pool(books: Books, instances: list[Instance]) -> None:
    running = Counter(function_of(i.version) for i in instances if i.running)
    for instance in instances:
        held = instance.state in (State.LEASED, State.FENCING)
        certain = instance.state is not State.STOPPING  # that one may have been either before
        assert not certain or instance.running == held, (
            f"{instance.id} is {instance.state}, and counts wrongly"
        )
    for function in books.functions.values():
        count = running[function.name]
        assert function.running == count, f"{function.name} counts {function.running} running, has {count}"
    sharing = [f for f in books.functions.values() if f.reserved is None]
    used = sum(f.beyond for f in sharing)
    assert books.pool.used == used, f"the pool counts {books.pool.used}, {used} run of it"
    reserved = sum(f.provisioned if f.reserved is None else f.reserved for f in books.functions.values())
    assert books.pool.reserved == reserved, f"{books.pool.reserved} count as reserved, {reserved} are"

    pool = books.pool
    left = max(0, pool.concurrency - pool.reserved - pool.elsewhere)
    assert pool.size == pool.shard.share(left), f"the pool is {pool.size}, of {left} that are left"


def _check_places(books: Books) -> None:
    """Each open node is in the index once, where it is looked for, and no other node is."""
    index, open_nodes = books.index, [node for node in books.nodes.values() if node.is_open]
    totals = sum(n.free_mb for n in open_nodes), sum(n.memory_mb for n in open_nodes)
    assert (index.free_mb, index.memory_mb) == totals, "the fleet's memory has drifted"
    for node in open_nodes:
        place = index.kinds[node.runtimes, node.labels], (node.free_mb, -len(node.instances))
        assert index.places[node.id] == place, f"{node.id} has another place among the nodes"
        assert node.id in place[0].of[place[1]], f"{node.id} is not in its place among the nodes"
    counts = [len(equals) for ranked in index.kinds.values() for equals in ranked.of.values()]
    assert sum(counts) == len(index.places) == len(open_nodes), "a node that is not open has a place"
    for ranked in index.kinds.values():
        assert ranked.ranks == sorted(ranked.of), "ranks are missing or out of order"
        assert all(equals == sorted(equals) for equals in ranked.of.values()), "nodes are out of order"


def _check_keep(books: Books) -> None:
    """The policy knows all that idles and nothing else, in its own order."""
    keep = books.keep
    nodes = list(keep.nodes())
    with_idle = sorted(node.id for node in books.nodes.values() if node.idle)
    assert sorted(node.id for node in nodes) == with_idle, "nodes with idle instances are unknown to keep"
    for node in books.nodes.values():
        order = list(keep.on_node(node))
        assert sorted(i.id for i in order) == sorted(node.idle), f"{node.id}: what keep has there has drifted"
        assert order == sorted(order, key=keep.worth), f"{node.id}: not in the order in which it gives way"
    firsts = [keep.worth(next(iter(keep.on_node(node)))) for node in nodes]
    assert firsts == sorted(firsts), "nodes are not in the order in which they give way"
    if isinstance(keep, Histogram):
        for function in books.functions.values():
            if function.idle:
                looked_at = keep.habits[function.name].look_at, function.name
                assert looked_at in keep.agenda, f"{function.name} is kept for ever"
