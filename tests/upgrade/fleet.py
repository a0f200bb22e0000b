"""A fleet whose parts are of several releases, each started by hand."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from lambent_chassis.etcd import EtcdServer, find_etcd
from tests.e2e.by_hand import Part, assert_nothing_is_left

WORKERS: Final = ("worker-1", "worker-2")
ORDER: Final = ("placement-1", "placement-2", *WORKERS, "frontend-1", "frontend-2")
"""Of the start."""

_SETTINGS: Final[Mapping[str, Mapping[str, Any]]] = {
    "placement": {"host": "127.0.0.1"},
    "worker": {"host": "127.0.0.1", "memory_mb": 2048, "sandbox": "process", "require_isolation": "none"},
    "frontend": {"grpc_port": 0, "http_port": 0, "auth": False},
}


class MixedFleet:
    def __init__(self, folder: Path, etcd: str) -> None:
        self.folder = folder
        folder.mkdir(exist_ok=True)
        self.parts = {name: self._part(name, etcd) for name in ORDER}

    def endpoint(self, frontend: str) -> str:
        return self.parts[frontend].addresses["grpc"]

    async def start(self, name: str, python: str) -> None:
        """Where it has run before it is the same part again, at the same ports."""
        part = self.parts[name]
        part.python = python
        await asyncio.to_thread(part.start)

    async def restart(self, name: str, python: str) -> None:
        await asyncio.to_thread(self.parts[name].stop)
        assert self.parts[name].process.returncode == 0
        await self.start(name, python)

    def log(self, name: str) -> list[dict[str, Any]]:
        lines = (self.folder / f"{name}.log").read_text().splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    def _part(self, name: str, etcd: str) -> Part:
        kind = name.partition("-")[0]
        told = {"name": name, "etcd": [etcd], **_SETTINGS[kind]}
        if kind != "placement":
            told |= {"data": str(self.folder / name), "packages": str(self.folder / "packages")}
        config = self.folder / f"{name}.toml"
        config.write_text("".join(f"{key} = {json.dumps(value)}\n" for key, value in told.items()))
        return Part(kind, name, config)


@asynccontextmanager
async def fleet_of(folder: Path, pythons: Mapping[str, str]) -> AsyncIterator[MixedFleet]:
    """Those of `ORDER` that are named, each of the installation that is named; they end in turn."""
    async with await EtcdServer.start(find_etcd(), folder / "etcd") as etcd:
        fleet = MixedFleet(folder, etcd.endpoint)
        try:
            for name in ORDER:
                if name in pythons:
                    await fleet.start(name, pythons[name])
            yield fleet
        finally:
            for name in reversed(ORDER):
                if fleet.parts[name].runs:
                    await asyncio.to_thread(fleet.parts[name].stop)
    assert_nothing_is_left(folder)
