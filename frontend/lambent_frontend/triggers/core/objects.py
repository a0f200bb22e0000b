"""Which objects of a folder or a bucket are to be called with: those that no mark is kept of.

A mark is a digest of an object's name and of the state that it is in, so an object that is overwritten is
another one. Marks of what is there no more are dropped. So they are as many as there are objects, and nothing
depends on a clock, or on the order in which objects come. For the next reader they are kept in segments: a
new mark changes one of them, which is small; when most marks are of nothing any more, these are taken out.

An object may be seen before it is complete. Where that can be, it has to stay the same for `settle_s` first.
"""

import hashlib
from collections.abc import Callable, Collection, Mapping
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
class Listing:
    """What is there, as it is found one by one: a mark of each, and whole those that may be new. So it may be
    made in a thread, while others are done with."""

    known: Callable[[str], bool]
    marks: set[str] = field(default_factory=set)
    fresh: list[Object] = field(default_factory=list)

    def add(self, each: Object) -> None:
        self.marks.add(each.mark)
        if not self.known(each.mark):
            self.fresh.append(each)


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

    def listing(self) -> Listing:
        """One to be filled."""
        return Listing(self._knows)

    def _knows(self, mark: str) -> bool:
        return mark in self._done or mark in self._ours

    def begin(self, listing: Listing) -> None:
        """With what comes from now on: all that is there is done with."""
        for each in listing.fresh:
            self.done(each)

    def seen(self, listing: Listing, now: float) -> list[Object]:
        """`listing` has all that is there. Returns what is to be called with now, which is given out by
        that."""
        fresh, settling = [], {}
        for each in listing.fresh:
            mark = each.mark
            if self._knows(mark):
                continue
            since = self._settling.get(mark, now)
            if now >= since + self.settle_s:
                self._ours.add(mark)
                fresh.append(each)
            else:
                settling[mark] = since
        self._settling = settling
        self._done &= listing.marks
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


@dataclass(slots=True)
class Failures:
    """How often each object has failed, by its mark. They are kept in parts, by a mark's first digit, so that
    one that fails changes a small one."""

    _parts: dict[str, dict[str, int]] = field(default_factory=dict)
    _changed: set[str] = field(default_factory=set)

    def load(self, kept: Mapping[str, Mapping[str, int]]) -> None:
        self._parts = {name: dict(part) for name, part in kept.items()}

    def of(self, mark: str) -> int:
        return self._parts.get(mark[0], {}).get(mark, 0)

    def failed(self, mark: str, times: int) -> None:
        self._parts.setdefault(mark[0], {})[mark] = times
        self._changed.add(mark[0])

    def forget(self, mark: str) -> None:
        """It is done with. What is kept of it harms nobody, and goes when its part is written next."""
        self._parts.get(mark[0], {}).pop(mark, None)

    def only(self, marks: Collection[str]) -> None:
        """There are no others any more."""
        for part in self._parts.values():
            for mark in [it for it in part if it not in marks]:
                del part[mark]

    def to_keep(self) -> dict[str, dict[str, int]]:
        """The parts in which something failed since it was asked last."""
        changed = {name: dict(self._parts[name]) for name in sorted(self._changed)}
        self._changed.clear()
        return changed


def _marks(text: str) -> list[str]:
    return [text[at : at + MARK] for at in range(0, len(text), MARK)]
