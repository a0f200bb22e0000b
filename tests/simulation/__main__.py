"""Runs many seeds, or one with its story: `python -m tests.simulation --seeds 20000` or `--seed 17`."""

import argparse
import sys
from dataclasses import dataclass
from typing import Final

from lambent_chassis.clock import monotonic_s
from tests.simulation.promises import Broken
from tests.simulation.seeds import run_seeds
from tests.simulation.world import World

SAY_EVERY_S: Final = 20.0


@dataclass(slots=True)
class Progress:
    """Says on standard error every now and then how far it is."""

    seeds: int
    began_at: float
    said_at: float = 0.0

    def __call__(self, done: int, failed: int) -> None:
        now = monotonic_s()
        if now - max(self.said_at, self.began_at) < SAY_EVERY_S:
            return
        self.said_at = now
        left_min = (now - self.began_at) / done * (self.seeds - done) / 60
        print(  # noqa: T201
            f"{done:,} of {self.seeds:,} seeds, {failed} failed, {left_min:.0f} min left",
            file=sys.stderr,
            flush=True,
        )


def replay(seed: int, lines: int) -> int:
    world = World(seed, record=True)
    try:
        world.run()
    except (Broken, AssertionError, KeyError) as broken:
        told = list(world.story.lines or ())
        print("\n".join(told[-lines:]))  # noqa: T201 - the story is what was asked for
        print(f"\nseed {seed}, {world.clock.now:.4f} s: {type(broken).__name__}: {broken}")  # noqa: T201
        return 1
    print(f"seed {seed}: nothing broken; {world.calls} calls, {world.promises.starts} starts")  # noqa: T201
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=2000, help="how many seeds to run")
    parser.add_argument("--first", type=int, default=0, help="the first of them")
    parser.add_argument("--seed", type=int, help="replay this one seed and print its story")
    parser.add_argument("--lines", type=int, default=200, help="how much of the story to print")
    arguments = parser.parse_args()
    if arguments.seed is not None:
        return replay(arguments.seed, arguments.lines)
    failed, happened = run_seeds(
        arguments.first, arguments.seeds, progress=Progress(arguments.seeds, monotonic_s())
    )
    for name, count in happened.most_common():
        print(f"{count:>12,} {name}")  # noqa: T201
    for seed, broken in failed[:20]:
        print(f"seed {seed}: {broken}\n    python -m tests.simulation --seed {seed}")  # noqa: T201
    print(f"{arguments.seeds} seeds, {len(failed)} failed")  # noqa: T201
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
