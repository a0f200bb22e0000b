"""A catalogue that is being followed, what it told of, and the registry that writes."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from lambent_chassis.etcd import Etcd
from lambent_frontend.catalogue import Catalogue
from lambent_frontend.registry import Registry
from lambent_proto.definition import Definition
from lambent_proto.ids import FunctionName

F = FunctionName("f")


def definition(name: str = "f", revision: str = "r1", **fields: object) -> Definition:
    return Definition(
        name=FunctionName(name),
        revision=revision,
        runtime="python3.11",
        handler="a.b",
        code_sha256="00",
        code_size=1,
        **fields,  # type: ignore[arg-type]
    )


class Followed:
    """A catalogue that is being followed, and what it told of."""

    def __init__(self, etcd: Etcd) -> None:
        self.told: list[tuple[str, str, str]] = []
        self.catalogue = Catalogue(etcd, self._changed)
        self.registry = Registry(etcd, self.catalogue)
        self._news = asyncio.Event()

    def _changed(self, name: FunctionName, before: Definition | None, now: Definition | None) -> None:
        self.told.append((name, before.revision if before else "", now.revision if now else ""))
        self._news.set()

    async def until_told(self, count: int) -> None:
        async with asyncio.timeout(20):
            while len(self.told) < count:
                self._news.clear()
                await self._news.wait()


@asynccontextmanager
async def followed(etcd: Etcd) -> AsyncIterator[Followed]:
    it = Followed(etcd)
    task = asyncio.create_task(it.catalogue.follow())
    try:
        async with asyncio.timeout(20):
            await it.catalogue.ready.wait()
        yield it
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
