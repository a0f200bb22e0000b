"""User code that wants out of its sandbox: each way is tried from inside, and held against what is promised.

After every attack the attacker's next call works, and its neighbour, an instance of another function on the
same worker, has noticed nothing.
"""

import asyncio
import os
import platform
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import pytest

from lambent_proto.ids import InstanceId
from tests.integration.worker.backends import landlock_or_skip, namespaces_or_skip
from tests.integration.worker.scene import Answer, Exited, Scene, alive, scene, until

pytestmark = [
    pytest.mark.escape,
    pytest.mark.skipif(
        platform.machine() != "x86_64", reason="the attacks know the system calls' numbers of x86_64 alone"
    ),
]

ATTACKS: Final = (Path(__file__).parent / "attacks.py").read_text()
SECRET: Final = "the neighbour's secret"
NEIGHBOUR: Final = """
import os, time
SECRET_IN_MEMORY = "the neighbour's secret"
count = 0
open("/tmp/secret", "w").write(SECRET_IN_MEMORY)
def handler(event, context):
    global count
    count += 1
    return [count, open("/tmp/secret").read(), sorted(os.listdir("/tmp"))]
"""

DENIED: Final = ("denied: EPERM", "denied: EACCES", "denied: ENOSYS")


class Attacker:
    """An instance that attacks, beside one that minds its own business."""

    def __init__(self, stage: Scene, instance: InstanceId, neighbour: InstanceId) -> None:
        self.stage = stage
        self.instance = instance
        self.neighbour = neighbour
        self._calls_of_neighbour = 0

    async def __call__(self, *attack: Any, timeout_s: float = 30.0) -> Any:
        answer = await self.answer(*attack, timeout_s=timeout_s)
        assert not answer.failed, answer.json
        return answer.json

    async def answer(self, *attack: Any, timeout_s: float = 30.0) -> Answer:
        return await self.stage.call(self.instance, list(attack), timeout_s=timeout_s)

    async def all_is_well(self) -> None:
        assert await self("processes")
        self._calls_of_neighbour += 1
        seen = (await self.stage.call(self.neighbour)).json
        assert seen == [self._calls_of_neighbour, SECRET, ["secret"]]


@pytest.fixture
async def attacker(tmp_path: Path) -> AsyncIterator[Attacker]:
    async with scene(tmp_path, backend=namespaces_or_skip) as stage:
        neighbour = await stage.started(NEIGHBOUR, environment={"SECRET": SECRET})
        instance = await stage.started({"app.py": ATTACKS}, tmp_mb=512, memory_mb=256)
        it = Attacker(stage, instance, neighbour)
        await it.all_is_well()
        yield it
        await it.all_is_well()


SYSTEM_CALLS: Final = {
    "ptrace": (16, 1, 0, 0),
    "mount": (0, "buffer", 0, 4096, 0),
    "umount2": ("buffer", 2),
    "unshare": (0x10000000,),
    "setns": (3, 0),
    "chroot": ("buffer",),
    "pivot_root": ("buffer", "buffer"),
    "process_vm_readv": (1, "buffer", 1, "buffer", 1, 0),
    "process_vm_writev": (1, "buffer", 1, "buffer", 1, 0),
    "init_module": ("buffer", 64, "buffer"),
    "finit_module": (0, "buffer", 0),
    "delete_module": ("buffer", 0),
    "kexec_load": (0, 0, 0, 0),
    "clock_settime": (0, "buffer"),
    "settimeofday": ("buffer", 0),
    "sethostname": ("buffer", 4),
    "reboot": (0xFEE1DEAD, 672274793, 0x4321FEDC, 0),
    "swapon": ("buffer", 0),
    "bpf": (0, "buffer", 64),
    "io_uring_setup": (8, "buffer"),
    "keyctl": (0, -3, 1),
    "add_key": ("buffer", "buffer", "buffer", 1, -3),
    "userfaultfd": (1,),
    "perf_event_open": ("buffer", 0, -1, -1, 0),
    "open_by_handle_at": (3, "buffer", 0),
    "mknod": ("buffer", 0o60600, 0x0701),
    "iopl": (3,),
    "quotactl": (0, 0, 0, "buffer"),
    "syslog": (3, "buffer", 100),
    "acct": (0,),
    "open_tree": (-100, "buffer", 1),
    "move_mount": (-100, "buffer", -100, "buffer", 0),
    "fsopen": ("buffer", 0),
    "mount_setattr": (-100, "buffer", 0, "buffer", 32),
    "pidfd_getfd": (3, 0, 0),
}


async def test_system_calls_that_no_function_needs(attacker: Attacker) -> None:
    """Tracing, mounting, namespaces, modules, clocks, keys and other doors into the kernel are shut."""
    got = {name: await attacker("call", name, *arguments) for name, arguments in SYSTEM_CALLS.items()}
    assert {name: said for name, said in got.items() if said not in DENIED} == {}


async def test_it_gives_the_fork_server_no_children(attacker: Attacker) -> None:
    """With CLONE_PARENT: whoever reaps them would be busy with nothing else."""
    assert await attacker("call", "clone", 0x8000 | 17, 0, 0, 0, 0) == "denied: EPERM"


async def test_it_has_no_power(attacker: Attacker) -> None:
    """No capability, no way to gain one, a filter on system calls, and an unprivileged user."""
    seen = await attacker("status", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp")
    assert seen == [*["0000000000000000"] * 5, "1", "2"]
    [uids] = await attacker("status", "Uid")
    assert "0" not in uids.split("\t")


async def test_set_user_id_programs_give_nothing(attacker: Attacker) -> None:
    code, _ = await attacker("run_command", "/bin/su", "-c", "id")
    assert code != 0
    code, _ = await attacker("run_command", "/bin/mount", "-t", "tmpfs", "x", "/tmp")
    assert code != 0


async def test_it_sees_no_process_but_its_own(attacker: Attacker) -> None:
    """The init of its sandbox, which it cannot look into, and itself."""
    assert len(await attacker("processes")) == 2
    for what in ("environ", "mem", "maps", "root/etc/passwd", "cwd/x", "fd/0"):
        assert await attacker("open_file", f"/proc/1/{what}") in (*DENIED, "denied: ENOENT")


async def test_it_reaches_no_process_of_the_host(attacker: Attacker) -> None:
    """Not by number, which means another one in its sandbox or none, and not the init of its sandbox."""
    assert await attacker("signal_process", os.getpid(), 9) == "denied: ESRCH"
    await attacker("signal_process", 1, 9)
    assert 1 in await attacker("processes")


@pytest.mark.parametrize(
    "path",
    [
        "/proc/sys/kernel/core_pattern",
        "/proc/sys/vm/drop_caches",
        "/proc/sysrq-trigger",
        "/proc/self/oom_score_adj",
        "/var/task/app.py",
        "/var/task/new",
        "/opt/new",
        "/var/runtime/new",
        "/etc/passwd",
        "/usr/bin/env",
        "/new",
        "/dev/new",
        "/sys/fs/cgroup/cgroup.procs",
    ],
)
async def test_it_writes_nowhere_but_in_tmp(attacker: Attacker, path: str) -> None:
    got = await attacker("open_file", path, "ab")
    if path == "/proc/self/oom_score_adj":
        return  # one's own may be raised: who does so is killed sooner
    assert got in (*DENIED, "denied: EROFS", "denied: ENOENT")


async def test_tmp_is_the_only_folder_it_can_write_to(attacker: Attacker) -> None:
    assert await attacker("writable") == ["/tmp"]


@pytest.mark.parametrize(
    "path", ["/dev/mem", "/dev/kmem", "/dev/vda", "/dev/loop0", "/dev/kmsg", "/dev/shm/x"]
)
async def test_no_device_of_the_host(attacker: Attacker, path: str) -> None:
    assert await attacker("open_file", path) in ("denied: ENOENT", *DENIED)


@pytest.mark.parametrize(
    "path", ["/proc/kcore", "/proc/kmsg", "/proc/kallsyms", "/proc/1/root", "/sys/kernel"]
)
async def test_nothing_of_the_kernels(attacker: Attacker, path: str) -> None:
    got = await attacker("open_file", path)
    if path == "/proc/kallsyms" and not got.startswith("denied"):
        assert set(bytes.fromhex(got)[:16]) == {ord("0")}, "addresses are shown as zeros"
        return
    assert got in ("denied: ENOENT", "denied: EISDIR", *DENIED)


async def test_the_workers_files_are_not_there(attacker: Attacker) -> None:
    """No path of the host's leads to its data folder, its packages or its neighbour's files."""
    data = attacker.stage.folder
    for path in (data, data / "packages", data / "scratch", Path.home() / ".bashrc", Path(__file__)):
        assert await attacker("open_file", str(path)) == "denied: ENOENT"


async def test_no_way_to_the_network(attacker: Attacker) -> None:
    """Neither to the host's loopback, nor to the cloud's metadata, nor outside; no raw sockets."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        assert await attacker("connect", "127.0.0.1", port) == "denied: ECONNREFUSED"
    assert await attacker("connect", "169.254.169.254", 80) == "denied: ENETUNREACH"
    assert await attacker("connect", "192.0.2.1", 80) == "denied: ENETUNREACH"
    assert await attacker("connect", "192.0.2.1", 53, "SOCK_DGRAM") == "denied: ENETUNREACH"
    for family, kind in (("AF_INET", "SOCK_RAW"), ("AF_PACKET", "SOCK_RAW"), ("AF_VSOCK", "SOCK_STREAM")):
        assert (await attacker("make_socket", family, kind)).startswith("denied")


async def test_a_fork_bomb_is_bounded(attacker: Attacker) -> None:
    """It runs into its limit; the reset ends all of it, and the next call has room again."""
    answer = await attacker.answer("fork_bomb", timeout_s=50.0)
    if not answer.failed:
        made, why = answer.json
        assert why == "denied: EAGAIN"
        assert 100 < made < 1_100
        await attacker.answer("signal_process", -1, 9)
    else:
        assert answer.json["errorType"] == "Runtime.OutOfMemory"


async def test_killing_everybody_kills_nobody_else(attacker: Attacker) -> None:
    """`kill -9 -1` reaches the sandbox's own processes, and neither its init nor who calls."""
    assert await attacker("signal_process", -1, 9) in ("sent", "denied: ESRCH", "denied: EPERM")


async def test_tmp_is_full_at_its_size(attacker: Attacker) -> None:
    """And counts neither as memory nor against anybody else."""
    written, why = await attacker("fill_tmp", timeout_s=60.0)
    assert why == "denied: ENOSPC"
    assert 350 < written <= 530


async def test_open_files_are_bounded(attacker: Attacker) -> None:
    count, why = await attacker("open_many")
    assert (count < 1_024, why) == (True, "denied: EMFILE")
    assert await attacker("raise_limit", "RLIMIT_NOFILE", 100_000) == "ValueError"


async def test_no_priority_over_others(attacker: Attacker) -> None:
    assert await attacker("real_time") in DENIED


async def test_too_much_memory_is_told_as_such(attacker: Attacker) -> None:
    """Lambda's error type for it; `/tmp` and the instance stay, and neighbours keep their memory."""
    answer = await attacker.answer("use_memory", 600)
    assert answer.failed
    assert answer.json["errorType"] == "Runtime.OutOfMemory"
    assert answer.json["errorMessage"].endswith("Runtime exited with error: signal: killed")


async def test_what_it_started_ends_with_it(attacker: Attacker) -> None:
    """A daemon that left its session, ignores signals and holds a socket is gone after a reset, and after a
    kill: not even its output pipe is held."""
    await attacker("daemon")
    assert len(await attacker("processes")) == 3
    await attacker.answer("run_command_that_does_not_exist")
    answer = await attacker.answer("use_memory", 600)
    assert answer.failed
    assert len(await attacker("processes")) == 2
    before = await asyncio.to_thread(_processes_that_ignore_all)
    await attacker("daemon")
    victim = attacker.instance
    pids = await asyncio.to_thread(_processes_that_ignore_all) - before
    assert pids, "the daemon is there"
    attacker.stage.host.kill(victim)
    assert await attacker.stage.hears() == Exited(victim, "killed", b"")
    await until(lambda: not any(alive(pid) for pid in pids))
    attacker.instance = await attacker.stage.started({"app.py": ATTACKS})


def _processes_that_ignore_all() -> set[int]:
    """All processes that ignore what signals they can, as the host sees them."""
    found = set()
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                fields = dict(
                    line.split(":", 1) for line in Path(f"/proc/{name}/status").read_text().splitlines()
                )
            except OSError:
                continue
            if int(fields.get("SigIgn", "0"), 16) & 0x7FF80000 == 0x7FF80000:
                found.add(int(name))
    return found


async def test_links_in_tmp_lead_nowhere(attacker: Attacker) -> None:
    """What it leaves in `/tmp` is never followed by anybody of the host's."""
    assert (await attacker("run_command", "/bin/ln", "-s", "/etc/shadow", "/tmp/link"))[0] == 0
    assert await attacker("open_file", "/tmp/link") == "denied: ENOENT"


async def test_devices_made_in_tmp_cannot_be(attacker: Attacker) -> None:
    code, _ = await attacker("run_command", "/bin/mknod", "/tmp/device", "b", "7", "0")
    assert code != 0


async def test_its_connections_to_the_runtime_api_are_bounded(attacker: Attacker) -> None:
    """It may hold as many as it likes of those: the worker serves the others."""
    await attacker("many_connections", "127.0.0.1", 9001)


@pytest.mark.skipif(
    tuple(map(int, platform.release().split(".")[:2])) < (6, 16),
    reason="before Linux 6.16 no socket can refuse descriptors",
)
async def test_its_channel_takes_no_descriptors(attacker: Attacker) -> None:
    """The worker would have to close what it got, and wait while a connection lingers."""
    assert await attacker("send_slow_descriptor", 20) == "denied: EPERM"


async def test_with_landlock_no_way_to_the_hosts_network(tmp_path: Path) -> None:
    """It is the host's own, and Landlock looks at one way to connect alone: the others are shut."""
    async with scene(tmp_path, backend=landlock_or_skip) as stage:
        instance = await stage.started({"app.py": ATTACKS})
        with socket.create_server(("127.0.0.1", 0)) as listener:
            for attack, error in (
                ("connect", "EACCES"),
                ("connect_by_sending", "ENOTSUP"),
                ("connect_by_mptcp", "EPROTONOSUPPORT"),
            ):
                answer = await stage.call(instance, [attack, *listener.getsockname()])
                assert answer.json == f"denied: {error}", attack
