"""The Node.js on this host's PATH."""

import re
from pathlib import Path
from typing import Final

from lambent_proto.definition import DEFAULT_MEMORY_MB
from lambent_worker.runtimes.api import Found, Runtime, Start, Unavailable, parked_start
from lambent_worker.runtimes.host import NotUsable, found, output_of, outside_usr
from lambent_worker.sandbox.api import Parkable

OLDEST: Final = 18
_VERSION: Final = re.compile(r"v(\d+)\.\d+\.\d+\S*")
_MAIN: Final = "nodejs/bootstrap/main.mjs"

OLD_SPACE: Final = 0.9
YOUNG_SPACE: Final = 0.05
"""Shares of a function's memory that its heap may take, Lambda's."""

PARKED_MB: Final = DEFAULT_MEMORY_MB
"""V8 takes no other limit once it runs: v8.setFlagsFromString changes nothing in Node.js 20.20. Without one
garbage lies until a small sandbox is full: 20 MB in use took 230 MB, but 124 within a limit of 115 MB."""

_READ_AT_START: Final = (
    "NODE_OPTIONS",
    "NODE_EXTRA_CA_CERTS",
    "NODE_DEBUG",
    "NODE_ICU_DATA",
    "NODE_NO_WARNINGS",
    "NODE_PENDING_DEPRECATION",
    "UV_THREADPOOL_SIZE",
)


class NodeJs:
    name = "nodejs"

    def find(self, build: Path) -> Found:
        try:
            node = found("node")
            version = output_of(str(node), "--version")
            match = _VERSION.fullmatch(version)
            if match is None or int(match[1]) < OLDEST:
                raise NotUsable(f"{node} is {version}, and {OLDEST} or newer is needed")
        except NotUsable as missing:
            why = f"{missing}: install nodejs {OLDEST} or newer"
            return Found(unavailable=(Unavailable(name="nodejs", family=self.name, why=why),))
        runtime = Runtime(
            name=f"nodejs{match[1]}.x",
            family=self.name,
            version=version,
            argv=lambda start: _argv(node, start),
            environment=lambda start: _environment(start, match[1]),
            prefixes=outside_usr(node.parent.parent),
            parkable=_parkable(node),
        )
        return Found(available=(runtime,), files=(Path(__file__).parent / "bootstrap",))


def _argv(node: Path, start: Start) -> tuple[str, ...]:
    return (
        str(node),
        f"--max-old-space-size={int(start.memory_mb * OLD_SPACE)}",
        f"--max-semi-space-size={max(1, int(start.memory_mb * YOUNG_SPACE))}",
        f"{start.runtime_dir}/{_MAIN}",
    )


def _parkable(node: Path) -> Parkable:
    start = parked_start(PARKED_MB)
    return Parkable(
        name="nodejs",
        argv=(*_argv(node, start), "3"),
        memory_mb=PARKED_MB,
        settled=start.environment | dict.fromkeys(_READ_AT_START, ""),
    )


def _environment(start: Start, major: str) -> dict[str, str]:
    modules = f"{start.opt}/nodejs/node{major}/node_modules:{start.opt}/nodejs/node_modules"
    return {"NODE_PATH": f"{modules}:{start.runtime_dir}/node_modules"}


family = NodeJs()
