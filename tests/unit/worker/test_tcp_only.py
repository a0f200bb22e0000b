"""The filter for sandboxes that share the host's processes and network."""

import platform
import resource
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(
    platform.machine() not in ("x86_64", "aarch64"), reason="no filter is known for this machine"
)

FILTERED = """
import os, resource
from lambent_worker.sandbox import kernel, tcp_only
kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
kernel.Filter(tcp_only.program()).load()
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
try:
    resource.prlimit(os.getppid(), resource.RLIMIT_CORE, (0, 0))
    print("changed")
except PermissionError:
    print("refused")
"""


def test_limits_of_other_processes_stay_as_they_are() -> None:
    """A CPU limit of nothing would end the worker, where its instances have its user."""
    before = resource.getrlimit(resource.RLIMIT_CORE)
    done = subprocess.run([sys.executable, "-c", FILTERED], capture_output=True, text=True, check=True)
    assert done.stdout == "refused\n"
    assert resource.getrlimit(resource.RLIMIT_CORE) == before
