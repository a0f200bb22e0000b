"""A function that sends descriptors where none are wanted makes nobody wait."""

import asyncio
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import suppress

import pytest

from lambent_chassis.clock import monotonic_s
from lambent_worker.channel import Channel
from lambent_worker.sandbox import unasked

PASSRIGHTS = 83
LINGERS_S = 40
"""Above what the test may take: with a close that waits it fails."""
AT_ONCE_S = 5.0


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """The worker's end and the function's, as before Linux 6.16: descriptors come along."""
    ours, theirs = socket.socketpair()
    with suppress(OSError):
        ours.setsockopt(socket.SOL_SOCKET, PASSRIGHTS, 1)
    ours.setblocking(False)
    with ours, theirs:
        yield ours, theirs


def lingering() -> tuple[int, socket.socket]:
    """A connection whose close waits, since nobody reads what it has sent; and the end that does not."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        sender = socket.create_connection(server.getsockname())
        reader, _ = server.accept()
    sender.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, LINGERS_S))
    sender.setblocking(False)
    with suppress(BlockingIOError):
        while sender.send(bytes(1 << 20)):
            pass
    return sender.detach(), reader


def send(theirs: socket.socket, data: bytes, count: int = 1) -> list[socket.socket]:
    """Lingering ones go along, and are nobody else's from then on."""
    made = [lingering() for _ in range(count)]
    socket.send_fds(theirs, [data], [fd for fd, _ in made])
    for fd, _ in made:
        os.close(fd)
    return [reader for _, reader in made]


async def broken_by(pair: tuple[socket.socket, socket.socket], data: bytes, count: int) -> tuple[str, float]:
    ours, theirs = pair
    told: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    channel = Channel(ours, lambda *_: None, told.set_result, lambda: None)
    readers = send(theirs, data, count)
    readers += send(theirs, b"more")  # which is never read
    began = monotonic_s()
    async with asyncio.timeout(AT_ONCE_S * 2):
        why = await told
    channel.close()
    took_s = monotonic_s() - began
    for reader in readers:
        reader.close()
    return why, took_s


@pytest.mark.parametrize("count", [1, 3])
async def test_descriptors_on_a_channel_end_the_instance_at_once(
    pair: tuple[socket.socket, socket.socket], count: int
) -> None:
    """However long it takes to close them, and whatever else is on its way."""
    why, took_s = await broken_by(pair, b'\0\0\0\x0b\0\x09["ready"]', count)
    assert why == "descriptors came with it"
    assert took_s < AT_ONCE_S


async def test_a_channel_that_is_closed_before_it_is_read(pair: tuple[socket.socket, socket.socket]) -> None:
    """The kernel closes what was on its way, and that must not wait either."""
    ours, theirs = pair
    channel = Channel(ours, lambda *_: None, lambda _: None, lambda: None)
    readers = send(theirs, b"x", 2)
    began = monotonic_s()
    channel.close()
    assert monotonic_s() - began < AT_ONCE_S
    for reader in readers:
        reader.close()


def test_a_control_socket_ends_with_what_was_on_its_way() -> None:
    """As a snapshot's does, over which a function may send what it likes on any kernel."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        readers = send(theirs, b"[]", 2)
        theirs.send(b"")
        readers += send(theirs, b"[]")
        began = monotonic_s()
        unasked.end(ours)
        assert monotonic_s() - began < AT_ONCE_S
        with pytest.raises(BrokenPipeError):
            theirs.send(b"later")
    for reader in readers:
        reader.close()


def test_a_channel_of_a_new_kernel_needs_no_care() -> None:
    """Descriptors are refused where they are sent."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        unasked.refuse(ours)
        if unasked.may_come(ours):
            pytest.skip("this kernel is older than Linux 6.16")
        with open(os.devnull) as file, pytest.raises(OSError):  # noqa: PT011 - whichever the kernel says
            socket.send_fds(theirs, [b"x"], [file.fileno()])
