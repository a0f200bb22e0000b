"""What this machine takes to hand a byte from one process to another: the least that a call's way can cost.

A call at 1 in flight changes hands six times: client, frontend, worker, instance and back. How dear one such
step is differs by machine and by kernel far more than what Python's own speed does, so that CPU per call can
be compared between two machines with this figure beside it alone.
"""

import os
import resource
import socket
from typing import Final

ROUNDS: Final = 5_000
"""There and back; a fraction of a second."""


def hand_over_us(rounds: int = ROUNDS) -> float:
    """µs of CPU, of both processes, for a byte over a Unix socket to one that sleeps for it."""
    ours, theirs = socket.socketpair()
    before = _cpu_s()
    child = os.fork()
    if not child:
        ours.close()
        while byte := theirs.recv(1):
            theirs.send(byte)
        os._exit(0)
    theirs.close()
    for _ in range(rounds):
        ours.send(b"x")
        ours.recv(1)
    ours.close()
    os.waitpid(child, 0)
    return (_cpu_s() - before) / (2 * rounds) * 1e6


def _cpu_s() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(it.ru_utime + it.ru_stime for it in used)
