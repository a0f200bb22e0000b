"""Doing one thing for as long as a key of etcd's has a value, and anew when it has another."""

import asyncio
from collections.abc import Awaitable, Callable

from lambent_chassis.etcd import Change, Etcd, Snapshot


async def while_set(etcd: Etcd, key: str, act: Callable[[bytes], Awaitable[None]]) -> None:
    """Runs `act(value)` for the newest value of `key`, cancelling the one for the value before.

    A deleted key changes nothing: what was there may still be right until something else is. Never returns;
    what `act` raises is raised here.
    """
    async with asyncio.TaskGroup() as tasks:
        acting: asyncio.Task[None] | None = None
        value: bytes | None = None
        async for news in etcd.follow_prefix(key):
            newest = _newest(key, news)
            if newest is None or newest == value:
                continue
            value = newest
            if acting is not None:
                acting.cancel()
                await asyncio.wait([acting])
            acting = tasks.create_task(_awaited(act(value)))


async def _awaited(act: Awaitable[None]) -> None:
    await act


def _newest(key: str, news: Snapshot | list[Change]) -> bytes | None:
    if isinstance(news, Snapshot):
        values = [item.value for item in news.items if item.key == key]
    else:
        values = [change.value for change in news if change.key == key and change.kind == "put"]
    return values[-1] if values else None
