"""A line that is long and loses some of what it carries, between two network devices of this machine.

`python -m tests.chaos.line ONE OTHER --delay 0.05 --jitter 0.02 --loss 0.01 --seed 7`, as root, until it is
killed.

Kernels have sch_netem for this, if it was built into them; this needs nothing but packet sockets. Frames are
passed with their offload header, so that what the kernel left to a network card is left to the next one.
"""

import argparse
import asyncio
import random
import socket
import sys
from typing import Final

_SOL_PACKET: Final = 263
_PACKET_ADD_MEMBERSHIP: Final = 1
_PACKET_VNET_HDR: Final = 15
_PACKET_IGNORE_OUTGOING: Final = 23
_PACKET_MR_PROMISC: Final = 1
_ETH_P_ALL: Final = 3
"""From <linux/if_packet.h> and <linux/if_ether.h>."""

_LONGEST: Final = 70_000
"""Bytes of a frame that no card has cut up yet, with its headers."""


def packet_socket(device: str) -> socket.socket:
    """Takes and sends all frames of a device, but for those that leave by it."""
    made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    made.setsockopt(_SOL_PACKET, _PACKET_VNET_HDR, 1)
    made.setsockopt(_SOL_PACKET, _PACKET_IGNORE_OUTGOING, 1)
    membership = socket.if_nametoindex(device).to_bytes(4, sys.byteorder)
    membership += _PACKET_MR_PROMISC.to_bytes(2, sys.byteorder) + bytes(10)
    made.setsockopt(_SOL_PACKET, _PACKET_ADD_MEMBERSHIP, membership)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
    made.bind((device, _ETH_P_ALL))
    made.setblocking(False)
    return made


class Way:
    """From one device to the other: in order, as of one cable."""

    def __init__(self, one: socket.socket, other: socket.socket, dice: random.Random) -> None:
        self._one = one
        self._other = other
        self._dice = dice
        self._loop = asyncio.get_running_loop()
        self._last = 0.0

    def carry(self, delay_s: float, jitter_s: float, loss: float) -> None:
        def there() -> None:
            for _ in range(64):
                try:
                    frame = self._one.recv(_LONGEST)
                except BlockingIOError:
                    return
                if self._dice.random() >= loss:
                    due = self._loop.time() + delay_s + self._dice.uniform(0, jitter_s)
                    self._last = max(self._last, due)
                    self._loop.call_at(self._last, self._put, frame)

        self._loop.add_reader(self._one, there)

    def _put(self, frame: bytes) -> None:
        try:
            self._other.send(frame)
        except OSError:
            return  # the device is full, or down: lost, as on any line


async def run(one: str, other: str, delay_s: float, jitter_s: float, loss: float, seed: int) -> None:
    dice = random.Random(seed)
    ends = packet_socket(one), packet_socket(other)
    for here, there in (ends, ends[::-1]):
        Way(here, there, dice).carry(delay_s, jitter_s, loss)
    print("carries", flush=True)  # noqa: T201 - whoever started it waits for this
    await asyncio.Event().wait()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.line", description=__doc__)
    parser.add_argument("devices", nargs=2)
    parser.add_argument("--delay", type=float, default=0, help="seconds, each way")
    parser.add_argument("--jitter", type=float, default=0, help="at the most so much more")
    parser.add_argument("--loss", type=float, default=0, help="the share of frames that is lost")
    parser.add_argument("--seed", type=int, default=0)
    it = parser.parse_args()
    one, other = it.devices
    asyncio.run(run(one, other, it.delay, it.jitter, it.loss, it.seed))


if __name__ == "__main__":
    main()
