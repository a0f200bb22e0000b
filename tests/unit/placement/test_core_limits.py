"""What functions may run at one time: reservations, what the others share, and how fast one may grow."""

import pytest

from lambent_placement.core import events as on
from lambent_placement.core import invariants
from lambent_placement.core.commands import Command, Fence, GiveLease, Grant, Recall, TellUnmet, Unmet
from lambent_placement.core.limits import StartRate
from lambent_placement.core.scheduler import Scheduler
from lambent_proto.ids import Epoch, FrontendId, FunctionName, NodeId, VersionKey
from lambent_proto.shards import ONLY, Shard
from tests.unit.placement.scheduler_rows import (
    N1,
    F,
    G,
    attached,
    defined,
    demanded,
    gone,
    node,
    ready,
    released,
)

A, B, C = (VersionKey(f"{name}:$LATEST:1") for name in "abc")


class Placed:
    """A leader with one large node and two frontends, and a fleet in which so much may run."""

    def __init__(self, concurrency: int, shard: Shard = ONLY, **reserved: int | None) -> None:
        self.core = Scheduler(Epoch(1), shard=shard)
        self.say(on.ConcurrencySet(concurrency, 0.0))
        for name, limit in reserved.items():
            self.say(defined(limit, VersionKey(f"{name}:$LATEST:1")))
        for event in (*node(N1, 1_000_000), attached(F, links=(N1,)), attached(G, links=(N1,))):
            self.say(event)

    def say(self, event: on.Event) -> list[Command]:
        commands = self.core.handle(event)
        invariants.check(self.core.books)
        return commands

    def ask(
        self, version: VersionKey, wanted: int, frontend: FrontendId = F, at: float = 1.0
    ) -> list[Command]:
        return self.say(demanded(frontend, wanted, at, version=version))

    def used(self) -> int:
        return self.core.books.pool.used


def granted(commands: list[Command]) -> int:
    return sum(isinstance(command, Grant) for command in commands)


def given(commands: list[Command]) -> list[VersionKey]:
    return [command.version for command in commands if isinstance(command, GiveLease)]


def unmet(commands: list[Command]) -> list[Unmet]:
    return [command.reason for command in commands if isinstance(command, TellUnmet)]


def test_functions_without_a_reservation_share_the_rest() -> None:
    """Of 10, a has 4 for itself; b and c run 6 together, and a has its 4 all the same."""
    fleet = Placed(10, a=4, b=None, c=None)
    assert granted(fleet.ask(B, 4)) == 4
    commands = fleet.ask(C, 5)
    assert granted(commands) == 2
    assert unmet(commands) == [Unmet.FLEET_LIMIT]
    assert "6 instances run that share the fleet's concurrency of 10, 4 of it reserved" in str(commands[-2:])
    assert granted(fleet.ask(A, 5)) == 4


def test_who_has_overtaken_another_asks_it_for_nothing() -> None:
    """Who ran most is looked for once a moment, and c has had one of b's since, in the same moment."""
    fleet = Placed(4, b=None, c=None)
    fleet.ask(B, 2)
    fleet.ask(C, 2)
    fleet.ask(C, 5)
    fleet.ask(B, 1)
    commands = fleet.say(gone(1))
    assert granted(commands) == 1
    assert not [it for it in commands if isinstance(it, Recall)]


def test_a_shard_has_its_part_of_the_rest() -> None:
    """Of 11 its own function has 2 and another shard's 4: of the other 5 the second one of two has 2."""
    fleet = Placed(11, Shard(1, 2), a=2, b=None)
    assert fleet.core.books.pool.size == 4, "of 9"
    fleet.say(on.ConcurrencySet(11, 0.0, elsewhere=4))
    commands = fleet.ask(B, 5)
    assert granted(commands) == 2
    assert "2 that shard 1 of 2 has of the fleet's concurrency of 11, 6 of it reserved" in str(commands)
    assert granted(fleet.ask(A, 5)) == 2


def test_what_another_shard_reserves_is_taken_back() -> None:
    """As a reservation in the same one would be: fenced at once, gone when its event has ended."""
    fleet = Placed(8, Shard(0, 2), b=None)
    fleet.ask(B, 4)
    for serial in range(1, 5):
        fleet.say(ready(serial))
    commands = fleet.say(on.ConcurrencySet(8, 3.0, elsewhere=3))
    assert sum(isinstance(command, Fence) for command in commands) == 1


def test_an_idle_instance_takes_no_part_of_the_pool() -> None:
    """It runs nothing: others may. It waits for its own function, warm."""
    fleet = Placed(1, b=None, c=None)
    fleet.ask(B, 1)
    fleet.say(ready(1))
    fleet.ask(B, 0)
    fleet.say(released(F, 1))
    assert fleet.used() == 0
    assert given(fleet.ask(C, 1)) == [C]
    assert unmet(fleet.ask(B, 1, at=2.0)) == [Unmet.FLEET_LIMIT], "warm, and still nothing may run beside c"


def test_who_runs_most_gives_half_the_difference() -> None:
    """b uses all of the pool and has more calls; c gets its share without waiting for b to have none."""
    fleet = Placed(8, b=None, c=None)
    fleet.ask(B, 20)
    commands = fleet.ask(C, 8)
    assert [c for c in commands if isinstance(c, Recall)] == [Recall(F, B, 4)]


def test_a_pool_of_one_goes_round() -> None:
    """Each of two functions with endless calls gets its turn."""
    fleet = Placed(1, b=None, c=None)
    fleet.ask(B, 5)
    fleet.say(ready(1))
    assert Recall(F, B, 1) in fleet.ask(C, 5)
    commands = fleet.say(released(F, 1, at=2.0))
    assert given(commands) == [C], "though b still waits, and has waited longer"
    assert Recall(F, C, 1) in commands
    fleet.say(ready(2, at=2.1))
    assert given(fleet.say(released(F, 2, at=2.3))) == [B]


def recalls(commands: list[Command]) -> list[tuple[VersionKey, int]]:
    return [(command.version, command.wanted) for command in commands if isinstance(command, Recall)]


def test_what_another_function_is_to_have_is_asked_for_once() -> None:
    """It stands until b's frontend has one free, and is not said anew with each message."""
    fleet = Placed(2, b=None, c=None)
    fleet.ask(B, 2)
    assert recalls(fleet.ask(C, 1)) == [(B, 1)]
    assert recalls(fleet.say(on.Recalled(F, B, [], 1.001))) == []
    assert recalls(fleet.ask(B, 2, at=1.002)) == []
    assert recalls(fleet.ask(C, 1, at=1.003)) == []
    assert recalls(fleet.say(on.Tick(1.1))) == [(B, 1)], "it may not have been heard"


def test_what_nobody_waits_for_any_more_is_not_asked_for() -> None:
    fleet = Placed(2, b=None, c=None)
    fleet.ask(B, 2)
    fleet.ask(C, 1)
    fleet.say(on.Recalled(F, B, [], 1.001))
    fleet.ask(C, 0, at=1.002)
    assert recalls(fleet.say(on.Tick(1.1)) + fleet.ask(B, 2, at=1.2)) == [(B, 0)]


def test_a_version_that_is_replaced_is_forgotten_with_what_was_asked_for() -> None:
    fleet = Placed(1, b=None, c=None)
    fleet.ask(B, 1)
    fleet.ask(C, 1)
    fleet.say(ready(1))
    fleet.say(on.Recalled(F, B, [], 1.001))
    newer = VersionKey("b:$LATEST:2")
    fleet.say(defined(None, newer))
    fleet.ask(B, 0, at=1.002)
    fleet.say(released(F, 1, at=1.003))
    fleet.say(gone(1, at=1.1))
    fleet.say(on.Tick(3.0))
    assert B not in fleet.core.books.versions


def test_a_lower_concurrency_takes_back_what_runs_too_much() -> None:
    """At once, without a call being broken: each is fenced, and goes when its event has ended."""
    fleet = Placed(6, b=None, c=None)
    for version in (B, C):
        fleet.ask(version, 3)
    for serial in range(1, 7):
        fleet.say(ready(serial))
    commands = fleet.say(on.ConcurrencySet(4, 3.0))
    assert sum(isinstance(command, Fence) for command in commands) == 2
    assert fleet.used() == 6, "until their workers say that nothing runs there"


def test_a_reservation_is_taken_out_of_the_pool_and_given_back() -> None:
    """What runs of the function counts where it belongs from then on."""
    fleet = Placed(6, b=None, c=None)
    fleet.ask(B, 2)
    assert fleet.used() == 2
    fleet.say(defined(3, B))
    assert (fleet.used(), fleet.core.books.pool.size) == (0, 3)
    assert granted(fleet.ask(C, 4)) == 3
    fleet.say(defined(None, B))
    assert (fleet.used(), fleet.core.books.pool.size) == (6, 6), "2 of b, and c has the one that it missed"
    fleet.say(on.FunctionRemoved(FunctionName("b"), 4.0))
    assert fleet.core.books.pool.size == 6


def test_workers_that_have_not_reported_may_run_what_is_shared() -> None:
    """A new leader counts them as full: too high for a moment, never too low."""
    fleet = Placed(4, b=None)
    fleet.ask(B, 1)
    fleet.say(ready(1))
    fleet.ask(B, 0)
    fleet.say(released(F, 1))
    fleet.say(on.NodeRegistered(NodeId("n9@1"), 1024))
    commands = fleet.ask(B, 1)
    assert (given(commands), unmet(commands)) == ([], [Unmet.COUNTING]), "not even the warm one"
    assert given(fleet.say(on.NodeReported(NodeId("n9@1"), 1024, [], 2.0))) == [B]


@pytest.mark.parametrize(
    ("seconds", "more"),
    [(0.0, 0), (0.05, 5), (1.0, 100), (10.0, 1000), (60.0, 1000)],
)
def test_a_function_grows_as_fast_as_lambdas(seconds: float, more: int) -> None:
    """1,000 at once, then 100 a second, and what is not used is not saved up."""
    rate = StartRate()
    for at, expected in ((0.0, 1000), (seconds, more)):
        count = 0
        while rate.may_start(at):
            rate.started()
            count += 1
        assert count == expected


def test_starts_beyond_the_rate_wait() -> None:
    """The reason is told, and the next tick starts what has become possible."""
    fleet = Placed(5000, b=4000)
    commands = fleet.ask(B, 1500)
    assert granted(commands) == 1000
    assert unmet(commands) == [Unmet.START_RATE]
    assert granted(fleet.say(on.Tick(1.5))) == 50
    assert granted(fleet.say(gone(1, "killed", at=1.5))) == 0, "another start is another start"
