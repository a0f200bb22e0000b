"""What a worker makes of the families that it finds, and of what they need."""

import stat
import sys
import types
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lambent_worker import runtimes
from lambent_worker.runtimes import registry
from lambent_worker.runtimes.api import Found, Runtime, Unavailable
from lambent_worker.runtimes.host import KEPT, NotUsable, built, output_of


class Cobol:
    name = "cobol"

    def __init__(self, *runtimes: Runtime, files: tuple[Path, ...] = ()) -> None:
        self._found = Found(runtimes, (Unavailable(name="cobol60", family="cobol", why="too old"),), files)

    def find(self, build: Path) -> Found:
        assert build.is_dir()
        return self._found


def cobol(version: str) -> Runtime:
    return Runtime(
        name=f"cobol{version}",
        family="cobol",
        version=version,
        argv=lambda start: ("cobol",),
        prefixes=(Path("/c"),),
    )


def test_families_are_their_folders(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A folder with a `family` is a runtime, without a word about it anywhere else."""
    (tmp_path / "cobol").mkdir()
    (tmp_path / "cobol" / "__init__.py").write_text("")
    monkeypatch.setattr(runtimes, "__path__", [*runtimes.__path__, str(tmp_path)])
    module = types.ModuleType("lambent_worker.runtimes.cobol.family")
    module.family = Cobol()  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "lambent_worker.runtimes.cobol.family", module)
    names = [family.name for family in registry.families()]
    assert sorted(names) == [
        *("cobol", "dotnet", "java", "nodejs", "powershell", "provided", "python", "ruby"),
    ]


def test_the_newest_runs_under_the_familys_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Versions are numbers: 3.10 is newer than 3.9. What is missing has its reason."""
    monkeypatch.setattr(registry, "families", lambda: [Cobol(cobol("3.9"), cobol("3.10"))])
    here = registry.discover(tmp_path)
    assert here.by_name["cobol"].name == "cobol3.10"
    assert sorted(here.by_name) == ["cobol", "cobol3.10", "cobol3.9"]
    assert here.prefixes == (Path("/c"),)
    assert [missing.why for missing in here.unavailable] == ["too old"]


def test_files_are_installed_for_every_instance_to_read(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """By their names, below the family's; what an earlier worker had there is gone."""
    source = tmp_path / "bootstrap"
    source.mkdir()
    (source / "main.cob").write_text("STOP RUN.")
    (source / "main.cob").chmod(0o600)
    start = tmp_path / "start"
    start.write_text("#!/bin/sh")
    start.chmod(0o700)
    monkeypatch.setattr(registry, "families", lambda: [Cobol(cobol("1"), files=(source, start))])
    here = registry.discover(tmp_path / "build")
    target = tmp_path / "target"
    (target / "fortran").mkdir(parents=True)
    here.install(target)
    modes = {
        str(path.relative_to(target)): stat.S_IMODE(path.stat().st_mode) for path in sorted(target.rglob("*"))
    }
    assert modes == {
        "cobol": 0o755,
        "cobol/bootstrap": 0o755,
        "cobol/bootstrap/main.cob": 0o644,
        "cobol/start": 0o755,
    }


def test_several_workers_build_it_once(tmp_path: Path) -> None:
    """Who comes while another builds waits for it, and has the same."""
    source = tmp_path / "source"
    source.write_text("1")
    made: list[Path] = []

    def make(folder: Path) -> None:
        made.append(folder)
        (folder / "result").write_text("1")

    with ThreadPoolExecutor(8) as pool:
        folders = set(pool.map(lambda _: built(tmp_path / "build", [source], ["cc"], make), range(8)))
    assert (len(folders), len(made)) == (1, 1)


def test_what_nobody_used_for_long_is_removed(tmp_path: Path) -> None:
    """So that a host that is updated for years does not keep all of it."""
    source = tmp_path / "source"
    source.write_text("1")
    first = built(tmp_path / "build", [source], ["cc 0"], lambda _: None)
    used = built(tmp_path / "build", [source], ["cc 1"], lambda _: None)
    for number in range(2, KEPT + 1):
        built(tmp_path / "build", [source], ["cc 1"], lambda _: None)
        built(tmp_path / "build", [source], [f"cc {number}"], lambda _: None)
    assert used.is_dir()
    assert not first.is_dir()


def test_where_it_is_built(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """For all of a user's workers in one place, unless there is none to be had."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert registry.build_folder(tmp_path / "data") == tmp_path / "cache" / "lambent" / "build"
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert registry.build_folder(tmp_path / "data") == tmp_path / "data" / "build"


def test_what_is_built_is_built_once(tmp_path: Path) -> None:
    """For each content of its source and its tools; a build that fails leaves nothing that looks like one."""
    source = tmp_path / "source"
    source.write_text("1")
    build = tmp_path / "build"
    made: list[str] = []

    def make(folder: Path) -> None:
        made.append(source.read_text())
        (folder / "result").write_text(source.read_text())
        if source.read_text() == "bad":
            raise NotUsable("it does not compile")

    first = built(build, [source], ["cc 1"], make)
    assert built(build, [source], ["cc 1"], make) == first
    assert built(build, [source], ["cc 2"], make) != first
    source.write_text("bad")
    for _ in range(2):
        with pytest.raises(NotUsable):
            built(build, [source], ["cc 2"], make)
    source.write_text("2")
    assert (built(build, [source], ["cc 2"], make) / "result").read_text() == "2"
    assert made == ["1", "1", "bad", "bad", "2"]
    assert len([it for it in build.iterdir() if it.is_dir()]) == 3


@pytest.mark.parametrize(
    ("argv", "why"),
    [
        (("/nowhere/cobol",), "/nowhere/cobol cannot be run: No such file or directory"),
        (("/bin/sh", "-c", "echo broken >&2; exit 3"), "/bin/sh ended with status 3: broken"),
        (("/bin/sleep", "60"), "/bin/sleep did not end within 0 s"),
    ],
)
def test_what_does_not_run_is_not_usable(argv: tuple[str, ...], why: str) -> None:
    """And why is said in a way that names the program."""
    with pytest.raises(NotUsable) as error:
        output_of(*argv, within_s=0.3)
    assert str(error.value) == why
