"""Which objects of a folder or a bucket are to be called with: those that no mark is kept of.

A mark is a digest of an object's name and of the state that it is in, so an object that is overwritten is
another one. Marks of what is there no more are dropped. So they are as many as there are objects, and nothing
depends on a clock, or on the order in which objects come. For the next reader they are kept in segments: a
new mark changes one of them, which is small; when most marks are of nothing any more, these are taken out.

An object may be seen before it is complete. Where that can be, it has to stay the same for `settle_s` first.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

MARK: Final = 20
"""Hexadecimal digits, 80 bits: that two of 100,000 objects share one has a chance of one in 10^14."""
SEGMENT: Final = 1000
"""Marks of one segment: 20 kB."""
SPARE: Final = 1000
"""So many marks more than twice the needed ones are kept before those of nothing are taken out."""


@dataclass(frozen=True, slots=True)
class Object:
    key: str
    state: str
    """Another one once the object was overwritten."""
    size: int
    """Bytes."""
    modified_at: float
    """Unix seconds."""
    etag: str
    mark: str = field(init=False)
    """Made at once, so that it can be made in a thread."""

    def __post_init__(self) -> None:
        named = f"{self.key}\0{self.state}".encode("utf-8", "surrogateescape")
        object.__setattr__(self, "mark", hashlib.sha256(named).hexdigest()[:MARK])


@dataclass(slots=True)
class Objects:
    settle_s: float = 0.0
    _done: set[str] = field(default_factory=set)
    _ours: set[str] = field(default_factory=set)
    """Given out, and not done with."""
    _settling: dict[str, float] = field(default_factory=dict)
    """Since when each was seen."""
    _segments: list[list[str]] = field(default_factory=lambda: [[]])
    _open: int = 0
    """The first segment that may have room."""
    _changed: set[int] = field(default_factory=set)

    def load(self, kept: Mapping[int, str]) -> None:
        """What was kept before, by segment."""
        self._segments = [_marks(kept.get(n, "")) for n in range(max(kept, default=0) + 1)]
        self._done = {mark for marks in self._segments for mark in marks}

    @property
    def settling(self) -> int:
        return len(self._settling)

    def seen(self, there: Iterable[Object], now: float) -> list[Object]:
        """`there` is all that is there. Returns what is to be called with now, which is given out by that."""
        fresh, settling, marks = [], {}, set()
        for each in there:
            mark = each.mark
            marks.add(mark)
            if mark in self._done or mark in self._ours:
                continue
            since = self._settling.get(mark, now)
            if now >= since + self.settle_s:
                self._ours.add(mark)
                fresh.append(each)
            else:
                settling[mark] = since
        self._settling = settling
        self._done &= marks
        if sum(map(len, self._segments)) > 2 * len(self._done) + SPARE:
            self._thin_out()
        return fresh

    def done(self, each: Object) -> None:
        mark = each.mark
        self._ours.discard(mark)
        if mark in self._done:
            return
        self._done.add(mark)
        while len(self._segments[self._open]) >= SEGMENT:
            self._open += 1
            if self._open == len(self._segments):
                self._segments.append([])
        self._segments[self._open].append(mark)
        self._changed.add(self._open)

    def to_keep(self) -> dict[int, str]:
        """The segments that changed since it was asked last."""
        changed = {n: "".join(self._segments[n]) for n in sorted(self._changed)}
        self._changed.clear()
        return changed

    def _thin_out(self) -> None:
        """Each segment keeps its own marks that are needed still. So those that are kept for the next reader
        have all of them at any moment, however few of the segments were written by then."""
        left = set(self._done)
        for n, marks in enumerate(self._segments):
            needed = [it for it in dict.fromkeys(marks) if it in left]
            left.difference_update(needed)
            if len(needed) < len(marks):
                self._segments[n] = needed
                self._changed.add(n)
        self._open = 0


def _marks(text: str) -> list[str]:
    return [text[at : at + MARK] for at in range(0, len(text), MARK)]
