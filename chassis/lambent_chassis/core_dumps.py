"""No memory of this process is written to a disk when it crashes: passwords, keys and events are in it."""

import ctypes
import resource
import sys
from typing import Final

NO_CORE: Final = 1
"""RLIMIT_CORE, in bytes: less than any core file has, and the one value with which Linux starts no program of
`kernel.core_pattern` either. With 0 it would, and systemd or apport keep what they are given."""

_PR_SET_DUMPABLE: Final = 4
"""From <linux/prctl.h>."""


def forbid() -> None:
    """For this process, and what it starts: that inherits the limit, which cannot be raised again.

    On Linux no other process of the same user may look into this one either. That is of this program alone:
    the kernel forgets it in a child that executes another.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_CORE)
    most = NO_CORE if hard == resource.RLIM_INFINITY else min(NO_CORE, hard)
    resource.setrlimit(resource.RLIMIT_CORE, (most, most))
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
