"""Parts that an operator starts beside `lambent up`, and the search for processes that nobody ended."""

import json
import os
import signal
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from lambent_chassis.clock import monotonic_s
from tests.e2e.fleet import GRPC_SERVER_IS, WITHIN_S, Fleet, environment, up

MARK: Final = "E2E_FOLDER"
"""A variable that every part inherits, and every process that it starts with its own environment."""

GONE_S: Final = 5.0


class Part:
    """`lambent PART --config FILE`, started by hand, with a file of its own."""

    def __init__(self, kind: str, name: str, config: Path, within: Sequence[str] = ()) -> None:
        """`within` is what its command begins with, where it runs on a host of its own."""
        self.name = name
        self.python = sys.executable
        """Of the installation that it is started from."""
        self.process: subprocess.Popen[str]
        self.addresses: dict[str, str]
        self._kind = kind
        self._config = config
        self._within = within

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def runs(self) -> bool:
        """It was started and has not ended."""
        return hasattr(self, "process") and self.process.poll() is None

    def start(self) -> None:
        """Returns when it serves; a part that has ended may be started again."""
        log = self._config.with_suffix(".log")
        with log.open("ab") as errors:
            self.process = subprocess.Popen(
                [*self._within, self.python, "-m", "lambent", self._kind, "--config", str(self._config)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env=_environment(self._kind) | {MARK: str(self._config.parent)},
                cwd=self._config.parent,  # not where this repository's own packages would be found first
            )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, f"{self.name} did not start: {log.read_text()}"
        self.addresses = dict(word.split("=", 1) for word in line.split() if "=" in word)

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()

    def stop(self) -> None:
        """As an operator would; nothing if it does not run."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.terminate()
        self.process.communicate(timeout=WITHIN_S)


def _environment(kind: str) -> dict[str, str]:
    if kind == "frontend":
        return environment()
    return {name: value for name, value in os.environ.items() if name not in GRPC_SERVER_IS}


@contextmanager
def by_hand(fleet: Fleet, like: str, name: str, **settings: object) -> Iterator[Part]:
    """One more part, with the settings of `like`, a part of `lambent up`, but for those given; None takes one
    away."""
    folder = fleet.data.parent
    told = tomllib.loads((fleet.data / "config" / f"{like}.toml").read_text())
    told = {key: value for key, value in (told | {"name": name, **settings}).items() if value is not None}
    if "data" in told:
        told["data"] = str(folder / name)
    config = folder / f"{name}.toml"
    config.write_text("".join(f"{key} = {json.dumps(value)}\n" for key, value in told.items()))
    part = Part(like.partition("-")[0], name, config)
    part.start()
    try:
        yield part
    finally:
        part.stop()


@contextmanager
def running(folder: Path, *options: str) -> Iterator[Fleet]:
    """`lambent up` with its data in `folder`; Ctrl-C at the end, and then nothing of it may be left."""
    os.environ[MARK] = str(folder)
    try:
        with up(folder / "data", *options) as fleet:
            del os.environ[MARK]
            yield fleet
            assert fleet.stop(signal.SIGINT) == 0
    finally:
        os.environ.pop(MARK, None)
        assert_nothing_is_left(folder)


def assert_nothing_is_left(folder: Path) -> None:
    """Ends what came from a fleet in this folder and should not be there any more, and says what it was."""
    deadline = monotonic_s() + GONE_S
    while (left := _left(str(folder))) and monotonic_s() < deadline:
        pass
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert not left, f"left running: {left}"


def alive(pid: int) -> bool:
    """Whether it runs; one that has ended and nobody has waited for does not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


def _left(folder: str) -> dict[int, str]:
    """The commands of those whose arguments, working directory or environment lead to the folder."""
    found = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal() or int(entry.name) == os.getpid():
            continue
        try:
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            environment = (entry / "environ").read_bytes().decode(errors="replace").split("\0")
            where = os.readlink(entry / "cwd")
        except OSError:  # it has ended meanwhile, or is another user's
            continue
        ours = folder in command or where.startswith(folder) or f"{MARK}={folder}" in environment
        if ours and alive(int(entry.name)):
            found[int(entry.name)] = command
    return found
