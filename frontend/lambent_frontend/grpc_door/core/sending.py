"""What a connection still has to say: frames in order, and data that waits for the client's windows."""

from collections import deque
from typing import Final

from lambent_frontend.grpc_door.core.wire import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    FIRST_WINDOW,
    HEADERS,
    LEAST_MAX_FRAME,
    MAX_WINDOW,
    Code,
    ConnectionFault,
    StreamFault,
    frame,
    frame_head,
)

MOST_AT_ONCE: Final = 256 * 1024
"""Bytes that are taken for one write, so that a large answer does not stand before all others for long."""


class Lane:
    """One stream's data, and what follows on it."""

    __slots__ = ("end", "queued", "size", "stream", "window")

    def __init__(self, stream: int, window: int) -> None:
        self.stream = stream
        self.window = window
        """What the client takes; below 0 if it has lowered its windows meanwhile."""
        self.queued: deque[memoryview] = deque()
        self.size = 0
        self.end: bytes | None = None
        """The block of its trailers."""


class Sending:
    def __init__(self) -> None:
        self.window = FIRST_WINDOW
        """Of the whole connection."""
        self.first_window = FIRST_WINDOW
        """Of a new stream."""
        self.max_frame = LEAST_MAX_FRAME
        self._frames: list[bytes] = []
        self._bytes = 0
        self._waiting: dict[Lane, None] = {}
        """Those that have something to say and a window of their own for it, in turn."""
        self._finished: dict[Lane, tuple[int, float]] = {}
        """Those that wait with their end behind them: what was left at some look, and when that was seen."""

    @property
    def waiting(self) -> int:
        """Bytes of frames that nobody has taken."""
        return self._bytes

    def put(self, frame_bytes: bytes) -> None:
        self._frames.append(frame_bytes)
        self._bytes += len(frame_bytes)

    def at_once(self, lane: Lane, head: bytes, data: bytes, trailers: bytes) -> bool:
        """A whole answer in three frames, if it may leave now."""
        size = len(data)
        if self._waiting or size > self.max_frame or size > self.window or size > lane.window:
            return False
        stream = lane.stream
        self.window -= size
        self.put(
            frame_head(len(head), HEADERS, END_HEADERS, stream)
            + head
            + frame_head(size, DATA, 0, stream)
            + data
            + frame_head(len(trailers), HEADERS, END_HEADERS | END_STREAM, stream)
            + trailers
        )
        return True

    def headers(self, stream: int, block: bytes, *, ends: bool) -> None:
        """Blocks of ours may be larger than a frame: what does not fit goes on in CONTINUATION frames."""
        flags = END_STREAM if ends else 0
        if len(block) <= self.max_frame:
            self.put(frame(HEADERS, flags | END_HEADERS, stream, block))
            return
        pieces = [block[at : at + self.max_frame] for at in range(0, len(block), self.max_frame)]
        self.put(frame(HEADERS, flags, stream, pieces[0]))
        for piece in pieces[1:-1]:
            self.put(frame(CONTINUATION, 0, stream, piece))
        self.put(frame(CONTINUATION, END_HEADERS, stream, pieces[-1]))

    def data(self, lane: Lane, data: bytes) -> None:
        if data:
            lane.queued.append(memoryview(data))
            lane.size += len(data)
            self._waiting[lane] = None

    def end(self, lane: Lane, trailers: bytes) -> bool:
        """Whether that was at once, as nothing waits before it."""
        if lane.size:
            lane.end = trailers
            self._finished[lane] = (0, 0.0)
            return False
        self.headers(lane.stream, trailers, ends=True)
        return True

    def drop(self, lane: Lane) -> None:
        lane.queued.clear()
        lane.size = 0
        self._waiting.pop(lane, None)
        self._finished.pop(lane, None)

    def stalled(self, now: float, within_s: float) -> list[int]:
        """Streams whose answer is whole, and of which nothing was taken for so long."""
        found = []
        for lane, (left, since) in self._finished.items():
            if lane.size != left:
                self._finished[lane] = lane.size, now
            elif now - since > within_s:
                found.append(lane.stream)
        return found

    def more_window(self, size: int) -> None:
        if self.window + size > MAX_WINDOW:
            raise ConnectionFault(Code.FLOW_CONTROL_ERROR, "the connection's window is over its limit")
        self.window += size

    def more_of(self, lane: Lane, size: int) -> None:
        """`size` is below 0 where the client lowers its windows."""
        if lane.window + size > MAX_WINDOW:
            raise StreamFault(Code.FLOW_CONTROL_ERROR)
        lane.window += size
        if lane.size and lane.window > 0:
            self._waiting[lane] = None

    @property
    def more(self) -> bool:
        """Whether `take` would bring something."""
        return bool(self._frames) or (bool(self._waiting) and self.window > 0)

    def take(self) -> tuple[bytes, list[Lane]]:
        """What is to be written now, and the lanes that have come to the end of their queue with it."""
        emptied = self._pump() if self._waiting else []
        return self.take_frames(), emptied

    def take_frames(self) -> bytes:
        """Without the data that waits."""
        frames, self._frames, self._bytes = self._frames, [], 0
        return b"".join(frames)

    def _pump(self) -> list[Lane]:
        """A frame of each lane in turn, as long as there are windows and room."""
        emptied: list[Lane] = []
        while self._waiting and self.window > 0 and self._bytes < MOST_AT_ONCE:
            lane = next(iter(self._waiting))
            del self._waiting[lane]
            if lane.window > 0:
                self._one(lane)
            if not lane.size:
                if lane.end is not None:
                    self.headers(lane.stream, lane.end, ends=True)
                    del self._finished[lane]
                emptied.append(lane)
            elif lane.window > 0:
                self._waiting[lane] = None
        return emptied

    def _one(self, lane: Lane) -> None:
        room = min(lane.window, self.window, self.max_frame)
        first = lane.queued[0]
        piece = first[:room]
        if len(piece) == len(first):
            lane.queued.popleft()
        else:
            lane.queued[0] = first[room:]
        size = len(piece)
        lane.size -= size
        lane.window -= size
        self.window -= size
        self.put(frame_head(size, DATA, 0, lane.stream))
        self.put(bytes(piece))
