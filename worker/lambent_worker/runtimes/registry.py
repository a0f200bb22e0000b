"""All runtimes of this host: each folder here describes a family, and nothing else lists them."""

import importlib
import os
import pkgutil
import re
import shutil
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from lambent_worker import runtimes
from lambent_worker.runtimes.api import Family, Found, Runtime, Unavailable
from lambent_worker.sandbox.api import Parkable


@dataclass(frozen=True, slots=True)
class Runtimes:
    by_name: Mapping[str, Runtime]
    """Those that this host can run; the newest of a family by the family's name as well."""
    unavailable: tuple[Unavailable, ...]
    files: Mapping[str, tuple[Path, ...]]
    """Of each family that can run: what its instances find in LAMBDA_RUNTIME_DIR/FAMILY."""

    @property
    def prefixes(self) -> tuple[Path, ...]:
        """Folders outside `/usr` that instances need, each once."""
        return tuple(
            dict.fromkeys(prefix for runtime in self.by_name.values() for prefix in runtime.prefixes)
        )

    @property
    def parkables(self) -> tuple[Parkable, ...]:
        runtimes = {runtime.name: runtime for runtime in self.by_name.values()}
        return tuple(it.parkable for it in runtimes.values() if it.parkable is not None)

    def install(self, target: Path) -> None:
        """Makes `target`, whatever was in it, the folder that instances see as LAMBDA_RUNTIME_DIR."""
        shutil.rmtree(target, ignore_errors=True)
        for family, files in self.files.items():
            folder = target / family
            folder.mkdir(parents=True)
            for file in files:
                if file.is_dir():
                    shutil.copytree(file, folder / file.name)
                else:
                    shutil.copy2(file, folder / file.name)
        for path in (target, *target.rglob("*")):
            path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)


def families() -> Iterator[Family]:
    for module in pkgutil.iter_modules(runtimes.__path__):
        if module.ispkg:
            family: Family = importlib.import_module(f"{runtimes.__name__}.{module.name}.family").family
            yield family


def build_folder(data: Path) -> Path:
    """Where what is compiled for this host is kept: for all workers of a user, or in `data` where the user
    has no cache folder."""
    try:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lambent" / "build"
        cache.mkdir(mode=0o700, parents=True, exist_ok=True)
    except (OSError, RuntimeError):  # the latter: a user without a home
        return data / "build"
    return cache if os.access(cache, os.W_OK) else data / "build"


def discover(build: Path) -> Runtimes:
    """Looks at this host. `build` is a folder for what is compiled for it, which may be there from before.

    Takes seconds when it is not: call it in a thread.
    """
    by_name: dict[str, Runtime] = {}
    unavailable: list[Unavailable] = []
    files: dict[str, tuple[Path, ...]] = {}
    known = list(families())
    with ThreadPoolExecutor() as pool:  # they wait for interpreters and compilers
        all_found = list(pool.map(lambda family: _find(family, build / family.name), known))
    for family, found in zip(known, all_found, strict=True):
        unavailable += found.unavailable
        if found.available:
            newest = max(found.available, key=_numbers)
            by_name |= {family.name: newest} | {runtime.name: runtime for runtime in found.available}
            files[family.name] = found.files
    return Runtimes(by_name, tuple(unavailable), files)


def _find(family: Family, build: Path) -> Found:
    build.mkdir(parents=True, exist_ok=True)
    return family.find(build)


def _numbers(runtime: Runtime) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", runtime.name))
