"""What operators and their log pipelines read. In processes of its own: logging is set up once in each."""

import json
import subprocess
import sys
from typing import Any

import pytest

SAY = """
import logging
import structlog
from lambent_chassis import logs
logs.configure({level!r}, {form!r}, part="worker", name="w1")
structlog.get_logger().debug("quiet_thing")
if {forged}:
    structlog.get_logger().info("audit", resource="f\\n2026-01-01T00:00:00Z [info] forged", peer="\\x1b[2J")
    logging.getLogger("library").warning("told\\nforged")
structlog.get_logger().info("instance_started", instance="i-1", memory_mb=128)
logging.getLogger("library").warning("gone %s", "wrong")
logging.getLogger("library").info("chatter")
def fail(password):
    1 / 0
try:
    fail("swordfish")
except ZeroDivisionError as error:
    structlog.get_logger().error("part_failed", exc_info=error)
"""


def said(level: str, form: str, *, forged: bool = False) -> str:
    program = SAY.format(level=level, form=form, forged=forged)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == ""
    return done.stderr


@pytest.fixture(scope="module")
def lines() -> list[dict[str, Any]]:
    """With the format left to itself, where standard error is no terminal."""
    return [json.loads(line) for line in said("info", "auto").splitlines()]


def test_one_object_a_line(lines: list[dict[str, Any]]) -> None:
    """Event, level, time, context and fields are keys of one JSON object."""
    started = lines[0]
    assert started.pop("at").endswith("Z")
    assert started == {
        "event": "instance_started",
        "level": "info",
        "part": "worker",
        "name": "w1",
        "instance": "i-1",
        "memory_mb": 128,
    }


def test_levels(lines: list[dict[str, Any]]) -> None:
    """Below the level nothing is said; libraries speak from warnings up."""
    assert [line["event"] for line in lines] == ["instance_started", "gone wrong", "part_failed"]
    assert '"quiet_thing"' in said("debug", "json")


def test_libraries_say_who_they_are(lines: list[dict[str, Any]]) -> None:
    """What comes through the standard logging has the same context, and its logger's name."""
    assert (lines[1]["part"], lines[1]["logger"], lines[1]["level"]) == ("worker", "library", "warning")


def test_tracebacks_are_data(lines: list[dict[str, Any]]) -> None:
    """An exception stays within its one line."""
    assert lines[2]["exception"][0]["exc_type"] == "ZeroDivisionError"


@pytest.mark.parametrize("form", ["json", "console"])
def test_tracebacks_keep_values_to_themselves(form: str) -> None:
    """Functions and lines are shown, what their variables held is not."""
    text = said("info", form)
    assert "fail" in text
    assert "swordfish" not in text.replace('fail("swordfish")', "")  # the line of the program itself


def test_console() -> None:
    """For people: no JSON, no colours where there is no terminal."""
    text = said("info", "console")
    assert "instance_started" in text
    assert "\x1b[" not in text
    with pytest.raises(json.JSONDecodeError):
        json.loads(text.splitlines()[0])


@pytest.mark.parametrize("form", ["json", "console"])
def test_nobody_writes_lines_of_their_own(form: str) -> None:
    """What a stranger sends is in its field's line, whatever it has in it, and moves no terminal's cursor."""
    text = said("info", form, forged=True)
    assert "forged" in text
    assert not [line for line in text.splitlines() if line.startswith("2026-01-01") or line == "forged"]
    assert "\x1b" not in text
