"""The processes of a function's external extensions: launched before its runtime, ended with it."""

import asyncio
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from lambent_worker.channel import Output
from lambent_worker.sandbox.api import Exit, Launch, Process, Sandbox

FOLDER: Final = "extensions"
"""In a layer, and so below `/opt`."""


def names(layers: Path | None) -> tuple[str, ...]:
    """File names of the extensions that come with these merged layers."""
    folder = layers / FOLDER if layers is not None else None
    if folder is None or not folder.is_dir():
        return ()
    return tuple(sorted(it.name for it in folder.iterdir() if it.is_file() and os.access(it, os.X_OK)))


class ExtensionProcesses:
    """Those of one run. `on_exit` is called for one that ends by itself, with how many are left."""

    def __init__(self, on_output: Callable[[bytes], None], on_exit: Callable[[str, Exit, int], None]) -> None:
        self._on_output = on_output
        self._on_exit = on_exit
        self._running = 0
        self._outputs: list[Output] = []
        self._watches: list[asyncio.Task[None]] = []

    async def launch(
        self, sandbox: Sandbox, extensions: tuple[str, ...], environment: Mapping[str, str]
    ) -> None:
        """Raises CannotStart."""
        opt = sandbox.view.opt
        for name in extensions:
            argv = (f"{opt}/{FOLDER}/{name}",)
            launch = Launch(argv=argv, environment=environment, folder=opt, channel=False)
            process = await sandbox.launch(launch)
            self._running += 1
            self._outputs.append(Output(process.output, self._on_output))
            self._watches.append(asyncio.ensure_future(self._watch(name, process)))

    async def _watch(self, name: str, process: Process) -> None:
        exit_ = await process.wait()
        self._running -= 1
        if not exit_.killed:
            self._on_exit(name, exit_, self._running)

    def close(self) -> None:
        """They have ended, or will with their sandbox."""
        for watch in self._watches:
            watch.cancel()
        for output in self._outputs:
            output.close()
        self._outputs.clear()
