"""Frames on the channel to an instance, cut wherever the stream may cut them."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lambent_proto.ids import MAX_PAYLOAD_BYTES
from lambent_worker.channel import LONGEST_HEAD, BrokenFrame, Frames, event_frame, frame
from lambent_worker.runtimes.python.bootstrap import wire

HEADS = st.lists(st.one_of(st.text(max_size=20), st.integers(0, 2**40)), min_size=1, max_size=5)


@given(
    sent=st.lists(st.tuples(HEADS, st.binary(max_size=200)), max_size=6), cuts=st.lists(st.integers(1, 50))
)
def test_frames_survive_any_cutting(sent: list[tuple[list[object], bytes]], cuts: list[int]) -> None:
    stream = b"".join(frame(head, body) for head, body in sent)
    frames, got, at = Frames(), [], 0
    for size in cuts:
        got += list(frames.feed(stream[at : at + size]))
        at = min(at + size, len(stream))
    got += list(frames.feed(stream[at:]))
    assert got == sent


TEXTS = st.tuples(st.text(), st.text(), st.text(), st.text())


@given(texts=TEXTS, deadline_ms=st.integers(0), body=st.binary())
def test_an_event_is_a_frame_like_any_other(
    texts: tuple[str, str, str, str], deadline_ms: int, body: bytes
) -> None:
    """The short way to write one gives what the long way gives, whatever is in its texts."""
    request_id, arn, client_context, trace = texts
    head: list[object] = ["event", request_id, deadline_ms, arn, client_context, trace]
    assert event_frame(request_id, deadline_ms, arn, client_context, trace, body) == frame(head, body)


def test_the_layout_is_the_documented_one() -> None:
    """u32 size of the rest, u16 size of the head, the head in JSON, the body as it is."""
    assert frame(["ready"], b"\x00\xff") == b"\x00\x00\x00\x0d" + b"\x00\x09" + b'["ready"]' + b"\x00\xff"


@pytest.mark.parametrize(
    "stream",
    [
        pytest.param(b"\xff\xff\xff\xff\x00\x02[]", id="larger than any answer"),
        pytest.param(
            (2 + LONGEST_HEAD + MAX_PAYLOAD_BYTES + 1).to_bytes(4, "big") + b"\x00\x02[]",
            id="a byte too large",
        ),
        pytest.param(b"\x00\x00\x00\x01\x00\x00", id="no room for the head's size"),
        pytest.param(b"\x00\x00\x00\x04\x00\x03[]", id="head beyond its frame"),
        pytest.param(b"\x00\x00\x00\x04\x00\x02{}", id="an object"),
        pytest.param(b"\x00\x00\x00\x04\x00\x02[]", id="an empty array"),
        pytest.param(b"\x00\x00\x00\x04\x00\x02\xff\xff", id="no UTF-8"),
        pytest.param(b"\x00\x00\x07\xd2\x07\xd0" + b"[" * 2000, id="too deep"),
    ],
)
def test_a_frame_that_can_never_be_right_is_refused_at_once(stream: bytes) -> None:
    with pytest.raises(BrokenFrame):
        list(Frames().feed(stream))


def test_the_largest_frame_is_taken() -> None:
    frames = Frames()
    body = bytes(MAX_PAYLOAD_BYTES)
    data = frame(["answer", "r"], body)
    got = [got for at in range(0, len(data), 65_536) for got in frames.feed(data[at : at + 65_536])]
    assert got == [(["answer", "r"], body)]


def test_both_ends_agree_on_the_limit() -> None:
    """The bootstrap cannot import the constant, so it repeats it."""
    assert wire.MAX_PAYLOAD_BYTES == MAX_PAYLOAD_BYTES
    assert json.loads(wire.encode({"a": "é"})) == {"a": "é"}
