"""What sandboxes of each backend keep apart, and that no backend claims what it does not give."""

import asyncio
import json
import os
import resource
import shutil
import signal
import socket
import struct
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from lambent_worker.sandbox import bwrap, confine, seccomp, tcp_only
from lambent_worker.sandbox.api import Launch, Sandbox
from lambent_worker.sandbox.backends import tried
from tests.integration.worker import sandboxes
from tests.integration.worker.scene import alive, children_of, until
from tests.integration.worker.test_backends import EXITED, LONG, PYTHON, Bench, bench

pytestmark = pytest.mark.integration

__all__ = ["bench"]

ALL_ALLOWED = struct.pack("=HBBI", 0x06, 0, 0, 0x7FFF0000)
"""A filter that lets everything through."""


def needs(bench: Bench, protection: str) -> None:
    if protection not in bench.backend.protections().given:
        pytest.skip(bench.backend.protections().why_missing[protection])


async def python(bench: Bench, sandbox: Sandbox, code: str, **environment: str) -> str:
    exit_, printed = await bench.run(sandbox, PYTHON, "-I", "-S", "-c", code, **environment)
    assert exit_ == EXITED, printed
    return printed.strip()


async def test_no_other_descriptor_is_open_inside(bench: Bench) -> None:
    """With a channel 0 to 3, without one 0 to 2: nothing of who started it is left to a function."""
    sandbox = await bench.create()
    code = "import os; print([fd for fd in range(1024) if os.path.exists(f'/proc/self/fd/{fd}')])"
    assert await python(bench, sandbox, code) == "[0, 1, 2]"
    launch = Launch(argv=(PYTHON, "-I", "-S", "-c", code), environment={}, folder=sandbox.view.tmp)
    process = await sandbox.launch(launch)
    assert await process.wait() == EXITED
    with os.fdopen(process.output, "rb") as output:
        assert output.read() == b"[0, 1, 2, 3]\n"
    assert process.channel is not None
    process.channel.close()


async def test_nobody_on_the_host_reads_a_functions_environment(bench: Bench) -> None:
    """It holds secrets, and everybody on a host reads the command lines of all processes."""
    sandbox = await bench.create()
    running = asyncio.ensure_future(
        bench.shell(sandbox, f'touch "$TMP/up"; sleep {LONG}', KEY="5ecret-of-mine")
    )
    await until(lambda: bench.sleeps(1, launches=1))
    found = _with_command_line(b"5ecret-of-mine")
    await sandbox.clear()
    await running
    assert found == []


def _with_command_line(part: bytes) -> list[Path]:
    return [path for path in Path("/proc").glob("[0-9]*/cmdline") if part in _bytes(path)]


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


async def test_only_tmp_can_be_written(bench: Bench) -> None:
    needs(bench, "files")
    sandbox = await bench.create()
    view = sandbox.view
    places = f"/ /dev /dev/shm /etc /usr/bin /var {view.task_root} {view.opt} {view.runtime_dir} {view.tmp}"
    _, printed = await bench.shell(
        sandbox, f"for it in {places}; do touch $it/mine 2> /dev/null && echo $it; done; true"
    )
    assert printed.split() == [view.tmp]


async def test_clear_leaves_nobody_behind(bench: Bench) -> None:
    """When it returns they are gone, also those that left their process group and session."""
    needs(bench, "kill_all")
    sandbox = await bench.create()
    for _ in range(3):
        running = asyncio.ensure_future(
            bench.shell(sandbox, f"setsid sleep {LONG} & setsid sleep {LONG} & sleep {LONG}")
        )
        await until(lambda: bench.sleeps(3, launches=1))
        await sandbox.clear()
        assert bench.sleeps(0, launches=0)
        await running


async def test_tmp_is_as_large_as_was_wanted(bench: Bench) -> None:
    needs(bench, "disk_limit")
    sandbox = await bench.create(tmp_mb=8)
    exit_, _ = await bench.shell(sandbox, 'head -c 6M /dev/zero > "$TMP/six"')
    assert exit_ == EXITED
    exit_, said = await bench.shell(sandbox, 'head -c 6M /dev/zero > "$TMP/more"')
    assert exit_.status > 0, said


REACH = """
import os, socket
port = int(os.environ["PORT"])
def tcp(): socket.create_connection(("127.0.0.1", port), 2)
def mptcp(): socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262).connect(("127.0.0.1", port))
def fast_open(): socket.socket().sendto(b".", 0x20000000, ("127.0.0.1", port))
def fast_open_of_a_message(): socket.socket().sendmsg([b"."], [], 0x20000000, ("127.0.0.1", port))
def udp(): socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b".", ("127.0.0.1", port))
def unix(): socket.socket(socket.AF_UNIX).connect("\\0lambent-test-" + os.environ["PORT"])
for attempt in (tcp, mptcp, fast_open, fast_open_of_a_message, unix):
    try: attempt()
    except OSError: pass
    else: print(attempt.__name__)
"""


async def test_it_reaches_nobody_on_the_host(bench: Bench) -> None:
    """Whatever the way; the same ways lead there where the network is not kept apart."""
    sandbox = await bench.create()
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket(socket.AF_UNIX) as unix:
        port = listener.getsockname()[1]
        unix.bind(f"\0lambent-test-{port}")
        unix.listen()
        reached = (await python(bench, sandbox, REACH, PORT=f"{port}")).split()
    if "network" in bench.backend.protections().given:
        assert reached == []
    else:
        assert {"tcp", "fast_open", "unix"} <= set(reached)


async def test_where_it_is_in_the_hosts_network_nobody_reaches_it(bench: Bench) -> None:
    """Listening would make it reachable from other hosts; a pair of sockets goes on working."""
    needs(bench, "network")
    if bench.backend.protections().backend != "landlock":
        pytest.skip("its network is its own")
    code = "import socket; socket.socketpair()\n"
    code += "try: socket.socket().listen()\nexcept PermissionError: print('no')"
    assert await python(bench, await bench.create(), code) == "no"


async def test_without_a_cgroup_one_process_takes_no_more_than_its_memory_and_some(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    if bench.backend.protections().backend != "landlock":
        pytest.skip("it is landlock that does without cgroups")
    monkeypatch.setattr(bench.backend, "_cgroup", lambda memory_mb: None)
    sandbox = await bench.create()
    code = "import resource; print(resource.getrlimit(resource.RLIMIT_DATA)[1] >> 20)\n"
    code += "try: bytearray(700 << 20)\nexcept MemoryError: print('no')"
    assert (await python(bench, sandbox, code)).split() == ["640", "no"]
    assert resource.getrlimit(resource.RLIMIT_DATA)[1] == resource.RLIM_INFINITY


async def test_nothing_outlives_who_started_it(bench: Bench) -> None:
    """Who starts, ends and reaps is killed: its processes end, and the backend says that it is lost."""
    sandbox = await bench.create()
    running = asyncio.ensure_future(bench.shell(sandbox, f"sleep {LONG} & sleep {LONG}"))
    await until(lambda: bench.sleeps(2, launches=1))
    starters = [pid for pid in children_of(os.getpid()) if _starts(pid)]
    assert len(starters) == 1
    os.kill(starters[0], signal.SIGKILL)
    async with asyncio.timeout(20):
        assert await bench.backend.lost()
        exit_, _ = await running
        await sandbox.wait()
    assert exit_.killed
    await until(lambda: bench.sleeps(0, launches=0))
    assert not alive(starters[0])


def _starts(pid: int) -> bool:
    line = _bytes(Path(f"/proc/{pid}/cmdline"))
    return b"spawner.py" in line or b"fork" in line


async def _tried(name: str) -> dict[str, str]:
    protections = await tried(name, f"planted-{os.getpid()}")
    assert set(protections.why_missing) == set(protections.missing)
    return dict(protections.why_missing)


async def test_landlock_does_not_claim_a_network_that_is_open(monkeypatch: pytest.MonkeyPatch) -> None:
    if confine.landlock_version() < confine.NET_FROM:
        pytest.skip("this kernel's Landlock knows no TCP ports")
    assert "network" not in await _tried("landlock")
    monkeypatch.setattr(tcp_only, "program", lambda: ALL_ALLOWED)
    why = (await _tried("landlock"))["network"]
    assert "TCP Fast Open" in why
    assert "it listened on all addresses of the host" in why


async def test_landlock_does_not_claim_files_that_are_open(monkeypatch: pytest.MonkeyPatch) -> None:
    if not confine.landlock_version():
        pytest.skip("this kernel has no Landlock")
    monkeypatch.setattr("lambent_worker.sandbox.landlock.WRITE", ("/var/tmp",))
    assert "a file of the host's was written" in (await _tried("landlock"))["files"]


@pytest.mark.parametrize(
    ("namespace", "missing"),
    [("pid", {"environment", "memory", "events", "worker"}), ("ipc", {"memory"})],
)
async def test_bwrap_does_not_claim_what_a_namespace_would_give(
    namespace: str, missing: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    sandboxes_need_bwrap()
    left = tuple(it for it in bwrap.NAMESPACES if it != f"--unshare-{namespace}")
    monkeypatch.setattr(bwrap, "NAMESPACES", left)
    assert missing <= set(await _tried("bwrap"))


async def test_bwrap_does_not_claim_a_filter_that_filters_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    sandboxes_need_bwrap()
    assert "syscalls" not in await _tried("bwrap")
    monkeypatch.setattr(seccomp, "program", lambda machine: ALL_ALLOWED)
    assert "no system call is refused" in (await _tried("bwrap"))["syscalls"]


def sandboxes_need_bwrap() -> None:
    if shutil.which("bwrap") is None:
        pytest.skip("bwrap is not installed")


PLAIN_USER = """
import asyncio, json, os, sys
from pathlib import Path
folder, name = Path(sys.argv[1]), sys.argv[2]
from lambent_chassis import clock
from lambent_worker.sandbox.api import HostFiles
from lambent_worker.sandbox.backends import backend
from tests.integration.worker.test_backends import CONNECT, Bench

async def main():
    files = HostFiles(runtimes=folder / "runtimes", scratch=folder / "scratch")
    async with backend(name, files, f"plain-{os.getpid()}") as it:
        it.extend(clock.monotonic_s() + 3600)
        bench = Bench(it, folder / "code")
        sandbox = await bench.create(runtime_api=True)
        with sandbox.api as listener:
            program = (sys.executable, "-I", "-S", "-c", CONNECT)
            done = [await bench.run(sandbox, *program, API=sandbox.api_address) for _ in range(2)]
            connections = [listener.accept()[0].close() for _ in done]
        await bench.shell(sandbox, 'echo kept > "$TMP/file"')
        await sandbox.clear()
        _, kept = await bench.shell(sandbox, 'cat "$TMP/file"')
        await bench.end()
        given = it.protections()
    print(json.dumps([given.level, sorted(given.missing), [exit.status for exit, _ in done], kept]))

asyncio.run(main())
"""


@pytest.fixture
def folder_of_all() -> Iterator[Path]:
    """Where every user may go; another run of pytest closes what leads to `tmp_path` to all but its own."""
    with tempfile.TemporaryDirectory(prefix="lambent-test-", dir="/var/tmp") as folder:
        os.chmod(folder, 0o777)
        yield Path(folder)


@pytest.mark.parametrize(("name", "level"), [("bwrap", "namespaces-user"), ("landlock", "landlock")])
async def test_a_plain_user_has_sandboxes(name: str, level: str, folder_of_all: Path) -> None:
    """Without any privilege: several processes of an instance reach its Runtime API, and its /tmp stays."""
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    interpreter = sandboxes.interpreter_of_all()
    if interpreter is None or not interpreter.startswith("/usr/"):
        pytest.skip("no interpreter of this version in /usr can be executed by a plain user")
    for made in ("code", "runtimes"):
        (folder_of_all / made).mkdir()
    packages = [path for path in sys.path if path and not path.startswith(str(sandboxes.PREFIX))]
    worker = await asyncio.create_subprocess_exec(
        *("/usr/bin/setpriv", "--reuid", "54321", "--regid", "54321", "--clear-groups", "--"),
        *(interpreter, "-B", "-c", PLAIN_USER, str(folder_of_all), name),
        env={"PYTHONPATH": os.pathsep.join([os.getcwd(), *packages])},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, said = await worker.communicate()
    if b"CannotStart" in said and (b"namespace" in said or b"Landlock" in said):
        pytest.skip(said.decode().strip().rpartition("\n")[2])
    assert worker.returncode == 0, said.decode()
    reached, missing, statuses, kept = json.loads(output)
    assert (reached, statuses, kept) == (level, [0, 0], "kept\n")
    assert {"own_user", "own_kernel"} <= set(missing)
    assert ("worker" in missing) == (name == "landlock")
