"""Hurts a whole fleet for a while: `python -m tests.chaos --seconds 600 --seed 7 --events 20000`. As root.

Then another one handles events while it is killed part by part: tests/chaos/loss.py.
"""

import argparse
import asyncio
import secrets
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from lambent_chassis.clock import monotonic_s
from tests.brokers.processes import NotInstalled
from tests.chaos import loss
from tests.chaos.hosts import CannotMakeHosts
from tests.chaos.run import run
from tests.integration.etcd.cluster import NoSoundEtcd


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seconds", type=float, default=600, help="how long faults are injected; 0: not")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**6), help="of the faults")
    parser.add_argument("--events", type=int, default=20_000, help="that shall not be lost; 0: none")
    parser.add_argument("--nats", action="store_true", help="keep asynchronous calls of these events in NATS")
    arguments = parser.parse_args()
    begin = monotonic_s()

    def say(what: str) -> None:
        print(f"{monotonic_s() - begin:7.1f} s  {what}", flush=True)  # noqa: T201

    folder = Path(tempfile.mkdtemp(prefix="lambent-chaos-"))
    told, broken = [], 0
    try:
        for table, wrong in _parts(arguments, folder, say):
            told.append(table)
            broken += wrong
    except (CannotMakeHosts, NoSoundEtcd, NotInstalled) as reason:
        print(reason)  # noqa: T201
        return 2
    print("", *told, f"what all said is in {folder}", sep="\n\n")  # noqa: T201
    return 1 if broken else 0


def _parts(
    arguments: argparse.Namespace, folder: Path, say: Callable[[str], None]
) -> Iterator[tuple[str, int]]:
    """What each found, and how much of it is wrong."""
    if arguments.seconds:
        say(f"seed {arguments.seed}")
        hurt = asyncio.run(run(_made(folder / "hurt"), arguments.seconds, arguments.seed, say))
        yield f"seed {arguments.seed}\n{hurt.table()}", len(hurt.broken)
    if arguments.events:
        made = _made(folder / "loss")
        report = asyncio.run(loss.run(made, arguments.events, say, in_nats=arguments.nats))
        yield report.table(), len(report.broken)


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


if __name__ == "__main__":
    sys.exit(main())
