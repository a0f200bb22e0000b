"""The HTTP/2 core of the own gRPC server: any bytes, and the same bytes as the `h2` library gets.

`h2` is the oracle of what a client's frames mean. The two need not agree on how a broken rule is answered,
with the end of a stream or of the connection, but on whether there is one, and on all that came before it.
"""

from typing import Any, Final

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions
import h2.settings
import hpack
from hypothesis import given, settings
from hypothesis import strategies as st

from lambent_frontend.grpc_door.core import wire
from lambent_frontend.grpc_door.core.blocks import Fields, answer_block
from lambent_frontend.grpc_door.core.connection import Alive, Broken, Came, Connection, Gone, Requested
from lambent_frontend.grpc_door.core.wire import PREFACE, Setting, frame, settings_frame

HELLO: Final = PREFACE + settings_frame([])
REQUEST: Final = [
    (b":method", b"POST"),
    (b":scheme", b"http"),
    (b":authority", b"here"),
    (b":path", b"/a/b"),
    (b"te", b"trailers"),
    (b"content-type", b"application/grpc"),
]


def block(*more: tuple[bytes, bytes], fields: list[tuple[bytes, bytes]] = REQUEST) -> bytes:
    """Without the dynamic table, so that blocks may come in any order."""
    return answer_block([*fields, *more])


WORDS = st.sampled_from(
    [
        (b"a", b"b"),
        (b"A", b"b"),
        (b"connection", b"close"),
        (b"te", b"gzip"),
        (b":status", b"200"),
        (b"x", b"a\nb"),
        (b"", b"a"),
        (b"content-length", b"3"),
    ]
)
STREAMS = st.sampled_from([1, 1, 1, 3, 3, 5, 7, 2, 0])
FLAGS = st.sampled_from([0, 1, 4, 4, 5, 5, 5])
SMALL = st.binary(max_size=6)


@st.composite
def frames(draw: st.DrawFn) -> bytes:
    """One of a client's, more often right than wrong."""
    kind = draw(
        st.sampled_from(
            [
                "headers",
                "headers",
                "headers",
                "data",
                "data",
                "reset",
                "settings",
                "ping",
                "window",
                "split",
                "pad",
            ]
        )
    )
    stream = draw(STREAMS)
    if kind == "headers":
        more = draw(st.lists(WORDS, max_size=1)) if draw(st.integers(0, 3)) == 0 else []
        flags = draw(FLAGS) | wire.END_HEADERS
        if (b"content-length", b"3") in more:
            flags &= ~wire.END_STREAM  # h2 does not compare it then, and RFC 9113 asks for that (8.1.1)
        return frame(wire.HEADERS, flags, stream, block(*more))
    if kind == "split":
        whole, at = block(), draw(st.integers(0, 20))
        ended = draw(st.sampled_from([0, 1]))
        first = frame(wire.HEADERS, ended, stream, whole[:at])
        return first + frame(wire.CONTINUATION, wire.END_HEADERS, stream, whole[at:])
    if kind == "data":
        return frame(wire.DATA, draw(st.sampled_from([0, 0, 1])), stream, draw(SMALL))
    if kind == "pad":
        return frame(wire.DATA, wire.PADDED, stream, bytes([draw(st.integers(0, 9))]) + draw(SMALL))
    if kind == "reset":
        return frame(wire.RST_STREAM, 0, stream, draw(st.sampled_from([b"\0\0\0\x08", b"\0\0\0\x08", b"\0"])))
    if kind == "settings":
        name, value = draw(
            st.sampled_from([(4, 0), (4, 2**31), (4, 70_000), (5, 1), (5, 20_000), (2, 2), (99, 1)])
        )
        return settings_frame([Setting(name, value)])
    if kind == "ping":
        return frame(
            wire.PING,
            0,
            draw(st.sampled_from([0, 0, 0, 1])),
            draw(st.sampled_from([b"12345678"] * 3 + [b"1"])),
        )
    size = draw(st.sampled_from([0, 1, 1000, 2**31 - 1]))
    return wire.window_update(stream, size)


def by_h2(data: bytes) -> tuple[list[tuple[Any, ...]], bool]:
    """What came of it up to the first broken rule, and whether there was one."""
    them = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding=None))
    seen: list[tuple[Any, ...]] = []
    them.initiate_connection()
    them.data_to_send()
    try:
        events = them.receive_data(data)
    except h2.exceptions.ProtocolError:
        return seen, True
    for event in events:
        match event:
            case h2.events.RequestReceived():
                seen.append(("request", event.stream_id))
            case h2.events.DataReceived() if event.data:
                seen.append(("data", event.stream_id, event.data))
            case h2.events.StreamEnded():
                seen.append(("ended", event.stream_id))
            case h2.events.StreamReset():
                if not event.remote_reset:
                    return seen, True
                seen.append(("reset", event.stream_id))
            case h2.events.ConnectionTerminated():
                return seen, True
            case _:
                pass
    said = them.data_to_send() or b""
    return seen, bytes((wire.RST_STREAM,)) in kinds(said)


def kinds(said: bytes) -> list[bytes]:
    """Of the frames in it."""
    found, at = [], 0
    while at < len(said):
        found.append(said[at + 3 : at + 4])
        at += 9 + int.from_bytes(said[at : at + 3], "big")
    assert at == len(said)
    return found


def fields_of(fields: Fields) -> Fields:
    return fields


def by_us(data: bytes) -> tuple[list[tuple[Any, ...]], bool]:
    us: Connection[Fields] = Connection(fields_of)
    us.take()
    seen: list[tuple[Any, ...]] = []
    for event in us.receive(data, 0.0):
        match event:
            case Requested():
                seen.append(("request", event.stream))
                if event.ended:
                    seen.append(("ended", event.stream))
            case Came():
                if event.data:
                    seen.append(("data", event.stream, event.data))
                if event.ended:
                    seen.append(("ended", event.stream))
            case Gone():
                seen.append(("reset", event.stream))
            case Broken():
                return seen, True
            case Alive():
                pass
    said, _ = us.take()
    return seen, bytes((wire.RST_STREAM,)) in kinds(said)


@settings(max_examples=250, deadline=None)
@given(st.lists(frames(), max_size=7))
def test_the_same_frames_mean_the_same_as_to_h2(sent: list[bytes]) -> None:
    """Frame by frame: both refuse it, or both see the same in it."""
    data, begun = HELLO, 0
    for one in sent:
        kind, stream = one[3], int.from_bytes(one[5:9], "big")
        if kind == wire.RST_STREAM and (stream > begun or stream % 2 == 0):
            return  # h2 lets it pass, which RFC 9113 calls an error (5.1, idle)
        begun = max(begun, stream) if kind == wire.HEADERS else begun
        data += one
        theirs, their_refusal = by_h2(data)
        ours, our_refusal = by_us(data)
        assert our_refusal == their_refusal, (sent, ours, theirs)
        if our_refusal:
            return
        assert ours == theirs


@settings(max_examples=250, deadline=None)
@given(st.lists(frames(), max_size=8), st.lists(st.integers(1, 40), min_size=1, max_size=30))
def test_how_bytes_are_cut_changes_nothing(sent: list[bytes], cuts: list[int]) -> None:
    """The same events and the same answer, whole or in pieces."""
    data = HELLO + b"".join(sent)
    whole: Connection[Fields] = Connection(fields_of)
    events = list(whole.receive(data, 0.0))
    pieces: Connection[Fields] = Connection(fields_of)
    seen, at = [], 0
    for cut in cuts:
        seen += pieces.receive(data[at : at + cut], 0.0)
        at += cut
    seen += pieces.receive(data[at:], 0.0)
    assert seen == events
    assert pieces.take() == whole.take()


@settings(max_examples=250, deadline=None)
@given(
    st.lists(
        st.one_of(
            frames(),
            st.builds(frame, st.integers(0, 11), st.integers(0, 255), STREAMS, st.binary(max_size=40)),
            st.binary(max_size=20),
        ),
        max_size=10,
    )
)
def test_no_bytes_do_more_than_end_the_connection(sent: list[bytes]) -> None:
    """Nothing raises, what is gone is gone for good, and what is said are whole frames."""
    us: Connection[Fields] = Connection(fields_of)
    known: set[int] = set()
    for one in [HELLO, *sent]:
        for event in us.receive(one, 0.0):
            match event:
                case Requested():
                    assert event.stream not in known
                    known.add(event.stream)
                case Came():
                    assert event.stream in known
                case Gone():
                    known.remove(event.stream)
                case _:
                    pass
        for stream in list(known)[:1]:
            us.respond(stream, answer_block([], 200), b"x" * 70_000, answer_block([(b"grpc-status", b"0")]))
            us.took(stream, 3)
        said, _ = us.take()
        kinds(said)
    assert us.open <= len(known)


BIG: Final = st.builds(bytes, st.integers(0, 300_000))


@settings(max_examples=40, deadline=None)
@given(st.lists(BIG, min_size=1, max_size=4), st.sampled_from([1, 100, 65_535, 1_000_000]), st.data())
def test_answers_keep_to_the_windows_of_h2(answers: list[bytes], window: int, data: st.DataObject) -> None:
    """As client `h2` checks each frame against its windows and its frame size; all answers come whole."""
    window = max(window, 1 + sum(map(len, answers)) // 500)
    them = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True, header_encoding=None))
    them.initiate_connection()
    them.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: window})
    us: Connection[Fields] = Connection(fields_of)
    for number, _ in enumerate(answers):
        them.send_headers(1 + 2 * number, REQUEST, end_stream=True)
    asked = [event for event in us.receive(them.data_to_send(), 0.0) if isinstance(event, Requested)]
    assert len(asked) == len(answers)
    for event, answer in zip(asked, answers, strict=True):
        if data.draw(st.booleans()):
            us.respond(event.stream, answer_block([], 200), answer, answer_block([(b"x", b"y")]))
        else:
            us.headers(event.stream, answer_block([], 200))
            us.data(event.stream, answer)
            us.end(event.stream, answer_block([(b"x", b"y")]))
    read = {event.stream: b"" for event in asked}
    ended: set[int] = set()
    for _ in range(3_000):
        said, _ = us.take()
        back = bytearray()
        for seen in them.receive_data(said):
            if isinstance(seen, h2.events.DataReceived):
                read[seen.stream_id] += seen.data
                if seen.flow_controlled_length:
                    them.acknowledge_received_data(seen.flow_controlled_length, seen.stream_id)
            elif isinstance(seen, h2.events.StreamEnded):
                ended.add(seen.stream_id)
        back += them.data_to_send()
        us.receive(bytes(back), 0.0)
        if not us.more and not back:
            break
    assert [read[event.stream] for event in asked] == answers
    assert len(ended) == len(answers)
    assert us.open == 0


NAMES = st.sampled_from([b"a", b"grpc-timeout", b"x-y", b"authorization"])
LISTS = st.lists(st.tuples(NAMES, st.sampled_from([b"1", b"2", b"long" * 20])), max_size=4)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(LISTS, st.booleans(), st.sampled_from([None, None, 0, 64, 4096])), max_size=12))
def test_blocks_that_come_again_mean_what_hpack_says(
    requests: list[tuple[list[tuple[bytes, bytes]], bool, int | None]],
) -> None:
    """Through a table that changes between them, what is kept of earlier blocks is never stale."""
    encoder = hpack.Encoder()
    us: Connection[Fields] = Connection(fields_of)
    us.receive(HELLO, 0.0)
    for number, (more, secret, table) in enumerate(requests):
        if table is not None:
            encoder.header_table_size = table
        fields = [(*field, secret) for field in more]
        coded = encoder.encode([*REQUEST, *fields])
        (event,) = us.receive(frame(wire.HEADERS, 5, 2 * number + 1, coded), 0.0)
        assert isinstance(event, Requested)
        assert list(event.meaning.rest) == [*REQUEST[4:], *more]
