"""Frames under any cut and any damage come back as sent, or the peer is refused. Nothing else happens."""

import contextlib
import tracemalloc

import msgpack
from hypothesis import given, settings
from hypothesis import strategies as st

from lambent_proto.frames import (
    MAX_FRAME_BYTES,
    PIECE_BYTES,
    TO_FRONTEND,
    TO_WORKER,
    Answer,
    BadFrame,
    Begun,
    Bye,
    Decoder,
    Event,
    Frame,
    Hello,
    Lost,
    Part,
    Ready,
    Refused,
    Taken,
    Unheard,
    encode,
)

ids = st.text(max_size=40)
unsigned = st.integers(0, 2**64 - 1)
milliseconds = st.floats(0, 1e9)
# Around the cut the exact bytes matter, so large payloads are a pattern and not dice for every byte.
payloads = st.binary(max_size=300) | st.builds(
    lambda size, fill: bytes([fill]) * size,
    st.integers(PIECE_BYTES - 2, 3 * PIECE_BYTES),
    st.integers(0, 255),
)
events = st.builds(Event, ids, ids, unsigned, unsigned, ids, ids, st.booleans(), payloads, unsigned)
from_frontend = events | st.builds(Taken, ids, st.integers(1, 2**64 - 1)) | st.builds(Unheard, ids)
answers = st.builds(Answer, ids, st.booleans(), milliseconds, st.none() | st.binary(max_size=4096), payloads)
from_worker = (
    answers
    | st.builds(Refused, ids, ids)
    | st.builds(Lost, ids, ids)
    | st.builds(Ready, ids, unsigned, milliseconds, milliseconds)
    | st.builds(Bye)
    | st.builds(Begun, ids, ids)
    | st.builds(Part, ids, st.binary(min_size=1, max_size=300))
)


def wire(frames: list[Frame]) -> bytes:
    encoded = [encode(frame) for frame in frames]
    return b"".join(part if isinstance(part, bytes) else b"".join(part) for part in encoded)


def cut(stream: bytes, points: list[float]) -> list[bytes]:
    at = sorted(int(point * len(stream)) for point in points)
    return [stream[begin:end] for begin, end in zip([0, *at], [*at, len(stream)], strict=True)]


fractions = st.lists(st.floats(0, 1), max_size=12)


@given(st.lists(from_frontend, max_size=6), fractions)
def test_events_come_back_however_the_stream_is_cut(sent: list[Frame], points: list[float]) -> None:
    """What a frontend sends is what the worker sees, in order."""
    decoder = Decoder(TO_WORKER)
    stream = wire([Hello("f"), *sent])
    assert [f for data in cut(stream, points) for f in decoder.feed(data)] == [Hello("f"), *sent]


@given(st.lists(from_worker, max_size=6), fractions)
def test_answers_come_back_however_the_stream_is_cut(sent: list[Frame], points: list[float]) -> None:
    """What a worker sends is what the frontend sees, in order."""
    decoder = Decoder(TO_FRONTEND)
    stream = wire([Hello("w"), *sent])
    assert [f for data in cut(stream, points) for f in decoder.feed(data)] == [Hello("w"), *sent]


def feed_all(decoder: Decoder, parts: list[bytes]) -> None:
    """Only frames and BadFrame may come out; anything else fails the test."""
    with contextlib.suppress(BadFrame):
        for data in parts:
            for frame in decoder.feed(data):
                assert isinstance(frame, Frame)


damages = st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=8)


@settings(max_examples=300)
@given(
    st.lists(from_worker | from_frontend, min_size=1, max_size=5),
    damages,
    fractions,
    st.floats(0, 1),
    st.booleans(),
)
def test_a_damaged_stream_gives_frames_or_bad_frame(
    sent: list[Frame], damage: list[tuple[float, int]], points: list[float], kept: float, worker: bool
) -> None:
    """Bytes changed, the end cut off, the wrong kinds for the side: no other exception, ever."""
    stream = bytearray(wire([Hello("p"), *sent]))
    for where, value in damage:
        stream[int(where * len(stream))] = value
    feed_all(
        Decoder(TO_WORKER if worker else TO_FRONTEND),
        cut(bytes(stream[: int(kept * len(stream)) + 1]), points),
    )


values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=20) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=25,
)


def heads(kind: int) -> st.SearchStrategy[bytes]:
    return st.lists(values, max_size=9).map(lambda rest: bytes(msgpack.packb([kind, *rest])))


@settings(max_examples=500)
@given(
    st.lists(st.tuples(st.integers(0, 12).flatmap(heads) | st.binary(), st.binary(max_size=50)), max_size=5),
    st.booleans(),
)
def test_any_head_gives_frames_or_bad_frame(frames: list[tuple[bytes, bytes]], worker: bool) -> None:
    """Well framed nonsense: any msgpack or any bytes in the place of the head."""
    stream = wire([Hello("p")])
    for head, body in frames:
        stream += (2 + len(head) + len(body)).to_bytes(4, "big") + len(head).to_bytes(2, "big") + head + body
    feed_all(Decoder(TO_WORKER if worker else TO_FRONTEND), [stream])


@settings(max_examples=20, deadline=None)
@given(st.binary(min_size=1, max_size=3))
def test_a_frame_that_never_ends_holds_no_more_than_a_frame(fill: bytes) -> None:
    """A peer that announces the largest frame and trickles: what is kept is bounded by that frame."""
    decoder = Decoder(TO_WORKER)
    list(decoder.feed(wire([Hello("p")]) + MAX_FRAME_BYTES.to_bytes(4, "big") + b"\xff\xff"))
    tracemalloc.start()
    try:
        for _ in range(1000):
            assert list(decoder.feed(fill * 100)) == []
        assert tracemalloc.get_traced_memory()[0] < 2 * MAX_FRAME_BYTES
    finally:
        tracemalloc.stop()
