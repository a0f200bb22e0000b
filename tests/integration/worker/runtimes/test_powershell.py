"""PowerShell where there is none: what is said about that, and how one would be started."""

from pathlib import Path

import pytest

from lambent_worker.runtimes.api import Start
from lambent_worker.runtimes.powershell.family import PowerShell

pytestmark = pytest.mark.integration

STAND_IN = """#!/bin/sh
[ "$1" = --version ] && echo 'PowerShell VERSION' && exit
printf '%s\\n' "$@"
"""


def stand_in(folder: Path, version: str) -> None:
    pwsh = folder / "pwsh"
    pwsh.write_text(STAND_IN.replace("VERSION", version))
    pwsh.chmod(0o755)


def test_it_is_named_as_unavailable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reason says what is missing and where it comes from."""
    monkeypatch.setenv("PATH", str(tmp_path))
    found = PowerShell().find(tmp_path)
    assert found.available == ()
    assert found.unavailable[0].why.startswith("there is no pwsh on the PATH: install PowerShell 7")


def test_one_that_is_too_old_is_unavailable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """PowerShell 6 knows neither of the commands that the bootstrap needs."""
    stand_in(tmp_path, "6.2.4")
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin")
    assert "no PowerShell 7" in PowerShell().find(tmp_path).unavailable[0].why


def test_how_one_is_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By its own path, without anybody's profile, with our script, and with its folder to be seen."""
    stand_in(tmp_path, "7.4.1")
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin")
    found = PowerShell().find(tmp_path)
    (runtime,) = found.available
    assert (runtime.name, runtime.version, runtime.prefixes) == (
        "powershell7.4",
        "7.4.1",
        (tmp_path.resolve(),),
    )
    start = Start(runtime_dir="/r", task_root="/t", opt="/o", handler="a.ps1", memory_mb=128)
    argv = runtime.argv(start)
    assert argv[0] == str(tmp_path.resolve() / "pwsh")
    assert argv[-1] == "/r/powershell/bootstrap.ps1"
    assert "-NoProfile" in argv
    assert found.files[0].name == Path(argv[-1]).name
    assert runtime.environment(start)["PSModulePath"] == "/t/modules:/o/modules"
