"""How telemetry is gathered, sent and dropped, with a listener on a loopback port."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from lambent_worker.runtime_api.delivery import MOST_WAITING_BYTES, Delivery, _Answer
from lambent_worker.runtime_api.subscription import LOGS, TELEMETRY, Invalid, Subscription, read
from lambent_worker.sandbox.inside import connect_here

EVENT = json.dumps({"time": "", "type": "function", "record": "x" * 1000}).encode()


class Sink:
    """Takes connections, and one batch when it is told to."""

    def __init__(self) -> None:
        self.batches: asyncio.Queue[Any] = asyncio.Queue()
        self.open = asyncio.Event()
        self.port = 0
        self.serving: set[asyncio.Task[Any]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if task := asyncio.current_task():
            self.serving.add(task)
        while head := await reader.readline():
            size = 0
            while (line := await reader.readline()).strip():
                if line.lower().startswith(b"content-length:"):
                    size = int(line.split()[1])
            body = await reader.readexactly(size)
            await self.open.wait()
            self.batches.put_nowait((head, json.loads(body)))
            writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
        writer.close()

    async def batch(self) -> Any:
        async with asyncio.timeout(20):
            return (await self.batches.get())[1]


@asynccontextmanager
async def sink() -> AsyncIterator[Sink]:
    it = Sink()
    server = await asyncio.start_server(it.serve, "127.0.0.1", 0)
    it.port = server.sockets[0].getsockname()[1]
    it.open.set()
    async with server:
        yield it
        await asyncio.gather(*it.serving, return_exceptions=True)


def wanted(port: int, **buffering: int) -> Subscription:
    document = {
        "schemaVersion": "2022-12-13",
        "destination": {"protocol": "HTTP", "URI": f"http://sandbox.localdomain:{port}/a?b=c"},
        "types": ["platform", "function"],
        "buffering": buffering,
    }
    return read(json.dumps(document).encode(), TELEMETRY)


def dropped(records: int, size: int) -> bytes:
    return json.dumps({"dropped": records, "bytes": size}).encode()


def delivery(subscription: Subscription) -> Delivery:
    return Delivery(subscription, connect_here, dropped, None, [])


async def test_a_batch_is_sent_when_it_is_full() -> None:
    """Long before its time is over; what is more than `maxItems` comes in the next."""
    async with sink() as it:
        sending = delivery(wanted(it.port, maxItems=1000, timeoutMs=30_000))
        for _ in range(1001):
            sending.add(b"1")
        assert await it.batch() == [1] * 1000
        sending.flush()
        assert await it.batch() == [1]
        sending.close()


async def test_a_batch_has_no_more_bytes_than_wanted() -> None:
    async with sink() as it:
        sending = delivery(wanted(it.port, maxBytes=262_144, timeoutMs=25))
        for _ in range(400):
            sending.add(EVENT)
        batches = [await it.batch(), await it.batch()]
        assert sum(map(len, batches)) == 400
        assert (len(batches[0]) - 1) * len(EVENT) < 262_144
        sending.close()


async def test_what_an_extension_does_not_take_is_dropped() -> None:
    """At most a few MB wait; the extension hears how many were dropped once it takes them again."""
    async with sink() as it:
        it.open.clear()
        sending = delivery(wanted(it.port, timeoutMs=25))
        count = 3 * MOST_WAITING_BYTES // len(EVENT)
        for _ in range(count):
            sending.add(EVENT)
        assert len(b"".join(sending.close())) <= MOST_WAITING_BYTES
        sending = delivery(wanted(it.port, timeoutMs=25))
        for _ in range(count):
            sending.add(EVENT)
        it.open.set()
        taken = 0
        told: list[Any] = []
        while taken + sum(event["dropped"] for event in told) < count:
            batch = await it.batch()
            told += [event for event in batch if "dropped" in event]
            taken += sum("dropped" not in event for event in batch)
        assert [event["bytes"] for event in told] == [told[0]["dropped"] * len(EVENT)]
        sending.close()


async def test_plain_tcp_gets_a_line_for_each_event() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        port = listener.getsockname()[1]
        document = {"types": ["function"], "destination": {"protocol": "TCP", "port": port}}
        sending = delivery(read(json.dumps(document).encode(), LOGS))
        sending.add(b"1")
        sending.add(b"2")
        sending.flush()
        loop = asyncio.get_running_loop()
        connection, _ = await loop.sock_accept(listener)
        with connection:
            async with asyncio.timeout(20):
                assert await loop.sock_recv(connection, 100) == b"1\n2\n"
        sending.close()


GOOD: dict[str, Any] = {
    "schemaVersion": "2022-12-13",
    "destination": {"protocol": "HTTP", "URI": "http://sandbox:8080"},
    "types": ["platform"],
}


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"schemaVersion": "2020-08-15"}, "schemaVersion should be one of"),
        ({"types": []}, "types should not be empty"),
        ({"types": ["all"]}, "types should be of"),
        ({"destination": {"protocol": "UDP", "URI": "http://sandbox:1"}}, "protocol should be HTTP or TCP"),
        ({"destination": {"protocol": "HTTP", "URI": "http://sandbox"}}, "URI port is not provided"),
        ({"destination": {"protocol": "HTTP", "URI": "http://10.0.0.1:80"}}, "URI should be http://sandbox"),
        ({"destination": {"protocol": "HTTP", "URI": "http://sandbox:9001"}}, "the Runtime API's own"),
        ({"destination": {"protocol": "HTTP", "URI": "http://sandbox:1/a b"}}, "printable ASCII"),
        ({"destination": {"protocol": "HTTP", "URI": "http://sandbox:1", "method": "GET"}}, "POST or PUT"),
        ({"destination": None}, "destination should not be empty"),
        ({"buffering": {"maxItems": 999}}, "maxItems should be 1000 to 10000"),
        ({"buffering": {"maxBytes": True}}, "maxBytes should be 262144 to 1048576"),
        ({"buffering": {"timeoutMs": 24}}, "timeoutMs should be 25 to 30000"),
        ({"buffering": []}, "buffering should be an object"),
    ],
)
def test_what_no_extension_can_subscribe_to(change: dict[str, Any], why: str) -> None:
    with pytest.raises(Invalid, match=why):
        read(json.dumps(GOOD | change).encode(), TELEMETRY)


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"[" * 100_000])
def test_a_body_that_is_no_object(body: bytes) -> None:
    with pytest.raises(Invalid, match="JSON object"):
        read(body, TELEMETRY)


def test_what_is_not_said_is_as_on_lambda() -> None:
    it = read(json.dumps(GOOD).encode(), TELEMETRY)
    assert (it.max_items, it.max_bytes, it.timeout_s) == (10_000, 262_144, 1.0)
    assert (it.method, it.path, it.port) == ("POST", "/", 8080)


def test_an_answer_without_an_end_is_not_read_for_ever() -> None:
    """The parser would keep all of a header that has no end."""
    answer = _Answer()
    answer.feed(b"HTTP/1.1 200 OK\r\nX: ")

    def feed_on() -> None:
        for _ in range(100):
            answer.feed(b"a" * 65_536)

    with pytest.raises(ConnectionError):
        feed_on()
