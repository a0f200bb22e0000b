"""Hosts to log in to by SSH, on this machine: each with a network, an /etc, /opt, /run, /var/lib of its own.

They are not booted, so that `systemctl` is a stand-in, which starts and stops what units name.
"""

import os
import shutil
import signal
import subprocess
import sysconfig
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

from lambent_chassis.clock import monotonic_s
from tests.chaos.hosts import CannotMakeHosts, Host, hosts

SSHD: Final = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin")

_SYSTEMCTL: Final = """#!/bin/sh
verb=$1; shift
case $verb in daemon-reload | enable) exit 0 ;; esac
[ "$1" = --quiet ] && shift
unit=$1; file=/etc/systemd/system/$unit.service; pid=$(cat /run/$unit.pid 2>/dev/null)
of() { sed -n "s/^$1=//p" "$file"; }
running() { [ -n "$pid" ] && kill -0 "$pid" 2>/dev/null; }
case $verb in is-active) running; exit ;; esac
if [ "$verb" = restart ] && running; then kill "$pid"; while running; do sleep 0.1; done; fi
user=$(of User)
for folder in $(of StateDirectory); do install -d -o "$user" -g "$user" "/var/lib/$folder"; done
exec </dev/null >>/run/$unit.log 2>&1
setsid setpriv --reuid="$user" --regid="$user" --init-groups $(of ExecStart) &
echo $! >/run/$unit.pid
"""
_HOST: Final = """
set -e
cd {folder}
for at in /opt/*/; do mkdir -p "$PWD$at"; mount --bind "$at" "$PWD$at"; done
mount --rbind "$PWD/opt" /opt
for at in etc run var/lib srv; do mount --bind "$PWD/$at" "/$at"; done
mount --bind "$PWD/systemctl" /usr/bin/systemctl
exec {sshd} -D -e -f "$PWD/sshd_config"
"""
_SSHD: Final = """
HostKey {folder}/host_key
AuthorizedKeysFile {key}.pub
PermitRootLogin yes
StrictModes no
UsePAM no
"""


@contextmanager
def ssh_hosts(names: list[str], folder: Path) -> Iterator[dict[str, Host]]:
    """Skips the test where they cannot be made. The login is `login(host, folder)`."""
    if SSHD is None:
        pytest.skip("there is no sshd (Debian: openssh-server)")
    key = folder / "key"
    _keygen(key)
    try:
        with hosts(names) as made:
            started: list[subprocess.Popen[bytes]] = []
            try:
                started += [_start(made[name], folder / name, key) for name in names]
                for name in names:
                    _until_it_answers(made[name], folder)
                yield {name: made[name] for name in names}
            finally:
                for name in names:
                    _end_all(made[name])
                for process in started:
                    process.communicate()
    except CannotMakeHosts as why:
        pytest.skip(str(why))


def login(host: Host, folder: Path) -> str:
    """What `ssh` is given."""
    known = "-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR"
    return f"-i {folder / 'key'} {known} root@{host.address}"


def _keygen(path: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path], check=True)


def _start(host: Host, folder: Path, key: Path) -> "subprocess.Popen[bytes]":
    for at in ("opt", "run/sshd", "var/lib"):
        (folder / at).mkdir(parents=True)
    subprocess.run(["cp", "-a", "/etc", folder], check=True)
    (folder / "srv").symlink_to(key.parent / "srv")  # one that all hosts share
    (key.parent / "srv").mkdir(exist_ok=True)
    _with_dependencies(folder / "opt" / "lambent")
    _keygen(folder / "host_key")
    (folder / "sshd_config").write_text(_SSHD.format(folder=folder, key=key))
    (folder / "systemctl").write_text(_SYSTEMCTL)
    (folder / "systemctl").chmod(0o755)
    with (folder / "sshd.log").open("wb") as log:
        return subprocess.Popen(
            [*host.within, "sh", "-c", _HOST.format(folder=folder, sshd=SSHD)], stdout=log, stderr=log
        )


def _with_dependencies(env: Path) -> None:
    """Nothing is fetched: it finds what is installed here, pip included."""
    venv.create(env, symlinks=True)
    purelib = Path(sysconfig.get_path("purelib", "venv", {"base": str(env)}))
    (purelib / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")


def _until_it_answers(host: Host, folder: Path) -> None:
    deadline = monotonic_s() + 20
    command = ["ssh", *login(host, folder).split(), "true"]
    while subprocess.run(command, capture_output=True, check=False).returncode:
        assert monotonic_s() < deadline, (folder / host.name / "sshd.log").read_text()


def _end_all(host: Host) -> None:
    """The parts get SIGTERM first, all together; what is left is killed."""
    deadline = monotonic_s() + 10
    while pids := _pids(host):
        for pid in pids:
            try:
                os.kill(pid, signal.SIGTERM if monotonic_s() < deadline - 8 else signal.SIGKILL)
            except ProcessLookupError:
                continue
        assert monotonic_s() < deadline, f"{host.name} does not end: {pids}"


def _pids(host: Host) -> list[int]:
    told = subprocess.run(
        ["ip", "netns", "pids", host.namespace], capture_output=True, text=True, check=False
    )
    return [int(pid) for pid in told.stdout.split()]
