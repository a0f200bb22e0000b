"""On which node a new instance is started: each numbered preference of `where`, as a table of situations."""

from dataclasses import dataclass, field
from typing import Final

import pytest

from lambent_placement.core import where
from lambent_placement.core.books import Books
from lambent_placement.core.records import Frontend, Instance, State, Version
from lambent_proto.ids import InstanceId, LeaseNumber, NodeId, VersionKey
from tests.unit.placement.scheduler_rows import OTHER, PYTHON, F, V


@dataclass(frozen=True)
class At:
    """A node of 1,024 MB: what is there already, in instances of 128 MB."""

    others: int = 0
    mine: int = 0
    labels: str = ""
    package: bool = False
    linked: bool = True
    runtime: str = PYTHON
    refused: bool = False


@dataclass(frozen=True)
class Wants:
    """The function whose instance is to be started."""

    require: str = ""
    prefer: str = ""
    apart: bool = False
    memory_mb: int = 128
    pack: bool = False


@dataclass(frozen=True)
class Row:
    what: str
    nodes: dict[str, At]
    wants: Wants = field(default_factory=Wants)
    best: str = ""
    """The node taken; empty if none can take it."""
    compared: tuple[str, ...] = ()
    """All of them, the best first; unless only the best matters."""


ROWS: Final = [
    Row(
        "nothing known: the emptiest",
        {"a": At(2), "b": At(1), "c": At(3)},
        best="b",
        compared=("b", "a", "c"),
    ),
    Row("packing: the fullest that fits", {"a": At(2), "b": At(8), "c": At(7)}, Wants(pack=True), best="c"),
    Row(
        "packing: by the share in use",
        {"a": At(0), "b": At(1)},
        Wants(pack=True),
        best="b",
        compared=("b", "a"),
    ),
    Row("no memory anywhere", {"a": At(8), "b": At(7)}, Wants(memory_mb=256)),
    Row("out of the frontend's reach", {"a": At(0, linked=False), "b": At(5)}, best="b", compared=("b",)),
    Row("it has just refused one", {"a": At(0, refused=True), "b": At(5)}, best="b", compared=("b",)),
    Row("another runtime alone", {"a": At(0, runtime="ruby3.3"), "b": At(5)}, best="b", compared=("b",)),
    Row(
        "required labels: whatever is emptier",
        {"a": At(0), "b": At(6, labels="gpu=true"), "c": At(0, labels="gpu=false")},
        Wants(require="gpu=true"),
        best="b",
        compared=("b",),
    ),
    Row(
        "all required labels",
        {"a": At(0, labels="gpu=true"), "b": At(5, labels="gpu=true zone=a")},
        Wants(require="gpu=true zone=a"),
        best="b",
        compared=("b",),
    ),
    Row("required and nowhere", {"a": At(0)}, Wants(require="gpu=true")),
    Row("required, and full", {"a": At(0), "b": At(8, labels="gpu=true")}, Wants(require="gpu=true")),
    Row(
        "1: a preferred label before an emptier node",
        {"a": At(0), "b": At(7, labels="zone=a")},
        Wants(prefer="zone=a"),
        best="b",
        compared=("b", "a"),
    ),
    Row(
        "1: the more of the preferred labels the better",
        {"a": At(0, labels="zone=a"), "b": At(7, labels="zone=a disk=ssd"), "c": At(1, labels="disk=ssd")},
        Wants(prefer="zone=a disk=ssd"),
        best="b",
        compared=("b", "a", "c"),
    ),
    Row(
        "1: a node with one of two labels is found among many emptier ones",
        {**{f"e{n}": At(0) for n in range(9)}, "b": At(7, labels="disk=ssd")},
        Wants(prefer="zone=a disk=ssd"),
        best="b",
    ),
    Row(
        "1: preferred, and nobody has it",
        {"a": At(1), "b": At(0)},
        Wants(prefer="zone=a"),
        best="b",
    ),
    Row(
        "1: a preferred label before instances being apart",
        {"a": At(0), "b": At(0, mine=3, labels="zone=a")},
        Wants(prefer="zone=a", apart=True),
        best="b",
    ),
    Row(
        "2: apart: away from its instances, to a fuller node",
        {"a": At(0, mine=1), "b": At(7)},
        Wants(apart=True),
        best="b",
        compared=("b", "a"),
    ),
    Row(
        "2: apart: where it has fewest, if it is everywhere",
        {"a": At(0, mine=2), "b": At(6, mine=1)},
        Wants(apart=True),
        best="b",
    ),
    Row(
        "2: apart: a node without one is found among many emptier ones with one",
        {**{f"e{n}": At(0, mine=1) for n in range(9)}, "b": At(7)},
        Wants(apart=True),
        best="b",
    ),
    Row(
        "2: apart: neither its package nor its instances draw it",
        {"a": At(0, package=True, mine=1), "b": At(3)},
        Wants(apart=True),
        best="b",
    ),
    Row(
        "3: its package is there, the node a little fuller",
        {"a": At(4), "b": At(4, package=True), "c": At(2)},
        best="b",
        compared=("b", "c", "a"),
    ),
    Row(
        "3: its package is there, the node too full",
        {"a": At(1), "b": At(6, package=True), "c": At(2)},
        best="a",
    ),
    Row(
        "3: its package before its instances",
        {"a": At(2, mine=1), "b": At(3, package=True), "c": At(3)},
        best="b",
        compared=("b", "a", "c"),
    ),
    Row("4: where it has instances, a little fuller", {"a": At(3), "b": At(3, mine=1)}, best="b"),
    Row("4: where it has instances, too full", {"a": At(1), "b": At(1, mine=3), "c": At(2)}, best="a"),
    Row(
        "4: a node with its instances is found among many emptier ones",
        {**{f"e{n}": At(4) for n in range(9)}, "b": At(4, mine=1)},
        best="b",
    ),
    Row(
        "4: not without the required label, where it was before",
        {"a": At(2, mine=1, package=True), "b": At(4, labels="gpu=true")},
        Wants(require="gpu=true"),
        best="b",
        compared=("b",),
    ),
    Row("5: as many points: always the same one", {"a": At(1), "b": At(1), "c": At(1)}, best="c"),
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.what)
def test_a_new_instance_goes_to_the_node_with_most_points(row: Row) -> None:
    """The table; and nothing is found where no node can take it."""
    books, frontend, version = _scene(row)
    found = where.candidates(books, frontend, version, at=1.0)
    assert (found[0].node if found else "") == row.best
    if row.compared:
        assert tuple(it.node for it in found) == row.compared
    assert [it.points for it in found] == sorted((it.points for it in found), reverse=True)


def test_what_spoke_for_a_node_is_said() -> None:
    """Its points are the sum of what a candidate tells: labels, package, instances, memory left."""
    nodes = {"a": At(2, mine=1, package=True, labels="zone=a")}
    books, frontend, version = _scene(Row("", nodes, Wants(prefer="zone=a disk=ssd")))
    books.add(_instance("z", NodeId("a"), V), version)
    [found] = where.candidates(books, frontend, version, at=1.0)
    assert (found.preferred, found.holds, found.package, found.free) == (1, 2, True, 0.375)
    assert found.points == 8 / 2 + 2 + 1 + 0.375


def test_few_nodes_are_compared_whatever_the_fleet() -> None:
    """A choice among a thousand nodes looks at three of each kind."""
    row = Row("", {f"n{number:04}": At() for number in range(1000)}, Wants(prefer="zone=a"))
    books, frontend, version = _scene(row)
    assert len(where.candidates(books, frontend, version, at=1.0)) == where.COMPARED


def _scene(row: Row) -> tuple[Books, Frontend, Version]:
    books = Books(pack=row.wants.pack)
    frontend = Frontend(F, attached=True)
    version = books.version(V)
    version.runtime, version.memory_mb, version.apart = PYTHON, row.wants.memory_mb, row.wants.apart
    version.require = frozenset(row.wants.require.split())
    version.prefer = frozenset(row.wants.prefer.split())
    for name, it in row.nodes.items():
        node = books.node(NodeId(name), 1024)
        labels = frozenset(it.labels.split())
        books.change_node(
            node,
            registered=True,
            connected=True,
            reported=True,
            runtimes=frozenset({it.runtime}),
            labels=labels,
        )
        node.refused_until = 2.0 if it.refused else 0.0
        if it.linked:
            frontend.links.add(node.id)
        for number in range(it.others):
            books.add(_instance(f"{name}-o{number}", node.id, OTHER), books.version(OTHER))
        for number in range(it.mine):
            books.add(_instance(f"{name}-m{number}", node.id, V), version)
        if it.package:
            books.has_package("", node.id)
    return books, frontend, version


def _instance(name: str, node: NodeId, version: VersionKey) -> Instance:
    return Instance(InstanceId(name), version, node, 128, LeaseNumber(1), State.IDLE, ready=True)
