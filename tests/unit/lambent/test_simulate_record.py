"""`lambent simulate` over records of calls: how they are told from other traces, read and compared."""

import gzip
import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from lambent.cli import lambent
from lambent.simulate.record import RecordedTrace, read
from lambent.simulate.trace import BrokenTrace
from lambent_chassis.clock import monotonic_s
from lambent_frontend.recorder import HEADER, Ended, Recorder

ROWS = """\
1003.5,g,256,20,cold,31.5,30,succeeded
1000.0,f,128,100,cold,42,40,succeeded
1001.0,f,128,300,warm,0,0,function_error
1061.0,f,192,,,0,0,throttled
"""


def record(path: Path, rows: str = ROWS, header: str = HEADER) -> Path:
    path.write_text(header + rows)
    return path


def traced(path: Path) -> RecordedTrace:
    trace = read(path)
    assert isinstance(trace, RecordedTrace)
    return trace


def test_calls_are_taken_as_they_were(tmp_path: Path) -> None:
    """From the first one on; what never ran takes what its function does; memory is the last."""
    trace = traced(record(tmp_path / "calls.csv"))
    assert [(it.at, it.function, it.duration_s) for it in trace.invocations(seed=1)] == [
        (0.0, 1, 0.1),
        (1.0, 1, 0.3),
        (3.5, 0, 0.02),
        (61.0, 1, 0.2),
    ]
    assert [(it.name, it.memory_mb) for it in trace.functions] == [("g", 256), ("f", 192)]
    assert (trace.minutes, len(trace.invocations(1, minutes=1))) == (2, 3)


def test_what_the_fleet_made_of_them(tmp_path: Path) -> None:
    """Beside the policies: its cold starts, what waited, what was refused; of its memory nothing is known."""
    trace = traced(record(tmp_path / "calls.csv"))
    figures = trace.figures(0.0, None)
    assert (figures.policy, figures.calls, figures.cold, figures.throttled) == ("recorded", 3, 2, 1)
    assert (figures.wait_p50_ms, figures.idle_gb_h, figures.starts) == (42.0, None, None)
    assert trace.figures(0.0, minutes=1).throttled == 0
    assert trace.cold_s == pytest.approx(0.035)
    assert trace.starts_s == pytest.approx((0.04, 0.03))


def test_four_columns_are_a_trace(tmp_path: Path) -> None:
    """In any order, from whoever knows their calls; nothing is said of what became of them."""
    header, rows = "function,running_ms,memory_mb,at_s,colour\n", "f,5,128,7,red\nf,5,128,9,blue\n"
    trace = traced(record(tmp_path / "calls.csv", rows, header))
    assert [it.at for it in trace.invocations(1)] == [0.0, 2.0]
    assert (trace.seen, trace.cold_s) == ([], None)


def test_the_records_of_a_folder_are_one_trace(tmp_path: Path) -> None:
    """Of several frontends, older ones, packed ones; what is no record is passed over."""
    record(tmp_path / "calls.csv", "1010.0,f,128,1,warm,0,0,succeeded\n")
    record(tmp_path / "calls.csv.1", "1000.0,f,128,1,cold,1,1,succeeded\n")
    packed = gzip.compress((HEADER + "1005.0,g,128,1,cold,1,1,succeeded\n").encode())
    (tmp_path / "other.csv.gz").write_bytes(packed)
    (tmp_path / "README.md").write_text("Of last night.\n")
    (tmp_path / "broken.gz").write_bytes(packed[:12])
    trace = traced(tmp_path)
    assert [it.at for it in trace.invocations(1)] == [0.0, 5.0, 10.0]
    assert [it.name for it in trace.functions] == ["f", "g"]


def test_a_line_that_a_crash_has_cut_is_passed_over(tmp_path: Path) -> None:
    trace = traced(record(tmp_path / "calls.csv", ROWS + "1070.0,f,1"))
    assert len(trace.invocations(1)) == 4


@pytest.mark.parametrize(
    ("header", "rows", "words"),
    [
        ("at_s,function,running_ms\n", "1,f,2\n", "does not name memory_mb"),
        (HEADER, "", "has no call"),
        (HEADER, "1,f,128,long,warm,0,0,succeeded\n", "'long' of 'f', running_ms, is no number"),
        (HEADER, ",f,128,1,warm,0,0,succeeded\n", "a call of 'f' has no at_s"),
    ],
)
def test_a_broken_record_is_refused(tmp_path: Path, header: str, rows: str, words: str) -> None:
    """With the file and what is wrong with it."""
    with pytest.raises(BrokenTrace, match=words):
        read(record(tmp_path / "calls.csv", rows, header))


def test_the_command_reads_what_the_recorder_wrote(tmp_path: Path) -> None:
    """The same calls for every policy, and what the fleet made of them first."""
    recorder = Recorder(tmp_path / "calls.csv", 1_000_000)
    for number in range(20):
        start = "warm" if number else "cold"
        recorder.add(Ended(monotonic_s() + number, "f", 128, 5.0, start, 0.0, 0.0, "succeeded"))
    recorder.flush()
    arguments = ["--trace", str(tmp_path / "calls.csv"), "--policy", "lru", "--warm-up", "0", "--json"]
    done = CliRunner().invoke(lambent, ["simulate", *arguments, "--html", str(tmp_path / "page.html")])
    assert done.exit_code == 0, done.output
    seen, simulated = json.loads(done.stdout)
    assert [it["policy"] for it in (seen, simulated)] == ["recorded", "lru"]
    assert [(it["calls"], it["cold"]) for it in (seen, simulated)] == [(20, 1), (20, 1)]
    table = CliRunner().invoke(lambent, ["simulate", *arguments[:-1]])
    assert "recorded" in table.stdout
