"""How a process of a sandbox without namespaces is said to have ended."""

import asyncio
import signal
from types import SimpleNamespace
from typing import Any, cast

import pytest

from lambent_worker.sandbox.api import Exit
from lambent_worker.sandbox.spawned import SpawnedProcess


@pytest.mark.parametrize(
    ("said", "destroyed", "expected"),
    [
        (Exit(-signal.SIGKILL, killed=False), True, Exit(-signal.SIGKILL, killed=True)),
        (Exit(-signal.SIGKILL, killed=False), False, Exit(-signal.SIGKILL, killed=False)),
        (Exit(1, killed=False), True, Exit(1, killed=False)),
        (Exit(-signal.SIGKILL, killed=True), False, Exit(-signal.SIGKILL, killed=True)),
    ],
)
async def test_who_is_ended_with_its_sandbox_was_killed(said: Exit, destroyed: bool, expected: Exit) -> None:
    """Also one that was about to start then, which the spawner was never asked to kill."""
    exited: asyncio.Future[Exit] = asyncio.get_running_loop().create_future()
    exited.set_result(said)
    over = asyncio.Event()
    if destroyed:
        over.set()
    place, spawned = (
        cast("Any", SimpleNamespace(exit=lambda it: it)),
        cast("Any", SimpleNamespace(exited=exited)),
    )
    assert await SpawnedProcess(place, spawned, None, -1, over).wait() == expected
