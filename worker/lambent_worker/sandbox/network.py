"""Gives a shell a way out: slirp4netns, a program outside, answers what goes into a tap device inside.

What it sends comes from the host, as a process of its own. It does not go to the host's loopback. The host's
other addresses, where the worker listens, and link-local ones, where clouds keep credentials, are dead ends
inside.
"""

from __future__ import annotations

import os
import signal
import socket
import struct
from typing import Final

from . import entry, kernel
from .prepared import Shell

ARGUMENTS: Final = (
    "--configure",
    "--mtu=65520",
    "--disable-host-loopback",
    "--enable-sandbox",
    "--enable-seccomp",
    "--netns-type=path",
)
_READY_FD, _EXIT_FD = 3, 4

LINK_LOCAL: Final = ("169.254.0.0", 16)

_RTM_NEWROUTE, _NLM_F_REQUEST, _NLM_F_ACK, _NLM_F_CREATE = 24, 1, 4, 0x400
_RT_TABLE_MAIN, _RTPROT_STATIC, _RT_SCOPE_UNIVERSE, _RTN_BLACKHOLE, _RTA_DST = 254, 4, 0, 6, 1
"""From <linux/rtnetlink.h> and <linux/netlink.h>."""


def connect(program: str, shell: Shell) -> int:
    """Begins to. Returns a descriptor that says `1` once the network is there, and ends without if it is not.

    It ends with the shell. Raises OSError.
    """
    ready, tell = os.pipe()
    ended, shell.network = os.pipe()
    parent = os.getpid()
    try:
        pid = os.fork()
        if pid == 0:
            _become(program, shell, tell, ended, parent)
    finally:
        os.close(tell)
        os.close(ended)
    return ready


def _become(program: str, shell: Shell, tell: int, ended: int, parent: int) -> None:
    try:
        os.setsid()
        entry.reset_signals()
        kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)
        for join in shell.joins():  # what it does for an instance is that one's to pay
            os.write(join, b"0")
        own = own_addresses()
        helper = os.fork()
        if helper == 0:
            kernel.setns(shell.init, kernel.CLONE_NEWNET)
            blackhole(*LINK_LOCAL)
            for address in own:
                blackhole(address, 32)
            os._exit(0)
        if os.waitpid(helper, 0)[1]:
            os._exit(1)
        os.dup2(tell, _READY_FD)
        os.dup2(ended, _EXIT_FD)
        os.closerange(_EXIT_FD + 1, 1 << 30)
        fds = (f"--ready-fd={_READY_FD}", f"--exit-fd={_EXIT_FD}")
        os.execve(program, [program, *ARGUMENTS, *fds, f"/proc/{shell.pid}/ns/net", "tap0"], {})
    except BaseException as error:  # noqa: BLE001 - the child must not go on as a fork server
        os.write(2, f"{program} cannot be started: {error}\n".encode())
    finally:
        os._exit(1)


def own_addresses() -> set[str]:
    """All IPv4 addresses of the caller's network namespace, as it has them now."""
    found, address = set(), ""
    with open("/proc/self/net/fib_trie") as table:
        for line in table:
            match line.split():
                case ["|--", address]:
                    pass
                case ["/32", "host", "LOCAL"]:
                    found.add(address)
                case _:
                    pass
    return found


def blackhole(address: str, bits: int) -> None:
    """What goes there from the caller's network namespace goes nowhere. Raises OSError."""
    route = struct.pack(
        "=BBBBBBBBI",
        *(socket.AF_INET, bits, 0, 0, _RT_TABLE_MAIN, _RTPROT_STATIC, _RT_SCOPE_UNIVERSE, _RTN_BLACKHOLE, 0),
    )
    route += struct.pack("=HH", 8, _RTA_DST) + socket.inet_aton(address)
    flags = _NLM_F_REQUEST | _NLM_F_ACK | _NLM_F_CREATE
    head = struct.pack("=IHHII", 16 + len(route), _RTM_NEWROUTE, flags, 1, 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as netlink:
        netlink.send(head + route)
        (errno,) = struct.unpack_from("=i", netlink.recv(4096), 16)
    if errno:
        raise OSError(-errno, f"blackhole {address}: {os.strerror(-errno)}")
