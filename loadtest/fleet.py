"""A fleet of its own for one run, started with `lambent up` on free ports in a folder that goes away."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import grpc

from lambent_proto.v1 import fleet_pb2, fleet_pb2_grpc
from loadtest.processes import still_there, tree

STOP_WITHIN_S: Final = 30.0
UP_LOG: Final = "up.log"
LAST_SAID: Final = 2_000
"""Characters of that log which are shown where a part has ended."""

ANY_ISOLATION: Final = ("--require-isolation", "none")
"""For functions that are our own: whatever this host can do is enough."""


class Off(Exception):
    """Something was not as it should be."""


@dataclass(frozen=True, slots=True)
class Fleet:
    pid: int
    endpoint: str
    http: str
    etcd: str
    pids: dict[str, int]
    """By the names of the parts."""
    isolation: str
    """The level that its workers reach."""
    data: Path
    """Its data folder."""

    def cpu_s(self) -> dict[str, float]:
        """CPU so far: of each part, and of the instances with what starts them; `up` itself is left out.

        Raises Off if a part has ended.
        """
        everyone = tree(self.pid)
        if ended := [name for name, pid in self.pids.items() if pid not in everyone]:
            said = (self.data.parent / UP_LOG).read_text()[-LAST_SAID:]
            raise Off(f"{', '.join(ended)} ended while in use; its `lambent up` said last: {said}")
        spent = {name: everyone[pid].cpu_s for name, pid in self.pids.items()}
        parts = {self.pid, *self.pids.values()}
        for name, pid in self.pids.items():
            if name.startswith("frontend"):  # what it has below it are frontends that share its ports
                below = {it: seen for it, seen in tree(pid).items() if it != pid}
                spent[name] += sum(seen.cpu_s for seen in below.values())
                parts |= set(below)
        spent["instances"] = sum(seen.cpu_s for pid, seen in everyone.items() if pid not in parts)
        return spent


def by_part(cpu_s: Mapping[str, float]) -> dict[str, float]:
    """The sums of what all workers, frontends or placements have."""
    found: dict[str, float] = {}
    for name, spent in cpu_s.items():
        kind = name.partition("-")[0]
        part = "workers" if kind == "worker" else kind
        found[part] = found.get(part, 0.0) + spent
    return found


@contextmanager
def fleet(*options: str, settings: Mapping[str, str] | None = None, restart: bool = False) -> Iterator[Fleet]:
    """`settings` are those of the parts, by key; `restart`: parts that end are started again.

    Raises Off if it does not start, or does not end with everything stopped.
    """
    with tempfile.TemporaryDirectory(prefix="lambent-") as folder:
        data = Path(folder)
        command = (
            "up",
            "--data",
            str(data / "data"),
            "--grpc-port",
            "0",
            "--http-port",
            "0",
            "--json-ready",
            *(() if restart else ("--no-restart",)),
        )
        environment = {key: value for key, value in os.environ.items() if not key.startswith("LAMBENT_")}
        environment |= {f"LAMBENT_{key.upper()}": value for key, value in (settings or {}).items()}
        with (data / UP_LOG).open("wb") as said:
            process = subprocess.Popen(
                [sys.executable, "-m", "lambent", *command, *options],
                stdout=subprocess.PIPE,
                stderr=said,
                env=environment,
                start_new_session=True,
            )
        try:
            yield _ready(process, data)
            _stop(process, data / UP_LOG)
        finally:
            process.kill()  # nothing happens if it has ended; its children end with it
            process.communicate()


def command(endpoint: str, arguments: Sequence[str]) -> str:
    """Runs `lambent` and returns what it prints; raises Off if it fails."""
    environment = os.environ | {"LAMBENT_ENDPOINT": endpoint}
    done = subprocess.run(
        [sys.executable, "-m", "lambent", *arguments],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    if done.returncode:
        raise Off(f"`lambent {' '.join(arguments)}` failed: {done.stderr}")
    return done.stdout


def _ready(process: "subprocess.Popen[bytes]", data: Path) -> Fleet:
    assert process.stdout is not None, "it is a pipe"
    line = process.stdout.readline()
    if not line:
        raise Off(f"the fleet did not start: {(data / 'up.log').read_text()}")
    facts: dict[str, Any] = json.loads(line)
    pids = {part["name"]: part["pid"] for part in facts["parts"]}
    return Fleet(
        process.pid,
        facts["endpoint"],
        facts["http"],
        facts["etcd"][0],
        pids,
        _isolation(facts["endpoint"]),
        data / "data",
    )


def _isolation(endpoint: str) -> str:
    with grpc.insecure_channel(endpoint) as channel:
        nodes = fleet_pb2_grpc.FleetStub(channel).ListNodes(fleet_pb2.ListNodesRequest()).nodes
    return ", ".join(sorted({node.isolation for node in nodes}))


def _stop(process: "subprocess.Popen[bytes]", log: Path) -> None:
    everyone = list(tree(process.pid).values())
    process.terminate()
    try:
        code = process.wait(STOP_WITHIN_S)
    except subprocess.TimeoutExpired:
        raise Off(f"the fleet did not stop within {STOP_WITHIN_S:g} s") from None
    if code:
        raise Off(f"the fleet ended with exit code {code}: {log.read_text()}")
    if left := still_there(everyone):
        raise Off(f"still running after the stop: {left}")
