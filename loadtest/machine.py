"""The machine that figures come from: without it they mean nothing."""

import os
import platform
import sys
from importlib.metadata import version
from pathlib import Path


def facts() -> dict[str, str | int]:
    return {
        "cpu": _cpu_model(),
        "cores": os.cpu_count() or 0,
        "kernel": platform.release(),
        "python": platform.python_version(),
        "python_executable": os.path.realpath(sys.executable),
        "grpcio": version("grpcio"),
        "uvloop": version("uvloop"),
    }


def load() -> str:
    """The load averages over 1, 5 and 15 minutes."""
    return " ".join(f"{value:.2f}" for value in os.getloadavg())


def busy_s() -> float:
    """CPU seconds that the whole machine has spent working so far."""
    fields = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]]
    user, nice, system, _idle, _iowait, irq, softirq = fields[:7]
    ticks_a_second: int = os.sysconf("SC_CLK_TCK")
    return (user + nice + system + irq + softirq) / ticks_a_second


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.machine()
