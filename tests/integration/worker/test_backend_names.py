"""Backends by their names, started for real and asked what they give."""

import os
from pathlib import Path
from typing import Final

import pytest

from lambent_worker.sandbox.api import CannotStart, HostFiles
from lambent_worker.sandbox.backends import backend, tried

pytestmark = pytest.mark.integration

WORKER: Final = f"try-{os.getpid()}"


def left() -> list[Path]:
    return list(Path("/var/tmp").glob(f"lambent-{WORKER}-*"))


async def test_plain_processes_isolate_nothing() -> None:
    """Said by the name and the level; no file stays."""
    given = await tried("process", WORKER)
    assert (given.backend, given.level) == ("process", "none")
    assert left() == []


@pytest.mark.parametrize("name", ["namespaces", "bwrap", "gvisor", "landlock"])
async def test_what_isolates_says_so(name: str) -> None:
    """It keeps instances from each other's files in any case, and has a reason for what it does not give."""
    try:
        given = await tried(name, WORKER)
    except CannotStart as failed:
        pytest.skip(f"{name} cannot start here: {failed}")
    assert given.backend == name
    assert "files" in given.given
    assert "own_user" in given.given or os.geteuid() != 0, given.why_missing["own_user"]
    assert all(given.why_missing[missing] for missing in given.missing)
    assert left() == []


def test_an_unknown_backend(tmp_path: Path) -> None:
    """It is said by its name."""
    with pytest.raises(CannotStart, match="no backend magic"):
        backend("magic", HostFiles(runtimes=tmp_path, scratch=tmp_path), "w")
