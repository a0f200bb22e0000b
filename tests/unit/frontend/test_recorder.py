"""The record of calls: what a line says, how the file is bounded, and what a disk or a crash does to it."""

import asyncio
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from lambent_chassis.clock import monotonic_s
from lambent_frontend.recorder import HEADER, MOST_UNWRITTEN, Ended, Recorder

BIG = 1_000_000


def ended(number: int = 0, running_ms: float | None = 12.5) -> Ended:
    return Ended(monotonic_s() + number, "f", 128, running_ms, "cold", 30.25, 20.0, "succeeded")


def lines(path: Path) -> list[str]:
    first, *rest = path.read_text().splitlines(keepends=True)
    assert first == HEADER
    return rest


def test_a_line_says_when_a_call_came_and_what_became_of_it(tmp_path: Path) -> None:
    """Unix time, however the clock of the host is set afterwards; what is not known is empty."""
    path = tmp_path / "calls.csv"
    recorder = Recorder(path, BIG, unix_s=lambda: 1000.0)
    recorder.add(ended())
    recorder.add(ended(60, running_ms=None))
    recorder.flush()
    (at, first), (later, second) = (line.split(",", 1) for line in lines(path))
    assert first == "f,128,12.50,cold,30.25,20.00,succeeded\n"
    assert second == "f,128,,cold,30.25,20.00,succeeded\n"
    assert float(at) == pytest.approx(1000.0, abs=30.0)
    assert float(later) - float(at) == pytest.approx(60.0, abs=30.0)


def test_it_goes_on_where_it_was(tmp_path: Path) -> None:
    """Another start adds to the file, and ends the line that a crash has cut."""
    path = tmp_path / "calls.csv"
    for _ in range(2):
        recorder = Recorder(path, BIG)
        recorder.add(ended())
        recorder.flush()
    with path.open("a") as file:
        file.write("123.4,f,1")
    recorder = Recorder(path, BIG)
    recorder.add(ended())
    recorder.flush()
    assert [line.count(",") for line in lines(path)] == [7, 7, 2, 7]


def test_a_file_that_is_something_else_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "letters.txt"
    path.write_text("Dear Sir,\n")
    with pytest.raises(ValueError, match="no record of calls"):
        Recorder(path, BIG)
    assert path.read_text() == "Dear Sir,\n"


def test_the_file_is_put_aside_at_its_size(tmp_path: Path) -> None:
    """One older file is kept, and each has the header."""
    path = tmp_path / "calls.csv"
    recorder = Recorder(path, 150)
    for number in range(5):
        recorder.add(ended(number))
        recorder.flush()
    assert sorted(it.name for it in tmp_path.iterdir()) == ["calls.csv", "calls.csv.1"]
    assert (len(lines(path)), len(lines(tmp_path / "calls.csv.1"))) == (1, 2)


def test_a_disk_that_takes_nothing_costs_the_record_alone(tmp_path: Path) -> None:
    """It is said how much is missing, and what comes later is written again."""
    folder = tmp_path / "disk"
    folder.mkdir()
    path = folder / "calls.csv"
    recorder = Recorder(path, BIG)
    folder.rename(tmp_path / "away")
    recorder.add(ended())
    with capture_logs() as said:
        recorder.flush()
    assert [it["event"] for it in said] == ["record_not_written", "calls_not_recorded"]
    assert said[1]["calls"] == 1
    (tmp_path / "away").rename(folder)
    recorder.add(ended())
    recorder.flush()
    assert len(lines(path)) == 1


def test_what_comes_faster_than_it_is_written_is_dropped(tmp_path: Path) -> None:
    """Memory is bounded, and the log says how many are missing."""
    path = tmp_path / "calls.csv"
    recorder, one = Recorder(path, BIG), ended()
    for _ in range(MOST_UNWRITTEN + 3):
        recorder.add(one)
    with capture_logs() as said:
        recorder.flush()
    assert [(it["event"], it["calls"]) for it in said] == [("calls_not_recorded", 3)]
    assert len(lines(path)) == MOST_UNWRITTEN


async def test_what_was_added_is_written_at_the_end(tmp_path: Path) -> None:
    """A frontend that stops leaves a whole record."""
    path = tmp_path / "calls.csv"
    recorder = Recorder(path, BIG)
    running = asyncio.create_task(recorder.run())
    await asyncio.sleep(0)
    recorder.add(ended())
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert len(lines(path)) == 1


def test_a_file_that_was_moved_away_is_begun_anew(tmp_path: Path) -> None:
    """As logrotate does: each has its header, and no call is lost."""
    path, moved = tmp_path / "calls.csv", tmp_path / "yesterday.csv"
    recorder = Recorder(path, BIG)
    recorder.add(ended())
    recorder.flush()
    path.rename(moved)
    recorder.add(ended())
    recorder.flush()
    assert (len(lines(moved)), len(lines(path))) == (1, 1)
