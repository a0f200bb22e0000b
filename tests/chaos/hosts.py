"""Hosts of one machine: network namespaces on a bridge, and ways between them that are cut and spoilt."""

import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, Protocol

NETWORK: Final = f"10.213.{os.getpid() % 250 + 1}"
"""The first three numbers of all addresses, another one for each run; the bridge, where callers are, is 1."""


CALLERS: Final = "callers"
"""The bridge's own side of the network, by a name to be cut from."""


class Spoilt(Protocol):
    """How a line is bad."""

    @property
    def delay_s(self) -> float:
        """Each way."""

    @property
    def jitter_s(self) -> float: ...
    @property
    def loss(self) -> float:
        """The share of frames."""


class CannotMakeHosts(Exception):
    """This machine lets nobody, or not this user, make network namespaces; the message says why."""


@dataclass(frozen=True, slots=True)
class Host:
    name: str
    address: str
    namespace: str

    @property
    def within(self) -> tuple[str, ...]:
        """What a command begins with that is to run there."""
        return ("ip", "netns", "exec", self.namespace)


class Hosts:
    def __init__(self, names: list[str]) -> None:
        mark = f"lb{os.getpid()}"
        self.bridge = mark
        self.hosts = {
            name: Host(name, f"{NETWORK}.{number}", f"{mark}-{name}")
            for number, name in enumerate(names, start=11)
        }
        self.cuts: Counter[frozenset[str]] = Counter()
        """How many cuts each two of them are parted by at this moment."""
        self._lines: dict[str, subprocess.Popen[bytes]] = {}
        """By the hosts whose lines are bad: what carries their frames."""

    def __getitem__(self, name: str) -> Host:
        return self.hosts[name]

    def make(self) -> None:
        ip("link", "add", self.bridge, "type", "bridge")
        ip("addr", "add", f"{NETWORK}.1/24", "dev", self.bridge)
        ip("link", "set", self.bridge, "up")
        for number, host in enumerate(self.hosts.values()):
            outer, inner = self._outer(host.name), f"{self.bridge}i{number}"
            ip("netns", "add", host.namespace)
            ip("link", "add", outer, "type", "veth", "peer", "name", inner)
            ip("link", "set", inner, "netns", host.namespace, "name", "eth0")
            ip("link", "set", outer, "master", self.bridge, "up")
            ip("-n", host.namespace, "addr", "add", f"{host.address}/24", "dev", "eth0")
            ip("-n", host.namespace, "link", "set", "eth0", "up")
            ip("-n", host.namespace, "link", "set", "lo", "up")

    def remove(self) -> None:
        """Whatever of it is there."""
        for line in self._lines.values():
            line.kill()
            line.wait()
        for host in self.hosts.values():
            # The kernel is in no hurry with what is in a namespace.
            subprocess.run(["ip", "link", "del", self._outer(host.name)], capture_output=True, check=False)
            subprocess.run(["ip", "netns", "del", host.namespace], capture_output=True, check=False)
        subprocess.run(["ip", "link", "del", self.bridge], capture_output=True, check=False)

    def cut(self, one: str, other: str) -> None:
        """From now on nothing gets from one to the other, nor back; neither is told."""
        pair = frozenset((one, other))
        self.cuts[pair] += 1
        if self.cuts[pair] == 1:
            self._route("add", one, other)

    def mend(self, one: str, other: str) -> None:
        """One of the cuts between them; they hear each other again when none is left."""
        pair = frozenset((one, other))
        self.cuts[pair] -= 1
        if not self.cuts[pair]:
            self._route("del", one, other)

    def _route(self, change: str, one: str, other: str) -> None:
        for here, there in ((one, other), (other, one)):
            if here != CALLERS:
                address = f"{NETWORK}.1" if there == CALLERS else self[there].address
                ip("-n", self[here].namespace, "route", change, "blackhole", address)

    def isolate(self, name: str) -> None:
        ip("-n", self[name].namespace, "link", "set", "eth0", "down")

    def join(self, name: str) -> None:
        ip("-n", self[name].namespace, "link", "set", "eth0", "up")

    def kill_all(self, name: str) -> None:
        """Every process there, one after the other and at once."""
        listed = subprocess.run(
            ["ip", "netns", "pids", self[name].namespace], capture_output=True, text=True, check=True
        )
        for pid in listed.stdout.split():
            try:
                os.kill(int(pid), signal.SIGKILL)
            except ProcessLookupError:
                continue  # it had ended, or ended with another one

    def spoil(self, name: str, bad: Spoilt, seed: int) -> None:
        """Its line to all others: instead of the bridge a process carries what goes there, and it is slow."""
        outer = self._outer(name)
        near, far = f"{outer}n", f"{outer}f"
        ip("link", "add", near, "type", "veth", "peer", "name", far)
        ip("link", "set", near, "up")
        ip("link", "set", far, "master", self.bridge, "up")
        ip("link", "set", outer, "nomaster")
        command = [sys.executable, "-m", "tests.chaos.line", outer, near, "--seed", str(seed)]
        command += ["--delay", str(bad.delay_s), "--jitter", str(bad.jitter_s), "--loss", str(bad.loss)]
        line = self._lines[name] = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert line.stdout is not None
        assert line.stdout.readline(), f"no line for {name}"

    def repair(self, name: str) -> None:
        line = self._lines.pop(name)
        line.kill()
        line.communicate()
        outer = self._outer(name)
        ip("link", "del", f"{outer}n")
        ip("link", "set", outer, "master", self.bridge)

    def _outer(self, name: str) -> str:
        return f"{self.bridge}o{list(self.hosts).index(name)}"


@contextmanager
def hosts(names: list[str]) -> Iterator[Hosts]:
    """Raises CannotMakeHosts; nothing is left then, nor at the end."""
    if os.geteuid() or shutil.which("ip") is None:
        raise CannotMakeHosts("hosts of their own need root and the command `ip` (Debian: iproute2)")
    made = Hosts(names)
    try:
        try:
            made.make()
        except subprocess.CalledProcessError as failed:
            raise CannotMakeHosts(f"{' '.join(failed.cmd)}: {failed.stderr.strip()}") from failed
        yield made
    finally:
        made.remove()


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], capture_output=True, text=True, check=True)
