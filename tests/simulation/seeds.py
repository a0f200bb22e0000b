"""Runs seeds, many at a time."""

import multiprocessing
from collections import Counter
from collections.abc import Callable

from tests.simulation.promises import Broken
from tests.simulation.world import World


def run_seed(seed: int) -> tuple[int, str, Counter[str]]:
    """The seed, what was broken (empty if nothing was), and what happened how often."""
    world = World(seed)
    try:
        world.run()
    except (Broken, AssertionError, KeyError) as broken:
        return seed, f"{type(broken).__name__}: {broken}", world.story.counts
    outcomes = Counter(f"call {call.outcome}" for call in world.promises.calls.values())
    return seed, "", world.story.counts + outcomes


def run_seeds(
    first: int,
    count: int,
    processes: int | None = None,
    progress: Callable[[int, int], None] = lambda done, failed: None,
) -> tuple[list[tuple[int, str]], Counter[str]]:
    """Runs seeds on all cores; returns those that broke a promise, and what happened how often.

    `progress` is told after each one how many are done, and how many of them failed.
    """
    failed: list[tuple[int, str]] = []
    happened: Counter[str] = Counter()
    done = 0
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        for seed, broken, counts in pool.imap_unordered(run_seed, range(first, first + count), chunksize=5):
            happened += counts
            done += 1
            if broken:
                failed.append((seed, broken))
            progress(done, len(failed))
    return sorted(failed), happened
