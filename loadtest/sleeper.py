"""A function that sleeps for as long as its event says, and how it is deployed."""

import asyncio
import math
import sys
import zipfile
from collections.abc import Mapping
from io import BytesIO
from typing import Final

from lambent.client import Client
from lambent_chassis.clock import monotonic_s
from lambent_proto.ids import MIN_MEMORY_MB
from loadtest.fleet import Fleet

_SOURCE: Final = """\
import time


def handler(event, context):
    time.sleep(event["s"])
"""

_AT_ONCE: Final = 8
PRIME: Final = "prime"
"""The function whose instances come and go before anything is measured."""
QUIET_CORES: Final = 0.3
QUIET_WITHIN_S: Final = 60.0
TIMEOUT_S: Final = 900


async def deploy(endpoint: str, memory_mb: Mapping[str, int], *, apart: bool = False) -> None:
    """One for each name, with so much memory."""
    package = _package()
    runtime = f"python{sys.version_info.major}.{sys.version_info.minor}"
    turn = asyncio.Semaphore(_AT_ONCE)

    async def one(name: str, memory: int) -> None:
        async with turn:
            await client.create_function(
                name,
                package,
                runtime=runtime,
                handler="sleeper.handler",
                memory_mb=memory,
                timeout_s=TIMEOUT_S,
                apart=apart,
            )

    async with Client(endpoint) as client:
        await asyncio.gather(*(one(name, memory) for name, memory in memory_mb.items()))


async def prime(running: Fleet, workers: int) -> None:
    """What only the first start on a worker costs is over with, and so is what workers do when they begin."""
    async with Client(running.endpoint) as client:
        await deploy(running.endpoint, {PRIME: MIN_MEMORY_MB}, apart=True)
        await asyncio.gather(*(client.invoke(PRIME, event(1.0)) for _ in range(workers)))
        await client.delete_function(PRIME)
    deadline = monotonic_s() + QUIET_WITHIN_S
    spent_s = math.inf
    while spent_s > QUIET_CORES and monotonic_s() < deadline:
        before = sum(running.cpu_s().values())
        await asyncio.sleep(1.0)
        spent_s = sum(running.cpu_s().values()) - before


def event(seconds: float) -> bytes:
    return b'{"s": %.6f}' % seconds


def _package() -> bytes:
    packed = BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("sleeper.py", _SOURCE)
    return packed.getvalue()
