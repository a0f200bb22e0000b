"""Which instance, which node, who has to go: each choice on books written by hand."""

from lambent_placement.core import choice, where
from lambent_placement.core.books import Books
from lambent_placement.core.commands import Reason
from lambent_placement.core.records import Frontend, Function, Instance, Node, State, Version
from lambent_proto.ids import FunctionName, InstanceId, LeaseNumber, VersionKey
from tests.unit.placement.scheduler_rows import N1, N2, N3, NODE_20, OTHER, PYTHON, F, V, W


class Scene:
    """Books with three connected nodes of 1,024 MB, all in one frontend's reach."""

    def __init__(self) -> None:
        self.books = Books()
        self.frontend = Frontend(F, attached=True, links={N1, N2, N3})
        self.new = Version(VersionKey("new:$LATEST:1"), Function(FunctionName("new")), runtime=PYTHON)
        """Whose instance is to be started."""
        for name in (N1, N2, N3):
            node = self.books.node(name, 1024)
            self.books.change_node(node, registered=True, connected=True, reported=True)

    def add(
        self,
        name: str,
        on_node: Node,
        *,
        memory_mb: int = 256,
        state: State = State.IDLE,
        idle_since: float = 0.0,
        version: VersionKey = V,
        ready: bool = True,
    ) -> Instance:
        instance = Instance(
            InstanceId(name),
            version,
            on_node.id,
            memory_mb,
            LeaseNumber(1),
            state,
            F if state is State.LEASED else None,
            ready,
            idle_since=idle_since,
        )
        self.books.add(instance, self.books.version(version))
        return instance

    @property
    def nodes(self) -> list[Node]:
        return list(self.books.nodes.values())

    def emptiest(self, memory_mb: int = 256, at: float = 0.0) -> Node | None:
        self.new.memory_mb = memory_mb
        found = where.candidates(self.books, self.frontend, self.new, at)
        return self.books.nodes[found[0].node] if found else None

    def make_room(self, memory_mb: int, at: float = 0.0) -> list[str]:
        self.new.memory_mb = memory_mb
        return [i.id for i in choice.make_room(self.books, self.frontend, self.new, at)]

    def give_way(self, version: VersionKey = V) -> str | None:
        victim = choice.give_way(self.books.version(version), self.books)
        return victim.id if victim else None


def test_the_warmest_is_the_last_that_became_idle_in_reach() -> None:
    """Most recently used first; what the frontend has no connection to is passed over."""
    scene = Scene()
    first, second, third = scene.nodes
    a, b = scene.add("a", first), scene.add("b", second)
    scene.add("c", third, state=State.LEASED)
    scene.add("d", third, ready=False)
    version = scene.books.version(V)
    assert choice.warmest(version, scene.frontend) is b
    scene.frontend.links.discard(N2)
    assert choice.warmest(version, scene.frontend) is a
    scene.frontend.links.clear()
    assert choice.warmest(version, scene.frontend) is None


def test_the_emptiest_node_has_most_free_memory() -> None:
    """In MB, not in instances; among equals the one with fewer instances."""
    scene = Scene()
    first, second, third = scene.nodes
    scene.add("a", first, memory_mb=512)
    for name in ("b", "c"):
        scene.add(name, second, memory_mb=128)
    scene.add("d", third, memory_mb=768)
    assert scene.emptiest() is second
    scene.add("e", second, memory_mb=256)
    assert scene.emptiest() is first


def test_the_emptiest_node_is_one_that_can_take_it() -> None:
    """Connected to placement and to the frontend, with memory enough, and not one that has just refused."""
    scene = Scene()
    first, second, third = scene.nodes
    scene.add("a", first, memory_mb=128)
    scene.add("b", second, memory_mb=256)
    assert scene.emptiest() is third
    scene.books.change_node(third, connected=False)
    assert scene.emptiest() is first
    first.refused_until = 0.5
    assert scene.emptiest(at=0.4) is second
    assert scene.emptiest(at=0.5) is first
    scene.frontend.links.discard(N1)
    assert scene.emptiest(at=0.5) is second
    assert scene.emptiest(768) is second
    assert scene.emptiest(769) is None


def test_room_is_made_on_one_node_by_those_idle_longest() -> None:
    """As few as are needed, least recently used first; never what is leased, starting or stopping."""
    scene = Scene()
    first, second, third = scene.nodes
    for node in (first, second, third):
        scene.add(f"full-{node.id}", node, memory_mb=512, state=State.LEASED)
    scene.add("older", second, idle_since=0.5)
    scene.add("old", first, idle_since=1.0)
    scene.add("starting", second, ready=False)
    scene.add("middle", third, idle_since=5.0)
    scene.add("young", first, idle_since=9.0)
    scene.add("stopping", third, state=State.STOPPING)
    assert scene.make_room(256) == ["older"]
    assert scene.make_room(512) == ["old", "young"]
    assert scene.make_room(513) == []
    second.refused_until = 0.5
    assert scene.make_room(256, at=0.4) == ["old"]
    assert scene.make_room(256, at=0.5) == ["older"]
    scene.frontend.links.discard(N2)
    assert scene.make_room(256, at=0.5) == ["old"]


def test_room_is_made_where_the_most_recently_used_victim_is_oldest() -> None:
    """One very old victim does not make up for a fresh one."""
    scene = Scene()
    first, second, third = scene.nodes
    scene.books.change_node(third, connected=False)
    for node, since in ((first, 0.0), (second, 4.0), (second, 5.0), (first, 9.0)):
        scene.add(f"{node.id}-{since}", node, memory_mb=512, idle_since=since)
    assert scene.make_room(1024) == ["n2@1-4.0", "n2@1-5.0"]


def test_only_a_node_with_the_runtime_is_chosen() -> None:
    """Neither to start there nor to make room; a worker that names none takes any Python and nothing else."""
    scene = Scene()
    first, second, third = scene.nodes
    scene.books.change_node(first, runtimes=frozenset({NODE_20}))
    scene.books.change_node(second, runtimes=frozenset({PYTHON}))
    scene.add("idle", first, memory_mb=1024, idle_since=1.0)
    scene.add("used", second, memory_mb=512, state=State.LEASED)
    scene.add("younger", second, memory_mb=512, idle_since=2.0)
    scene.add("youngest", third, memory_mb=1024, idle_since=3.0)
    assert scene.make_room(512) == ["younger"]
    scene.books.change_node(second, runtimes=frozenset({"python3.12"}))
    assert scene.make_room(512) == ["youngest"]
    scene.new.runtime = NODE_20
    assert scene.make_room(512) == ["idle"]
    scene.books.remove(first.instances[InstanceId("idle")])
    scene.books.remove(third.instances[InstanceId("youngest")])
    assert scene.emptiest() is first
    scene.new.runtime = "ruby"
    assert scene.emptiest() is None
    scene.new.runtime = PYTHON
    assert scene.emptiest() is third


def test_another_version_gives_way_first() -> None:
    """Whatever its age; only without one does an idle instance of the same version go, the oldest first."""
    scene = Scene()
    first, second, third = scene.nodes
    assert scene.give_way() is None
    scene.add("leased", first, state=State.LEASED)
    scene.add("starting", first, ready=False)
    assert scene.give_way() is None
    scene.add("same-old", second, idle_since=1.0)
    scene.add("same-young", first, idle_since=2.0)
    assert scene.give_way() == "same-old"
    scene.add("other-old", second, version=W, idle_since=8.0)
    scene.add("other-young", third, version=W, idle_since=9.0)
    assert scene.give_way() == "other-old"
    scene.books.change_node(second, connected=False)
    assert scene.give_way() == "other-young"


def test_the_reason_of_a_cold_start() -> None:
    """What was there, and why it would not do."""
    scene = Scene()
    first, _, _ = scene.nodes
    version = scene.books.version(V)
    assert choice.cold_reason(version) == Reason.NO_INSTANCE
    scene.add("elsewhere", first, version=OTHER)
    assert choice.cold_reason(version) == Reason.NO_INSTANCE
    scene.add("other", first, version=W)
    assert choice.cold_reason(version) == Reason.OTHER_VERSION
    scene.add("busy", first, state=State.LEASED)
    assert choice.cold_reason(version) == Reason.ALL_BUSY
    scene.add("idle", first)
    assert choice.cold_reason(version) == Reason.OUT_OF_REACH
