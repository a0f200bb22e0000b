"""Shadows in the simulated fleets: nothing that happens there breaks one, and with the live policy for its
own it counts what the live one counts, as nearly as the model of its world allows.

Exact equality has a test of its own, in a kinder world: `tests/unit/placement/test_core_shadow.py`.
"""

from collections.abc import Iterable
from itertools import count, islice

import pytest

from lambent_placement.core.commands import Unmet
from lambent_placement.core.scheduler import KEEPS
from lambent_placement.core.shadow import Shadow
from lambent_placement.core.tally import Tally
from tests.simulation.world import World

STORMS = 12
CALMS = 8


def run(world: World, policy: tuple[str, float] | None, *, calm: bool = False) -> Shadow | None:
    """The shadow of who leads at the end; its books are checked after each event. None: nobody leads.

    Calls have no sticky keys, of which shadows know nothing.
    """
    world.keys = 0
    for placement in world.placements:
        placement.shadow_policy = policy or (placement.keep, placement.keep_alive_s)
    world.run(storm=not calm)
    leaders = [it.shadow for it in world.placements if it.core is not None and it.epoch == world.etcd.epoch]
    return leaders[0] if leaders else None


def ends(shadow: Shadow) -> list[str]:
    """What is left of a shadow when the fleet has had nothing to do for some seconds."""
    books = shadow.scheduler.books
    left = [f"{it.id} is {it.state.value}" for it in books.instances.values() if it.frontend]
    for frontend, version, job in shadow.demand.all():
        unmet = books.wanted(books.version(version), frontend).unmet
        if job.total and not unmet.startswith(Unmet.MEMORY.value):  # which is given up after a minute
            left.append(f"{frontend} has a job for {version}")
    return left + [f"{it} has not started" for it in shadow.workers.starts]


def starts(tallies: Iterable[Tally]) -> int:
    return sum(it.starts.total() for it in tallies)


def test_a_shadow_in_a_few_worlds() -> None:
    """A first look."""
    for seed in range(3):
        shadow = run(World(seed), None)
        assert shadow is not None
        assert ends(shadow) == []


@pytest.mark.simulation
@pytest.mark.timeout(300)
@pytest.mark.parametrize("other", [None, *((keep, 0.5) for keep in sorted(KEEPS))], ids=str)
def test_nothing_that_happens_breaks_a_shadow(other: tuple[str, float] | None) -> None:
    """Kills, pauses, partitions, updates and drains: its books agree with themselves, nothing is left over.

    With the live policy for its own it starts as many instances, to a twentieth, all worlds together.
    """
    shadows = [it for seed in range(STORMS) if (it := run(World(seed), other)) is not None]
    assert len(shadows) > STORMS / 2
    assert [ends(it) for it in shadows] == [[]] * len(shadows)
    live, own = starts(it.live for it in shadows), starts(it.own for it in shadows)
    assert live > 20 * STORMS
    if other is None:
        assert own == pytest.approx(live, rel=0.05)


@pytest.mark.simulation
@pytest.mark.timeout(300)
def test_in_calm_worlds_with_one_frontend_it_counts_nearly_the_same() -> None:
    """A fifth of all events crash their instance there, and each message takes its own time."""
    lives: list[Tally] = []
    owns: list[Tally] = []
    worlds = (world for seed in count() if len((world := World(seed)).frontends) == 1)
    for world in islice(worlds, CALMS):
        shadow = run(world, None, calm=True)
        assert shadow is not None
        assert ends(shadow) == []
        live, own = shadow.live, shadow.own
        lives.append(live)
        owns.append(own)
        assert own.starts.total() == pytest.approx(live.starts.total(), abs=3), f"seed {world.seed}"
        assert own.warm.total() == pytest.approx(live.warm.total(), abs=5), f"seed {world.seed}"
    assert starts(owns) == pytest.approx(starts(lives), rel=0.02)
