"""The frame codec: docs/frames.md is true, payloads come back whole, and every lie is named."""

import re
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import msgpack
import pytest

from lambent_proto.frames import (
    MAX_FRAME_BYTES,
    MAX_PARTIAL_PAYLOADS,
    PIECE_BYTES,
    TO_FRONTEND,
    TO_WORKER,
    WINDOW_BYTES,
    Answer,
    BadFrame,
    Decoder,
    Event,
    Frame,
    Hello,
    Part,
    Ready,
    Refused,
    encode,
)
from lambent_proto.ids import MAX_PAYLOAD_BYTES, InstanceId, LeaseNumber, RequestId
from lambent_proto.protocol import PROTOCOL

DOCS = Path(__file__).parents[3] / "docs" / "frames.md"


def event(request_id: str = "r1", payload: bytes = b"{}") -> Event:
    return Event(RequestId(request_id), InstanceId("i-1"), LeaseNumber(7), 3000, "arn", "", True, payload)


def answer(request_id: str = "r1", payload: bytes = b"{}") -> Answer:
    return Answer(RequestId(request_id), False, 1.5, b"END", payload)


def wire(frame: Frame) -> list[bytes]:
    encoded = encode(frame)
    return [encoded] if isinstance(encoded, bytes) else list(encoded)


def raw(head: object, body: bytes = b"") -> bytes:
    packed: bytes = head if isinstance(head, bytes) else msgpack.packb(head)
    return struct.pack(">IH", 2 + len(packed) + len(body), len(packed)) + packed + body


def greeted(accepts: frozenset[int]) -> Decoder:
    decoder = Decoder(accepts)
    assert list(decoder.feed(raw([1, 1, "peer"]))) == [Hello("peer")]
    return decoder


def test_the_documented_example_is_what_is_sent() -> None:
    """The hex in docs/frames.md is the encoder's output for the frames that the page describes."""
    block = re.search(r"```hex\n(.*?)```", DOCS.read_text(), re.DOTALL)
    assert block is not None
    documented = bytes.fromhex("".join(line[:46] for line in block[1].splitlines()))
    example = Event(RequestId("r1"), InstanceId("i-7"), LeaseNumber(5), 3000, "a", "", False, b'{"n":1}')
    assert documented == b"".join(wire(Hello("f@1")) + wire(example))
    assert list(Decoder(TO_WORKER).feed(documented)) == [Hello("f@1"), example]


def test_the_documented_limits_are_the_code_s() -> None:
    """The numbers on the page are the constants."""
    page = DOCS.read_text()
    for limit in (MAX_FRAME_BYTES, PIECE_BYTES, MAX_PAYLOAD_BYTES, WINDOW_BYTES):
        assert f"{limit:,}" in page
    assert MAX_PARTIAL_PAYLOADS == 8


@pytest.mark.parametrize("size", [0, 1, PIECE_BYTES, PIECE_BYTES + 1, 3 * PIECE_BYTES, MAX_PAYLOAD_BYTES])
@pytest.mark.parametrize(("make", "accepts"), [(event, TO_WORKER), (answer, TO_FRONTEND)])
def test_a_payload_of_any_size_comes_back_whole(
    make: Callable[[str, bytes], Frame], accepts: frozenset[int], size: int
) -> None:
    """Pieces are cut at 256 KiB and put together again; the frame appears once, with its last piece."""
    frame = make("r1", bytes(range(251)) * (size // 251) + b"x" * (size % 251))
    pieces = wire(frame)
    assert len(pieces) == max(1, -(-size // PIECE_BYTES))
    assert all(len(piece) <= 4 + MAX_FRAME_BYTES for piece in pieces)
    decoder = greeted(accepts)
    seen = [list(decoder.feed(piece)) for piece in pieces]
    assert seen == [[]] * (len(pieces) - 1) + [[frame]]


def test_a_trace_makes_an_event_longer_and_nothing_else_does() -> None:
    """What a release before traces sends is read, and without one what it can read is sent."""
    plain, traced = event(), event()._replace(trace="Root=1", window=0)
    fields = [2, "r1", "i-1", 7, 3000, "arn", "", True, 2]
    assert wire(plain) == [raw(fields, b"{}")]
    assert wire(traced) == [raw([*fields, 0, "Root=1"], b"{}")]
    decoder = greeted(TO_WORKER)
    assert list(decoder.feed(wire(plain)[0] + raw([*fields, 9], b"{}"))) == [plain, plain._replace(window=9)]
    assert list(decoder.feed(wire(traced)[0])) == [traced]
    with pytest.raises(BadFrame):
        list(decoder.feed(raw([*fields, 0, b"Root=1"], b"{}")))


def test_a_payload_above_the_limit_is_never_sent() -> None:
    """Encoding is refused, rather than the peer's closing the connection under everybody else's calls."""
    with pytest.raises(ValueError, match="6291557"):
        encode(event(payload=bytes(MAX_PAYLOAD_BYTES + 1)))


def test_payloads_in_pieces_may_overlap() -> None:
    """Pieces of two requests in turn, a small frame between: each is complete with its own last piece."""
    one, two = event("r1", b"1" * (2 * PIECE_BYTES)), event("r2", b"2" * (2 * PIECE_BYTES))
    (one_first, one_last), (two_first, two_last) = wire(one), wire(two)
    decoder = greeted(TO_WORKER)
    small = event("r3")
    stream = b"".join([one_first, two_first, *wire(small), two_last, one_last])
    assert list(decoder.feed(stream)) == [small, two, one]


def test_a_request_may_come_again_once_it_was_complete() -> None:
    """Reassembly forgets a request with its last piece."""
    decoder = greeted(TO_WORKER)
    large = event("r1", b"1" * (PIECE_BYTES + 1))
    stream = b"".join(wire(large) * 2)
    assert list(decoder.feed(stream)) == [large, large]


def begun(count: int) -> Iterator[bytes]:
    return (raw([3, f"r{n}", False, 1.0, None, 10], b"first") for n in range(count))


LIES_TO_FRONTEND = [
    pytest.param(
        [struct.pack(">I", MAX_FRAME_BYTES + 1) + b"\0\0"], "327682 bytes", id="size over the limit"
    ),
    pytest.param([struct.pack(">IH", 10, 9) + bytes(9)], "head of 9", id="head larger than its frame"),
    pytest.param([struct.pack(">IH", 0, 0)], "head of 0", id="no room for the head's size"),
    pytest.param([raw(b"")], "not what it should be", id="empty head"),
    pytest.param([raw(b"\xc1")], "not what it should be", id="not msgpack"),
    pytest.param([raw(b"\x92\x05")], "not what it should be", id="head cut short"),
    pytest.param([raw(b"\x93\x05\xa1r\xa1\xff")], "not what it should be", id="not UTF-8"),
    pytest.param([raw([5, "r", "x"]) + raw(b"\x90")], "begins with the frame's kind", id="empty array"),
    pytest.param([raw({})], "begins with the frame's kind", id="a map"),
    pytest.param([raw({"a": 1})], "not what it should be", id="a map with something in it"),
    pytest.param([raw(["5", "r", "x"])], "begins with the frame's kind", id="kind is text"),
    pytest.param([raw([13, "r"])], "kind 13", id="unknown kind"),
    pytest.param([raw([2, "r", "i", 1, 1, "a", "", False, 0])], "kind EVENT", id="an EVENT to a frontend"),
    pytest.param([raw([5, "r"])], "REFUSED with fields", id="too few fields"),
    pytest.param([raw([5, "r", "x", 1])], "REFUSED with fields", id="too many fields"),
    pytest.param([raw([5, "r", "x"], b"?")], "REFUSED with fields", id="a body where none belongs"),
    pytest.param([raw([6, "i", -1, 1.0, 1.0])], "READY with fields", id="a negative lease number"),
    pytest.param([raw([6, "i", 1, 1, 1.0])], "READY with fields", id="an integer for a float"),
    pytest.param([raw([3, "r", 0, 1.0, None, 0])], "ANSWER with fields", id="an integer for a bool"),
    pytest.param([raw([3, "r", False, 1.0, "t", 0])], "ANSWER with fields", id="a tail of text"),
    pytest.param([raw([3, "r", False, 1.0, None, 1], b"12")], "first piece of 2 bytes", id="more than total"),
    pytest.param([raw([3, "r", False, 1.0, None, -1], b"1")], "payload of -1", id="negative total"),
    pytest.param([raw([3, "r", False, 1.0, None, 5])], "first piece of 0 bytes", id="empty first piece"),
    pytest.param(
        [raw([3, "r", False, 1.0, None, MAX_PAYLOAD_BYTES + 1], b"1")],
        "limit is 6291556",
        id="total too large",
    ),
    pytest.param([raw([4, "r"], b"x")], "nothing is missing", id="a CHUNK of nothing"),
    pytest.param([raw([4, 5], b"x")], "CHUNK with fields", id="a CHUNK without a request"),
    pytest.param([*begun(1), raw([4, "r0"], b"123456")], "where 5 are missing", id="a CHUNK too large"),
    pytest.param([*begun(1), raw([4, "r0"])], "CHUNK of 0 bytes", id="an empty CHUNK"),
    pytest.param([*begun(1), *begun(1)], "begins again", id="an ANSWER twice"),
    pytest.param([*begun(9)], "more than 8", id="a ninth incomplete payload"),
    pytest.param([raw([1, 1, "p"])], "second time", id="HELLO twice"),
    pytest.param([raw([9, "r"])], "BEGUN with fields", id="a BEGUN of no type"),
    pytest.param([raw([10, "r"])], "PART with fields", id="an empty PART"),
    pytest.param([raw([10, 5], b"x")], "PART with fields", id="a PART of no request"),
    pytest.param([raw([10, "r"], bytes(PIECE_BYTES + 1))], "PART with fields", id="a PART too large"),
    pytest.param([raw([11, "r", 1])], "kind TAKEN", id="a TAKEN to a frontend"),
]


@pytest.mark.parametrize(("stream", "reason"), LIES_TO_FRONTEND)
def test_a_lie_is_named(stream: list[bytes], reason: str) -> None:
    """Each breach of the format ends in a BadFrame that says which one it was."""
    decoder = greeted(TO_FRONTEND)
    with pytest.raises(BadFrame, match=reason):
        list(decoder.feed(b"".join(stream)))


LIES_TO_WORKER = [
    pytest.param(raw([11, "r", 0]), "TAKEN with fields", id="nothing is taken"),
    pytest.param(raw([11, "r", -1]), "TAKEN with fields", id="less than nothing is taken"),
    pytest.param(raw([12, "r", 1]), "UNHEARD with fields", id="too many fields"),
    pytest.param(raw([10, "r"], b"x"), "kind PART", id="a PART to a worker"),
    pytest.param(raw([2, "r", "i", 1, 1, "a", "", False, 0, -1]), "EVENT with fields", id="no window"),
    pytest.param(raw([2, "r", "i", 1, 1, "a", "", False, 0, 9, 9]), "EVENT with fields", id="too much"),
]


@pytest.mark.parametrize(("stream", "reason"), LIES_TO_WORKER)
def test_a_frontend_s_lie_is_named(stream: bytes, reason: str) -> None:
    """The same, the other way."""
    with pytest.raises(BadFrame, match=reason):
        list(greeted(TO_WORKER).feed(stream))


def test_an_event_without_a_window_is_what_it_always_was() -> None:
    """Nine fields: a worker of an older release takes no tenth, and is sent none."""
    (plain,) = wire(event())
    (streamed,) = wire(event()._replace(window=WINDOW_BYTES))
    assert len(msgpack.unpackb(plain[6 : 6 + int.from_bytes(plain[4:6], "big")])) == 9
    assert len(msgpack.unpackb(streamed[6 : 6 + int.from_bytes(streamed[4:6], "big")])) == 10
    decoder = greeted(TO_WORKER)
    assert [it for data in (plain, streamed) for it in decoder.feed(data)] == [
        event(),
        event()._replace(window=WINDOW_BYTES),
    ]


@pytest.mark.parametrize("size", [0, PIECE_BYTES + 1])
def test_a_part_that_no_frontend_would_take_is_never_sent(size: int) -> None:
    with pytest.raises(ValueError, match=f"{size} bytes"):
        encode(Part(RequestId("r1"), bytes(size)))


def test_an_event_twice_is_refused() -> None:
    """A second EVENT of a request whose first one is incomplete."""
    first = raw([2, "r", "i", 1, 1, "a", "", False, 10], b"12")
    with pytest.raises(BadFrame, match="begins again"):
        list(greeted(TO_WORKER).feed(first * 2))


@pytest.mark.parametrize(
    ("first", "reason"),
    [
        (raw([2, "r", "i", 1, 1, "a", "", False, 0]), "first frame is EVENT"),
        (raw([1, PROTOCOL + 1, "peer"]), f"protocol {PROTOCOL + 1}, and this side speaks {PROTOCOL}"),
        (raw([1, PROTOCOL + 2, "peer"]), "too far apart to work together. Upgrade this part"),
        (raw([1, 0, "peer"]), "protocol 0"),
        (raw([1, 1]), "HELLO with fields"),
        (b"GET / HTTP/1.1\r\nHost: worker\r\n\r\n", "bytes; the limit is"),
    ],
)
def test_a_stranger_is_refused_at_once(first: bytes, reason: str) -> None:
    """What does not begin with our HELLO is refused by its first frame."""
    with pytest.raises(BadFrame, match=reason):
        list(Decoder(TO_WORKER).feed(first))


def test_frames_before_a_lie_are_not_lost() -> None:
    """An answer that came in order counts, though the next frame ends the connection."""
    frames = greeted(TO_FRONTEND).feed(b"".join(wire(answer())) + raw([13]))
    assert next(frames) == answer()
    with pytest.raises(BadFrame):
        next(frames)


def test_a_head_of_nested_arrays_reserves_nothing() -> None:
    """21,000 arrays of 65,535 elements each, announced in 64 KB, are refused by the first."""
    with pytest.raises(BadFrame, match="exceeds max_array_len"):
        list(greeted(TO_WORKER).feed(raw(b"\xdc\xff\xff" * 21_000)))


@pytest.mark.parametrize(
    "frame",
    [Refused(RequestId("r1"), "old lease"), Ready(InstanceId("i-1"), LeaseNumber(2**63), 3, 4.5), answer()],
)
def test_frames_of_a_worker_byte_by_byte(frame: Frame) -> None:
    """However the stream is cut, the frame comes once, with its last byte."""
    decoder = greeted(TO_FRONTEND)
    *most, last = b"".join(wire(frame))
    assert [f for byte in most for f in decoder.feed(bytes([byte]))] == []
    assert list(decoder.feed(bytes([last]))) == [frame]
