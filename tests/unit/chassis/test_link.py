"""Links over real sockets: order, gathering, the two lanes, refusals, and the end of a connection."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager

import pytest
from structlog.testing import capture_logs

from lambent_chassis import link as link_module
from lambent_chassis.link import Link, dial, listen
from lambent_proto.frames import BadFrame

LINE = b"\n"


class Lines:
    """A decoder of lines; one that begins with `!` is a lie."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[bytes]:
        *whole, self._rest = (self._rest + data).split(LINE)
        for line in whole:
            if line.startswith(b"!"):
                raise BadFrame("a line that begins with !")
            yield line


class Side:
    """One side of a connection: what it saw."""

    def __init__(self) -> None:
        self.links: list[Link[bytes]] = []
        self.seen: list[bytes] = []
        self.lost: list[Exception | None] = []
        self._changed = asyncio.Condition()
        self._wake: set[asyncio.Task[None]] = set()

    def on_frame(self, link: Link[bytes], frame: bytes) -> None:
        if link not in self.links:
            self.links.append(link)
        self.seen.append(frame)
        self._notify()

    def on_lost(self, link: Link[bytes], exc: Exception | None) -> None:
        self.lost.append(exc)
        self._notify()

    def _notify(self) -> None:
        task = asyncio.ensure_future(self._wake_all())
        self._wake.add(task)
        task.add_done_callback(self._wake.discard)

    async def _wake_all(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(20), self._changed:
            await self._changed.wait_for(condition)


@asynccontextmanager
async def connected(host: str = "127.0.0.1") -> AsyncIterator[tuple[Link[bytes], Side, Side]]:
    """A dialled link, and what the dialling and the listening side see."""
    near, far = Side(), Side()
    server = await listen(host, 0, decoder=Lines, on_frame=far.on_frame, on_lost=far.on_lost)
    port = server.sockets[0].getsockname()[1]
    link = await dial(host, port, decoder=Lines, on_frame=near.on_frame, on_lost=near.on_lost)
    link.send(b"hello\n")
    await far.until(lambda: far.seen == [b"hello"])
    far.seen.clear()
    try:
        yield link, near, far
    finally:
        server.close()
        link.abort()
        for other in far.links:
            other.abort()
        await near.until(lambda: len(near.lost) == 1)
        await far.until(lambda: len(far.lost) == 1)
        await server.wait_closed()


def ipv6() -> bool:
    """Whether this machine can be reached by it."""
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


@pytest.mark.skipif(not ipv6(), reason="this machine has no IPv6")
async def test_an_address_of_ipv6_is_in_brackets() -> None:
    """As gRPC and URLs have it: a part has one address for both."""
    async with connected("[::1]") as (link, _, far):
        link.send(b"1\n")
        await far.until(lambda: far.seen == [b"1"])


async def test_frames_arrive_in_order_both_ways() -> None:
    """What each side sends is what the other sees, in the order sent."""
    async with connected() as (link, near, far):
        for n in range(100):
            link.send(b"%d\n" % n)
            far.links[0].send(b"-%d\n" % n)
        await far.until(lambda: len(far.seen) == 100)
        await near.until(lambda: len(near.seen) == 100)
        assert far.seen == [b"%d" % n for n in range(100)]
        assert near.seen == [b"-%d" % n for n in range(100)]


async def test_what_is_ready_in_one_turn_leaves_in_one_write(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fifty frames sent in one turn of the loop cost one write."""
    async with connected() as (link, _, far):
        writes: list[int] = []
        transport = link._transport

        def write(data: bytes) -> None:
            writes.append(len(data))
            transport.write(data)

        monkeypatch.setattr(link, "_transport", Spy(transport, write))
        for _ in range(50):
            link.send(b"x\n")
        await far.until(lambda: len(far.seen) == 50)
        assert writes == [100]


class Spy:
    """A transport with another `write`."""

    def __init__(self, transport: asyncio.Transport, write: Callable[[bytes], object]) -> None:
        self._transport = transport
        self.write = write

    def __getattr__(self, name: str) -> object:
        return getattr(self._transport, name)


def piece(mark: bytes, size: int = 256 * 1024) -> bytes:
    return mark * (size - 1) + LINE


async def test_a_small_frame_overtakes_a_large_message() -> None:
    """A frame sent behind a 25 MB message arrives before its last piece; the pieces keep their order."""
    async with connected() as (link, _, far):
        link.send(piece(b"%d" % (n % 10)) for n in range(100))
        await far.until(lambda: len(far.seen) >= 1)
        link.send(b"small\n")
        await far.until(lambda: len(far.seen) == 101)
        at = far.seen.index(b"small")
        assert at < 60
        large = far.seen[:at] + far.seen[at + 1 :]
        assert [line[:1] for line in large] == [b"%d" % (n % 10) for n in range(100)]


async def test_large_messages_share_the_wire() -> None:
    """A second large message does not wait for the first one's end; a fifth begins when one is finished."""
    async with connected() as (link, _, far):
        for mark in (b"a", b"b", b"c", b"d", b"e"):
            link.send(iter([piece(mark, 1000)] * 10))
        await far.until(lambda: len(far.seen) == 50)
        marks = b"".join(line[:1] for line in far.seen)
        assert set(marks[:8]) == set(b"abcd")
        assert marks.index(b"e") > marks.index(b"abcd"[:1])
        assert b"e" not in marks[:36]
        assert all(marks.count(mark) == 10 for mark in (b"a", b"b", b"c", b"d", b"e"))


async def test_a_slow_reader_holds_the_sender_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """While the peer does not read, pieces of a large message stay uncut in their iterator."""
    async with connected() as (link, _, far):
        cut = 0

        def pieces() -> Iterator[bytes]:
            nonlocal cut
            for _ in range(400):
                cut += 1
                yield piece(b"p")

        reader = far.links[0]._transport
        reader.pause_reading()
        paused = asyncio.Event()
        pause = link.pause_writing

        def pause_and_tell() -> None:
            pause()
            paused.set()

        monkeypatch.setattr(link, "pause_writing", pause_and_tell)
        link.send(pieces())
        async with asyncio.timeout(20):
            await paused.wait()
        assert cut < 200
        before = cut
        for _ in range(20):
            link.send(b"small\n")
            await asyncio.sleep(0)
        assert cut == before
        reader.resume_reading()
        await far.until(lambda: len(far.seen) == 420)
        assert cut == 400
        assert far.seen.index(b"small") < 200


async def test_close_sends_what_was_sent_before() -> None:
    """An orderly close loses nothing, and neither side sees a fault."""
    async with connected() as (link, near, far):
        link.send(b"small\n")
        link.send(iter([piece(b"1"), piece(b"2"), piece(b"3")]))
        link.close()
        link.send(b"too late\n")
        await far.until(lambda: bool(far.lost))
        assert sorted(line[:1] for line in far.seen) == [b"1", b"2", b"3", b"s"]
        assert far.lost == [None]
        await near.until(lambda: bool(near.lost))
        assert near.lost == [None]


async def test_a_lie_ends_that_connection_only_and_is_logged_once() -> None:
    """The frames before it count, the liar is cut off, and another peer's connection goes on."""
    far = Side()
    server = await listen("127.0.0.1", 0, decoder=Lines, on_frame=far.on_frame, on_lost=far.on_lost)
    port = server.sockets[0].getsockname()[1]
    good_side, bad_side = Side(), Side()
    good = await dial(
        "127.0.0.1", port, decoder=Lines, on_frame=good_side.on_frame, on_lost=good_side.on_lost
    )
    bad = await dial("127.0.0.1", port, decoder=Lines, on_frame=bad_side.on_frame, on_lost=bad_side.on_lost)
    with capture_logs() as logs:
        bad.send(b"fine\n!lie\nafter\n")
        await bad_side.until(lambda: bool(bad_side.lost))
        await far.until(lambda: bool(far.lost))
    assert far.seen == [b"fine"]
    assert isinstance(far.lost[0], BadFrame)
    own = bad._transport.get_extra_info("sockname")
    assert logs == [
        {
            "event": "link_refused",
            "log_level": "warning",
            "peer": f"127.0.0.1:{own[1]}",
            "reason": "a line that begins with !",
        }
    ]
    good.send(b"still here\n")
    await far.until(lambda: far.seen == [b"fine", b"still here"])
    good.close()
    await good_side.until(lambda: good_side.lost == [None])
    await far.until(lambda: len(far.lost) == 2)
    server.close()
    await server.wait_closed()


async def test_a_callback_may_refuse_the_peer() -> None:
    """BadFrame out of `on_frame` ends the connection; nothing further is delivered."""
    near, far = Side(), Side()

    def refuse(link: Link[bytes], frame: bytes) -> None:
        far.on_frame(link, frame)
        raise BadFrame("not one of ours")

    server = await listen("127.0.0.1", 0, decoder=Lines, on_frame=refuse, on_lost=far.on_lost)
    port = server.sockets[0].getsockname()[1]
    link = await dial("127.0.0.1", port, decoder=Lines, on_frame=near.on_frame, on_lost=near.on_lost)
    link.send(b"one\ntwo\n")
    await near.until(lambda: bool(near.lost))
    await far.until(lambda: bool(far.lost))
    assert far.seen == [b"one"]
    assert str(far.lost[0]) == "not one of ours"
    server.close()
    await server.wait_closed()


async def test_a_silent_peer_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection on which nothing is ever said does not stay."""
    monkeypatch.setattr(link_module, "FIRST_FRAME_WITHIN_S", 0.05)
    far = Side()
    server = await listen("127.0.0.1", 0, decoder=Lines, on_frame=far.on_frame, on_lost=far.on_lost)
    port = server.sockets[0].getsockname()[1]
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    with capture_logs() as logs:
        await far.until(lambda: bool(far.lost))
    assert logs[0]["reason"] == "nothing said within 0.05 s"
    with pytest.raises(ConnectionResetError):
        await read_to_the_end(reader)
    writer.close()
    server.close()
    await server.wait_closed()


async def read_to_the_end(reader: asyncio.StreamReader) -> None:
    async with asyncio.timeout(20):
        if await reader.read() == b"":
            raise ConnectionResetError


async def test_abort_inside_a_callback_stops_delivery() -> None:
    """After `abort` the frames of the same read are not delivered, and `on_lost` gets the given fault."""
    near, far = Side(), Side()
    fault = ConnectionAbortedError("enough")

    def once(link: Link[bytes], frame: bytes) -> None:
        far.on_frame(link, frame)
        link.abort(fault)

    server = await listen("127.0.0.1", 0, decoder=Lines, on_frame=once, on_lost=far.on_lost)
    port = server.sockets[0].getsockname()[1]
    link = await dial("127.0.0.1", port, decoder=Lines, on_frame=near.on_frame, on_lost=near.on_lost)
    link.send(b"one\ntwo\n")
    await far.until(lambda: bool(far.lost))
    assert far.seen == [b"one"]
    assert far.lost == [fault]
    await near.until(lambda: bool(near.lost))
    link.send(b"into nothing\n")
    server.close()
    await server.wait_closed()


async def test_a_vanished_peer_is_noticed_by_the_kernel() -> None:
    """The socket asks for keepalive probes and gives up unacknowledged data after seven seconds."""
    async with connected() as (link, _, far):
        for side in (link, far.links[0]):
            sock = side._transport.get_extra_info("socket")
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 3
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 7_000
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0


async def test_nobody_there_is_an_os_error() -> None:
    """Dialling a closed port fails as the operating system says."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        near = Side()
        dialling: Awaitable[Link[bytes]] = dial(
            "127.0.0.1", port, decoder=Lines, on_frame=near.on_frame, on_lost=near.on_lost
        )
        with pytest.raises(OSError, match="Connect call failed"):
            await dialling
