"""A sandbox that hides the host by namespaces is tried out: a shell says from inside what it sees and can do.

What is found missing is told by the protection's name. Limits by cgroups are not tried here: `Cgroups` does.
"""

import asyncio
import os
from collections.abc import Mapping
from contextlib import suppress
from typing import Final

from lambent_proto.ids import InstanceId
from lambent_worker.sandbox.api import CannotStart, HostFiles, Launch, Process, Sandbox, SandboxSpec, View

_TMP_MB: Final = 1
_BYTES: Final = 10_000_000
_STEP_LIMIT_S: Final = 10.0
_NAMESPACES: Final = ("pid", "net", "mnt", "ipc", "user")
_END: Final = b"end: here\n"

SCRIPT: Final = f"""
cat /proc/self/status
for it in {" ".join(_NAMESPACES)}; do echo "namespace $it: $(readlink /proc/self/ns/$it)"; done
echo "read: $(cat "$SECRET" 2> /dev/null)"
touch "$CODE/written" 2> /dev/null && echo "write: code"
touch /dev/written /written /etc/written 2> /dev/null && echo "write: system"
unshare --user true 2> /dev/null && echo "call: unshare"
head -c {_BYTES} /dev/zero > "$TMP/full" 2> /dev/null
echo "full: $(stat -c %s "$TMP/full")"
rm "$TMP/full"
setsid sleep 600 &
echo "end: here"
sleep 600
"""
"""Leaves a process behind that has left its process group; who holds the output knows when it has ended."""


class Trial:
    limit_s = 4 * _STEP_LIMIT_S
    """How long it takes at most."""

    def __init__(self, files: HostFiles, view: View) -> None:
        self._secret = files.scratch / "secret"
        self._view = view
        self.spec = SandboxSpec(
            instance=InstanceId("trial"), code=files.runtimes, memory_mb=128, tmp_mb=_TMP_MB
        )
        """Of the sandbox that is to be tried."""

    async def of(self, sandbox: Sandbox) -> Mapping[str, str]:
        """By protection, why it is not given. The sandbox is gone afterwards. Raises CannotStart, OSError."""
        self._secret.write_text("told")
        self._secret.chmod(0o644)
        environment = {
            "PATH": "/usr/bin:/bin",
            "SECRET": str(self._secret),
            "CODE": self._view.task_root,
            "TMP": self._view.tmp,
        }
        launch = Launch(
            argv=("/bin/sh", "-c", SCRIPT), environment=environment, folder=self._view.tmp, channel=False
        )
        try:
            process = await sandbox.launch(launch)
            try:
                return await self._found(sandbox, process)
            finally:
                os.close(process.output)
        finally:
            sandbox.destroy()
            await sandbox.wait()
            self._secret.unlink()

    async def _found(self, sandbox: Sandbox, process: Process) -> Mapping[str, str]:
        said, ended = await _read(process.output, until=_END)
        if ended or not said.endswith(_END):
            reason = said.decode(errors="replace").strip().rpartition("\n")[2]
            raise CannotStart(f"no process can be shut in here: {reason or 'it said nothing'}")
        lines = dict(line.split(":", 1) for line in said.decode().splitlines() if ":" in line)
        seen = {name: value.strip() for name, value in lines.items()}
        missing = {name: what for name, what, true in _judged(seen) if true}
        if _host_user(process.pid) in (0, os.geteuid()):
            missing["own_user"] = "tried it: its user is the worker's"
        await sandbox.clear()
        if not (await _read(process.output, until=None))[1]:
            missing["kill_all"] = "tried it: a process that had left its process group was not ended"
        return missing


def _judged(seen: Mapping[str, str]) -> list[tuple[str, str, bool]]:
    """Protections, what is wrong with them, and whether it is."""
    shared = [it for it in _NAMESPACES if seen.get(f"namespace {it}") == os.readlink(f"/proc/self/ns/{it}")]
    power = int(seen["CapEff"], 16) or int(seen["CapBnd"], 16)
    unseen = "pid" in shared or "user" in shared or power != 0
    open_to = "tried it: its processes and users are the host's"
    return [
        ("files", "tried it: a file of the host's was read", seen["read"] != "" or "mnt" in shared),
        ("files", "tried it: what is to be read only was written", "write" in seen),
        *((name, open_to, unseen) for name in ("environment", "memory", "events", "worker")),
        ("memory", "tried it: shared memory is shared with the host", "ipc" in shared),
        ("network", "tried it: its network is the host's", "net" in shared),
        ("syscalls", "tried it: no system call is refused", seen["Seccomp"] != "2" or "call" in seen),
        ("syscalls", "tried it: programs can give it new privileges", seen["NoNewPrivs"] != "1"),
        ("disk_limit", "tried it: the limit of /tmp did not hold", int(seen["full"] or _BYTES) >= _BYTES),
    ]


def _host_user(pid: int) -> int:
    with open(f"/proc/{pid}/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("Uid:"))


async def _read(fd: int, until: bytes | None) -> tuple[bytes, bool]:
    """What came up to `until`, or in the time that there is, and whether it was all."""
    data = bytearray()
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(fd, _take, fd, data, until, ended)
    try:
        with suppress(TimeoutError):
            async with asyncio.timeout(_STEP_LIMIT_S):
                await ended.wait()
    finally:
        loop.remove_reader(fd)
    return bytes(data), _at_end(fd)


def _take(fd: int, data: bytearray, until: bytes | None, ended: asyncio.Event) -> None:
    part = os.read(fd, 65536)
    data += part
    if not part or (until is not None and data.endswith(until)):
        ended.set()


def _at_end(fd: int) -> bool:
    try:
        return os.read(fd, 1) == b""
    except BlockingIOError:
        return False
