"""How `lambent loadtest` ends: its exit codes, what it says of a knee, and files that cannot be written."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from lambent.cli.failures import FailedCommand
from lambent.cli.loadtest import loadtest
from lambent.loadtest.results import Results

Run = Callable[[Results], None]


def answered(results: Results) -> None:
    for number in range(100):
        results.was_sent(number / 100, number / 100)
        results.was_answered(number / 100, number / 100, number / 100 + 0.02, "warm", "")
    results.end(1.0)


def unanswered(results: Results) -> None:
    results.was_sent(0.5, 0.5)
    results.end(1.0)


def nothing(results: Results) -> None:
    results.end(1.0)


def late(results: Results) -> None:
    results.was_sent(0.1, 0.9)
    results.was_answered(0.1, 0.9, 0.9, "warm", "")
    results.end(1.0)


def cut_short(results: Results) -> None:
    unanswered(results)
    results.interrupted = True


@pytest.fixture
def ended(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """The command with runs that come to what is given, one after the other."""

    def invoked(runs: list[Run], *options: str) -> Result:
        left: Iterator[Run] = iter(runs)

        async def run(_: object, __: object, results: Results, *___: object) -> None:
            next(left)(results)

        monkeypatch.setattr("lambent.loadtest.run.run", run)
        return CliRunner().invoke(loadtest, ["echo", *options], standalone_mode=False)

    return invoked


def code(done: Result) -> int:
    if isinstance(done.exception, FailedCommand):
        return done.exception.exit_code
    assert done.exception is None, done.exception
    return int(done.return_value)


@pytest.mark.parametrize(
    ("run", "wanted"), [(answered, 0), (unanswered, 3), (nothing, 3), (late, 4), (cut_short, 130)]
)
def test_exit_codes(ended: Callable[..., Result], run: Run, wanted: int) -> None:
    assert code(ended([run])) == wanted


@pytest.mark.parametrize(
    ("said", "wanted"), [("p99>1ms", 1), ("p99>1s", 0), ("rate<101", 1), ("rate<100", 0)]
)
def test_a_threshold_that_is_crossed(ended: Callable[..., Result], said: str, wanted: int) -> None:
    done = ended([answered], "--fail-if", said)
    assert code(done) == wanted
    assert (said in done.stderr) is bool(wanted)


def test_ctrl_c_on_the_way_to_the_knee(ended: Callable[..., Result]) -> None:
    """What was tried until then is told, the rate that was cut short is none of it, and the code says so."""
    done = ended([answered, cut_short], "--find-knee", "--json")
    found = json.loads(done.stdout)
    assert code(done) == 130
    assert (found["interrupted"], found["succeeded"]) == (True, 100)
    assert [rate["offered"] for rate in found["rates"]] == [50.0]


def test_ctrl_c_before_any_rate_was_tried(ended: Callable[..., Result]) -> None:
    done = ended([cut_short], "--find-knee")
    assert code(done) == 130
    assert "held" not in done.output


def test_a_knee_that_is_the_generators(ended: Callable[..., Result]) -> None:
    """Of 50, 100, 75, 87.5, 93.75 calls a second that at 100 is tried twice, and the knee is."""
    done = ended([answered, late, late, answered, answered, answered, answered], "--find-knee")
    assert code(done) == 0
    assert "The generator was late at 100.0" in done.stdout


def test_a_file_in_a_folder_that_is_not_there_is_refused_before_the_run(
    ended: Callable[..., Result], tmp_path: Path
) -> None:
    done = ended([], "--html", str(tmp_path / "none" / "page.html"))
    assert "there is no folder" in str(done.exception)


def test_results_are_told_though_a_file_cannot_be_written(
    ended: Callable[..., Result], tmp_path: Path
) -> None:
    (tmp_path / "folder").mkdir()

    def removed(results: Results) -> None:
        (tmp_path / "folder").rmdir()
        answered(results)

    done = ended([removed], "--csv", str(tmp_path / "folder" / "a.csv"))
    assert code(done) == 2
    assert "100 calls" in done.stdout


def half_failed(results: Results) -> None:
    answered(results)
    for number in range(100):
        results.was_sent(number / 100, number / 100)
        results.was_answered(number / 100, number / 100, number / 100, "", "THROTTLED")


@pytest.mark.parametrize("also", [(), ("--fail-if", "errors>60%")])
def test_a_quick_fleet_that_fails_crosses_a_threshold(
    ended: Callable[..., Result], also: tuple[str, ...]
) -> None:
    done = ended([half_failed], "--fail-if", "p99>1s", *also)
    assert code(done) == (0 if also else 1)
    assert ("errors>1% is so" in done.stderr) is not bool(also)


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (("--sign",), "for --via http"),
        (("--sign", "--via", "http"), "set LAMBENT_KEY"),
        (("--concurrency", "2", "--processes", "3"), "needs a caller"),
    ],
)
def test_what_does_not_go_together(
    ended: Callable[..., Result], monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...], why: str
) -> None:
    monkeypatch.delenv("LAMBENT_KEY", raising=False)
    assert why in str(ended([], *options).exception)
