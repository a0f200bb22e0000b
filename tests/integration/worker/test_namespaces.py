"""A sandbox of the namespaces backend: what an instance sees and may, and that nothing outlives it."""

import asyncio
import ctypes
import json
import os
import shutil
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Final

import pytest

from lambent_chassis import clock
from lambent_worker.sandbox import entry, forkserver, network
from lambent_worker.sandbox.api import CannotStart, Exit
from lambent_worker.sandbox.namespaces import NamespacesSandbox
from tests.integration.worker import sandboxes
from tests.integration.worker.sandboxes import (
    Stage,
    destroyed,
    heard,
    let_go,
    parkable,
    parked,
    python,
    shell,
    specialised,
    started,
    status_of,
)
from tests.integration.worker.scene import alive, until

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: namespaces with users of the host's"),
]

LONG = str(os.getpid() * 100)
"""Seconds that something sleeps, which nobody else on this machine sleeps so long."""

KILLED = Exit(-signal.SIGKILL, killed=True)


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    async with sandboxes.stage(tmp_path) as it:
        yield it


@pytest.fixture
async def place(stage: Stage) -> NamespacesSandbox:
    return await stage.sandbox(layers=stage.layers)


async def test_a_process_is_started_with_what_it_was_given_and_nothing_else(place: NamespacesSandbox) -> None:
    """Arguments, environment and folder are the launch's; nothing of the worker's environment is there."""
    exit_, output = await shell(place, "echo out; echo err >&2; pwd; env")
    assert exit_ == Exit(0, killed=False)
    assert output.splitlines()[:3] == ["out", "err", "/tmp"]
    assert set(output.splitlines()[3:]) == {"PATH=/usr/bin:/bin", "PWD=/tmp"}


@pytest.mark.parametrize(("command", "status"), [("exit 3", 3), ("kill -SEGV $$", -11), ("kill -9 $$", -9)])
async def test_how_a_process_ended_is_told_apart(place: NamespacesSandbox, command: str, status: int) -> None:
    """An exit code is an exit code, and a signal a signal, which the platform did not send."""
    assert (await shell(place, command))[0] == Exit(status, killed=False)


async def test_what_cannot_be_executed_is_said_to_whoever_launches_it(place: NamespacesSandbox) -> None:
    """A bootstrap that is missing is no crash: nothing was started, and the reason says so."""
    with pytest.raises(CannotStart, match="No such file"):
        await started(place, "/var/task/bootstrap")
    assert (await shell(place, "echo still here"))[1] == "still here\n"


async def test_processes_of_a_sandbox_share_it_and_descriptors_are_four(place: NamespacesSandbox) -> None:
    """Standard input, output, error and the channel are open in a process, and nothing else of ours."""
    command = "for fd in 0 1 2 3 4 5 6 7 8 9; do [ -e /proc/$$/fd/$fd ] && all=$all$fd; done; echo $all >&3"
    process = await started(place, "/bin/sh", "-c", command, channel=True)
    assert await heard(process) == "0123\n"
    let_go(process)
    await process.wait()


async def test_a_reset_keeps_files_and_ends_daemons(place: NamespacesSandbox) -> None:
    """After a timeout /tmp is as it was, and what had left its session and its parent is gone."""
    await shell(place, "echo kept > /tmp/file; setsid sleep 1000 < /dev/null > /dev/null 2>&1 &")
    process = await started(place, "/bin/sleep", "1000")
    os.close(process.output)
    _, before = await shell(place, "ps -e -o comm=")
    assert before.split().count("sleep") == 2
    await place.clear()
    assert await process.wait() == KILLED
    _, after = await shell(place, "cat /tmp/file; ps -e -o comm=")
    assert after.startswith("kept\n")
    assert "sleep" not in after


async def test_there_may_be_more_sandboxes_than_an_instance_may_open_files(stage: Stage) -> None:
    """What the fork server holds open for each of them does not count against the next one's limit."""
    places = [await stage.sandbox() for _ in range(150)]
    assert (await shell(places[-1], "ulimit -n"))[1] == "1024\n"
    for place in places:
        place.destroy()
    for place in places:
        await destroyed(place)


async def test_no_zombie_is_left_of_what_nobody_waits_for(place: NamespacesSandbox) -> None:
    """Orphans are adopted and reaped by the sandbox's init."""
    _, output = await shell(place, "for i in 1 2 3; do (sleep 0.01 &) ; done; sleep 0.2; ps -e -o stat=")
    assert "Z" not in output


async def test_a_destroyed_sandbox_takes_everything_with_it(stage: Stage, place: NamespacesSandbox) -> None:
    """A kill ends daemons as well; the sandbox is reported as gone when they and its cgroups are."""
    await shell(place, f"setsid sleep {LONG} < /dev/null > /dev/null 2>&1 &")
    process = await started(place, "/bin/sleep", LONG)
    os.close(process.output)
    assert len(_with_argument(LONG)) == 2
    place.memory()
    await destroyed(place)
    assert _with_argument(LONG) == []
    assert await process.wait() == KILLED
    with pytest.raises(OSError):  # noqa: PT011 - there is no cgroup any more
        place.memory()
    with pytest.raises(CannotStart, match="destroyed"):
        await started(place, "/bin/true")


async def test_an_instance_sees_its_files_and_no_others(stage: Stage, place: NamespacesSandbox) -> None:
    """Code and layers are where Lambda has them, read-only; nothing of the host's data is there."""
    _, output = await shell(
        place,
        "cat /var/task/app.py; echo; cat /opt/lib.py; echo; ls /var/runtime; ls /home /srv /data /sys 2>&1;"
        " for p in /var/task /opt /usr /etc /var/runtime /; do touch $p/x 2>&1; done; id -u -n",
    )
    assert output.startswith("the code of a function\nthe code of a layer\ntest\n")
    assert output.count("No such file or directory") == 4
    assert output.count("Read-only file system") == 6
    assert output.endswith("sbx_user1051\n")
    _, mounts = await shell(place, "cat /proc/self/mountinfo /proc/1/cmdline /proc/1/environ 2>/dev/null")
    assert "lambent_worker" not in mounts


async def test_an_instance_has_no_power(place: NamespacesSandbox) -> None:
    """No capability, no new privileges, system calls by list, an own user, no groups; its init too."""
    _, output = await shell(
        place, "cat /proc/self/status; echo ---; cat /proc/1/status; cat /proc/self/uid_map"
    )
    for text in output.split("---"):
        status = status_of(text)
        assert {status[f"Cap{kind}"] for kind in ("Inh", "Prm", "Eff", "Bnd", "Amb")} == {"0" * 16}
        assert status["NoNewPrivs"] == "1"
        assert status["Seccomp"] == "2"
        assert set(status["Uid"].split()) == {"993"}
        assert set(status["Gid"].split()) == {"990"}
        assert status["Groups"] == ""
    inside, outside, count = output.splitlines()[-1].split()
    assert (inside, count) == ("993", "1")
    assert int(outside) >= 2_000_000_000


async def test_no_two_instances_have_the_same_user(stage: Stage) -> None:
    """Also those of two workers of one host."""
    places = [await stage.sandbox(), await stage.sandbox()]
    users = [(await shell(place, "cat /proc/self/uid_map"))[1].split()[1] for place in places]
    assert len(set(users)) == 2


async def test_an_instance_cannot_look_into_its_init(place: NamespacesSandbox) -> None:
    """The init has the same user, but neither its memory nor its descriptors nor its environment are open."""
    _, output = await shell(
        place, "cat /proc/1/environ; ls /proc/1/fd; head -c 1 /proc/1/mem; kill -9 1; echo on"
    )
    assert output.count("Permission denied") == 3
    assert output.endswith("on\n")


async def test_without_a_network_there_is_no_route(place: NamespacesSandbox) -> None:
    """Nothing outside can be reached, nor the host's loopback; a server on the host is refused there."""
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    code = f"""
        import socket
        for address in (("1.1.1.1", 53), ("169.254.169.254", 80), ("127.0.0.1", {port})):
            try:
                socket.create_connection(address, 2)
            except OSError as error:
                print(error.errno)
    """
    _, output = await python(place, code)
    server.close()
    assert output.split() == ["101", "101", "111"]  # ENETUNREACH twice, ECONNREFUSED


@pytest.mark.skipif(not shutil.which("slirp4netns"), reason="slirp4netns is not installed")
async def test_with_a_network_the_host_and_the_cloud_stay_out_of_reach(stage: Stage) -> None:
    """There is a way out, but not to the host's loopback, and none to link-local addresses."""
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    place = await stage.sandbox(network=True, runtime_api=True)
    code = f"""
        import errno, socket
        for address in (("169.254.169.254", 80), ("127.0.0.1", {port}), ("10.0.2.2", {port})):
            try:
                socket.create_connection(address, 2)
            except TimeoutError:
                print("TIMEOUT")
            except OSError as error:
                print(errno.errorcode[error.errno])
        s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        s.connect(("192.0.2.1", 53))
        print(s.getsockname()[0])
    """
    _, output = await python(place, code)
    server.close()
    *refused, own = output.split()
    assert refused[:2] == ["EINVAL", "ECONNREFUSED"]
    assert refused[2] in ("ENETUNREACH", "ECONNREFUSED", "TIMEOUT")
    assert own == "10.0.2.100"
    (slirp,) = _with_argument("--disable-host-loopback", parent=stage.backend.pid)
    assert place.api
    place.api.close()
    await destroyed(place)
    await until(lambda: not alive(slirp))


@pytest.mark.skipif(not shutil.which("slirp4netns"), reason="slirp4netns is not installed")
async def test_a_network_does_not_lead_to_the_hosts_own_addresses(stage: Stage) -> None:
    """There the worker itself listens, for the fleet, and whatever else runs beside it."""
    others = [it for it in network.own_addresses() if not it.startswith("127.")]
    if not others:
        pytest.skip("this host has no address but its loopback's")
    server = socket.create_server((others[0], 0))
    place = await stage.sandbox(network=True)
    _, output = await python(
        place,
        f"""
        import errno, socket
        try:
            socket.create_connection({server.getsockname()!r}, 5)
            print("connected")
        except OSError as error:
            print(errno.errorcode[error.errno])
        """,
    )
    server.close()
    assert output.split() == ["EINVAL"]


@pytest.mark.skipif(not shutil.which("slirp4netns"), reason="slirp4netns is not installed")
async def test_what_connects_a_sandbox_leaves_no_cgroup_behind(stage: Stage) -> None:
    """Nor does the fork server wait for it, who has others to care for."""
    place = await stage.sandbox(network=True)
    began = clock.monotonic_s()
    await destroyed(place)
    assert clock.monotonic_s() - began < 0.4
    await until(lambda: _sandboxes_with_cgroups() == 1)


def _sandboxes_with_cgroups() -> int:
    with suppress(FileNotFoundError):  # a cgroup of somebody else's went meanwhile
        return len({path.name for path in _cgroups(f"lambent-test-{os.getpid()}")})
    return -1


async def test_the_runtime_api_is_reached_from_inside_alone(stage: Stage) -> None:
    """Each sandbox has a listener of its own at the same address; who did not want one has none."""
    first, second = await stage.sandbox(runtime_api=True), await stage.sandbox(runtime_api=True)
    none = await stage.sandbox()
    assert first.api_address == second.api_address == "127.0.0.1:9001"
    code = "import socket; s = socket.create_connection(('127.0.0.1', 9001)); print(s.recv(9).decode())"
    loop = asyncio.get_running_loop()
    for place, name in ((first, b"one"), (second, b"two")):
        talking = asyncio.create_task(python(place, code))
        assert place.api
        async with asyncio.timeout(20):
            connection, _ = await loop.sock_accept(place.api)
            await loop.sock_sendall(connection, name)
        connection.close()
        assert (await talking)[1] == f"{name.decode()}\n"
        place.api.close()
    exit_, output = await python(none, code)
    assert exit_.status == 1
    assert "Connection refused" in output


async def test_memory_is_limited_and_told(stage: Stage) -> None:
    """Who takes more than its function may is killed, it alone, and the sandbox says it was for memory."""
    place = await stage.sandbox(memory_mb=128)
    exit_, _ = await python(place, "b = bytearray(300 << 20)")
    assert exit_ == Exit(-9, killed=False)
    memory = place.memory()
    assert memory.oom_kills >= 1
    assert 100 <= memory.peak_mb <= 128
    assert (await shell(place, "echo on"))[1] == "on\n"


async def test_processes_are_limited(stage: Stage) -> None:
    """A fork bomb ends at about 1,024 processes, and a reset ends it."""
    place = await stage.sandbox(memory_mb=2048)
    code = """
        import os, time
        n = 0
        try:
            while os.fork():
                n += 1
            time.sleep(1000)
        except OSError as error:
            print(n, error.errno, flush=True)
            os.kill(os.getpid(), 9)
    """
    _, output = await python(place, code)
    count, errno = output.split()
    assert 1000 <= int(count) <= 1024
    assert errno == "11"
    await place.clear()
    assert (await shell(place, "ls -d /proc/[0-9]* | wc -l"))[1].strip() in ("3", "4")


async def test_tmp_is_as_large_as_it_was_wanted(stage: Stage) -> None:
    """Writing more than that fails as a full disk does."""
    place = await stage.sandbox(tmp_mb=600)
    _, output = await shell(place, "dd if=/dev/zero of=/tmp/x bs=1M count=3 2>&1; df -m /tmp | tail -1")
    assert "3+0 records out" in output
    assert 540 <= int(output.splitlines()[-1].split()[1]) <= 660
    small = await stage.sandbox(tmp_mb=64, memory_mb=1024)
    _, output = await shell(small, "dd if=/dev/zero of=/tmp/x bs=1M count=100 2>&1")
    assert "No space left on device" in output


async def test_what_is_frozen_does_nothing_until_it_is_thawed(place: NamespacesSandbox) -> None:
    """And what is frozen can be reset and destroyed."""
    process = await started(place, "/bin/sh", "-c", "cat <&3 >&3; sleep 1000", channel=True)
    os.close(process.output)
    assert process.channel
    place.freeze()
    process.channel.send(b"hello")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await asyncio.get_running_loop().sock_recv(process.channel, 100)
    place.thaw()
    assert await heard(process) == "hello"
    place.freeze()
    await place.clear()
    assert await process.wait() == KILLED
    process.channel.close()
    place.freeze()
    await destroyed(place)


async def test_past_its_lease_nothing_lives(tmp_path: Path) -> None:
    """Whatever state the worker is in: the fork server itself destroys what is past `valid_until`."""
    async with sandboxes.stage(tmp_path) as stage:
        place = await stage.sandbox()
        process = await started(place, "/bin/sleep", "1000")
        os.close(process.output)
        stage.backend.extend(clock.monotonic_s() + 0.2)
        async with asyncio.timeout(20):
            await place.wait()
        assert await process.wait() == KILLED
        with pytest.raises(CannotStart, match="lease"):
            await stage.sandbox()
        stage.backend.extend(clock.monotonic_s() + 1000)
        assert (await shell(await stage.sandbox(), "echo on"))[1] == "on\n"


async def test_nothing_outlives_the_fork_server(tmp_path: Path) -> None:
    """Killed, it takes every process with it; the sandboxes say so, and the backend says it is lost."""
    async with sandboxes.stage(tmp_path, [parkable()]) as stage:
        place = await stage.sandbox()
        await shell(place, f"setsid sleep {LONG} < /dev/null > /dev/null 2>&1 &")
        process = await parked(place)
        group = _below(stage.backend.pid)
        assert len(group) >= 3
        os.kill(stage.backend.pid, signal.SIGKILL)
        async with asyncio.timeout(20):
            assert "died" in await stage.backend.lost()
            await place.wait()
        assert await process.wait() == KILLED
        await until(lambda: not any(alive(pid) for pid in group))
        assert _with_argument(LONG) == []
        with pytest.raises(CannotStart):
            await stage.sandbox()
        let_go(process)


WORKER = """
import asyncio, sys
from pathlib import Path
from lambent_chassis import clock
from tests.integration.worker import sandboxes

async def main():
    folder = Path(sys.argv[1])
    async with sandboxes.backend(sandboxes.host_files(folder), sys.argv[2], [sandboxes.parkable()]) as it:
        it.extend(clock.monotonic_s() + 1000)
        place = await sandboxes.Stage(it, folder).sandbox()
        await sandboxes.shell(place, f"setsid sleep {sys.argv[3]} < /dev/null > /dev/null 2>&1 &")
        print(it.pid, flush=True)
        await asyncio.sleep(1000)

asyncio.run(main())
"""


@pytest.mark.parametrize("stopped", [False, True], ids=["alone", "with a fork server that hangs"])
async def test_nothing_outlives_the_worker(tmp_path: Path, stopped: bool) -> None:
    """`kill -9` of it ends everything at once; what a hanging fork server keeps, the next worker ends."""
    name = f"test-{os.getpid()}-dead"
    worker = await asyncio.create_subprocess_exec(
        sys.executable, "-c", WORKER, str(tmp_path), name, LONG, stdout=asyncio.subprocess.PIPE
    )
    assert worker.stdout
    server = int(await worker.stdout.readline())
    group = [server, *_below(server)]
    if stopped:
        os.kill(server, signal.SIGSTOP)
    worker.kill()
    await worker.wait()
    if stopped:
        try:
            assert len(_with_argument(LONG)) == 1
            async with sandboxes.backend(sandboxes.host_files(tmp_path), name):
                assert _with_argument(LONG) == []
                await until(lambda: not alive(server))
        finally:
            os.kill(server, signal.SIGKILL)
    await until(lambda: not any(alive(pid) for pid in group))
    assert _with_argument(LONG) == []
    (tmp_path / "newest").mkdir()
    async with sandboxes.backend(sandboxes.host_files(tmp_path / "newest"), name):
        pass
    assert _cgroups(f"lambent-{name}") == []


async def test_a_zygotes_process_is_specialised_in_its_sandbox(tmp_path: Path) -> None:
    """A parked process is as isolated as an executed one, and becomes whoever it is told to be."""
    async with sandboxes.stage(tmp_path, [parkable(count=1)]) as stage:
        for who in ("parked", "forked", "forked too"):
            place = await stage.sandbox(parked="py")
            process = await parked(place)
            assert process.parked
            assert await specialised(process, who) == f"{who} /var/task"
            assert process.channel
            process.channel.send(b"import os; os.write(3, open('/proc/self/status').read().encode())")
            status = status_of(await heard(process))
            assert {status[f"Cap{kind}"] for kind in ("Prm", "Eff", "Bnd")} == {"0" * 16}
            assert (status["NoNewPrivs"], status["Seccomp"], status["Uid"].split()[0]) == ("1", "2", "993")
            process.channel.send(b"os.write(3, repr(sorted(os.listdir('/proc/self/fd'))).encode())")
            assert json.loads((await heard(process)).replace("'", '"')) == ["0", "1", "2", "3", "4"]
            process.channel.send(
                b"os.write(3, ' '.join([*os.environ, open('/var/task/app.py').read()]).encode())"
            )
            assert await heard(process) == "WHO the code of a function"
            await destroyed(place)
            assert await process.wait() == KILLED
            let_go(process)


async def test_after_a_reset_the_zygote_forks_again(tmp_path: Path) -> None:
    """And exit codes of its processes are told as any other's."""
    async with sandboxes.stage(tmp_path, [parkable(count=0)]) as stage:
        place = await stage.sandbox(parked="py")
        process = await parked(place)
        assert await specialised(process, "one") == "one /var/task"
        await place.clear()
        assert await process.wait() == KILLED
        let_go(process)
        process = await parked(place)
        assert process.parked
        assert await specialised(process, "two") == "two /var/task"
        assert process.channel
        process.channel.send(b"os._exit(5)")
        assert await process.wait() == Exit(5, killed=False)
        let_go(process)


SPY: Final = """
import os, signal
old = set(os.listdir("/proc"))
print("ready", flush=True)
while True:
    for pid in set(os.listdir("/proc")) - old:
        old.add(pid)
        while True:
            try:
                os.kill(int(pid), signal.SIGSTOP)
                os.close(os.open(f"/proc/{pid}/mem", os.O_RDWR))
                break
            except PermissionError:
                try:
                    os.kill(int(pid), signal.SIGCONT)
                except PermissionError:
                    pass
        with open(f"/proc/{pid}/status") as status:
            unfiltered = "Seccomp:\\t0" in status.read()
        os.kill(int(pid), signal.SIGCONT)
        print("got in without a filter" if unfiltered else "late", flush=True)
"""


@pytest.mark.parametrize("by_zygote", [True, False])
async def test_nobody_looks_into_a_process_that_enters(tmp_path: Path, by_zygote: bool) -> None:
    """What runs in the sandbox already, as an extension does, may stop it, but is let in only once its
    system calls are filtered."""
    async with sandboxes.stage(tmp_path, [parkable(count=0)]) as stage:
        place = await stage.sandbox()
        spy = await started(place, str(sandboxes.PYTHON), "-I", "-S", "-c", SPY)
        said: list[str] = []

        def hear() -> bool:
            with suppress(BlockingIOError):
                said.extend(os.read(spy.output, 4096).decode().splitlines())
            return bool(said)

        await until(hear)
        assert said == ["ready"]
        for _ in range(8):
            said.clear()
            process = await (parked(place) if by_zygote else started(place, "/bin/sleep", LONG))
            await until(hear)
            assert said == ["late"]
            let_go(process)
        let_go(spy)


async def test_a_zygote_outlives_a_sandbox_that_was_gone_before_its_turn(tmp_path: Path) -> None:
    """It is told to fork into a sandbox that has ended: that is nobody's fault, and it serves the next."""
    async with sandboxes.stage(tmp_path, [parkable(count=0)]) as stage:
        [zygote] = [pid for pid in _children(stage.backend.pid) if "/entry.py" in _command(pid)]
        os.kill(zygote, signal.SIGSTOP)
        try:
            place = await stage.sandbox(parked="py")
            await destroyed(place)
        finally:
            os.kill(zygote, signal.SIGCONT)
        for _ in range(2):
            process = await parked(await stage.sandbox(parked="py"))
            assert process.parked
            let_go(process)


def _children(pid: int) -> list[int]:
    return [int(it) for it in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _command(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_bytes().decode()


async def test_a_zygote_with_threads_is_not_forked(tmp_path: Path) -> None:
    """A lock that another thread holds would be held for ever: what was asked for is executed instead."""
    async with sandboxes.stage(tmp_path, [parkable("py", "with-threads", count=0)]) as stage:
        for _ in range(2):
            place = await stage.sandbox(parked="py")
            process = await parked(place)
            assert not process.parked
            assert await heard(process) == "executed"
            assert await process.wait() == Exit(0, killed=False)
            let_go(process)


@pytest.mark.parametrize("held", [False, True])
async def test_a_zygote_that_dies_is_started_again(held: bool, tmp_path: Path) -> None:
    """Its processes live on meanwhile, and what is wanted meanwhile is executed.

    One that was forked just before may hold the zygote's socket for a while longer than the zygote lives.
    """
    async with sandboxes.stage(tmp_path, [parkable(count=0)]) as stage:
        place = await stage.sandbox(parked="py")
        process = await parked(place)
        (zygote,) = _with_argument("/var/runtime/test/entry.py", parent=stage.backend.pid)
        copies = [_copied(zygote, entry.CHANNEL_FD)] if held else []
        os.kill(zygote, signal.SIGKILL)
        await until(lambda: not alive(zygote))
        assert await specialised(process, "orphan") == "orphan /var/task"
        for _ in range(200):
            other = await parked(place)
            let_go(other)
            if other.parked:
                break
        for copy in copies:
            os.close(copy)
        assert other.parked
        let_go(await parked(place))
        await destroyed(place)
        assert await process.wait() == KILLED
        let_go(process)


def _copied(pid: int, fd: int) -> int:
    """A descriptor of another process, by pidfd_getfd(2)."""
    pidfd = os.pidfd_open(pid)
    copy = ctypes.CDLL(None, use_errno=True).syscall(438, pidfd, fd, 0)
    os.close(pidfd)
    assert copy >= 0, os.strerror(ctypes.get_errno())
    return int(copy)


PLAIN_USER = """
import asyncio, contextlib, os, sys
from pathlib import Path
from lambent_worker.sandbox.api import CannotStart
folder = Path(sys.argv[1])
os.setgroups([])
os.setresgid(54321, 54321, 54321)
os.setresuid(54321, 54321, 54321)
from tests.integration.worker import sandboxes

async def main():
    async with sandboxes.stage(folder, [sandboxes.parkable(count=0)]) as stage:
        protections = stage.backend.protections()
        place = await stage.sandbox(parked="py")
        process = await sandboxes.parked(place)
        assert await sandboxes.specialised(process, "me") == "me /var/task"
        sandboxes.let_go(process)
        await place.clear()
        killer = await sandboxes.started(place, str(sandboxes.PYTHON), "-I", "-S", "-c", sandboxes.KILLER)
        await sandboxes.printed(killer)
        for number in range(40):
            with contextlib.suppress(CannotStart):
                by_zygote = number % 2
                starting = sandboxes.parked(place) if by_zygote else sandboxes.started(place, "/bin/true")
                process = await starting
                place.memory()  # also of who is gone, which may not have been heard yet
                await process.wait()
                sandboxes.let_go(process)
        sandboxes.let_go(killer)
        await place.clear()
        _, output = await sandboxes.shell(place, "touch /tmp/x /opt/x 2>&1; id -u; cat /proc/self/status")
        await sandboxes.destroyed(place)
        print(protections.level, *sorted(protections.why_missing), sep="\\n")
        print(output)

asyncio.run(main())
"""


async def test_a_plain_user_has_sandboxes_too(tmp_path: Path) -> None:
    """Without root the same code works in a user namespace, and says what it cannot protect from.

    There all processes have one user: one that kills all others as they enter its sandbox harms itself alone.
    """
    interpreter = sandboxes.interpreter_of_all()
    if interpreter is None:
        pytest.skip("no interpreter of this version can be executed by a plain user")
    for folder in (tmp_path, *list(tmp_path.parents)[:2]):
        folder.chmod(0o777)
    packages = [path for path in sys.path if path and not path.startswith(str(sandboxes.PREFIX))]
    worker = await asyncio.create_subprocess_exec(
        *(interpreter, "-c", PLAIN_USER, str(tmp_path / "plain")),
        env={"PYTHONPATH": os.pathsep.join([os.getcwd(), *packages])},
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await worker.communicate()
    lines = output.decode().splitlines()
    assert lines[0] == "namespaces-user"
    assert {"own_kernel", "own_user"} <= set(lines)
    assert "touch: cannot touch '/opt/x': Read-only file system" in lines
    assert "993" in lines
    status = status_of(output.decode())
    assert {status[f"Cap{kind}"] for kind in ("Prm", "Eff", "Bnd")} == {"0" * 16}
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")


async def test_the_watchdog_ignores_signals_that_are_the_workers(stage: Stage) -> None:
    """Ctrl-C and a stop of the service reach the whole group; the worker ends its sandboxes in order."""
    for number in forkserver.IGNORED:
        os.kill(stage.backend.pid, number)
    assert (await shell(await stage.sandbox(), "echo on"))[1] == "on\n"


def _with_argument(argument: str, parent: int | None = None) -> list[int]:
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            arguments = (folder / "cmdline").read_bytes().split(b"\0")
            ppid = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except (FileNotFoundError, ProcessLookupError):
            continue
        if argument.encode() in arguments and parent in (None, ppid):
            found.append(int(folder.name))
    return found


def _below(pid: int) -> list[int]:
    """All descendants."""
    children = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return [*children, *(deeper for child in children for deeper in _below(child))]


def _cgroups(parent: str) -> list[Path]:
    return [path for path in Path("/sys/fs/cgroup").glob(f"**/{parent}/*") if path.is_dir()]
