"""`make bench`: what is run, what is kept of it, and what the page makes of it."""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner

from loadtest import bench, page
from loadtest.figures import Budget, Figures, Plot, Table, percentile, spread
from loadtest.measurement import BadOption, Measurement, Plan, Result, measured, read
from loadtest.measurements import ALL, by_name


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    calls: int = 100
    rates: tuple[float, ...] = (1.0, 2.0)
    sandbox: str = "process"


def found(setup: Setup, plan: Plan) -> Figures:
    return Figures(
        {"calls": setup.calls},
        [Table(("a", "b"), [["1", "2"]], "Shown:")],
        [Plot("curve", "A curve", "x", "y", {"one": [(1, 2), (2, 8)]})],
        [Budget("calls", setup.calls, 50, "calls")],
        ["A note."],
    )


MINE = Measurement(
    name="mine", title="Mine", says="Says.", takes_s=(10, 1), run=found, full=Setup(), quick=Setup(calls=5)
)


def result(tmp_path: Path, quick: bool = False, **given: str) -> Result:
    return measured(MINE, Plan(1, quick, tmp_path), given)


def measuring(out: Path) -> str:
    """A program that measures it, as one of its own does."""
    return (
        f"from pathlib import Path; from tests.unit.loadtest.test_bench import result; "
        f"result(Path({str(out)!r})).write(Path({str(out / 'bench')!r}))"
    )


def test_names_are_there_once() -> None:
    assert len({it.name for it in ALL}) == len(ALL)
    with pytest.raises(LookupError, match="'nothing' is none of warm, "):
        by_name("nothing")


def test_options_are_like_their_defaults(tmp_path: Path) -> None:
    """Each is read as what it is by default, and what is unknown or unlike is refused with what there is."""
    setup = MINE.setup(False, {"calls": "7", "rates": "3,4.5", "sandbox": "bwrap"})
    assert setup == Setup(calls=7, rates=(3.0, 4.5), sandbox="bwrap")
    with pytest.raises(BadOption, match="no option 'cals'; it has calls, rates, sandbox"):
        MINE.setup(False, {"cals": "7"})
    with pytest.raises(BadOption, match="calls=many is not like 100"):
        MINE.setup(False, {"calls": "many"})


def test_a_result_is_what_it_was(tmp_path: Path) -> None:
    """After its way through a file, with the options that it was measured with."""
    was = result(tmp_path, quick=True, rates="9")
    was.write(tmp_path)
    again = read(tmp_path / "mine.json")
    assert again.options == {"calls": 5, "rates": [9.0], "sandbox": "process"}
    assert again.figures.budgets == was.figures.budgets
    assert page.as_text(again, MINE) == page.as_text(was, MINE)


@pytest.mark.parametrize(
    ("budget", "verdict"),
    [
        (Budget("a", 90, 100, "us"), "met by 10%"),
        (Budget("a", 150, 100, "us"), "**missed** by 50%"),
        (Budget("a", 100, 100, "us"), "met by 0%"),
        (Budget("a", 150, 200, "a second", at_most=False), "**missed** by 25%"),
        (Budget("a", 0, 0, ""), "met"),
        (Budget("a", 0.1, 0, ""), "**missed**"),
    ],
)
def test_a_verdict_on_a_budget(budget: Budget, verdict: str) -> None:
    assert budget.verdict() == verdict


def test_figures_of_rounds() -> None:
    assert spread([3.0, 1.0, 2.0]) == "2 (1 to 3)"
    assert spread([1234.5], 1) == "1,234.5"
    assert percentile([1, 2, 3, 4], 0.5) == 2


def test_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has each section with its budget, says which are small, and which are not there."""
    monkeypatch.setattr(page, "ALL", (MINE, ALL[0]))
    text = page.markdown([result(tmp_path, quick=True)])
    assert "| [Mine](#mine) | calls | 5 calls | ≤ 50 calls | met by 90% | quick" in text
    assert "quick: small" in text
    assert "Shown:\n\n| a | b |\n| --- | --- |\n| 1 | 2 |\n" in text
    assert "![A curve](plots/mine-curve.svg)" in text
    assert f"Not measured: {ALL[0].name}." in text
    assert "quick: small" not in page.markdown([result(tmp_path)])


@pytest.mark.parametrize(("load", "doubt"), [("1.00 9.00 9.00", ""), ("31.60 9.00 9.00", "load average 32")])
def test_a_verdict_of_a_busy_machine_is_doubted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, load: str, doubt: str
) -> None:
    """By the load of the last minute: what it was before is over."""
    it = measured(MINE, Plan(1, False, tmp_path), {}, lambda: load)
    it.machine["cores"] = 2
    monkeypatch.setattr(page, "ALL", (MINE,))
    assert f"| **missed** by 100% | {doubt} |" in page.markdown([it])


def test_what_fails_takes_no_other_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is said, the others are measured and kept, and the exit code is 1."""
    programs = {"mine": measuring(tmp_path), "broken": "raise SystemExit('it is broken')"}
    broken = Measurement(**{key: getattr(MINE, key) for key in MINE.__slots__} | {"name": "broken"})
    monkeypatch.setattr(bench, "ALL", (broken, MINE))
    monkeypatch.setattr(bench, "by_name", {"mine": MINE, "broken": broken}.__getitem__)
    monkeypatch.setattr(bench, "command", lambda name, *_: [sys.executable, "-c", programs[name]])
    done = CliRunner().invoke(bench.main, ["--quick", "--json", "--out", str(tmp_path)])
    assert done.exit_code == 1
    assert json.loads(done.stdout) == {"mine": {"calls": 100}}
    assert "broken failed: exit code 1" in done.stderr
    assert json.loads((tmp_path / "bench.json").read_text())["calls"] == 100


@pytest.mark.parametrize(("options", "code"), [([], 0), (["--strict"], 1)])
def test_a_budget_that_is_missed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], code: int
) -> None:
    """It is said, and fails a run only where that is asked for."""
    monkeypatch.setattr(bench, "ALL", (MINE,))
    monkeypatch.setattr(bench, "by_name", {"mine": MINE}.__getitem__)
    monkeypatch.setattr(bench, "command", lambda *_: [sys.executable, "-c", measuring(tmp_path)])
    done = CliRunner().invoke(bench.main, ["mine", "--out", str(tmp_path), *options])
    assert done.exit_code == code
    assert "calls: 100 calls, budget ≤ 50 calls, missed by 100%" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nothing"], "'nothing' is none of"),
        (["warm", "cold", "--set", "scale=2"], "--set is for one NAME"),
        (["warm", "--set", "colour=red"], "no option 'colour'"),
    ],
)
def test_wrong_usage(arguments: list[str], said: str) -> None:
    """Said before anything is measured."""
    done = CliRunner().invoke(bench.main, arguments)
    assert done.exit_code == 2
    assert said in done.stderr


def test_the_list() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "loadtest.bench", "--list"], capture_output=True, text=True, check=True
    )
    assert [it.name for it in ALL] == [line.split()[0] for line in done.stdout.splitlines() if line[0] != " "]
