"""The queue's stream at NATS, and the connection to it: what is asked of them, and what their refusals mean.

Requests are told apart by a number behind one inbox: with nats-py's own a publish would cost twice as much.
"""

import asyncio
import contextlib
import itertools
import json
import ssl
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Self

import structlog

from lambent_frontend.queue.sqlite import CannotOpen
from lambent_proto.errors import NotReady, QueueFull

STREAM: Final = "lambent-queue"
PREFIX: Final = "lambent.queue"
ANSWER_S: Final = 5.0
"""Longest wait for NATS."""
CONNECT_S: Final = 10.0
"""Longest wait for it at the start."""
PAUSE_S: Final = 0.5
"""Between two tries to connect, and to follow."""

_EXPECTED: Final = "Nats-Expected-Last-Subject-Sequence"
_WRONG: Final = 10071
_FULL: Final = (10023, 10047, 10077)
"""JetStream's codes: the subject has another sequence; no resources, no room on its disk, no room in the
stream.
"""

_log = structlog.get_logger()


class Changed(Exception):
    """Somebody else changed it; `sequence` is that of the last message on its subject, 0 if there is none."""

    def __init__(self, sequence: int) -> None:
        super().__init__(sequence)
        self.sequence = sequence


@dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """What NATS wants to know of who connects; see its settings of the frontend."""

    credentials: Path | None = None
    user: str = ""
    password: str = ""
    tls: ssl.SSLContext | None = None
    """For servers at `tls://`; None: as the system has it."""


class Stream:
    """Methods raise NotReady where NATS does not answer."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection
        self._stream = connection.jetstream(timeout=ANSWER_S)
        self._inbox = connection.new_inbox()
        self._numbers = itertools.count()
        self._answers: dict[str, asyncio.Future[Any]] = {}
        self.was_away: Callable[[], None] = lambda: None
        """Told when it is connected again."""

    @classmethod
    async def open(cls, servers: Sequence[str], name: str, login: Login, replicas: int) -> Self:
        """With the stream there, as it is configured now. Raises CannotOpen."""
        try:
            import nats
        except ImportError:
            raise CannotOpen("nats-py is not installed: install lambent[nats]") from None
        opened: list[Self] = []

        async def back() -> None:
            for it in opened:
                it.was_away()

        try:
            async with asyncio.timeout(CONNECT_S):
                connection = await nats.connect(
                    list(servers),
                    name=f"lambent {name}",
                    user_credentials=str(login.credentials) if login.credentials else None,
                    user=login.user or None,
                    password=login.password or None,
                    tls=login.tls if any(it.startswith("tls://") for it in servers) else None,
                    connect_timeout=int(ANSWER_S),
                    max_reconnect_attempts=-1,
                    reconnect_time_wait=PAUSE_S,
                    pending_size=64 * 1024 * 1024,
                    error_cb=_heard,
                    reconnected_cb=back,
                )
        except Exception as error:
            raise CannotOpen(f"the queue's NATS {_shown(servers)} cannot be reached: {error!r}") from error
        stream = cls(connection)
        opened.append(stream)
        try:
            await connection.subscribe(f"{stream._inbox}.*", cb=stream._answered)
            await stream._settle(replicas)
        except BaseException as error:
            await connection.close()
            if isinstance(error, Exception):
                raise CannotOpen(f"the queue's stream at NATS cannot be opened: {error!r}") from error
            raise
        return stream

    async def _settle(self, replicas: int) -> None:
        from nats.js.api import DiscardPolicy, StorageType, StreamConfig
        from nats.js.errors import NotFoundError

        wanted = StreamConfig(
            name=STREAM,
            subjects=[f"{PREFIX}.>"],
            max_msgs_per_subject=1,
            max_bytes=-1,  # room.py says why
            discard=DiscardPolicy.NEW,
            storage=StorageType.FILE,
            num_replicas=replicas,
            duplicate_window=0.1,
        )
        try:
            await self._stream.stream_info(STREAM)
        except NotFoundError:
            await self._stream.add_stream(wanted)
        else:
            await self._stream.update_stream(wanted)

    async def publish(self, subject: str, body: bytes, version: int | None = None) -> int:
        """Its sequence, once it is stored. With a `version` only if the subject's last message has that one,
        0 for none. Raises Changed and QueueFull.
        """
        headers = None if version is None else {_EXPECTED: str(version)}
        told = await self._request(f"{PREFIX}.{subject}", body, headers)
        error = told.get("error")
        if error is None:
            return int(told["seq"])
        said, code = str(error.get("description")), error.get("err_code")
        if code == _WRONG:
            raise Changed(int(said.rpartition(" ")[2]))
        if code in _FULL:
            raise QueueFull(
                f"the queue of events at NATS is full ({said}), and nothing was kept: send it again later, "
                "make room on its disk, or raise the frontends' `queue_mb`"
            )
        raise away(said)

    async def delete(self, sequence: int) -> None:
        """If it is there. By its sequence: a purge of subjects has consumers that are behind miss others."""
        body = json.dumps({"seq": sequence, "no_erase": True}).encode()
        error = (await self._request(f"$JS.API.STREAM.MSG.DELETE.{STREAM}", body, None)).get("error")
        if error is not None and await self._has(sequence):  # there are several errors for what is not there
            raise away(error.get("description"))

    async def _has(self, sequence: int) -> bool:
        from nats.js.errors import NotFoundError

        try:
            await self._stream.get_msg(STREAM, sequence)
        except NotFoundError:
            return False
        except Exception as error:
            raise away(error) from error
        return True

    async def last(self, subject: str) -> tuple[int, bytes] | None:
        """Sequence and body of the subject's last message."""
        from nats.js.errors import NotFoundError

        try:
            found = await self._stream.get_last_msg(STREAM, f"{PREFIX}.{subject}")
        except NotFoundError:
            return None
        except Exception as error:
            raise away(error) from error
        return found.seq, found.data or b""

    async def used(self) -> int:
        """Bytes of it."""
        return int((await self._info()).state.bytes)

    async def made(self) -> tuple[datetime, int]:
        """When it was made: another one's numbers say nothing of this one's messages; and its last number."""
        info = await self._info()
        return info.created, int(info.state.last_seq)

    async def follow(
        self, after: int, batch: int, take: Callable[[Any], Awaitable[None]]
    ) -> tuple[Any, bool]:
        """A subscription to what comes after that sequence, and whether there is nothing yet.

        `batch` messages are on their way at most before one of them is acknowledged.
        """
        from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy

        inbox = self.connection.new_inbox()
        subscription = await self.connection.subscribe(inbox, cb=take)
        try:
            config = ConsumerConfig(
                deliver_subject=inbox,
                ack_policy=AckPolicy.ALL,
                ack_wait=3600.0,
                max_ack_pending=batch,
                deliver_policy=DeliverPolicy.BY_START_SEQUENCE,
                opt_start_seq=after + 1,
                idle_heartbeat=HEARTBEAT_S,
                flow_control=True,
                max_deliver=1,
                mem_storage=True,
            )
            consumer = await self._stream.add_consumer(STREAM, config)
        except BaseException:
            with contextlib.suppress(Exception):
                await subscription.unsubscribe()
            raise
        return subscription, not consumer.num_pending and not consumer.delivered.consumer_seq

    async def _info(self) -> Any:
        self._check()
        try:
            return await self._stream.stream_info(STREAM)
        except Exception as error:
            raise away(error) from error

    async def _request(self, subject: str, body: bytes, headers: dict[str, str] | None) -> dict[str, Any]:
        self._check()
        token = str(next(self._numbers))
        answer = self._answers[token] = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(ANSWER_S):
                await self.connection.publish(subject, body, reply=f"{self._inbox}.{token}", headers=headers)
                message = await answer
            told: dict[str, Any] = json.loads(message.data)
        except Exception as error:
            raise away(error) from error
        finally:
            del self._answers[token]
        return told

    async def _answered(self, message: Any) -> None:
        answer = self._answers.get(message.subject.rpartition(".")[2])
        if answer is not None and not answer.done():
            answer.set_result(message)

    def _check(self) -> None:
        if not self.connection.is_connected:
            raise away("it is not connected")


HEARTBEAT_S: Final = 5.0
"""How often a consumer that has nothing to say says so."""


def away(why: object) -> NotReady:
    said = str(why) or type(why).__name__
    return NotReady(f"the queue's NATS does not answer ({said}): send it again, with an idempotency key")


async def _heard(error: Exception) -> None:
    _log.warning("queue_nats", reason=repr(error))


def _shown(servers: Sequence[str]) -> str:
    """Without what is before an @."""
    return ", ".join(it.rpartition("@")[2].rpartition("//")[2] for it in servers)
