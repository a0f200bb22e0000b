"""Which interpreters of a host run functions in Python."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from lambent_worker.runtimes.host import NotUsable
from lambent_worker.runtimes.python import family

Says = Callable[[str], Path]


@pytest.fixture
def says(tmp_path: Path) -> Says:
    """A program that says this of itself, whatever it is asked."""

    def make(text: str) -> Path:
        path = tmp_path / "bin" / "python3.10"
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\nprintf '%s' '{text.replace('PREFIX', str(tmp_path))}'\n")
        path.chmod(0o755)
        tmp_path.chmod(0o755)
        return path

    return make


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('["pypy", [3, 10, 2], "PREFIX"]', "is pypy, and not CPython"),
        ("hello", "printed 'hello'"),
    ],
)
def test_what_is_no_interpreter_of_ours(says: Says, text: str, why: str) -> None:
    with pytest.raises(NotUsable, match=why):
        family._tried(says(text))


def test_what_only_its_owner_may_read(says: Says, tmp_path: Path) -> None:
    """It would start in no instance that has a user of its own: that is said, and not found out later."""
    if os.geteuid():
        pytest.skip("instances have users of their own where the worker is root")
    path = says('["cpython", [3, 10, 2], "PREFIX"]')
    assert family._tried(path).name == "python3.10"
    tmp_path.chmod(0o700)
    with pytest.raises(NotUsable, match=f"{tmp_path} is not for everybody"):
        family._tried(path)


def test_each_version_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Of one X.Y the newest is taken; one that does not work hides none that does."""
    paths = {}
    for folder, text in {
        "old": f'["cpython", [3, 10, 2], "{tmp_path}/old"]',
        "new": f'["cpython", [3, 10, 13], "{tmp_path}/new"]',
        "bad": "nothing",
    }.items():
        path = paths[folder] = tmp_path / folder / "python3.10"
        path.parent.mkdir()
        path.write_text(f"#!/bin/sh\nprintf '%s' '{text}'\n")
        path.chmod(0o755)
    monkeypatch.setattr(family, "_candidates", lambda: iter(paths.values()))
    found, broken = family._interpreters()
    assert [(it.name, it.version, it.path) for it in found] == [("python3.10", (3, 10, 13), paths["new"])]
    assert broken == {}
