"""The Java on this host's PATH, for which our bootstrap is compiled by its javac."""

import re
from pathlib import Path
from typing import Final

from lambent_worker.runtimes.api import Found, Runtime, Start, Unavailable, parked_start
from lambent_worker.runtimes.host import NotUsable, built, found, output_of, outside_usr
from lambent_worker.sandbox.api import Parkable

OLDEST: Final = 11
_SOURCES: Final = Path(__file__).parent / "src"
_VERSION: Final = re.compile(r'version "([\d.]+)[^"]*"')
_COMPILER: Final = re.compile(r"javac (\d+)")

HEAP: Final = 0.8
"""Share of a function's memory; a JVM takes some 40 MB beside its heap."""

PARKED_MB: Final = 512
"""A heap's limit is set when a JVM starts: one that is parked suits functions of one memory size."""

_OPTIONS: Final = (
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-Xshare:auto",
    "-XX:-UsePerfData",
    "-Dfile.encoding=UTF-8",
    "-Dstdout.encoding=UTF-8",
    "-Dstderr.encoding=UTF-8",
    "-Dsun.stdout.encoding=UTF-8",
    "-Dsun.stderr.encoding=UTF-8",
)
_OPENED: Final = (
    "--add-opens=java.base/java.util=ALL-UNNAMED",
    "--add-opens=java.base/java.io=ALL-UNNAMED",
)
"""To a parked process, which has to change its environment."""

_READ_AT_START: Final = ("JAVA_TOOL_OPTIONS", "_JAVA_OPTIONS", "JDK_JAVA_OPTIONS")


class Java:
    name = "java"

    def find(self, build: Path) -> Found:
        try:
            java = found("java")
            version, major = _version(java)
            classes = _compiled(build, java, version, major)
        except NotUsable as missing:
            why = f"{missing}: install a JDK, {OLDEST} or newer"
            return Found(unavailable=(Unavailable(name="java", family=self.name, why=why),))
        runtime = Runtime(
            name=f"java{major}",
            family=self.name,
            version=version,
            argv=lambda start: _argv(java, start),
            environment=_environment,
            prefixes=outside_usr(java.parent.parent),
            parkable=_parkable(java),
        )
        return Found(available=(runtime,), files=(classes,))


def _version(java: Path) -> tuple[str, int]:
    match = _VERSION.search(output_of(str(java), "-version"))
    major = int(match[1].split(".")[0]) if match else 0
    if match is None or major < OLDEST:
        raise NotUsable(f"{java} is older than {OLDEST}")
    return match[1], major


def _compiled(build: Path, java: Path, version: str, major: int) -> Path:
    beside = java.parent / "javac"
    javac = beside if beside.exists() else found("javac")
    match = _COMPILER.match(output_of(str(javac), "-version"))
    newer = ("--release", str(major)) if match and int(match[1]) > major else ()
    sources = [str(source) for source in sorted(_SOURCES.rglob("*.java"))]

    def make(folder: Path) -> None:
        output_of(
            str(javac), *newer, "-encoding", "UTF-8", "-d", str(folder / "classes"), *sources, within_s=120
        )

    return built(build, [_SOURCES], [version, match[0] if match else ""], make) / "classes"


def _argv(java: Path, start: Start, parked: tuple[str, ...] = ()) -> tuple[str, ...]:
    heap = f"-Xmx{int(start.memory_mb * HEAP)}m"
    return (str(java), heap, *_OPTIONS, *parked, "-cp", f"{start.runtime_dir}/java/classes", "lambent.Main")


def _parkable(java: Path) -> Parkable:
    """It cannot change its folder: for what names files by `Path` its `user.dir` does."""
    start = parked_start(PARKED_MB)
    return Parkable(
        name="java",
        argv=(*_argv(java, start, (*_OPENED, f"-Duser.dir={start.task_root}")), "3"),
        memory_mb=PARKED_MB,
        settled=start.environment | dict.fromkeys(_READ_AT_START, ""),
    )


def _environment(start: Start) -> dict[str, str]:
    return {"LAMBENT_LAYERS_JAVA": f"{start.opt}/java/lib"}


family = Java()
