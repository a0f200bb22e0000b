"""One launch of a function's runtime in its sandbox: what is said to it and what it says, until its end."""

import asyncio
from collections.abc import Callable
from typing import Final

from lambent_worker.channel import Channel, Output, event_frame, frame
from lambent_worker.event import Event
from lambent_worker.runtime_api.server import RuntimeApi
from lambent_worker.sandbox.api import Exit, Process

CHANNEL_END_GRACE_S: Final = 1.0
"""A runtime whose channel ended is about to exit; one that has not by then closed it in error."""


class Run:
    """`on_frame` gets every frame, `on_broken` what is none; both get this run as well, for those who have
    another one by now."""

    def __init__(
        self,
        process: Process,
        on_output: Callable[[bytes], None],
        on_frame: Callable[["Run", list[object], bytes], None],
        on_broken: Callable[["Run", str], None],
        api: RuntimeApi | None = None,
    ) -> None:
        """With `api` events go that way; a runtime that has no channel says everything there."""
        self.initialising = False
        self.ready = False
        self.frozen = False
        self.restoring_since: float | None = None
        """Monotonic second, where it is forked of a snapshot."""
        self._closed = False
        self._process = process
        self._on_broken = on_broken
        self._loop = asyncio.get_running_loop()
        self._end = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._output = Output(process.output, on_output)
        self._api = api
        self._channel: Channel | None = None
        if process.channel is not None:
            self._channel = Channel(
                process.channel,
                lambda head, body: on_frame(self, head, body),
                lambda what: on_broken(self, what),
                self._on_channel_end,
            )

    def send(self, event: Event) -> None:
        if self._api is not None:
            self._api.deliver(event)
        else:
            self.send_frame(event)

    def send_frame(self, event: Event) -> None:
        """Straight over the channel."""
        if self._channel is not None:
            self._channel.send(
                event_frame(
                    event.request_id,
                    event.deadline_ms,
                    event.arn,
                    event.client_context,
                    event.trace,
                    event.body,
                )
            )

    @property
    def holds_event(self) -> bool:
        """What was sent last is still here: the runtime has not asked for it."""
        return self._api is not None and self._api.holds_event

    def specialise(self, body: bytes) -> None:
        """Tells a parked process what it is from now on."""
        if self._channel is not None:
            self._channel.send(frame(["specialise"], body))

    def end(self) -> None:
        """It shall end; `ended` returns. Nothing that it says is taken any more."""
        if self._api is not None:
            self._api.abandon()
        self._end.set()

    async def ended(self) -> Exit | None:
        """How it ended by itself; None once somebody wants it to."""
        exited = asyncio.ensure_future(self._process.wait())
        wanted = asyncio.ensure_future(self._end.wait())
        try:
            await asyncio.wait((exited, wanted), return_when=asyncio.FIRST_COMPLETED)
            return exited.result() if exited.done() else None
        finally:
            exited.cancel()
            wanted.cancel()

    async def exit(self) -> Exit:
        return await self._process.wait()

    def take_output(self) -> None:
        """What was printed so far is in the log."""
        self._output.take()

    def close(self) -> None:
        """Takes in the last that it said and printed, and lets go of it. May be called again."""
        if self._closed:
            return
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        if self._channel is not None:
            self._channel.close()
        self._output.close()

    def _on_channel_end(self) -> None:
        if self._api is not None:
            return  # it was parked, and has been told by it all that it needs
        self._timer = self._loop.call_later(
            CHANNEL_END_GRACE_S, self._on_broken, self, "the end of its channel"
        )
