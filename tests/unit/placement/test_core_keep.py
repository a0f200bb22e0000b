"""What becomes of idle instances under each policy: who ends, who gives way, what is started ahead."""

from typing import Final, get_args

import pytest

from lambent.simulate.policies import POLICIES
from lambent_placement.core import commands as do
from lambent_placement.core import events as on
from lambent_placement.core import invariants
from lambent_placement.core.histogram import REMEMBERED, Habit
from lambent_placement.core.scheduler import KEEPS, Scheduler
from lambent_placement.settings import PlacementSettings
from lambent_proto.ids import Epoch, FunctionName, InstanceId, LeaseNumber, NodeId, VersionKey
from tests.unit.placement.scheduler_rows import N1, N2, F, attached, defined, node

A, B, C = (VersionKey(f"{name}:$LATEST:1") for name in "abc")
MINUTE: Final = 60.0
WANTS_B: Final = on.Demanded(F, on.Wish(B, 1, 0.0), 0.0)


class Fleet:
    """Three functions, and nodes on which two instances fit each."""

    def __init__(self, keep: str, *nodes: NodeId, limit: int | None = None, memory_mb: int = 512) -> None:
        self.core = Scheduler(Epoch(1), keep=keep, keep_alive_s=600.0)
        self.at = 0.0
        self.started: list[tuple[VersionKey, InstanceId]] = []
        self.held: dict[InstanceId, LeaseNumber] = {}
        events = [event for name in nodes for event in node(name, memory_mb)]
        events += [defined(limit, version) for version in (A, B, C)]
        for event in [*events, attached(F, links=nodes)]:
            self.tell(event)

    def tell(self, event: on.Event, start_ms: float = 100.0) -> list[do.Command]:
        """Starts and evictions succeed at once."""
        done = self.core.handle(event)
        invariants.check(self.core.books)
        for command in list(done):
            match command:
                case do.Grant():
                    self.started.append((command.version, command.instance))
                    done += self.tell(on.InstanceReady(command.instance, 0.0, start_ms, self.at))
                case do.GiveLease():
                    self.held[command.instance] = command.number
                case do.Evict():
                    gone = on.InstanceGone(command.instance, command.reason, b"", self.at)
                    done += self.tell(gone, start_ms)
                case _:
                    pass
        return done

    def called(self, version: VersionKey, *, times: int = 1, start_ms: float = 100.0) -> list[VersionKey]:
        """A call that takes no time; returns what was evicted for it."""
        done: list[do.Command] = []
        for _ in range(times):
            done += self.tell(on.Demanded(F, on.Wish(version, 1, 0.0), self.at), start_ms)
            self.tell(on.Demanded(F, on.Wish(version, 0, 0.0), self.at))
            leases, self.held = list(self.held.items()), {}
            self.tell(on.Released(F, leases, True, self.at))
        return self.evicted(done)

    def called_every(self, minutes: float, version: VersionKey, times: int) -> None:
        for _ in range(times):
            self.until(self.at + minutes * MINUTE)
            self.called(version)

    def until(self, at: float) -> list[VersionKey]:
        """Ticks four times a minute; returns what was evicted."""
        done: list[do.Command] = []
        while self.at + 15 <= at:
            self.at += 15
            done += self.tell(on.Tick(self.at))
        return self.evicted(done)

    def evicted(self, done: list[do.Command]) -> list[VersionKey]:
        known = {instance: version for version, instance in self.started}
        return [known[command.instance] for command in done if isinstance(command, do.Evict)]

    def there(self, version: VersionKey) -> int:
        return self.core.books.version(version).count


@pytest.mark.parametrize("keep", ["fixed", "greedy-dual", "histogram"])
def test_an_instance_is_kept_for_the_fixed_time(keep: str) -> None:
    """Where nothing better is known, under every policy."""
    fleet = Fleet(keep, N1)
    fleet.called(A)
    assert fleet.until(585.0) == []
    assert fleet.until(615.0) == [A]


@pytest.mark.parametrize("keep", sorted(KEEPS))
def test_no_node_is_given_more_memory_than_it_has(keep: str) -> None:
    """Its budget is full of idle ones, so one of them goes before the next comes; `there` counts both."""
    fleet = Fleet(keep, N1)
    for version in (A, B, C, A, B, C):
        fleet.at += 1.0
        fleet.called(version)
        assert fleet.core.books.nodes[N1].used_mb <= 512
    assert sum(map(fleet.there, (A, B, C))) == 2


@pytest.mark.parametrize(
    ("keep", "a", "b", "evicted"),
    [
        pytest.param("fixed", (1, 100.0), (1, 100.0), A, id="fixed: the least recently used"),
        pytest.param("fixed", (9, 900.0), (1, 100.0), A, id="fixed: however often it was called"),
        pytest.param("histogram", (9, 900.0), (1, 100.0), A, id="histogram: as fixed"),
        pytest.param("greedy-dual", (1, 100.0), (1, 100.0), A, id="all equal: the least recently used"),
        pytest.param("greedy-dual", (2, 100.0), (1, 100.0), B, id="what was called less"),
        pytest.param("greedy-dual", (1, 200.0), (1, 100.0), B, id="what started faster"),
        pytest.param("greedy-dual", (2, 100.0), (1, 300.0), A, id="both at once"),
    ],
)
def test_who_gives_way(keep: str, a: tuple[int, float], b: tuple[int, float], evicted: VersionKey) -> None:
    """Of two idle ones: how often each was called, and what its start took."""
    fleet = Fleet(keep, N1)
    for version, (times, start_ms) in ((A, a), (B, b)):
        fleet.called(version, times=times, start_ms=start_ms)
        fleet.at += 1.0
    assert fleet.called(C) == [evicted]


def test_what_takes_more_memory_gives_way() -> None:
    fleet = Fleet("greedy-dual", N1, memory_mb=768)
    fleet.tell(defined(None, VersionKey("b:$LATEST:2"), memory_mb=512))
    fleet.called(A)
    fleet.called(VersionKey("b:$LATEST:2"))
    assert fleet.called(C) == [VersionKey("b:$LATEST:2")]


def test_room_is_made_on_the_node_where_it_costs_least() -> None:
    """The emptiest is taken first, so A and C are on one node, B and D on the other."""
    fleet = Fleet("greedy-dual", N1, N2, memory_mb=256)
    fleet.called(A, times=3)
    fleet.called(B, times=2)
    assert fleet.called(C) == [B]


def test_what_was_called_often_grows_cheap_in_time() -> None:
    """Each eviction raises the clock: A is worth four calls, and gives way when others are worth as many."""
    fleet = Fleet("greedy-dual", N1)
    fleet.called(A, times=4)
    gone = []
    for number in range(8):
        fleet.at += 1.0
        version = VersionKey(f"x{number}:$LATEST:1")
        fleet.tell(defined(None, version))
        gone += fleet.called(version)
    assert gone.index(A) == 3


@pytest.mark.parametrize(
    ("minutes", "head_s", "tail_s"),
    [
        pytest.param([30, 30], 0.0, None, id="too few"),
        pytest.param([30, 30, 30], 0.9 * 1800, 1.1 * 1860, id="all alike: from head to tail, with margins"),
        pytest.param([30, 40, 50], 0.9 * 1800, 1.1 * 3060, id="from the shortest to the longest"),
        pytest.param([30, 40, 91], 0.0, None, id="too spread out"),
        pytest.param([300, 300, 300], 0.0, None, id="longer than what is counted"),
        pytest.param([0, 0, 0], 0.0, 1.1 * 60, id="short: kept, and not ended meanwhile"),
        pytest.param([1, 1, 1], 0.0, 1.1 * 120, id="still short"),
        pytest.param([2, 2, 2], 0.9 * 120, 1.1 * 180, id="no longer short"),
        pytest.param([0] + [30] * 39, 0.9 * 1800, 1.1 * 1860, id="one of forty is shorter than the head"),
        pytest.param([0] * 3 + [30] * 37, 0.0, 1.1 * 1860, id="three are not"),
        pytest.param([90] + [0] * 3000, 0.0, 1.1 * 60, id="one of 3,000 is longer than the tail"),
        pytest.param([9] * REMEMBERED * 2 + [0] * 5, 0.9 * 540, 1.1 * 600, id="a habit of many"),
    ],
)
def test_what_idle_times_tell(minutes: list[int], head_s: float, tail_s: float | None) -> None:
    habit = Habit()
    for minute in minutes:
        habit.note(minute * MINUTE + 1)
    assert habit.head_s == pytest.approx(head_s)
    assert habit.tail_s == (None if tail_s is None else pytest.approx(tail_s))


def test_a_new_habit_shows() -> None:
    """What was seen long ago counts less and less."""
    habit = Habit()
    for minute in [90] * 20 + [5] * 8 * REMEMBERED:
        habit.note(minute * MINUTE)
    assert habit.tail_s == pytest.approx(1.1 * 360)
    assert habit.seen < REMEMBERED


def test_one_is_started_just_before_the_next_call() -> None:
    """Every half hour: ended after the call, started after nine tenths of it, ended if no call comes."""
    fleet = Fleet("histogram", N1)
    fleet.called_every(30.0, A, 4)
    last, starts = fleet.at, len(fleet.started)
    assert fleet.until(last + 15) == [A]
    fleet.until(last + 26.5 * MINUTE)
    assert (fleet.there(A), len(fleet.started)) == (0, starts)
    fleet.until(last + 27.25 * MINUTE)
    assert (fleet.there(A), len(fleet.started)) == (1, starts + 1)
    fleet.called_every(2.5, A, 1)
    assert len(fleet.started) == starts + 1
    last = fleet.at
    assert fleet.until(last + 15) == [A]
    fleet.until(last + 34.0 * MINUTE)
    assert fleet.there(A) == 1
    fleet.until(last + 34.5 * MINUTE)
    assert fleet.there(A) == 0


def test_an_idle_instance_is_kept_for_the_tail() -> None:
    """Called every minute it is not expected after more than two, whatever the fixed time is."""
    fleet = Fleet("histogram", N1)
    fleet.called_every(1.0, A, 4)
    last = fleet.at
    assert fleet.until(last + 2.0 * MINUTE) == []
    assert fleet.until(last + 2.5 * MINUTE) == [A]


def test_idle_times_are_those_of_a_number_of_instances() -> None:
    """Two at once every half hour, one every minute: the second is not expected before, and not forgotten."""
    fleet = Fleet("histogram", N1)
    for minute in range(121):
        fleet.until(minute * MINUTE)
        if minute % 30 == 0:
            fleet.tell(on.Demanded(F, on.Wish(A, 2, 0.0), fleet.at))
        fleet.called(A)
    minutes = fleet.core.books.keep.habits[FunctionName("a")].minutes  # type: ignore[attr-defined]
    assert minutes == {1: 120, 30: 4}


@pytest.mark.parametrize(
    ("hindrance", "there"),
    [
        pytest.param([], 1, id="nothing in its way"),
        pytest.param([on.FunctionRemoved(FunctionName("a"), 0.0)], 0, id="the function is gone"),
        pytest.param([defined(0, A)], 0, id="it is switched off"),
        pytest.param(
            [defined(None, A), defined(None, B), on.ConcurrencySet(2, 0.0), WANTS_B],
            0,
            id="the pool is used up",
        ),
        pytest.param([on.NodeDraining("n1", True, 0.0)], 0, id="no node is open"),
        pytest.param([on.NodeRegistered(N2, 512)], 0, id="a worker has not reported what runs there"),
        pytest.param([defined(None, A), on.ProvisionedSet(A, 1, 0.0)], 1, id="it has one already"),
    ],
)
def test_what_is_started_ahead_is_under_every_limit(hindrance: list[on.Event], there: int) -> None:
    """At the time when it is due; the limit is of one instance, which an unreported worker may have."""
    fleet = Fleet("histogram", N1, limit=1)
    fleet.called_every(30.0, A, 4)
    fleet.until(fleet.at + 20 * MINUTE)
    for event in hindrance:
        fleet.tell(event)
    fleet.until(fleet.at + 8 * MINUTE)
    assert fleet.there(A) == there


def test_nobody_is_evicted_for_what_is_started_ahead() -> None:
    """Without free memory it is not started, though idle ones could give way."""
    fleet = Fleet("histogram", N1)
    fleet.called_every(30.0, A, 4)
    fleet.until(fleet.at + 20 * MINUTE)
    fleet.called(B)
    fleet.called(C)
    fleet.until(fleet.at + 8 * MINUTE)
    assert [fleet.there(version) for version in (A, B, C)] == [0, 1, 1]


def test_a_new_revision_is_started_ahead() -> None:
    """The habit is the function's; what has taken the place of what was called is started."""
    fleet = Fleet("histogram", N1)
    fleet.called_every(30.0, A, 4)
    new = VersionKey("a:$LATEST:2")
    fleet.until(fleet.at + MINUTE)
    fleet.tell(defined(None, new))
    fleet.until(fleet.at + 28 * MINUTE)
    assert (fleet.there(A), fleet.there(new)) == (0, 1)


def test_each_policy_can_be_set() -> None:
    """By the name that `lambent simulate` has for it; and no other can."""
    names = get_args(PlacementSettings.model_fields["keep_alive"].annotation)
    assert set(names) == set(KEEPS)
    assert set(names) <= set(POLICIES)
