"""The data plane's frames, between a frontend and a worker: bytes in, frames out, and back.

`docs/frames.md` gives the format byte by byte. A frame is small; a payload above `PIECE_BYTES` travels in
pieces, the later ones as CHUNK frames, so that other frames go between them. The pieces never leave this
module: the decoder hands out whole events and answers only. An answer that its runtime streams, and its
caller wants as it comes, is another thing: BEGUN, PARTs, and an ANSWER as its end.

Nothing here does I/O. Whatever a peer sends gives frames or `BadFrame`, and holds at most
`MAX_FRAME_BYTES + MAX_PARTIAL_PAYLOADS * MAX_PAYLOAD_BYTES` bytes of memory a connection.
"""

from collections.abc import Callable, Iterator
from struct import Struct
from typing import Any, Final, NamedTuple, Never, assert_never

import msgpack

from lambent_proto.ids import MAX_PAYLOAD_BYTES, InstanceId, LeaseNumber, RequestId
from lambent_proto.protocol import PROTOCOL, apart, common

PIECE_BYTES: Final = 256 * 1024
"""Most bytes of a payload in one frame: one read of asyncio's, about 0.1 ms of a 25 Gbit/s wire."""

MAX_HEAD_BYTES: Final = 0xFFFF
MAX_FRAME_BYTES: Final = 2 + MAX_HEAD_BYTES + PIECE_BYTES
"""Largest value of a frame's size field."""

MAX_PARTIAL_PAYLOADS: Final = 8
"""Most payloads a sender may have begun and not finished on one connection. Further ones wait their turn."""

WINDOW_BYTES: Final = 256 * 1024
"""Bytes of one streamed answer on their way to its caller: as much as goes in a millisecond of a network of
2 Gbit/s, and little enough for thousands of streams that nobody reads."""

MAX_AHEAD_BYTES: Final = PIECE_BYTES
"""How far a worker may go over a window: what one read of its instance brought."""

_HELLO, _EVENT, _ANSWER, _CHUNK, _REFUSED, _READY, _BYE, _LOST = 1, 2, 3, 4, 5, 6, 7, 8
_BEGUN, _PART, _TAKEN, _UNHEARD = 9, 10, 11, 12

TO_WORKER: Final = frozenset({_HELLO, _EVENT, _CHUNK, _TAKEN, _UNHEARD})
"""The kinds that a worker takes: `Decoder(TO_WORKER)`."""

TO_FRONTEND: Final = frozenset({_HELLO, _ANSWER, _CHUNK, _REFUSED, _READY, _BYE, _LOST, _BEGUN, _PART})
"""The kinds that a frontend takes: `Decoder(TO_FRONTEND)`."""

_NAMES: Final = {
    _HELLO: "HELLO",
    _EVENT: "EVENT",
    _ANSWER: "ANSWER",
    _CHUNK: "CHUNK",
    _REFUSED: "REFUSED",
    _READY: "READY",
    _BYE: "BYE",
    _LOST: "LOST",
    _BEGUN: "BEGUN",
    _PART: "PART",
    _TAKEN: "TAKEN",
    _UNHEARD: "UNHEARD",
}

_PREFIX: Final = Struct(">IH")
_PREFIX_BYTES: Final = 6

_pack: Final[Callable[[object], bytes]] = msgpack.Packer().pack


class BadFrame(Exception):
    """The peer broke the format. The connection is of no more use: nothing after it can be trusted."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Hello(NamedTuple):
    """The first frame of each side, and only the first."""

    sender: str
    protocol: int = PROTOCOL
    """Of this connection: the lower of both sides', which the frontend knows from the worker's registration;
    the worker says the same again."""


class Event(NamedTuple):
    """Run this (frontend to worker)."""

    request_id: RequestId
    instance: InstanceId
    number: LeaseNumber
    timeout_ms: int
    """What is left for the function to run, from the moment the worker reads it."""
    arn: str
    client_context: str
    """Base64 of JSON, as the caller gave it; empty if none."""
    tail: bool
    """Whether the answer shall bring the last 4 KB of the log."""
    payload: bytes
    window: int = 0
    """Bytes of a streamed answer that are taken before any TAKEN; 0: the answer is wanted whole."""
    trace: str = ""
    """As `tracing` has it; empty: the caller gave none, and who needs one makes it of the request id."""


class Answer(NamedTuple):
    """How it went (worker to frontend). Of an answer that was BEGUN it is the end, and has what failed in it
    or nothing."""

    request_id: RequestId
    failed: bool
    """The function failed: the payload is Lambda's error document."""
    running_ms: float
    tail: bytes | None
    payload: bytes


class Refused(NamedTuple):
    """The runtime never took this event, and never will (worker to frontend)."""

    request_id: RequestId
    reason: str


class Lost(NamedTuple):
    """The instance is gone that had this event, and left no answer: it may have run (worker to frontend)."""

    request_id: RequestId
    reason: str


class Ready(NamedTuple):
    """A starting instance can take its first event (worker to frontend)."""

    instance: InstanceId
    number: LeaseNumber
    starting_ms: float
    init_ms: float
    restored: bool = False
    """It was forked of a snapshot, and not initialised by itself."""


class Bye(NamedTuple):
    """Nothing runs here, and nothing will (worker to frontend).

    Who hears it sends nothing more, and closes the connection once all that was sent has an answer.
    """


class Begun(NamedTuple):
    """The runtime streams its answer: parts follow, then an Answer (worker to frontend)."""

    request_id: RequestId
    content_type: str


class Part(NamedTuple):
    """The next bytes of a streamed answer (worker to frontend)."""

    request_id: RequestId
    data: bytes
    """At most PIECE_BYTES, and not empty."""


class Taken(NamedTuple):
    """The caller has taken so many bytes: as many more may be on their way (frontend to worker)."""

    request_id: RequestId
    size: int


class Unheard(NamedTuple):
    """Nobody waits for this answer any more: no part of it is wanted, its end alone (frontend to worker)."""

    request_id: RequestId


Frame = Hello | Event | Answer | Refused | Lost | Ready | Bye | Begun | Part | Taken | Unheard


def encode(frame: Frame) -> bytes | Iterator[bytes]:
    """The bytes to send: at once, or, for a payload in pieces, one at a time and in this order.

    Raises ValueError if the payload is larger than any may be, struct.error if the other fields do not fit
    the head (65,535 bytes): both are the caller's to check first.
    """
    if isinstance(frame, Event):
        payload = frame.payload
        # A worker of an older release takes neither window nor trace, and is sent none.
        more: tuple[int | str, ...] = ()
        if frame.trace:
            more = frame.window, frame.trace
        elif frame.window:
            more = (frame.window,)
        head = _pack((_EVENT, *frame[:7], len(payload), *more))
    elif isinstance(frame, Answer):
        payload = frame.payload
        head = _pack((_ANSWER, frame.request_id, frame.failed, frame.running_ms, frame.tail, len(payload)))
    elif isinstance(frame, Part):
        if not 0 < len(frame.data) <= PIECE_BYTES:
            raise ValueError(f"a part of {len(frame.data)} bytes: it may have 1 to {PIECE_BYTES}")
        payload = frame.data
        head = _pack((_PART, frame.request_id))
    else:
        return _encode_bare(frame)
    size = len(payload)
    if size <= PIECE_BYTES:
        return _PREFIX.pack(2 + len(head) + size, len(head)) + head + payload
    if size > MAX_PAYLOAD_BYTES:
        raise ValueError(f"a payload of {size} bytes is above the limit of {MAX_PAYLOAD_BYTES}")
    return _pieces(head, _pack((_CHUNK, frame.request_id)), payload)


def _encode_bare(frame: Hello | Refused | Lost | Ready | Bye | Begun | Taken | Unheard) -> bytes:
    if isinstance(frame, Ready):
        times = float(frame.starting_ms), float(frame.init_ms)
        head = _pack((_READY, frame.instance, frame.number, *times, frame.restored))
    elif isinstance(frame, Refused):
        head = _pack((_REFUSED, frame.request_id, frame.reason))
    elif isinstance(frame, Lost):
        head = _pack((_LOST, frame.request_id, frame.reason))
    elif isinstance(frame, Hello):
        head = _pack((_HELLO, frame.protocol, frame.sender))
    elif isinstance(frame, Bye):
        head = _pack((_BYE,))
    elif isinstance(frame, Begun):
        head = _pack((_BEGUN, *frame))
    elif isinstance(frame, Taken):
        head = _pack((_TAKEN, *frame))
    elif isinstance(frame, Unheard):
        head = _pack((_UNHEARD, *frame))
    else:
        assert_never(frame)
    return _PREFIX.pack(2 + len(head), len(head)) + head


def _pieces(head: bytes, later_head: bytes, payload: bytes) -> Iterator[bytes]:
    """Cut when asked for, so that a payload is never in memory twice."""
    view = memoryview(payload)
    for begin in range(0, len(payload), PIECE_BYTES):
        piece = view[begin : begin + PIECE_BYTES]
        yield b"".join((_PREFIX.pack(2 + len(head) + len(piece), len(head)), head, piece))
        head = later_head


class _Partial(NamedTuple):
    opening: Event | Answer
    total: int
    payload: bytearray


class Decoder:
    """One direction of one connection. Of no more use after a BadFrame."""

    def __init__(self, accepts: frozenset[int]) -> None:
        """`accepts` is TO_WORKER or TO_FRONTEND."""
        self._accepts = accepts
        self._greeted = False
        self._rest = bytearray()
        self._wanted = 0  # bytes that `_rest` must have before it is worth looking at it again
        self._partial: dict[str, _Partial] = {}

    def feed(self, data: bytes) -> Iterator[Frame]:
        """The frames that `data` completes; raises BadFrame behind the last good one. Exhaust it."""
        if self._rest:
            self._rest += data
            if len(self._rest) < self._wanted:
                return
            data = bytes(self._rest)
            self._rest.clear()
        begin, end = 0, len(data)
        while end - begin >= _PREFIX_BYTES:
            size, head_size = _PREFIX.unpack_from(data, begin)
            if size > MAX_FRAME_BYTES or head_size > size - 2:
                _refuse_prefix(size, head_size)
            after = begin + 4 + size
            if after > end:
                self._wanted = after - begin
                break
            body = begin + _PREFIX_BYTES + head_size
            frame = self._read(data[begin + _PREFIX_BYTES : body], data[body:after])
            begin = after
            if frame is not None:
                yield frame
        else:
            self._wanted = _PREFIX_BYTES
        if begin < end:
            self._rest += data[begin:] if begin else data

    def _read(self, head: bytes, body: bytes) -> Frame | None:
        """The frame, or None while a payload is incomplete."""
        fields = _unpack(head)
        kind = fields[0]
        if not self._greeted:
            self._greeted = True
            if kind != _HELLO:
                raise BadFrame(f"the first frame is {_name(kind)}, not HELLO")
        elif kind == _HELLO:
            raise BadFrame("HELLO a second time")
        if kind not in self._accepts:
            raise BadFrame(f"a frame of kind {_name(kind)}, which this side does not take")
        if kind == _EVENT:
            event, total = _event(fields, body)
            return event if len(body) == total else self._begin(event, total)
        if kind == _ANSWER:
            answer, total = _answer(fields, body)
            return answer if len(body) == total else self._begin(answer, total)
        if kind == _CHUNK:
            return self._continue(fields, body)
        if kind == _PART:
            return _part(fields, body)
        return _bare(kind, fields, body)

    def _begin(self, opening: Event | Answer, total: int) -> Event | Answer | None:
        request_id, first = opening.request_id, opening.payload
        if request_id in self._partial:
            raise BadFrame(f"request {request_id[:64]!r} begins again before it was complete")
        if not 0 <= total <= MAX_PAYLOAD_BYTES:
            raise BadFrame(f"a payload of {total} bytes; the limit is {MAX_PAYLOAD_BYTES}")
        if not 0 < len(first) < total:
            raise BadFrame(f"a first piece of {len(first)} bytes for a payload of {total}")
        if len(self._partial) == MAX_PARTIAL_PAYLOADS:
            raise BadFrame(f"more than {MAX_PARTIAL_PAYLOADS} payloads begun and not finished")
        self._partial[request_id] = _Partial(opening, total, bytearray(first))
        return None

    def _continue(self, fields: list[Any], body: bytes) -> Event | Answer | None:
        if len(fields) != 2 or type(fields[1]) is not str:
            _refuse_fields(_CHUNK)
        partial = self._partial.get(fields[1])
        if partial is None:
            raise BadFrame(f"a CHUNK for request {fields[1][:64]!r}, of which nothing is missing")
        opening, total, payload = partial
        if not 0 < len(body) <= min(PIECE_BYTES, total - len(payload)):
            raise BadFrame(f"a CHUNK of {len(body)} bytes where {total - len(payload)} are missing")
        payload += body
        if len(payload) < total:
            return None
        del self._partial[fields[1]]
        return opening._replace(payload=bytes(payload))


def _unpack(head: bytes) -> list[Any]:
    """The limits keep a head of nested arrays from reserving hundreds of megabytes."""
    try:
        fields = msgpack.unpackb(head, max_array_len=16, max_map_len=0, max_ext_len=0)
    except (ValueError, msgpack.UnpackException) as broken:
        raise BadFrame(f"the head is not what it should be: {broken}") from None
    if type(fields) is not list or not fields or type(fields[0]) is not int:
        raise BadFrame("the head is not an array that begins with the frame's kind")
    return fields


def _event(fields: list[Any], body: bytes) -> tuple[Event, int]:
    if not 9 <= len(fields) <= 11 or len(body) > PIECE_BYTES:
        _refuse_fields(_EVENT)
    _, request_id, instance, number, timeout_ms, arn, client_context, tail, total = fields[:9]
    window = fields[9] if len(fields) > 9 else 0
    trace = fields[10] if len(fields) > 10 else ""
    if not (
        type(request_id) is type(instance) is type(arn) is type(client_context) is type(trace) is str
        and type(number) is type(timeout_ms) is type(total) is type(window) is int
        and type(tail) is bool
        and number >= 0
        and timeout_ms >= 0
        and window >= 0
    ):
        _refuse_fields(_EVENT)
    # Past NamedTuple's own __new__, which costs twice as much.
    values = (request_id, instance, number, timeout_ms, arn, client_context, tail, body, window, trace)
    return tuple.__new__(Event, values), total


def _answer(fields: list[Any], body: bytes) -> tuple[Answer, int]:
    if len(fields) != 6 or len(body) > PIECE_BYTES:
        _refuse_fields(_ANSWER)
    _, request_id, failed, running_ms, tail, total = fields
    if not (
        type(request_id) is str
        and type(failed) is bool
        and type(running_ms) is float
        and (tail is None or type(tail) is bytes)
        and type(total) is int
    ):
        _refuse_fields(_ANSWER)
    return tuple.__new__(Answer, (request_id, failed, running_ms, tail, body)), total


def _part(fields: list[Any], body: bytes) -> Part:
    if len(fields) != 2 or type(fields[1]) is not str or not 0 < len(body) <= PIECE_BYTES:
        _refuse_fields(_PART)
    return Part(RequestId(fields[1]), body)


_BARE_TYPES: Final = {
    _HELLO: [int, int, str],
    _REFUSED: [int, str, str],
    _LOST: [int, str, str],
    _READY: [int, str, int, float, float, bool],
    _BYE: [int],
    _BEGUN: [int, str, str],
    _TAKEN: [int, str, int],
    _UNHEARD: [int, str],
}


def _bare(
    kind: int, fields: list[Any], body: bytes
) -> Hello | Refused | Lost | Ready | Bye | Begun | Taken | Unheard:
    if body or [type(field) for field in fields] != _BARE_TYPES[kind]:
        _refuse_fields(kind)
    if kind == _REFUSED:
        return Refused(fields[1], fields[2])
    if kind == _LOST:
        return Lost(fields[1], fields[2])
    if kind == _READY:
        if fields[2] < 0:
            _refuse_fields(kind)
        return Ready(*fields[1:])
    if kind == _BYE:
        return Bye()
    if kind in (_BEGUN, _TAKEN, _UNHEARD):
        return _of_stream(kind, fields)
    if far := apart(fields[2][:64], fields[1], ""):
        raise BadFrame(far)
    if common(fields[1]) != fields[1]:
        raise BadFrame(f"the peer says protocol {fields[1]}, and this side speaks {PROTOCOL} at the most")
    return Hello(fields[2], fields[1])


def _of_stream(kind: int, fields: list[Any]) -> Begun | Taken | Unheard:
    if kind == _BEGUN:
        return Begun(fields[1], fields[2])
    if kind == _UNHEARD:
        return Unheard(fields[1])
    if fields[2] <= 0:
        _refuse_fields(kind)
    return Taken(fields[1], fields[2])


def _name(kind: int) -> str:
    return _NAMES.get(kind, str(kind))


def _refuse_prefix(size: int, head_size: int) -> Never:
    if size > MAX_FRAME_BYTES:
        raise BadFrame(f"a frame of {size} bytes; the limit is {MAX_FRAME_BYTES}")
    raise BadFrame(f"a head of {head_size} bytes in a frame of {size}")


def _refuse_fields(kind: int) -> Never:
    raise BadFrame(f"{_name(kind)} with fields of the wrong number, type or range")
