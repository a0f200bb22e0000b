"""One of the things that `make bench` measures, and how it is run: in a process of its own.

So one that fails or hangs takes no other with it, and none inherits another's event loop or heap.
"""

import dataclasses
import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Generic, TypeVar

import click

from lambent_chassis.clock import monotonic_s, unix_s
from loadtest import machine
from loadtest.figures import Figures

ROOT: Final = Path(__file__).resolve().parent.parent
BUILD: Final = ROOT / "build"

S = TypeVar("S")


class BadOption(Exception):
    """A measurement has no such option, or it takes no such value. The message says which it has."""


@dataclass(frozen=True, slots=True)
class Plan:
    repeats: int
    """Rounds, of what is measured in rounds."""
    quick: bool
    scratch: Path
    """Folder for what a measurement leaves beside its figures."""

    def say(self, text: str) -> None:
        """Progress, for people."""
        click.echo(f"  {text}", err=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement(Generic[S]):
    name: str
    title: str
    """Heading of its section in docs/benchmarks.md."""
    says: str
    """What is measured and how it is to be read: Markdown."""
    takes_s: tuple[float, float]
    """About how long, in full and quick."""
    run: Callable[[S, Plan], Figures]
    """Raises Off, or anything else, if it cannot."""
    full: S
    """Its options, a frozen dataclass, in full and quick."""
    quick: S
    by_name_alone: bool = False
    """It takes so long that it is run only where it is asked for."""

    def setup(self, quick: bool, given: Mapping[str, str]) -> S:
        """Raises BadOption."""
        chosen: Any = self.quick if quick else self.full
        known = {it.name: getattr(chosen, it.name) for it in dataclasses.fields(chosen)}
        changed = {}
        for key, value in given.items():
            if key not in known:
                raise BadOption(f"{self.name} has no option {key!r}; it has {', '.join(known) or 'none'}")
            try:
                changed[key] = _like(known[key], value)
            except ValueError:
                raise BadOption(f"{self.name}: {key}={value} is not like {known[key]!r}") from None
        setup: S = dataclasses.replace(chosen, **changed)
        return setup


@dataclass(frozen=True, slots=True)
class NoOptions:
    """For a measurement that has none."""


def _like(known: object, value: str) -> object:
    if isinstance(known, tuple):
        return tuple(_like(known[0], part) for part in value.split(","))
    if isinstance(known, int | float):
        return type(known)(value)
    return value


@dataclass(slots=True)
class Result:
    """Of one measurement at one time, as it is kept in a file."""

    name: str
    at: str
    """When it ended, UTC."""
    commit: str
    quick: bool
    repeats: int
    options: dict[str, Any]
    seconds: float
    """How long it took."""
    load_before: str
    load_after: str
    machine: dict[str, str | int]
    figures: Figures

    def write(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        told = {key: getattr(self, key) for key in self.__slots__} | {"figures": self.figures.as_json()}
        path = folder / f"{self.name}.json"
        beside = path.with_suffix(".new")
        beside.write_text(json.dumps(told, indent=1) + "\n")
        beside.rename(path)


def read(path: Path) -> Result:
    """Raises OSError, ValueError, KeyError or TypeError if it is no such file."""
    known = json.loads(path.read_text())
    return Result(**known | {"figures": Figures.of(known["figures"])})


def measured(
    it: Measurement[Any], plan: Plan, given: Mapping[str, str], load: Callable[[], str] = machine.load
) -> Result:
    """Runs it here and now. Raises what it raises."""
    setup = it.setup(plan.quick, given)
    began, before, commit = monotonic_s(), load(), _commit()
    figures = it.run(setup, plan)
    return Result(
        name=it.name,
        at=datetime.fromtimestamp(unix_s(), UTC).strftime("%Y-%m-%d %H:%M"),
        commit=commit,
        quick=plan.quick,
        repeats=plan.repeats,
        options={key: _plain(value) for key, value in dataclasses.asdict(setup).items()},
        seconds=round(monotonic_s() - began, 1),
        load_before=before,
        load_after=load(),
        machine=machine.facts(),
        figures=figures,
    )


def command(name: str, plan: Plan, given: Mapping[str, str], out: Path) -> list[str]:
    """What runs it in a process of its own, and writes its result into `out`."""
    asked = {"quick": plan.quick, "repeats": plan.repeats, "scratch": str(plan.scratch), "given": dict(given)}
    return [sys.executable, "-m", "loadtest.measurements", name, json.dumps(asked), str(out)]


def _plain(value: object) -> object:
    return value if isinstance(value, int | float | str | tuple) else str(value)


def _commit() -> str:
    """Of this repository; with a + if something in it is changed."""
    git = ("git", "-C", str(ROOT))
    try:
        head = subprocess.run(
            [*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True
        )
        changed = subprocess.run([*git, "diff", "--quiet", "HEAD"], check=False).returncode
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return head.stdout.strip() + ("+" if changed else "")
