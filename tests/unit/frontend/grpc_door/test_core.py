"""The HTTP/2 core by rule: what ends a stream, what ends the connection, and what a client may not overdo."""

import gzip
import tracemalloc
from collections.abc import Callable
from typing import Final

import pytest

from lambent_frontend.grpc_door.core import calls, floods, wire
from lambent_frontend.grpc_door.core.blocks import MAX_BLOCK_BYTES, Field, Fields, answer_block
from lambent_frontend.grpc_door.core.calls import LARGE, MOST_FIELDS, BadMessage, Messages, asked, framed
from lambent_frontend.grpc_door.core.connection import (
    CONNECTION_WINDOW,
    MAX_FRAME,
    MAX_STREAMS,
    MOST_UNFINISHED,
    STREAM_WINDOW,
    Broken,
    Came,
    Connection,
    Gone,
    Requested,
)
from lambent_frontend.grpc_door.core.wire import PREFACE, Code, Setting, frame, rst_stream, settings_frame

REQUEST: Final[list[Field]] = [
    (b":method", b"POST"),
    (b":scheme", b"http"),
    (b":path", b"/a/b"),
    (b"content-type", b"application/grpc"),
]
PING: Final = frame(wire.PING, 0, 0, b"12345678")


def headers(stream: int, *, ended: bool = False, fields: list[Field] = REQUEST) -> bytes:
    return frame(wire.HEADERS, wire.END_HEADERS | ended, stream, answer_block(fields))


def begun() -> Connection[Fields]:
    connection: Connection[Fields] = Connection(lambda fields: fields)
    assert connection.receive(PREFACE + settings_frame([]), 0.0) == []
    connection.take()
    return connection


def broken(sent: bytes, connection: Connection[Fields] | None = None, now: float = 0.0) -> Code | None:
    """How it ended the connection, if it did."""
    ends = [event for event in (connection or begun()).receive(sent, now) if isinstance(event, Broken)]
    return ends[0].code if ends else None


def resets(said: bytes) -> list[tuple[int, int]]:
    """Streams that were ended, and why."""
    found, at = [], 0
    while at < len(said):
        size = int.from_bytes(said[at : at + 3], "big")
        if said[at + 3] == wire.RST_STREAM:
            body = said[at + 9 : at + 13]
            found.append((int.from_bytes(said[at + 5 : at + 9], "big"), int.from_bytes(body, "big")))
        at += 9 + size
    return found


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        pytest.param(headers(2), Code.PROTOCOL_ERROR, id="a stream of the server's"),
        pytest.param(headers(0), Code.PROTOCOL_ERROR, id="headers on stream 0"),
        pytest.param(headers(5, ended=True) + headers(3), Code.STREAM_CLOSED, id="a stream below the last"),
        pytest.param(frame(wire.DATA, 0, 1, b"x"), Code.PROTOCOL_ERROR, id="data before headers"),
        pytest.param(rst_stream(1, 8), Code.PROTOCOL_ERROR, id="a reset of what has not begun"),
        pytest.param(wire.window_update(1, 1), Code.PROTOCOL_ERROR, id="a window of what has not begun"),
        pytest.param(wire.window_update(0, 0), Code.PROTOCOL_ERROR, id="a window of nothing"),
        pytest.param(wire.window_update(0, 2**31 - 1), Code.FLOW_CONTROL_ERROR, id="a window over the limit"),
        pytest.param(frame(wire.PING, 0, 0, b"1"), Code.FRAME_SIZE_ERROR, id="a short ping"),
        pytest.param(frame(wire.PING, 0, 1, b"12345678"), Code.PROTOCOL_ERROR, id="a ping on a stream"),
        pytest.param(frame(wire.SETTINGS, 0, 0, b"12345"), Code.FRAME_SIZE_ERROR, id="short settings"),
        pytest.param(frame(wire.SETTINGS, 1, 0, b"123456"), Code.FRAME_SIZE_ERROR, id="an ack with settings"),
        pytest.param(frame(wire.SETTINGS, 0, 1, b""), Code.PROTOCOL_ERROR, id="settings on a stream"),
        pytest.param(settings_frame([Setting(2, 2)]), Code.PROTOCOL_ERROR, id="push neither 0 nor 1"),
        pytest.param(
            settings_frame([Setting(4, 2**31)]), Code.FLOW_CONTROL_ERROR, id="a first window too large"
        ),
        pytest.param(settings_frame([Setting(5, 100)]), Code.PROTOCOL_ERROR, id="frames too small"),
        pytest.param(frame(wire.PUSH_PROMISE, 4, 1, b"\0\0\0\2"), Code.PROTOCOL_ERROR, id="a push"),
        pytest.param(
            frame(wire.CONTINUATION, 4, 1, b""), Code.PROTOCOL_ERROR, id="a continuation of nothing"
        ),
        pytest.param(frame(wire.HEADERS, 0, 1, b"") + PING, Code.PROTOCOL_ERROR, id="a ping inside a block"),
        pytest.param(frame(wire.HEADERS, 4, 1, b"\xff\xff\xff"), Code.COMPRESSION_ERROR, id="bad HPACK"),
        pytest.param(frame(wire.HEADERS, 4, 1, b"\x40"), Code.COMPRESSION_ERROR, id="HPACK that is cut"),
        pytest.param(
            frame(wire.HEADERS, 12, 1, b"\x09abc"), Code.PROTOCOL_ERROR, id="more padding than frame"
        ),
        pytest.param(frame(wire.HEADERS, 0x24, 1, b"\0"), Code.FRAME_SIZE_ERROR, id="a priority that is cut"),
        pytest.param(
            wire.frame_head(MAX_FRAME + 1, wire.DATA, 0, 1), Code.FRAME_SIZE_ERROR, id="a frame too large"
        ),
        pytest.param(
            headers(1) + rst_stream(1, 8) + frame(wire.DATA, 0, 1, b"x"),
            Code.STREAM_CLOSED,
            id="data after its own reset",
        ),
    ],
)
def test_what_ends_the_connection(sent: bytes, code: Code) -> None:
    """With the code of RFC 9113; and from there nothing is heard."""
    connection = begun()
    assert broken(sent, connection) is code
    said, _ = connection.take()
    assert said[-9:] != b""
    assert connection.receive(headers(9), 0.0) == []


@pytest.mark.parametrize(
    "first", [PING, frame(wire.SETTINGS, 1, 0, b""), headers(1), b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"]
)
def test_what_is_no_greeting_ends_it(first: bytes) -> None:
    """The preface, and then settings."""
    connection: Connection[Fields] = Connection(lambda fields: fields)
    preface = b"" if first.startswith(b"GET") else PREFACE
    assert broken(preface + first, connection) is Code.PROTOCOL_ERROR


WITHOUT_PATH: Final = [field for field in REQUEST if field[0] != b":path"]


@pytest.mark.parametrize(
    ("fields", "sent", "code"),
    [
        pytest.param(WITHOUT_PATH, b"", Code.PROTOCOL_ERROR, id="no path"),
        pytest.param([*REQUEST, (b"X", b"a")], b"", Code.PROTOCOL_ERROR, id="capitals"),
        pytest.param([*REQUEST, (b":path", b"/")], b"", Code.PROTOCOL_ERROR, id="a pseudo-field at the end"),
        pytest.param([REQUEST[0], *REQUEST], b"", Code.PROTOCOL_ERROR, id="a method twice"),
        pytest.param([(b":status", b"200"), *REQUEST], b"", Code.PROTOCOL_ERROR, id="an answer's field"),
        pytest.param([*REQUEST, (b"connection", b"close")], b"", Code.PROTOCOL_ERROR, id="connection"),
        pytest.param([*REQUEST, (b"te", b"gzip")], b"", Code.PROTOCOL_ERROR, id="te"),
        pytest.param([*REQUEST, (b"a", b"b\r\nc: d")], b"", Code.PROTOCOL_ERROR, id="lines in a value"),
        pytest.param(
            [*REQUEST, (b"content-length", b"3")],
            frame(wire.DATA, 1, 1, b"ab"),
            Code.PROTOCOL_ERROR,
            id="less than it announced",
        ),
        pytest.param(REQUEST, wire.window_update(1, 0), Code.PROTOCOL_ERROR, id="a window of nothing"),
        pytest.param(
            REQUEST, wire.window_update(1, 2**31 - 1), Code.FLOW_CONTROL_ERROR, id="too much window"
        ),
        pytest.param(REQUEST, headers(1), Code.PROTOCOL_ERROR, id="trailers that are not the end"),
        pytest.param(
            REQUEST,
            frame(wire.DATA, 1, 1, b"") + frame(wire.DATA, 0, 1, b"x"),
            Code.STREAM_CLOSED,
            id="data after its end",
        ),
    ],
)
def test_what_ends_a_stream(fields: list[Field], sent: bytes, code: Code) -> None:
    """With the code of RFC 9113; and the connection goes on."""
    connection = begun()
    events = connection.receive(headers(1, fields=fields) + sent, 0.0)
    assert not any(isinstance(event, Broken) for event in events)
    assert resets(connection.take()[0]) == [(1, code)]
    assert connection.open == 0
    late = connection.receive(frame(wire.DATA, 0, 1, b"late") + headers(3, ended=True), 0.0)
    assert [type(event) for event in late] == [Requested]


@pytest.mark.parametrize(
    "unit",
    [
        pytest.param(
            lambda number: headers(2 * number + 1) + rst_stream(2 * number + 1, 8), id="rapid reset"
        ),
        pytest.param(
            lambda number: headers(2 * number + 1) + wire.window_update(2 * number + 1, 0), id="made to reset"
        ),
        pytest.param(lambda _: PING, id="pings"),
        pytest.param(lambda _: settings_frame([]), id="settings"),
        pytest.param(lambda _: frame(wire.PRIORITY, 0, 1, b"\0\0\0\0\0"), id="priorities"),
        pytest.param(lambda _: frame(99, 0, 0, b""), id="unknown frames"),
        pytest.param(
            lambda number: (b"" if number else headers(1)) + frame(wire.DATA, 0, 1, b""), id="empty data"
        ),
        pytest.param(
            lambda number: frame(wire.CONTINUATION, 0, 1, b"") if number else frame(wire.HEADERS, 0, 1, b""),
            id="empty continuations",
        ),
    ],
)
def test_a_flood_ends_the_connection(unit: Callable[[int], bytes]) -> None:
    """In one moment; what is asked of the server by then is bounded."""
    connection = begun()
    for number in range(10_000):
        if broken(unit(number), connection) is Code.ENHANCE_YOUR_CALM:
            break
    else:
        pytest.fail("it goes on")
    assert number <= floods.IDLE_FRAMES


def test_settings_that_change_many_windows_are_a_flood() -> None:
    """One frame of them would be millions of changes; one by one a client may change its mind."""
    connection = begun()
    connection.receive(b"".join(headers(2 * number + 1) for number in range(1_000)), 0.0)
    for size in range(10):
        assert broken(settings_frame([Setting(4, size)]), connection) is None
    many = settings_frame([Setting(4, size) for size in range(1_000)])
    assert broken(many, connection) is Code.ENHANCE_YOUR_CALM


def test_what_a_patient_client_does_is_no_flood() -> None:
    """A hundred pings and a hundred cancelled calls a second, for minutes; and pings with each answer."""
    connection = begun()
    stream = -1
    for second in range(60):
        for _ in range(100):
            stream += 2
            assert broken(PING + headers(stream) + rst_stream(stream, 8), connection, second) is None
            connection.take()
    for _ in range(5_000):
        stream += 2
        assert broken(PING + PING + headers(stream, ended=True), connection, 60.0) is None
        connection.respond(stream, answer_block([], 200), b"", answer_block([]))
        connection.take()


def test_a_header_block_is_bounded() -> None:
    """Before it is read, in one frame or in several, and as a list that is long only when it is read."""
    large = answer_block([*REQUEST, (b"a", b"b" * MAX_BLOCK_BYTES)])
    assert broken(frame(wire.HEADERS, 4, 1, large)) is Code.ENHANCE_YOUR_CALM
    pieces = [large[at : at + 5_000] for at in range(0, len(large), 5_000)]
    sent = frame(wire.HEADERS, 0, 1, pieces[0])
    sent += b"".join(frame(wire.CONTINUATION, 0, 1, piece) for piece in pieces[1:])
    assert broken(sent) is Code.ENHANCE_YOUR_CALM
    bomb = b"\x40\x01a\x7f\x81\x1e" + b"b" * 4_000 + b"\xbe" * 5_000
    assert broken(frame(wire.HEADERS, 4, 1, bomb)) is Code.ENHANCE_YOUR_CALM


@pytest.mark.parametrize("padding", [None, 0, 200])
@pytest.mark.parametrize("step", [1_000, 17_000, 40_000])
def test_little_is_kept_of_a_frame_that_is_not_whole(step: int, padding: int | None) -> None:
    """Its data is dealt with as it comes, however it is cut; the end of the stream comes with the end."""
    data = bytes(number % 251 for number in range(MAX_FRAME - 256))
    flags, body = wire.END_STREAM, data
    if padding is not None:
        flags, body = flags | wire.PADDED, bytes([padding]) + data + bytes(padding)
    sent, connection = frame(wire.DATA, flags, 1, body) + PING, begun()
    connection.receive(headers(1), 0.0)
    found, ends = b"", []
    for at in range(0, len(sent), step):
        for event in connection.receive(sent[at : at + step], 0.0):
            assert isinstance(event, Came), event
            found += event.data
            ends.append(event.ended)
        assert len(found) >= min(at + step, len(data)) - MOST_UNFINISHED - 16
    assert found == data
    assert ends == [False] * (len(ends) - 1) + [True]


def test_a_frame_is_unfinished_since_it_began() -> None:
    """Whatever was before it in the same bytes, and however it goes on."""
    connection = begun()
    for at, sent in [(10.0, PING[:3]), (20.0, PING[3:] + PING[:3]), (30.0, PING[3:5])]:
        connection.receive(sent, at)
    assert connection.unfinished_s(40.0) == 20.0
    connection.receive(PING[5:], 50.0)
    assert connection.unfinished_s(60.0) == 0.0


def test_a_large_frame_without_data_is_not_waited_for() -> None:
    sent = wire.frame_head(MAX_FRAME, wire.HEADERS, wire.END_HEADERS, 1) + bytes(MOST_UNFINISHED + 1)
    assert broken(sent) is Code.ENHANCE_YOUR_CALM


@pytest.mark.parametrize(
    ("message", "most"),
    [
        (b"\x0a\x00" * 9, 9),
        (b"\x08\x80\x01" * 9, 9),
        (b"\x0a\x03abc\x10\x01" * 4, 8),
        (b"\x09" + b"1" * 8 + b"\x0d" + b"1" * 4, 2),
        (b"\x0a\x80\x02" + bytes(256), 1),
        (b"\xa3\x06\xa4\x06" + b"\x0a\x00" * 7, 9),
        (b"\xa3\x06" + b"\x0a\x00" * 7 + b"\xa4\x06", 9),
    ],
)
def test_fields_of_a_message_are_counted(message: bytes, most: int) -> None:
    assert not calls.has_more_fields(message, most)
    assert calls.has_more_fields(message + message, most)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(("parts", "refused"), [(MOST_FIELDS - 1, False), (MOST_FIELDS + 1, True)])
def test_a_large_message_of_very_many_parts_is_refused(parts: int, refused: bool, packed: bool) -> None:
    """It would take many times its bytes, and the loop's time. As many in small messages are taken."""
    message = b"\x0a\x02ab" * parts + (b"\x12\x80\x80\x80\x02" + bytes(LARGE) if not refused else b"")
    message += bytes(4) * (LARGE // 4) if refused else b""
    sent = framed(message) if not packed else b"\x01" + framed(gzip.compress(message, 1))[1:]
    reader = Messages("gzip")

    def came() -> list[bytes]:
        pieces = [sent[at : at + MAX_FRAME] for at in range(0, len(sent), MAX_FRAME)]
        return [reader.unpacked(it) for piece in pieces for it in reader.feed(piece)]

    if refused:
        with pytest.raises(BadMessage, match="send several"):
            came()
    else:
        assert came() == [message]


@pytest.mark.parametrize("none", [b"", b"\xff" * 40, b"\x0a\xff\xff\xff\xff\x7f", b"\x0e" * 99])
def test_what_is_no_message_has_no_fields(none: bytes) -> None:
    assert not calls.has_more_fields(none, 9)


def test_the_same_block_means_something_else_when_the_table_has_changed() -> None:
    """What is kept of a block is forgotten with the table that it was read by."""
    connection = begun()
    again = frame(wire.HEADERS, 5, 0, answer_block(REQUEST) + b"\xbe")  # and what was added to it last
    seen = []
    for number, value in enumerate([b"one", None, None, b"two", None, None]):
        block = b"" if value is None else b"\x40\x01x\x03" + value
        sent = again[:5] + (2 * number + 1).to_bytes(4, "big") + again[9:]
        if value is not None:
            sent = frame(wire.HEADERS, 5, 2 * number + 1, answer_block(REQUEST) + block)
        (event,) = connection.receive(sent, 0.0)
        assert isinstance(event, Requested)
        seen.append(event.meaning.rest[-1][1])
    assert seen == [b"one"] * 3 + [b"two"] * 3


def test_streams_are_bounded() -> None:
    """One more is refused, which its client may send again; when one ends there is room."""
    connection = begun()
    for number in range(MAX_STREAMS):
        connection.receive(headers(2 * number + 1), 0.0)
    assert connection.receive(headers(2 * MAX_STREAMS + 1), 0.0) == []
    assert resets(connection.take()[0]) == [(2 * MAX_STREAMS + 1, Code.REFUSED_STREAM)]
    assert connection.receive(rst_stream(1, 8) + headers(2 * MAX_STREAMS + 3), 0.0)[0] == Gone(1)
    assert connection.open == MAX_STREAMS


def test_a_client_keeps_to_our_windows() -> None:
    """More than a stream's ends the stream, more than the connection's all; what is taken opens both."""
    connection = begun()
    connection.receive(headers(1), 0.0)
    pieces = [MAX_FRAME] * (STREAM_WINDOW // MAX_FRAME)
    for size in pieces:
        connection.receive(frame(wire.DATA, 0, 1, b"x" * size), 0.0)
    assert connection.open == 1
    connection.took(1, STREAM_WINDOW)
    assert wire.window_update(1, STREAM_WINDOW) in connection.take()[0]
    connection.receive(b"".join(frame(wire.DATA, 0, 1, b"x" * size) for size in pieces), 0.0)
    connection.receive(frame(wire.DATA, 0, 1, b"x"), 0.0)
    assert resets(connection.take()[0]) == [(1, Code.FLOW_CONTROL_ERROR)]
    code, sent, stream = None, 0, 3
    while code is None:
        connection.receive(headers(stream), 0.0)
        for size in pieces:
            code = code or broken(frame(wire.DATA, 0, stream, b"x" * size), connection)
            sent += size
        stream += 2
    assert code is Code.FLOW_CONTROL_ERROR
    assert sent <= 2 * CONNECTION_WINDOW


def test_what_nobody_takes_any_more_is_given_back() -> None:
    """Data of streams that ended does not use up the connection's window."""
    connection = begun()
    for number in range(200):
        stream = 2 * number + 1
        data = frame(wire.DATA, 0, stream, b"x" * MAX_FRAME) * 8
        events = connection.receive(headers(stream) + data, 0.0)
        assert not any(isinstance(event, Broken) for event in events)
        if number % 4 == 1:
            connection.cancel(stream)
        elif number % 4 == 2:
            assert broken(rst_stream(stream, 8), connection) is None
        elif number % 4 == 3:
            assert broken(wire.window_update(stream, 0), connection) is None
        else:
            connection.respond(stream, answer_block([], 200), b"", answer_block([]))
        connection.take()


def test_an_answer_without_data_ends_with_its_trailers() -> None:
    """Alone, and while another's data waits."""
    connection = begun()
    connection.receive(b"".join(headers(stream, ended=True) for stream in (1, 3, 5)), 0.0)
    connection.headers(1, answer_block([], 200))
    connection.data(1, b"")
    connection.end(1, answer_block([]))
    connection.data(3, b"x")
    connection.respond(5, answer_block([], 200), b"", answer_block([]))
    said, _ = connection.take()
    assert connection.open == 1
    assert wire.frame_head(0, wire.DATA, 0, 1) not in said
    assert wire.frame_head(0, wire.DATA, 0, 5) not in said


def test_leave_is_taken_in_two_steps() -> None:
    """What comes until the client has heard is taken; what comes later is left for others to take."""
    connection = begun()
    connection.receive(headers(1), 0.0)
    connection.take_leave()
    assert wire.goaway(wire.MAX_STREAM, 0) in connection.take()[0]
    assert [type(event) for event in connection.receive(headers(3), 0.0)] == [Requested]
    connection.farewell()
    assert wire.goaway(3, 0) in connection.take()[0]
    assert connection.receive(headers(5), 0.0) == []
    assert connection.receive(frame(wire.DATA, 1, 3, b"x"), 0.0) == [Came(3, b"x", True)]
    assert connection.open == 2
    said = "a ping does not have 8 bytes"
    assert broken(frame(wire.PING, 0, 0, b"1"), connection) is Code.FRAME_SIZE_ERROR
    assert wire.goaway(3, Code.FRAME_SIZE_ERROR, said.encode()) in connection.take()[0]


@pytest.mark.parametrize(
    ("more", "code", "http"),
    [
        ([], None, 200),
        ([(b"grpc-timeout", b"1S")], None, 200),
        ([(b"grpc-timeout", b"123456789S")], calls.INTERNAL, 200),
        ([(b"grpc-timeout", b"1x")], calls.INTERNAL, 200),
        ([(b"grpc-encoding", b"gzip")], None, 200),
        ([(b"grpc-encoding", b"snappy")], calls.UNIMPLEMENTED, 200),
        ([(b"a-bin", b"!")], calls.INTERNAL, 200),
    ],
)
def test_what_a_call_may_ask(more: list[Field], code: int | None, http: int) -> None:
    """What is not understood is refused before anything is done."""
    refusal = asked(Fields(b"POST", b"/a/b", (*REQUEST[3:], *more), None)).refusal
    assert (refusal.code if refusal else None) == code
    assert (refusal.http if refusal else 200) == http


def test_what_fields_say() -> None:
    """Times in their units, binary values with padding or without, several in one; nothing of gRPC's own."""
    more = [(b"grpc-timeout", b"250m"), (b"a-bin", b"AAE,Ag=="), (b"x", b"y"), (b"te", b"trailers")]
    said = asked(Fields(b"POST", b"/a/b", (*REQUEST[3:], *more), None))
    assert said.timeout_s == pytest.approx(0.25)
    assert said.metadata == (("a-bin", b"\0\x01"), ("a-bin", b"\x02"), ("x", "y"))
    for kind in (b"application/grpc+proto", b"application/grpc; charset=x"):
        assert asked(Fields(b"POST", b"/", ((b"content-type", kind),), None)).refusal is None
    for kind in (b"application/grpcx", b"application/json", b"application/grpc+json", b"text/plain"):
        refusal = asked(Fields(b"POST", b"/", ((b"content-type", kind),), None)).refusal
        assert refusal is not None
        assert refusal.http == 415


@pytest.mark.parametrize("cut", [1, 4, 5, 7, 1000])
def test_messages_come_out_however_they_are_cut(cut: int) -> None:
    """Empty ones too, compressed or not."""
    packed = gzip.compress(b"second" * 100)
    data = framed(b"first") + b"\x01" + len(packed).to_bytes(4, "big") + packed + framed(b"") + framed(b"x")
    reader = Messages("gzip")
    found = [it for at in range(0, len(data), cut) for it in reader.feed(data[at : at + cut])]
    assert [reader.unpacked(it) for it in found] == [b"first", b"second" * 100, b"", b"x"]
    assert not reader.halfway


@pytest.mark.parametrize(
    ("encoding", "data", "code"),
    [
        ("identity", b"\x00\xff\xff\xff\xff", calls.RESOURCE_EXHAUSTED),
        ("identity", b"\x01\x00\x00\x00\x01x", calls.INTERNAL),
        ("gzip", b"\x02\x00\x00\x00\x01x", calls.INTERNAL),
        ("gzip", b"\x01\x00\x00\x00\x01x", calls.INTERNAL),
        ("gzip", b"\x01\x00\x00\x00\x0a" + gzip.compress(b"x")[:10], calls.INTERNAL),
    ],
)
def test_messages_that_cannot_be_read(encoding: str, data: bytes, code: int) -> None:
    """Too large, compressed without a word about it, or broken."""
    with pytest.raises(BadMessage) as bad:
        read(Messages(encoding), data)
    assert bad.value.refusal.code == code


def test_a_message_that_unpacks_to_too_much_is_refused() -> None:
    """Without its ever being whole in memory."""
    packed = gzip.compress(bytes(calls.MAX_MESSAGE_BYTES + 1))
    with pytest.raises(BadMessage, match="unpacked"):
        read(Messages("gzip"), b"\x01" + len(packed).to_bytes(4, "big") + packed)


def read(reader: Messages, data: bytes) -> list[bytes]:
    return [reader.unpacked(it) for it in reader.feed(data)]


def test_what_waits_to_be_read_takes_what_came() -> None:
    """Neither many messages that unpack to much, nor one in very small pieces, take many times their size."""
    packed = gzip.compress(bytes(8_000_000))
    bomb = (b"\x01" + len(packed).to_bytes(4, "big") + packed) * 8
    pieces = framed(b"x" * 500_000)
    tracemalloc.start()
    try:
        found = Messages("gzip").feed(bomb)
        reader = Messages("identity")
        for at in range(0, 400_000, 2):
            reader.feed(pieces[at : at + 2])
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(found) == 8
    assert reader.halfway
    assert most < 2_000_000


@pytest.mark.parametrize("said", ["plain", "100 %", "zwei\nZeilen", "日本", "\x00\x7f", "", " at its ends "])
def test_what_is_said_of_an_error_comes_back(said: str) -> None:
    """Percent signs for all but printable ASCII."""
    coded = calls._percent(said)
    assert all(0x20 <= byte <= 0x7E for byte in coded)
    assert coded == coded.strip()
    assert calls.from_percent(coded) == said


def test_metadata_cannot_smuggle_fields() -> None:
    """What is no value of a field is refused where it is set."""
    for value in ("a\nb", "é"):
        with pytest.raises(ValueError, match="has to be bytes"):
            calls.trailers_block(0, "", [("x", value)])
