"""Who is measured beside Lambent, how that is kept, and who is said to be ahead."""

import dataclasses
import re
from pathlib import Path

import pytest

from loadtest.callers import payload
from loadtest.peers import closed_loop, environments, page, plot, results, tables
from loadtest.peers import peer as peers
from loadtest.peers.environments import Unavailable
from loadtest.peers.peer import Peer
from loadtest.peers.registry import LAMBENT, PEERS
from loadtest.peers.results import Run
from loadtest.peers.turns import Measured
from tests.repo.tree import ROOT

WORKERD = next(it for it in PEERS if it.name == "workerd")
CELERY = next(it for it in PEERS if it.name == "celery-redis")
EVERYBODY = (LAMBENT, *PEERS)


@pytest.mark.parametrize("it", EVERYBODY, ids=lambda it: it.name)
def test_a_plan_is_sound(it: Peer) -> None:
    """Its file is there, its pins are exact, its calls are of kinds that have tables, it says its limits."""
    assert (ROOT / f"{it.module.replace('.', '/')}.py").exists()
    assert all(re.fullmatch(r"[a-z-]+(\[[a-z-]+\])?==[0-9.]+", pin) for pin in it.pip)
    assert all(re.fullmatch(r"[a-z-]+@[0-9.]+", pin) for pin in it.npm)
    assert {path.kind for path in it.paths} <= set(results.KINDS)
    assert all(set(path.in_flight) <= set(peers.IN_FLIGHT) for path in it.paths)
    assert it.runs
    assert it is LAMBENT or (it.gives and it.lacks)


def test_names_and_environments() -> None:
    """No two have a name, and those that share an environment agree on what is in it."""
    assert len({it.name for it in EVERYBODY}) == len(EVERYBODY)
    pins: dict[str, tuple[str, ...]] = {}
    for it in EVERYBODY:
        if it.pip or it.npm:
            assert pins.setdefault(it.folder, (*it.pip, *it.npm)) == (*it.pip, *it.npm)


def test_everybody_is_compared_with_lambent_called_the_same_way() -> None:
    """Each kind of calls is one of Lambent's."""
    assert {path.kind for it in PEERS for path in it.paths} <= {path.kind for path in LAMBENT.paths}


def test_all_get_the_same_event() -> None:
    """That of Lambent's own callers, of 100 bytes."""
    assert payload(100) == closed_loop.PAYLOAD


def test_none_of_their_packages_is_ours() -> None:
    """They would fight with our pins: nothing of them is in pyproject.toml, but what we need ourselves."""
    ours = set(re.findall(r'^    "([\w-]+)', (ROOT / "pyproject.toml").read_text(), re.MULTILINE))
    theirs = {re.split(r"[\[=]", pin)[0] for it in PEERS for pin in it.pip}
    assert theirs & ours <= {"redis", "awslambdaric"}


def figures(cpu_us: float, calls_per_s: float = 1000.0) -> Measured:
    return Measured(100, calls_per_s, 1.0, 2.0, cpu_us, cpu_us + 5, 0.02, 20.0)


def a_run(theirs: float, ours: float = 100.0) -> Run:
    facts = {
        "cpu": "a CPU",
        "cores": 2,
        "kernel": "6",
        "python": "3.11",
        "rounds": 3,
        "seconds": 1.0,
        "processes": 16,
        "in_flight": [64],
        "load_before": "1.00 1.00 1.00",
        "load_after": "1.50 1.00 1.00",
    }
    ways = {
        ("lambent", "HTTP", 64): [figures(ours)],
        ("workerd", "HTTP", 64): [figures(1), figures(theirs, 5.0), figures(1e6)],
    }
    return Run(facts, (LAMBENT, WORKERD, CELERY), ways, not_measured={"celery-redis": "no Redis"})


def row_of(run: Run) -> dict[str, str]:
    found = {cells[0]: cells for cells in tables.table(run, "HTTP", 64)}
    return dict(zip(tables.COLUMNS, found["workerd"], strict=True))


def test_who_wins_a_row() -> None:
    """By the medians, and Lambent loses where it does."""
    ahead, behind = row_of(a_run(theirs=50.0)), row_of(a_run(theirs=250.0))
    assert (ahead["less CPU"], ahead["of Lambent's"]) == (tables.IT, "0.5")
    assert (behind["less CPU"], behind["of Lambent's"]) == ("Lambent", "2.5")
    assert ahead["CPU µs (range)"] == "50 (1 to 1,000,000)"
    assert "workerd (50% less CPU)" in page.markdown(a_run(theirs=50.0), "it.svg")
    assert "64 in flight: nobody" in page.markdown(a_run(theirs=250.0), "it.svg")


def test_nobody_wins_by_what_cannot_be_told() -> None:
    """A system that was busier at rest than with calls has a bound and no figure, and comes last."""
    run = a_run(theirs=50.0)
    run.ways["workerd", "HTTP", 64] = [figures(50.0), figures(-300.0), figures(60.0)]
    row = row_of(run)
    assert (row["CPU µs (range)"], row["of Lambent's"], row["less CPU"]) == ("at most 55", "", "")
    assert row["more calls/s"] == "Lambent"
    assert tables.table(run, "HTTP", 64)[-1][0] == "workerd"
    assert "64 in flight: nobody" in page.markdown(run, "it.svg")


def test_who_is_missing_is_named() -> None:
    """On the page and on the terminal, with the reason."""
    run = a_run(theirs=50.0)
    assert "Not measured: Celery with Redis: no Redis" in tables.report(run)
    assert "Not measured: Celery with Redis: no Redis" in page.markdown(run, "it.svg")


def test_a_turn_that_failed_is_named() -> None:
    """Beside what the other rounds had."""
    run = a_run(theirs=50.0)
    run.failures["workerd"] = ["it said nothing for 120 s"]
    assert "workerd failed in 1 of 3 rounds: it said nothing for 120 s" in page.markdown(run, "it.svg")


def test_a_run_is_kept() -> None:
    """What is read from a file is what was written into it."""
    run = a_run(theirs=50.0)
    again = results.read(run.as_json(), run.peers)
    assert again.as_json() == run.as_json()
    assert page.markdown(again, "it.svg") == page.markdown(run, "it.svg")


def test_the_plot_has_everybody() -> None:
    """Each row by name and median."""
    rows = a_run(theirs=50.0).rows("HTTP", 64)
    drawn = plot.svg("CPU", rows)
    assert all(f">{row.median('cpu_us'):,.0f}<" in drawn for row in rows)
    assert ">workerd, HTTP<" in drawn
    assert ">Lambent HTTP<" in drawn


def test_the_published_page_has_these_versions() -> None:
    """Who changes a pin measures again."""
    said = (ROOT / "docs" / "peers.md").read_text()
    assert [pin for it in PEERS for pin in (*it.pip, *it.npm) if f"`{pin}`" not in said] == []


def test_an_environment_is_whole_or_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An install that fails is told with its error, and is made again; so is one of other versions."""
    npm = tmp_path / "npm"
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(environments, "FOLDER", tmp_path / "peers")
    it = dataclasses.replace(WORKERD, programs=())
    with pytest.raises(Unavailable, match="npm not found"):
        environments.make(it, print)
    npm.write_text("#!/bin/sh\necho 'npm error 404 no such package' >&2\nexit 1\n")
    npm.chmod(0o755)
    with pytest.raises(Unavailable, match="404 no such package"):
        environments.make(it, print)
    assert not environments.is_there(it)
    npm.write_text("#!/bin/sh\nexit 0\n")
    environments.make(it, print)
    assert environments.is_there(it)
    assert not environments.is_there(dataclasses.replace(it, npm=("workerd@2.0.0",)))
