"""Backends by their names, started for real and asked what they give."""

import os
from pathlib import Path

import pytest

from lambent_worker.sandbox.api import CannotStart, HostFiles
from lambent_worker.sandbox.backends import backend, tried

pytestmark = pytest.mark.integration


async def test_what_is_tried_is_started_and_leaves_nothing(tmp_path: Path) -> None:
    """Its own name and level; no file stays."""
    given = await tried("process", f"try-{os.getpid()}", tmp_path)
    assert (given.backend, given.level) == ("process", "none")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("name", ["namespaces", "bwrap", "landlock"])
async def test_what_isolates_says_so(name: str, tmp_path: Path) -> None:
    """It keeps instances from each other's files in any case, and has a reason for each that it does not give."""
    try:
        given = await tried(name, f"try-{os.getpid()}", tmp_path)
    except CannotStart as failed:
        pytest.skip(f"{name} cannot start here: {failed}")
    assert given.backend == name
    assert "files" in given.given
    assert all(given.why_missing[name] for name in given.missing)
    assert os.listdir(tmp_path) == []


def test_an_unknown_backend(tmp_path: Path) -> None:
    """It is said by its name."""
    with pytest.raises(CannotStart, match="no backend magic"):
        backend("magic", HostFiles(runtimes=tmp_path, scratch=tmp_path), "w")
