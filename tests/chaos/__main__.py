"""Hurts a whole fleet for a while: `python -m tests.chaos --minutes 10 --seed 7 --events 20000`. As root.

Then every pair of hosts and every majority is parted; and another fleet handles events while it is killed
part by part: tests/chaos/loss.py.
"""

import argparse
import asyncio
import os
import secrets
import sys
import tempfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

from lambent_chassis.clock import monotonic_s, unix_s
from tests.brokers.processes import NotInstalled
from tests.chaos import loss
from tests.chaos.hosts import CannotMakeHosts
from tests.chaos.report import write_page
from tests.chaos.run import Task, run
from tests.chaos.schedule import drawn
from tests.integration.etcd.cluster import NoSoundEtcd


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10, help="how long faults are drawn; 0: none are")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**6), help="of the faults")
    parser.add_argument("--no-partitions", action="store_true", help="leave out each pair and each majority")
    parser.add_argument("--events", type=int, default=20_000, help="that shall not be lost; 0: none")
    parser.add_argument("--nats", action="store_true", help="keep asynchronous calls of these events in NATS")
    parser.add_argument("--page", action="store_true", help="write what was seen into docs/reliability.md")
    parser.add_argument("--plan", action="store_true", help="only say what the seed's faults are")
    arguments = parser.parse_args()
    if arguments.plan:
        print(f"--seed {arguments.seed} --minutes {arguments.minutes:g}")  # noqa: T201
        for it in drawn(arguments.seed, arguments.minutes * 60):
            print(f"{it.at:7.1f} s  {it.told()}")  # noqa: T201
        return 0
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
    task = Task(arguments.seed, arguments.minutes * 60, not arguments.no_partitions)
    if task.seconds or task.partitions:
        say(f"seed {task.seed}")
        hurt = asyncio.run(run(_made(folder / "hurt"), task, say))
        if arguments.page:
            command = f"python -m tests.chaos --minutes {arguments.minutes:g} --seed {task.seed}"
            command += "" if task.partitions else " --no-partitions"
            at = datetime.fromtimestamp(unix_s(), UTC)
            write_page(f"{at:%Y-%m-%d}, `{command}`, {os.cpu_count()} cores. {hurt.table()}")
        yield hurt.table(), len(hurt.broken)
    if arguments.events:
        made = _made(folder / "loss")
        report = asyncio.run(loss.run(made, arguments.events, say, in_nats=arguments.nats))
        yield report.table(), len(report.broken)


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


if __name__ == "__main__":
    sys.exit(main())
