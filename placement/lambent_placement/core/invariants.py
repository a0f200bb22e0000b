"""What is true of the books after every event, whatever came in what order."""

from collections import Counter

from lambent_placement.core.books import Books, Instance, State
from lambent_proto.ids import function_of


def check(books: Books) -> None:
    """Raises AssertionError, with the fact that does not hold, if any index or count has drifted."""
    instances = books.instances.values()
    for node in books.nodes.values():
        held = sum(i.memory_mb for i in node.instances.values())
        assert node.used_mb == held, f"{node.id} counts {node.used_mb} MB, its instances take {held} MB"
        assert node.used_mb <= max(node.memory_mb, 0), f"{node.id} is given more memory than it has"
    on_nodes = sum(len(n.instances) for n in books.nodes.values())
    of_functions = sum(len(f.instances) for f in books.functions.values())
    assert len(books.instances) == on_nodes == of_functions, "an instance is not counted where it belongs"
    _check_versions(books, list(instances))
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
    indexed = {i for v in books.versions.values() for i in v.idle}
    assert idle == indexed, f"the warm index has drifted: {idle ^ indexed}"
    for version in books.versions.values():
        assert version.fencing == fencing[version.key], f"{version.key}: fences are miscounted"
        assert version.making_room == rooms[version.key], f"{version.key}: evictions are miscounted"
        for frontend, wanted in version.wanted.items():
            count = leased[version.key, frontend]
            assert wanted.held == count, f"{frontend} counts {wanted.held} of {version.key}, holds {count}"
        waiting = any(w.missing and books.frontends[f].attached for f, w in version.wanted.items())
        assert not waiting or version.key in books.needy, f"{version.key} is wanted and nobody looks at it"
