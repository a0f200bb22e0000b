"""The sandbox backends, each as the tests make it, or skipped with what this host lacks for it."""

import os
import platform
import shutil
import subprocess
from collections.abc import Callable, Sequence
from typing import Final

import pytest

from lambent_worker.sandbox.api import Backend, HostFiles, Parkable
from lambent_worker.sandbox.confine import landlock_version
from lambent_worker.sandbox.landlock import LandlockBackend
from lambent_worker.sandbox.process import ProcessBackend
from lambent_worker.sandbox.seccomp import program

Make = Callable[[HostFiles, Sequence[Parkable]], Backend]

NAME: Final = f"test-{os.getpid()}"
"""A worker's, which no other run of the tests uses."""


def process(files: HostFiles, parkables: Sequence[Parkable] = ()) -> Backend:
    return ProcessBackend(files)


def landlock_or_skip(files: HostFiles, parkables: Sequence[Parkable] = ()) -> Backend:
    if not landlock_version():
        pytest.skip("this kernel has no Landlock")
    return LandlockBackend(files, NAME)


def namespaces_or_skip(files: HostFiles, parkables: Sequence[Parkable] = ()) -> Backend:
    if os.geteuid() != 0:
        pytest.skip("namespaces with everything that they protect from need root")
    from lambent_worker.sandbox.namespaces import NamespacesBackend

    machine = platform.machine()
    return NamespacesBackend(
        files, NAME, parkables, seccomp=program(machine), of_snapshots=program(machine, "-snapshot")
    )


def _output(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    return done.stdout + done.stderr


def gvisor_or_skip(files: HostFiles, parkables: Sequence[Parkable] = ()) -> Backend:
    if shutil.which("runsc") is None:
        pytest.skip("runsc is not installed")
    if os.geteuid() != 0:
        pytest.skip("runsc in a network namespace of its own needs root")
    if "pass-fd" not in _output("runsc", "run", "--help"):
        pytest.skip("this runsc is too old: it does not know --pass-fd")
    from lambent_worker.sandbox.gvisor import GvisorBackend

    return GvisorBackend(files, NAME)


def bwrap_or_skip(files: HostFiles, parkables: Sequence[Parkable] = ()) -> Backend:
    if shutil.which("bwrap") is None:
        pytest.skip("bwrap is not installed")
    from lambent_worker.sandbox.bwrap import BwrapBackend

    return BwrapBackend(files, NAME)
