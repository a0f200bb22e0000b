"""The runtimes that a function or a layer brings itself: an executable named `bootstrap`."""

from pathlib import Path
from typing import Final

from lambent_worker.runtimes.api import Found, Runtime, Start

NAMES: Final = ("provided", "provided.al2", "provided.al2023")
"""All the same here: what a bootstrap finds is this host's own libraries."""


class Provided:
    name = "provided"

    def find(self, build: Path) -> Found:
        return Found(
            available=tuple(
                Runtime(name=name, family=self.name, version="the function's own", argv=_argv)
                for name in NAMES
            ),
            files=(Path(__file__).parent / "start",),
        )


def _argv(start: Start) -> tuple[str, ...]:
    return ("/bin/sh", f"{start.runtime_dir}/provided/start", start.task_root, start.opt)


family = Provided()
