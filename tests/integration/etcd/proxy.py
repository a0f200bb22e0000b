"""A way to a member that can lose the answers: a plain TCP relay."""

import asyncio

from lambent_chassis.clock import monotonic_s


class Relay:
    """Forwards to a port; once `mute` was called nothing comes back any more, though all still gets there."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._muted = False
        self._refusing = False
        self.first_asked_at = 0.0
        """When the first request after `delay` came by, on the monotonic clock."""
        self._delay_s = 0.0
        self._server: asyncio.Server | None = None
        self._pumps: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> "Relay":
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        await self._drop()

    async def _drop(self) -> None:
        for pump in self._pumps:
            pump.cancel()
        await asyncio.gather(*self._pumps, return_exceptions=True)
        for writer in self._writers:
            writer.close()
        self._pumps.clear()
        self._writers.clear()

    @property
    def endpoint(self) -> str:
        assert self._server is not None
        return f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def mute(self) -> None:
        self._muted = True

    def delay(self, delay_s: float) -> None:
        """From now on every piece of an answer comes later by so much."""
        self._delay_s = delay_s
        self.first_asked_at = 0.0

    async def cut(self) -> None:
        """Ends all connections and refuses new ones until `mend`."""
        self._refusing = True
        await self._drop()

    def mend(self) -> None:
        self._refusing = False

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._refusing:
            writer.close()
            return
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._port)
        self._writers |= {writer, far_writer}
        self._pumps.add(asyncio.create_task(self._pump(reader, far_writer, answers=False)))
        self._pumps.add(asyncio.create_task(self._pump(far_reader, writer, answers=True)))

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, answers: bool
    ) -> None:
        while data := await reader.read(65_536):
            if not answers:
                self.first_asked_at = self.first_asked_at or monotonic_s()
            elif self._delay_s:
                await asyncio.sleep(self._delay_s)
            if not (answers and self._muted):
                writer.write(data)
