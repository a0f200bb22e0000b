"""Every CPython on this host that can run functions, each X.Y of it once."""

import json
import os
import re
import shutil
import stat
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lambent_worker.runtimes.api import Bytecode, Found, Runtime, Start, Unavailable
from lambent_worker.runtimes.host import NotUsable, built, output_of, outside_usr
from lambent_worker.sandbox import entry, kernel, zygote
from lambent_worker.sandbox.api import Parkable

PARKED: Final = 2
"""Of the version that runs Lambent, which is the one that functions have unless they name another; those of
other versions are forked when they are wanted."""

OLDEST: Final = (3, 8)
_BOOTSTRAP: Final = Path(__file__).parent / "bootstrap"
_OF_ZYGOTES: Final = tuple(Path(it.__file__ or "") for it in (zygote, entry, kernel))
"""They run inside a zygote as well, beside the bootstrap."""
OLDEST_ZYGOTE: Final = (3, 10)
"""3.8 knows no pidfds, and of 3.9 `os.closerange` closes a billion descriptors one by one, in every fork."""
FOR_ALL: Final = stat.S_IROTH | stat.S_IXOTH
_EXECUTABLE: Final = re.compile(r"python3\.(\d+)")
_FACTS: Final = """\
import compileall, json, select, ssl, sys, zlib
print(json.dumps([sys.implementation.name, list(sys.version_info[:3]), sys.base_prefix]))
"""


@dataclass(frozen=True, slots=True)
class Interpreter:
    path: Path
    version: tuple[int, ...]
    prefix: Path

    @property
    def name(self) -> str:
        return f"python{self.version[0]}.{self.version[1]}"

    @property
    def version_text(self) -> str:
        return ".".join(map(str, self.version))


class Python:
    name = "python"

    def find(self, build: Path) -> Found:
        interpreters, broken = _interpreters()
        folder = built(
            build,
            [_BOOTSTRAP, *_OF_ZYGOTES],
            [f"{it.path} {it.version_text}" for it in interpreters],
            lambda folder: _compile(folder, interpreters),
        )
        return Found(
            available=tuple(map(_runtime, interpreters)),
            unavailable=tuple(
                Unavailable(name=name, family=self.name, why=f"{why}: repair it, or install another")
                for name, why in broken.items()
            ),
            files=(folder / "lambent_bootstrap",),
        )


def _interpreters() -> tuple[list[Interpreter], Mapping[str, str]]:
    """By X.Y the one that runs Lambent, or the newest; and why others cannot be used, by their names."""
    best: dict[str, Interpreter] = {}
    broken: dict[str, str] = {}
    own = Path(sys.base_prefix)
    for path in dict.fromkeys(_candidates()):
        try:
            it = _tried(path)
        except NotUsable as failed:
            broken[path.name] = str(failed)
            continue
        other = best.get(it.name)
        if other is None or (it.prefix == own, it.version) > (other.prefix == own, other.version):
            best[it.name] = it
    found = sorted(best.values(), key=lambda it: it.version)
    return found, {name: why for name, why in broken.items() if name not in best}


def _candidates() -> Iterator[Path]:
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    for folder in (
        Path(sys.base_prefix) / "bin",
        *map(Path, os.get_exec_path()),
        Path("/usr/bin"),
        Path("/usr/local/bin"),
        *sorted(pyenv.glob("versions/*/bin")),
    ):
        for path in sorted(folder.glob("python3.*")):
            match = _EXECUTABLE.fullmatch(path.name)
            if match and int(match[1]) >= OLDEST[1] and os.access(path, os.X_OK) and not _is_script(path):
                yield path.resolve()


def _is_script(path: Path) -> bool:
    """As pyenv's shims are, which run whatever somebody chose last."""
    with path.open("rb") as file:
        return file.read(2) == b"#!"


def _tried(path: Path) -> Interpreter:
    facts = output_of(str(path), "-I", "-S", "-B", "-c", _FACTS)
    try:
        implementation, version, prefix = json.loads(facts)
    except ValueError:
        raise NotUsable(f"{path} printed {facts[:200]!r}") from None
    if implementation != "cpython":
        raise NotUsable(f"{path} is {implementation}, and not CPython")
    if os.geteuid() == 0:  # then instances have users of their own
        _for_everybody(Path(prefix), path.parent, path)
    return Interpreter(path, tuple(version), Path(prefix))


def _for_everybody(*paths: Path) -> None:
    """Folders above the prefix are not looked at: an instance sees none of them."""
    for path in paths:
        if path.stat().st_mode & FOR_ALL != FOR_ALL:
            raise NotUsable(f"{path} is not for everybody to read and execute, as instances have to")


def _compile(folder: Path, interpreters: list[Interpreter]) -> None:
    """For each of them, so that no instance compiles, and none looks at the dates of files."""
    files = folder / "lambent_bootstrap"
    shutil.copytree(_BOOTSTRAP, files, ignore=shutil.ignore_patterns("__pycache__"))
    for source in _OF_ZYGOTES:
        shutil.copy(source, files)
    for it in interpreters:
        output_of(
            *(str(it.path), "-I", "-m", "compileall", "-q"),
            *("--invalidation-mode", "unchecked-hash", str(files)),
        )


def _runtime(it: Interpreter) -> Runtime:
    return Runtime(
        name=it.name,
        family="python",
        version=it.version_text,
        argv=lambda start: (
            *(str(it.path), "-I", "-S", "-B", "-X", "utf8"),
            *(f"{start.runtime_dir}/python/lambent_bootstrap/__main__.py", "3"),
        ),
        environment=lambda start: _environment(start, it.name),
        prefixes=outside_usr(it.prefix),
        frames=True,
        parkable=_zygote(it) if it.version >= OLDEST_ZYGOTE else None,
        bytecode=Bytecode(str(it.path), f"cpython-{it.version[0]}{it.version[1]}"),
    )


def _zygote(it: Interpreter) -> Parkable:
    return Parkable(
        name=it.name,
        argv=(
            *(str(it.path), "-I", "-S", "-B", "-X", "utf8"),
            "/var/runtime/python/lambent_bootstrap/zygote_main.py",
        ),
        zygote=True,
        count=PARKED if it.prefix == Path(sys.base_prefix) else 0,
    )


def _environment(start: Start, name: str) -> dict[str, str]:
    """A variable of ours: PYTHONPATH is the function's own."""
    layers = f"{start.opt}/python"
    return {"LAMBENT_LAYERS_PYTHONPATH": f"{layers}/lib/{name}/site-packages:{layers}"}


family = Python()
