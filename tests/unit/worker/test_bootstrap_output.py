"""What a function prints, and the JSON of its answers, as the runtime of an instance writes them."""

import io
import sys

import pytest

from lambent_worker.runtimes.python.bootstrap import output
from lambent_worker.runtimes.python.bootstrap.wire import decode, encode


def _beneath(monkeypatch: pytest.MonkeyPatch) -> io.BytesIO:
    """What reaches the pipe of an instance whose standard output and error are ours, from here on."""
    pipe = io.BytesIO()
    ours = output.Output(io.BufferedWriter(pipe), "utf-8", line_buffering=True)
    monkeypatch.setattr(sys, "stdout", ours)
    monkeypatch.setattr(sys, "stderr", ours)
    return pipe


def test_half_a_line_is_flushed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A line without an end is in the pipe after a flush, in the first call and in later ones."""
    beneath = _beneath(monkeypatch)
    sys.stdout.write("one")
    output.flush()
    assert beneath.getvalue() == b"one"
    sys.stdout.write("two")
    output.flush()
    assert beneath.getvalue() == b"onetwo"


def test_what_is_written_beneath_is_flushed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes written to a buffer that the function has kept are flushed in every later call."""
    beneath = _beneath(monkeypatch)
    buffer = sys.stdout.buffer
    for count in (1, 2, 3):
        buffer.write(b"x")
        output.flush()
        assert beneath.getvalue() == b"x" * count


def test_an_answer_that_failed_spoils_no_other() -> None:
    """A container that could not be encoded once can be, after it was put right."""
    answer: dict[str, object] = {}
    answer["itself"] = answer
    with pytest.raises(ValueError, match="Circular reference"):
        encode(answer)
    answer["itself"] = [1.5, "é", None]
    assert encode(answer) == '{"itself":[1.5,"é",null]}'


@pytest.mark.parametrize("text", ["", " ", "1 2", "{", "[1,]"])
def test_what_is_no_json_is_refused(text: str) -> None:
    """A document that is none, or two, is a ValueError."""
    with pytest.raises(ValueError, match="line 1"):
        decode(text)


def test_spaces_around_a_document_are_allowed() -> None:
    """Spaces before and behind a document do not matter."""
    assert decode(' {"a": 1}\n') == {"a": 1}
