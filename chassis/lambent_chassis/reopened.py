"""A stream to another part that is opened again whenever it ends."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import grpc.aio
import structlog

from lambent_chassis.clock import monotonic_s

_log = structlog.get_logger()

FIRST_PAUSE_S: Final = 0.1
LONGEST_PAUSE_S: Final = 1.0
"""A peer that is back is found again this late at the most; one that refuses is not asked all the time."""
STEADY_S: Final = 1.0
"""One that lasted this long had been taken: who refuses does so at once."""
SAID_AGAIN_S: Final = 60.0

_HINT: Final = (
    "It is tried again; if that goes on: is it up, and does its log say that it refused our certificate?"
)


class Trouble:
    """How long to wait before the next try, and whether the log is to have this one; monotonic seconds."""

    def __init__(self) -> None:
        self._pause_s = FIRST_PAUSE_S
        self._said: tuple[str, float] | None = None

    def ended(self, lasted_s: float, reason: str, at: float) -> tuple[float, bool]:
        """After an end: the pause, and whether to say it. The same reason is not said again for a while,
        unless the stream had been taken meanwhile."""
        if lasted_s >= STEADY_S:
            self._pause_s, self._said = FIRST_PAUSE_S, None
        pause_s, self._pause_s = self._pause_s, min(2 * self._pause_s, LONGEST_PAUSE_S)
        say = self._said is None or self._said[0] != reason or at - self._said[1] >= SAID_AGAIN_S
        if say:
            self._said = reason, at
        return pause_s, say


async def reopened(leader: str, open_: Callable[[Callable[[], None]], Awaitable[None]]) -> None:
    """Opens a stream to the placement at this address until cancelled. `open_` is given what to call once it
    is connected, and may raise AioRpcError."""
    trouble, connected_at = Trouble(), 0.0

    def connected() -> None:
        nonlocal connected_at
        connected_at = monotonic_s()

    while True:
        connected_at, reason = float("inf"), "it ended the stream"
        try:
            await open_(connected)
        except grpc.aio.AioRpcError as error:
            reason = error.details() or error.code().name
        now = monotonic_s()
        lasted_s = max(now - connected_at, 0.0)
        pause_s, say = trouble.ended(lasted_s, reason, now)
        if say and lasted_s >= STEADY_S:
            _log.info("placement_lost", leader=leader, reason=reason)
        elif say:
            _log.warning("placement_not_reached", leader=leader, reason=f"{reason}. {_HINT}")
        await asyncio.sleep(pause_s)
