"""One member of etcd: where it listens, and the channel to it."""

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import grpc
import grpc.aio

from lambent_chassis.etcd import wire_pb2 as wire
from lambent_chassis.etcd.errors import EtcdClosed, EtcdUnavailable
from lambent_chassis.etcd.rpcs import STATUS, Answer, Request, Rpc
from lambent_chassis.etcd.values import Tls
from lambent_chassis.renewed import stamp

WHY_S: Final = 0.2

_READY: Final = grpc.ChannelConnectivity.READY

_OPTIONS: Final[tuple[tuple[str, int], ...]] = (
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    # etcd ends connections that ping oftener than every 5 s, or without a call.
    ("grpc.keepalive_time_ms", 12_000),
    ("grpc.keepalive_timeout_ms", 4_000),
    # Without this one gRPC does not notice a stopped peer at all.
    ("grpc.http2.ping_timeout_ms", 3_000),
    ("grpc.keepalive_permit_without_calls", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 2_000),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    # A call that gRPC sends again by itself could be carried out twice.
    ("grpc.enable_retries", 0),
    ("grpc.enable_http_proxy", 0),
    ("grpc.use_local_subchannel_pool", 1),
)


class Endpoint:
    """One client URL of etcd, as given: `host:port`, `http://host:port` or `https://host:port`."""

    def __init__(self, text: str, tls: Tls | None) -> None:
        scheme, separator, target = text.rpartition("://")
        if scheme not in ("", "http", "https") or not target.rpartition(":")[2].rstrip("/").isdigit():
            raise ValueError(f"etcd endpoint {text!r}: give host:port, http://host:port or https://host:port")
        if scheme == "http" and tls is not None:
            raise ValueError(f"etcd endpoint {text!r} is without TLS, yet TLS files are set: use https://")
        self.text = text
        self.target = target.rstrip("/")
        self.tls = tls or (Tls() if separator and scheme == "https" else None)

    def files(self) -> tuple[object, ...]:
        """Other than before once a file of certificates was written to."""
        tls = self.tls
        paths = (tls.ca_file, tls.cert_file, tls.key_file) if tls else ()
        return tuple(stamp(path) for path in paths if path)

    def channel(self) -> grpc.aio.Channel:
        """Raises OSError if a file cannot be read."""
        if self.tls is None:
            return grpc.aio.insecure_channel(self.target, options=_OPTIONS)
        named: list[tuple[str, Any]] = []
        if self.tls.server_name:
            named = [("grpc.ssl_target_name_override", self.tls.server_name)]
        credentials = grpc.ssl_channel_credentials(
            _read(self.tls.ca_file), _read(self.tls.key_file), _read(self.tls.cert_file)
        )
        return grpc.aio.secure_channel(self.target, credentials, options=[*_OPTIONS, *named])


class Member:
    """A channel to one endpoint; another one once its certificates have changed and it is not connected."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint.text
        self._to = endpoint
        self._files = endpoint.files()
        self._channel = endpoint.channel()
        self._replaced: list[grpc.aio.Channel] = []
        """Closed with this one, not before: whoever waits for one would take that for the session's end."""

    async def close(self) -> None:
        for channel in (self._channel, *self._replaced):
            await channel.close()

    def _renew(self) -> None:
        """gRPC takes certificates once for a channel, and would show the old ones to a member that is new, or
        was away. While the new ones cannot be read the old ones go on."""
        files = self._to.files()
        if files == self._files or self._channel.get_state() is _READY:
            return
        with contextlib.suppress(OSError):
            channel = self._to.channel()
            self._replaced.append(self._channel)
            self._channel, self._files = channel, files

    async def connected(self, within_s: float) -> bool:
        """Waits for the connection. Nothing has been sent when this fails: the call is safe to repeat."""
        try:
            with closed_not_cancelled():
                self._renew()
                channel = self._channel
                async with asyncio.timeout(within_s):
                    while (state := channel.get_state(try_to_connect=True)) is not _READY:
                        if state is grpc.ChannelConnectivity.TRANSIENT_FAILURE:
                            return False
                        await channel.wait_for_state_change(state)
        except TimeoutError:
            return False
        return True

    async def why_not_connected(self) -> str:
        """What gRPC knows of a connection that failed: refused, no such host, a certificate not trusted."""
        try:
            await self.ask(STATUS, wire.StatusRequest(), WHY_S, ())
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.UNAVAILABLE:
                return error.details() or "no connection"
        return "no connection in time"

    async def ask(
        self,
        rpc: Rpc[Request, Answer],
        request: Request,
        timeout_s: float,
        metadata: Sequence[tuple[str, str]],
    ) -> Answer:
        """One request, one answer, also over a streaming call. Raises what gRPC raises."""
        if not rpc.streaming:
            with closed_not_cancelled():
                call = self._channel.unary_unary(
                    rpc.path, rpc.request.SerializeToString, rpc.answer.FromString
                )
                return await call(request, timeout=timeout_s, metadata=tuple(metadata))
        stream = self.stream(rpc, metadata, timeout_s)
        try:
            with closed_not_cancelled():
                await stream.write(request)
                answer = await stream.read()
            if isinstance(answer, rpc.answer):
                return answer
            raise EtcdUnavailable(f"etcd at {self.endpoint} ended a call without an answer", unknown=True)
        finally:
            stream.cancel()

    def stream(
        self, rpc: Rpc[Request, Answer], metadata: Sequence[tuple[str, str]], timeout_s: float | None = None
    ) -> grpc.aio.StreamStreamCall[Request, Answer]:
        serialize: Callable[[Request], bytes] = rpc.request.SerializeToString
        with closed_not_cancelled():
            call = self._channel.stream_stream(rpc.path, serialize, rpc.answer.FromString)
            return call(timeout=timeout_s, metadata=tuple(metadata))


@contextlib.contextmanager
def closed_not_cancelled() -> Iterator[None]:
    """Closing a channel cancels its calls, which the one who waits for them must not take for its own end.

    Raises:
        EtcdClosed: the channel was closed.
    """
    try:
        yield
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        raise EtcdClosed("this etcd session was closed") from None
    except grpc.aio.UsageError:
        raise EtcdClosed("this etcd session is closed") from None


def _read(file: Path | None) -> bytes | None:
    return file.read_bytes() if file else None
