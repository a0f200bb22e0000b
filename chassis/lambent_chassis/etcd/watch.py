"""Watching a range of keys over all that can happen to a member: nothing is lost, nothing comes twice."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Final

import grpc
import grpc.aio

from lambent_chassis.etcd import wire_pb2 as wire
from lambent_chassis.etcd.errors import Compacted, EtcdDenied, EtcdUnavailable, from_rpc, wants_token
from lambent_chassis.etcd.member import Member, closed_not_cancelled
from lambent_chassis.etcd.rpcs import STATUS, WATCH
from lambent_chassis.etcd.transport import PAUSE_S, Transport
from lambent_chassis.etcd.values import Change, change

QUIET_S: Final = 1.0
"""After this long without a message the member is asked whether it is alive."""
PATIENCE_S: Final = 1.5
"""A member has this long to open a watch, and to say that it is alive."""
LONGEST_PATIENCE_S: Final = 12.0
"""Patience doubles with every failure in a row, so that a slow cluster is not for ever taken for dead."""


async def watch(
    transport: Transport, key: bytes, range_end: bytes, start_revision: int
) -> AsyncGenerator[list[Change], None]:
    """All changes from `start_revision`, 1 or more, on, in order; those of one revision are never parted.

    Goes on over broken connections and hung members for as long as it takes.

    Raises:
        Compacted: etcd does not keep the next revision any more.
        EtcdReplaced: it is another etcd than before, or has gone back in time.
        EtcdDenied: the user may not read this range.
        EtcdClosed: the session was closed.
    """
    if start_revision < 1:
        raise ValueError("a watch needs the revision to start from: to etcd 0 means now, whenever that is")
    # The position is that of the last change delivered, never the header's: a member that is catching up
    # names a revision in the header whose changes it has not sent yet.
    next_revision = start_revision
    patience_s = PATIENCE_S
    renewed = False
    while True:
        member = await transport.connected()
        stream = _Stream(transport, member, patience_s)
        token = transport.token
        try:
            await stream.open(key, range_end, next_revision)
            while True:
                response = await stream.read()
                transport.recognise(response.header, member.endpoint)
                if response.created and response.header.revision < next_revision - 1:
                    # To a revision that never comes etcd watches in silence.
                    await transport.reached(next_revision - 1, key)
                patience_s = PATIENCE_S
                renewed = False
                # Some releases send the same event twice after a reconnect.
                changes = [
                    change(event) for event in response.events if event.kv.mod_revision >= next_revision
                ]
                if changes:
                    next_revision = changes[-1].mod_revision + 1
                    yield changes
        except EtcdUnavailable as broken:
            transport.leave(member, str(broken))
            patience_s = min(2 * patience_s, LONGEST_PATIENCE_S)
        except EtcdDenied as denied:
            if not transport.has_user or not wants_token(str(denied)) or renewed:
                raise
            renewed = True
            await transport.renew_token(token)
        finally:
            await stream.close()
        await asyncio.sleep(PAUSE_S)


class _Stream:
    """One watch on one member. Every failure of it is an EtcdUnavailable."""

    def __init__(self, transport: Transport, member: Member, patience_s: float) -> None:
        self._transport = transport
        self._member = member
        self._patience_s = patience_s
        self._call = member.stream(WATCH, transport.metadata)
        self._reading: asyncio.Future[object] | None = None

    async def open(self, key: bytes, range_end: bytes, start_revision: int) -> None:
        create = wire.WatchCreateRequest(key=key, range_end=range_end, start_revision=start_revision)
        try:
            with closed_not_cancelled():
                async with asyncio.timeout(self._patience_s):
                    await self._call.write(wire.WatchRequest(create=create))
        except TimeoutError:
            raise self._broken("does not take the watch") from None
        except grpc.aio.AioRpcError as error:
            raise from_rpc(error, self._member.endpoint) from error
        except asyncio.InvalidStateError:
            raise self._broken("ended the watch") from None
        if not await self._arrives(self._patience_s):
            raise self._broken("does not open the watch")

    async def read(self) -> wire.WatchResponse:
        """The next response that does not end the watch."""
        while not await self._arrives(QUIET_S):
            await self._probe()
        response = self._take()
        if not response.canceled:
            return response
        if response.compact_revision:
            raise Compacted(response.compact_revision)
        said = f"etcd at {self._member.endpoint} cancelled the watch: {response.cancel_reason}"
        if wants_token(response.cancel_reason):
            raise EtcdDenied(f"{said}. Check the etcd user and its permission for /lambent/.")
        raise EtcdUnavailable(said)

    async def close(self) -> None:
        self._call.cancel()
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)

    async def _arrives(self, within_s: float) -> bool:
        if self._reading is None:
            # A read that is cancelled cancels the whole call, so it is kept over any number of time-outs.
            self._reading = asyncio.ensure_future(self._call.read())
        done, _ = await asyncio.wait({self._reading}, timeout=within_s)
        return bool(done)

    def _take(self) -> wire.WatchResponse:
        reading, self._reading = self._reading, None
        if reading is None or reading.cancelled():
            raise self._broken("closed the watch")
        error = reading.exception()
        if isinstance(error, grpc.aio.AioRpcError):
            raise from_rpc(error, self._member.endpoint) from error
        if error is not None:
            raise error
        response = reading.result()
        if not isinstance(response, wire.WatchResponse):
            raise self._broken("ended the watch")
        return response

    async def _probe(self) -> None:
        """Asks whether the member is alive and has a leader.

        etcd's own progress request will not do: 3.5.8 to 3.5.12 do not answer it on a watch without events.
        """
        try:
            await self._member.ask(STATUS, wire.StatusRequest(), self._patience_s, self._transport.metadata)
        except grpc.aio.AioRpcError as error:
            raise self._broken(f"is silent ({error.details()})") from error

    def _broken(self, what: str) -> EtcdUnavailable:
        return EtcdUnavailable(f"etcd at {self._member.endpoint} {what}")
