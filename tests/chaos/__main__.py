"""Hurts a whole fleet for a while: `python -m tests.chaos --seconds 600 --seed 7`. As root."""

import argparse
import asyncio
import secrets
import sys
import tempfile
from pathlib import Path

from lambent_chassis.clock import monotonic_s
from tests.chaos.hosts import CannotMakeHosts
from tests.chaos.run import run
from tests.integration.etcd.cluster import NoSoundEtcd


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seconds", type=float, default=600, help="how long faults are injected")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**6), help="of the faults")
    arguments = parser.parse_args()
    begin = monotonic_s()

    def say(what: str) -> None:
        print(f"{monotonic_s() - begin:7.1f} s  {what}", flush=True)  # noqa: T201

    say(f"seed {arguments.seed}")
    folder = Path(tempfile.mkdtemp(prefix="lambent-chaos-"))
    try:
        report = asyncio.run(run(folder, arguments.seconds, arguments.seed, say))
    except (CannotMakeHosts, NoSoundEtcd) as reason:
        print(reason)  # noqa: T201
        return 2
    print(f"\n{report.table()}\n\nseed {arguments.seed}; what all said is in {folder}")  # noqa: T201
    return 1 if report.broken else 0


if __name__ == "__main__":
    sys.exit(main())
