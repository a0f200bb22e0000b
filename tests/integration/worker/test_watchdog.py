"""Nothing outlives its worker's lease, its worker, or the spawner: whatever dies, hangs or is stopped."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from lambent_chassis import clock
from lambent_worker.sandbox import spawner as script
from lambent_worker.sandbox.api import CannotStart, Exit
from lambent_worker.sandbox.spawned import Start
from lambent_worker.sandbox.spawner_client import Spawned, Spawner
from tests.integration.worker.scene import Exited, Lost, Scene, alive, children_of, scene, until

pytestmark = pytest.mark.integration

PID = "import os\ndef handler(event, context):\n    return os.getpid()"
HOW = {"channel": True, "keep": 0, "joins": 0, "open_files": 1024, "confine": None}
CHILD = "import os, subprocess\nchild = subprocess.Popen(['sleep', '600']).pid\n"
CHILD += "def handler(event, context):\n    return [os.getpid(), child]"


async def test_instances_die_when_the_lease_is_not_extended(tmp_path: Path) -> None:
    """At the moment it ends and not before; then nothing starts until it is extended again."""
    async with scene(tmp_path) as stage:
        it = await stage.started(CHILD)
        pids = (await stage.call(it)).json
        until_s = clock.monotonic_s() + 0.5
        stage.host.extend(until_s)
        assert await stage.hears() == Exited(it, "killed", b"")
        assert clock.monotonic_s() >= until_s
        assert not any(alive(pid) for pid in pids)
        refused = await stage.failed_init(PID)
        assert refused.reason == "spawn_failed"
        stage.host.extend(clock.monotonic_s() + 3_600)
        await stage.started(PID)


async def test_a_running_call_of_a_fenced_instance_is_not_the_functions_fault(tmp_path: Path) -> None:
    """No answer is made up: the exit alone is told, as killed."""
    async with scene(tmp_path) as stage:
        it = await stage.started("import time\ndef handler(e, c):\n    time.sleep(600)")
        stage.deliver(it)
        stage.host.extend(clock.monotonic_s())
        assert await stage.hears() == Exited(it, "killed", b"")


async def test_nothing_starts_before_the_first_lease() -> None:
    async with Spawner() as spawner:
        with pytest.raises(CannotStart, match="lease"):
            await _start(spawner, "a", ["/bin/sleep", "600"])


@asynccontextmanager
async def _driver(folder: Path, lease_s: float) -> AsyncIterator[tuple[int, list[int]]]:
    """A worker in a process of its own: its pid, and all pids of its instances."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.integration.worker.driver",
        str(folder),
        str(lease_s),
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[3],
        limit=2**20,
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(30):
            while not (line := await process.stdout.readline()).startswith(b"["):
                assert line, "the driver has ended"
        yield process.pid, json.loads(line)
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGKILL)
        await process.wait()


async def test_instances_die_with_their_worker(tmp_path: Path) -> None:
    """kill -9 of the worker: its instances, their children and the spawner are gone."""
    async with _driver(tmp_path, lease_s=600) as (worker, pids):
        spawner = children_of(worker)
        assert len(spawner) == 1
        assert len(pids) == 6
        assert all(alive(pid) for pid in pids)
        os.kill(worker, signal.SIGKILL)
        await until(lambda: not any(alive(pid) for pid in pids + spawner))


async def test_instances_die_when_their_worker_hangs(tmp_path: Path) -> None:
    """SIGSTOP of the worker: when its lease has run out, its instances and their children are gone."""
    async with _driver(tmp_path, lease_s=2.0) as (worker, pids):
        os.kill(worker, signal.SIGSTOP)
        await until(lambda: not any(alive(pid) for pid in pids))


async def test_instances_die_with_the_spawner(tmp_path: Path) -> None:
    """kill -9 of the spawner: each instance is told as exited once it is gone, and the host as lost."""
    async with scene(tmp_path) as stage:
        its = [await stage.started(CHILD) for _ in range(2)]
        pids = [pid for it in its for pid in (await stage.call(it)).json]
        os.kill(_spawner_pid(), signal.SIGKILL)
        said = [await stage.hears() for _ in range(3)]
        assert {x.instance for x in said if isinstance(x, Exited) and x.reason == "killed"} == set(its)
        assert [x for x in said if isinstance(x, Lost)] == [Lost("the spawner's process has died")]
        await until(lambda: not any(alive(pid) for pid in pids))
        assert (await stage.failed_init(PID)).reason == "spawn_failed"


async def test_instances_die_with_the_spawner_while_their_worker_hangs(tmp_path: Path) -> None:
    """Nobody is left to kill them but the kernel, which does so to an instance's own process."""
    async with _driver(tmp_path, lease_s=600) as (worker, pids):
        [spawner] = children_of(worker)
        os.kill(worker, signal.SIGSTOP)
        os.kill(spawner, signal.SIGKILL)
        instances, their_children = pids[::2], pids[1::2]
        try:
            await until(lambda: not any(alive(pid) for pid in instances))
        finally:
            for pid in instances + their_children:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


def _spawner_pid() -> int:
    """The child of this process that runs the spawner's script."""
    [pid] = [
        pid for pid in children_of(os.getpid()) if b"spawner.py" in Path(f"/proc/{pid}/cmdline").read_bytes()
    ]
    return pid


async def _start(spawner: Spawner, key: str, argv: list[str], folder: str = "/") -> Spawned:
    channel, theirs = socket.socketpair()
    output = os.open(os.devnull, os.O_WRONLY)
    with channel:
        return await spawner.start(
            key,
            Start(argv=tuple(argv), environment={}, folder=folder),
            output=output,
            channel=theirs.detach(),
        )


@pytest.fixture
async def spawner() -> AsyncIterator[Spawner]:
    async with Spawner() as it:
        it.extend(clock.monotonic_s() + 3_600)
        yield it


async def test_the_spawner_tells_exit_codes_signals_and_kills(spawner: Spawner) -> None:
    """What the function did to itself is not called killed."""
    codes = [
        await (await _start(spawner, f"c{n}", ["/bin/sh", "-c", f"exit {n}"])).exited for n in (0, 1, 255)
    ]
    assert codes == [Exit(0, False), Exit(1, False), Exit(255, False)]
    itself = await _start(spawner, "itself", ["/bin/sh", "-c", "kill -9 $$"])
    assert await itself.exited == Exit(-9, False)
    by_us = await _start(spawner, "by us", ["/bin/sleep", "600"])
    spawner.kill("by us")
    spawner.kill("by us")
    assert await by_us.exited == Exit(-9, True)
    spawner.kill("by us")


async def test_a_worker_that_reads_nothing_does_not_stop_the_watchdog() -> None:
    """The way to it is full to the brim, and its lease is kept to all the same."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours:
        with theirs:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-I", "-S", script.__file__, str(theirs.fileno()), pass_fds=[theirs.fileno()]
            )
        try:
            ours.sendall(json.dumps(["extend", clock.monotonic_s() + 2.0]).encode())
            sleeper = ["start", "a", ["/bin/sleep", "600"], {}, "/", HOW]
            null = os.open(os.devnull, os.O_RDWR)
            socket.send_fds(ours, [json.dumps(sleeper).encode()], [null, null])
            os.close(null)
            await until(lambda: len(children_of(process.pid)) == 1)
            ours.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                for _ in range(5_000):
                    ours.send(
                        json.dumps(["start", "b", ["/bin/true"], {}, "/", HOW]).encode()
                    )  # refused: no fds
                    await asyncio.sleep(0)
            await until(lambda: children_of(process.pid) == [])
            assert process.returncode is None
        finally:
            ours.close()
            await process.wait()


@pytest.mark.parametrize(
    ("argv", "folder", "why"),
    [
        (["/nowhere/python"], "/", "No such file or directory"),
        (["/etc/passwd"], "/", "Permission denied"),
        (["/bin/true"], "/nowhere", "No such file or directory"),
        (["/bin/true", "x" * 200_000], "/", "at most"),
    ],
)
async def test_what_cannot_be_executed(spawner: Spawner, argv: list[str], folder: str, why: str) -> None:
    """The reason comes back, and the spawner goes on."""
    with pytest.raises(CannotStart, match=why):
        await _start(spawner, "a", argv, folder)
    assert await (await _start(spawner, "a", ["/bin/true"])).exited == Exit(0, False)


async def test_many_starts_at_once(spawner: Spawner) -> None:
    """More than the socket between worker and spawner holds: all are started, each once."""
    big = "x" * 20_000
    started = await asyncio.gather(
        *(_start(spawner, f"s{n}", ["/bin/sleep", "600", "", big][:2]) for n in range(60)),
        *(_start(spawner, f"e{n}", ["/bin/sh", "-c", "exit 3", big]) for n in range(60)),
    )
    assert len({process.pid for process in started}) == 120
    exits = await asyncio.gather(*(process.exited for process in started[60:]))
    assert set(exits) == {Exit(3, False)}
    for n in range(60):
        spawner.kill(f"s{n}")
    exits = await asyncio.gather(*(process.exited for process in started[:60]))
    assert set(exits) == {Exit(-9, True)}


async def test_a_daemon_that_left_its_group_ends_when_no_instance_is_left(stage: Scene) -> None:
    """A plain process can escape a kill, but not for longer than the worker has instances."""
    source = "import os, time\ndef handler(e, c):\n    r, w = os.pipe()\n"
    source += "    if os.fork() == 0:\n        os.setsid()\n        if os.fork() == 0:\n"
    source += "            os.write(w, str(os.getpid()).encode())\n"
    source += "            time.sleep(600)\n        os._exit(0)\n    return int(os.read(r, 20))"
    it = await stage.started(source)
    daemon = (await stage.call(it)).json
    assert alive(daemon)
    stage.host.kill(it)
    assert isinstance(await stage.hears(), Exited)
    await until(lambda: not alive(daemon))


async def test_signals_meant_for_the_worker_do_not_end_the_spawner(spawner: Spawner) -> None:
    """Ctrl-C and `systemctl stop` reach the whole group: the worker ends its instances in order."""
    process = await _start(spawner, "a", ["/bin/sleep", "600"])
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(spawner.pid, number)
    assert await (await _start(spawner, "b", ["/bin/true"])).exited == Exit(0, False)
    assert alive(process.pid)
