"""Processes that others are made of, and what is told of one that did not start."""

import json
from pathlib import Path

import pytest

from lambent.children import NotStarted, PartChild, last_lines


async def test_a_start_that_the_host_refuses_is_one_that_failed(tmp_path: Path) -> None:
    """As with a full disk, or no process left: it is said, and tried again, and ends nobody else."""
    child = PartChild("worker", "worker-1", None, tmp_path / "away" / "worker-1.log", {})
    with pytest.raises(NotStarted, match="worker-1 did not start: No such file or directory"):
        await child.start()


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        pytest.param(
            json.dumps(
                {
                    "reason": "OSError: port taken",
                    "exception": [{"x": 1}],
                    "event": "part_failed",
                    "level": "error",
                }
            ),
            "error part_failed reason=OSError: port taken",
            id="a line of JSON",
        ),
        pytest.param("Traceback (most recent call last):", "Traceback (most recent call last):", id="words"),
        pytest.param("[1, 2]", "[1, 2]", id="JSON that is no line of a log"),
        pytest.param('{"level": "info"}', '{"level": "info"}', id="nor this"),
    ],
)
def test_the_end_of_a_log_is_for_people(tmp_path: Path, written: str, shown: str) -> None:
    """Whole lines, without what tools need."""
    log = tmp_path / "part.log"
    log.write_text("".join(f"line {n}\n" for n in range(20)) + written + "\n")
    told = last_lines(log).splitlines()
    assert (told[0], told[1], told[-1]) == (f"The end of {log}:", "  line 13", f"  {shown}")
