from pathlib import Path

from tests.chaos.callers import Call
from tests.chaos.faults import Fault
from tests.chaos.report import BEGIN, END, Calm, Report, led_again, write_page
from tests.chaos.schedule import Planned


def fault(begin: float, *, leader: bool = False) -> Fault:
    return Fault(Planned(begin, "kill -9", ("placement-1",), 0), begin, begin, leader)


def test_the_page_has_the_last_run_in_the_place_of_the_one_before(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}\n\nold\n\n{END}\nafter\n")
    write_page("new \\1", page)
    assert page.read_text() == f"before\n{BEGIN}\n\nnew \\1\n\n{END}\nafter\n"


def test_what_is_broken_is_told_with_the_calls_of_each_fault() -> None:
    """A fault that is over at once is felt for two seconds."""
    calls = [
        Call("1", "f", 0, 10.5, 11, ""),
        Call("2", "f", 0, 11.5, 12, "Lost"),
        Call("3", "f", 0, 13, 14, ""),
    ]
    report = Report(
        7, 60, ["it broke"], [fault(10)], calls, [], 1, 1, 1, {"f": (1, 1, 1)}, [], [1.0], Calm(1, 0), 0
    )
    assert "Broken promises: 1" in report.table()
    assert "it broke" in report.table()
    assert "| kill -9: placement | 1 |" in report.table()
    assert "1 of 2 answered" in report.table()


def test_a_leader_that_is_lost_is_followed_by_the_next_epoch() -> None:
    assert led_again([fault(10, leader=True), fault(20), fault(30, leader=True)], [1, 12, 25]) == [2]
