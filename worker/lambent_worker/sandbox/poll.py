"""Whom a descriptor that has become readable is told to. Standard library only."""

from __future__ import annotations

import select
from collections.abc import Callable


class Poll:
    def __init__(self) -> None:
        self._poll = select.poll()
        self._handlers: dict[int, Callable[[], None]] = {}

    def watch(self, fd: int, handler: Callable[[], None], writable: bool = False) -> None:
        """`handler` may find nothing to read: who handled another descriptor may have closed this one."""
        self._handlers[fd] = handler
        self._poll.register(fd, select.POLLIN | (select.POLLOUT if writable else 0))

    def forget(self, fd: int) -> None:
        if self._handlers.pop(fd, None):
            self._poll.unregister(fd)

    def turn(self, patience_s: float | None) -> bool:
        """Handles what there is; waits so long for it. False if there was nothing."""
        ready = self._poll.poll(None if patience_s is None else max(0.0, patience_s) * 1000)
        for fd, _ in ready:
            if handler := self._handlers.get(fd):
                handler()
        return bool(ready)
