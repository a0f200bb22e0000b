"""The Node.js on this host's PATH."""

import re
from pathlib import Path
from typing import Final

from lambent_worker.runtimes.api import Found, Runtime, Start, Unavailable
from lambent_worker.runtimes.host import NotUsable, found, output_of, outside_usr
from lambent_worker.sandbox.api import Parkable

OLDEST: Final = 18
_VERSION: Final = re.compile(r"v(\d+)\.\d+\.\d+\S*")
_MAIN: Final = "nodejs/bootstrap/main.mjs"

OLD_SPACE: Final = 0.9
YOUNG_SPACE: Final = 0.05
"""Shares of a function's memory that its heap may take, Lambda's."""


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
            argv=lambda start: (
                str(node),
                *_heap(start.memory_mb),
                f"{start.runtime_dir}/{_MAIN}",
            ),
            environment=lambda start: _environment(start, match[1]),
            prefixes=outside_usr(node.parent.parent),
            parkable=Parkable(name="nodejs", argv=(str(node), f"/var/runtime/{_MAIN}", "3")),
        )
        return Found(available=(runtime,), files=(Path(__file__).parent / "bootstrap",))


def _heap(memory_mb: int) -> tuple[str, ...]:
    return (
        f"--max-old-space-size={int(memory_mb * OLD_SPACE)}",
        f"--max-semi-space-size={max(1, int(memory_mb * YOUNG_SPACE))}",
    )


def _environment(start: Start, major: str) -> dict[str, str]:
    modules = f"{start.opt}/nodejs/node{major}/node_modules:{start.opt}/nodejs/node_modules"
    return {"NODE_PATH": f"{modules}:{start.runtime_dir}/node_modules"}


family = NodeJs()
