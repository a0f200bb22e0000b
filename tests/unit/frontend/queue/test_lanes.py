"""What of the queue runs next, without clock or store: turns, bounds, pauses, and nothing forgotten."""

from dataclasses import dataclass, field
from math import inf

from hypothesis import given, settings
from hypothesis import strategies as st

from lambent_frontend.queue.core.lanes import LONGEST_PAUSE_S, WINDOW, Fetch, Item, Lanes, Run, pause_s


def widest(lane: str) -> int:
    return 1 if lane[0] == ">" else 4


@dataclass
class World:
    """Lanes over a store that is a dictionary."""

    lanes: Lanes = field(default_factory=lambda: Lanes(widest=widest, most_running=6, most_bytes=1000))
    stored: dict[int, tuple[str, float, int]] = field(default_factory=dict)
    running: list[Run] = field(default_factory=list)
    most_running: dict[str, int] = field(default_factory=dict)
    now: float = 0.0
    number: int = 0

    def put(self, lane: str, size: int = 1, due: float | None = None) -> int:
        self.number += 1
        at = self.now if due is None else due
        self.stored[self.number] = lane, at, size
        self.lanes.more(lane, at)
        return self.number

    def step(self) -> list[Run]:
        """What began."""
        began: list[Run] = []
        again = True
        while again:
            again = False
            for command in self.lanes.next(self.now):
                if isinstance(command, Fetch):
                    self.fetch(command)
                    again = True
                else:
                    began.append(command)
        self.running += began
        return began

    def fetch(self, command: Fetch) -> None:
        rows = sorted((due, n, size) for n, (lane, due, size) in self.stored.items() if lane == command.lane)
        items = [Item(n, due, size) for due, n, size in rows[: command.most] if due <= self.now]
        left = rows[len(items) :]
        self.lanes.fetched(command.lane, items, left[0][0] if left else inf)

    def over(self, run: Run) -> None:
        self.running.remove(run)
        del self.stored[run.item.number]
        self.lanes.over(run.lane, run.item)

    def throttled(self, run: Run) -> None:
        self.running.remove(run)
        self.lanes.throttled(run.lane, run.item, self.now)

    def postponed(self, run: Run, due: float) -> None:
        self.running.remove(run)
        self.stored[run.item.number] = run.lane, due, run.item.size
        self.lanes.postponed(run.lane, run.item, due)


def test_functions_take_turns() -> None:
    """However many events one of them has, and whichever came first."""
    world = World()
    for _ in range(50):
        world.put("many")
    world.put("few")
    world.put("other")
    began = [run.lane for run in world.step()]
    assert began.count("many") == 4
    assert {"few", "other"} <= set(began)


def test_no_more_run_than_may() -> None:
    """Of one function, and of all."""
    world = World()
    for lane in "abc":
        for _ in range(10):
            world.put(lane)
    assert len(world.step()) == 6
    assert world.lanes.running == 6
    world.over(world.running[0])
    assert len(world.step()) == 1


def test_large_events_wait_for_room() -> None:
    """One that is larger than all room runs alone."""
    world = World()
    world.put("a", size=5000)
    world.put("b", size=600)
    assert [run.lane for run in world.step()] == ["a"]
    world.over(world.running[0])
    assert [run.lane for run in world.step()] == ["b"]


def test_lanes_that_are_narrow_leave_places_to_others() -> None:
    world = World()
    for lane in (">one", ">two", ">three"):
        for _ in range(10):
            world.put(lane)
    for _ in range(10):
        world.put("a")
    began = [run.lane for run in world.step()]
    assert sorted(began) == [">one", ">three", ">two", "a", "a", "a"]
    world.lanes.went_well(">one")
    world.over(next(run for run in world.running if run.lane == ">one"))
    assert world.step()
    assert [run.lane for run in world.running].count(">one") <= 1


def test_large_events_that_hang_leave_room_to_others() -> None:
    """However many one function has of them."""
    world = World()
    for _ in range(4):
        world.put("hangs", size=120)
    world.put("small", size=600)
    assert sorted(run.lane for run in world.step()) == ["hangs", "hangs", "small"]
    world.over(world.running[0])
    assert [run.lane for run in world.step()] == ["hangs"]


def test_in_the_order_in_which_they_are_due() -> None:
    world = World()
    later = world.put("a", due=5.0)
    now = [world.put("a") for _ in range(3)]
    assert [run.item.number for run in world.step()] == now
    assert world.lanes.wake_at() == 5.0
    world.now = 5.0
    assert [run.item.number for run in world.step()] == [later]


def test_a_full_function_pauses_as_a_whole_and_longer_each_time() -> None:
    """What ran beside what was throttled counts once; in the end one is tried, five minutes apart."""
    world = World()
    for _ in range(20):
        world.put("full")
    pauses = []
    for _ in range(12):
        began = world.step()
        assert began
        for run in began:
            world.throttled(run)
        assert world.step() == []
        pauses.append(world.lanes.wake_at() - world.now)
        world.now = world.lanes.wake_at()
    assert pauses == [pause_s(n) for n in range(1, 13)]
    assert pauses[:3] == [1.0, 2.0, 4.0]
    assert pauses[-1] == LONGEST_PAUSE_S
    assert len(world.step()) == 1


def test_a_full_function_takes_nothing_from_others() -> None:
    world = World()
    for _ in range(20):
        world.put("full")
    for run in world.step():
        world.throttled(run)
    world.put("free")
    assert [run.lane for run in world.step()] == ["free"]


def test_more_run_again_once_it_goes_well() -> None:
    world = World()
    for _ in range(20):
        world.put("a")
    for run in world.step():
        world.throttled(run)
    assert world.step() == []
    world.now = world.lanes.wake_at()
    assert len(world.step()) == 2
    for run in list(world.running):
        world.lanes.went_well(run.lane)
        world.over(run)
    assert len(world.step()) == 4


def test_what_is_postponed_comes_again_then() -> None:
    world = World()
    number = world.put("a")
    world.step()
    world.postponed(world.running[0], 60.0)
    assert world.step() == []
    assert world.lanes.wake_at() == 60.0
    world.now = 60.0
    assert [run.item.number for run in world.step()] == [number]


def test_what_is_cancelled_does_not_run() -> None:
    world = World()
    numbers = [world.put("a") for _ in range(6)]
    world.step()
    del world.stored[numbers[5]]
    world.lanes.cancelled("a", numbers[5])
    for run in list(world.running):
        world.over(run)
    assert [run.item.number for run in world.step()] == [numbers[4]]


def test_memory_does_not_grow_with_the_queue() -> None:
    """A lane holds a few of a hundred thousand events, and rings no more than once for all of them."""
    world = World()
    for run in world.step():
        world.throttled(run)
    for _ in range(100_000):
        world.lanes.more("a", 0.0)
    list(world.lanes.next(0.0))
    world.lanes.fetched("a", [Item(n, 0.0, 1) for n in range(WINDOW)], 0.0)
    for run in [command for command in world.lanes.next(0.0) if isinstance(command, Run)]:
        world.lanes.throttled(run.lane, run.item, 0.0)
    for _ in range(1000):
        world.lanes.more("a", 0.0)
        list(world.lanes.next(0.5))
    held = world.lanes._lanes["a"]
    assert len(held.held) <= WINDOW + 4
    assert len(world.lanes._alarms) == 1


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(["put", "over", "throttled", "postponed", "wait"]), st.integers(0, 9)))
)
def test_every_event_runs_once_at_a_time_until_it_is_over(moves: list[tuple[str, int]]) -> None:
    """Whatever happens in between: none runs twice at once, none is forgotten, all bounds are kept."""
    world = World()
    for move, which in moves:
        run = world.running[which % len(world.running)] if world.running else None
        if move == "put":
            world.put("abc"[which % 3], due=world.now + which % 2)
        elif move == "wait":
            world.now += which * 50
        elif run and move == "over":
            world.lanes.went_well(run.lane)
            world.over(run)
        elif run and move == "throttled":
            world.throttled(run)
        elif run:
            world.postponed(run, world.now + which)
        world.step()
        numbers = [it.item.number for it in world.running]
        assert len(numbers) == len(set(numbers)) == world.lanes.running <= 6
        assert world.lanes.bytes == sum(it.item.size for it in world.running)
    while world.stored:
        for run in list(world.running):
            world.over(run)
        world.now = max(world.now, world.now if world.lanes.wake_at() == inf else world.lanes.wake_at())
        began = world.step()
        assert began or world.running or world.lanes.wake_at() < inf or not world.stored
    assert not world.lanes._lanes or all(lane.idle for lane in world.lanes._lanes.values())
