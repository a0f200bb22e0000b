"""What a warm call takes, in bytecodes of ours: `python -m tests.warm_path` counts, and writes it down."""

import json
import sys
from pathlib import Path
from typing import Final

from lambent_chassis import logs
from loadtest.bare import Bare, Size
from loadtest.bytecodes import Bytecodes

RECORD: Final = Path(__file__).with_name("recorded.json")
PYTHON: Final = f"{sys.version_info.major}.{sys.version_info.minor}"
"""Each has bytecodes of its own."""

SITUATIONS: Final = {
    "an instance is idle": Size(instances=64),
    "calls wait for their turn": Size(instances=16),
}
_CALLS: Final = 256


def counted() -> dict[str, dict[str, int]]:
    """Bytecodes a call, by situation and part."""
    logs.configure("warning")
    return {name: _counted(size) for name, size in SITUATIONS.items()}


def recorded() -> dict[str, dict[str, int]] | None:
    """None for a Python for which nothing was recorded."""
    return _known().get(PYTHON)


def record(counts: dict[str, dict[str, int]]) -> None:
    RECORD.write_text(json.dumps(_known() | {PYTHON: counts}, indent=2, sort_keys=True) + "\n")


def _known() -> dict[str, dict[str, dict[str, int]]]:
    known: dict[str, dict[str, dict[str, int]]] = json.loads(RECORD.read_text()) if RECORD.exists() else {}
    return known


def _counted(size: Size) -> dict[str, int]:
    meter = Bytecodes()
    bare = Bare(size, meter)
    bare.calls(_CALLS)  # until everything is warm
    with meter.counting():
        bare.calls(_CALLS)
    return {part: round(count / _CALLS) for part, count in sorted(meter.of_part.items())}
