"""What of the queue runs next: a lane for each function, turn by turn.

Events wait in the store; a lane holds a few of the next ones, so that the queue may be longer than memory.
A lane that is throttled pauses as a whole: its events wait where they are, without an attempt used up, and
half as many run at one time from then on. So one function that fails, hangs or is full takes nothing from
the others but what it runs. A lane's name says nothing here: deliveries to one destination are a lane too.

Times are Unix seconds. What is said twice, such as one event fetched again, changes nothing.
"""

import heapq
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from math import inf
from typing import Final, NamedTuple

FIRST_PAUSE_S: Final = 1.0
LONGEST_PAUSE_S: Final = 300.0
"""Between two tries of what is throttled, or fails without the function's fault: Lambda's bounds."""

WINDOW: Final = 32
"""Most events that a lane holds beside those that run."""

SHARES: Final = 4
"""Of all bytes that may be in memory one lane has such a part: one whose large events hang leaves room."""


def pause_s(times: int) -> float:
    """After so many failures in a row, the first being 1."""
    return min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** min(times - 1, 16))


class Item(NamedTuple):
    """An event as far as its turn depends on it."""

    number: int
    """Its own, growing with each event that the store takes."""
    due: float
    size: int
    """Bytes in memory while it runs."""


class Fetch(NamedTuple):
    """Ask the store for the next events of a lane, by due time and number, and tell `fetched`."""

    lane: str
    most: int


class Run(NamedTuple):
    """Have it done, and tell `over`, or `postponed`, or `throttled`."""

    lane: str
    item: Item


@dataclass(slots=True)
class _Lane:
    width: int
    """Most that run at one time."""
    waiting: deque[Item] = field(default_factory=deque)
    held: set[int] = field(default_factory=set)
    """Those that wait here, run, or whose end is not in the store yet: the store may tell of them again."""
    running: int = 0
    bytes: int = 0
    """Of those that run."""
    more_due: float = inf
    """When the store has more, due then."""
    heard: float = inf
    """The soonest that came to the store while it was asked."""
    fetching: bool = False
    failures: int = 0
    paused_until: float = 0.0
    alarm: float = inf
    """The soonest time at which it is looked at by itself."""

    @property
    def idle(self) -> bool:
        return not (self.held or self.fetching) and self.more_due == inf


class Lanes:
    def __init__(self, *, widest: Callable[[str], int], most_running: int, most_bytes: int) -> None:
        """`widest` says how many of a lane run at one time at most."""
        self._widest = widest
        self._most_running = most_running
        self._most_bytes = most_bytes
        self._lanes: dict[str, _Lane] = {}
        self._turns: dict[str, None] = {}
        """Lanes that something may be done for, whose turn is next first."""
        self._alarms: list[tuple[float, str]] = []
        self.running = 0
        self.bytes = 0

    # What the shell tells

    def more(self, name: str, due: float) -> None:
        """The store has one more event of the lane."""
        lane = self._lanes.setdefault(name, _Lane(self._widest(name)))
        lane.more_due = min(lane.more_due, due)
        if lane.fetching:
            lane.heard = min(lane.heard, due)
        self._turns.setdefault(name)

    def fetched(self, name: str, items: Iterable[Item], next_due: float) -> None:
        """What a Fetch found; `next_due` is that of the first event after those, inf if there is none."""
        lane = self._lanes[name]
        lane.fetching = False
        lane.more_due = min(next_due, lane.heard)
        lane.heard = inf
        for item in items:
            if item.number not in lane.held:
                lane.held.add(item.number)
                lane.waiting.append(item)
        self._turns.setdefault(name)

    def over(self, name: str, item: Item) -> None:
        """It has been done, and its end is in the store."""
        self._stopped(name, item)
        self._forget(name, item)

    def postponed(self, name: str, item: Item, due: float) -> None:
        """It is to run again then, and the store knows."""
        self._stopped(name, item)
        self._forget(name, item)
        self.more(name, due)

    def throttled(self, name: str, item: Item, now: float) -> None:
        """It did not run, as the function is full: the lane pauses, longer each time.

        Those that ran beside it and are throttled as well are no further time.
        """
        self._stopped(name, item)
        lane = self._lanes[name]
        lane.waiting.appendleft(item)
        if now >= lane.paused_until:
            lane.failures += 1
            lane.width = max(1, lane.width // 2)
            lane.paused_until = now + pause_s(lane.failures)
        self._turns.setdefault(name)

    def went_well(self, name: str) -> None:
        """Something of the lane was taken and answered: it is not full."""
        lane = self._lanes[name]
        lane.failures = 0
        lane.width = min(self._widest(name), lane.width + 1)

    def cancelled(self, name: str, number: int) -> None:
        """If it waits here it is forgotten; what runs goes on until it is over."""
        lane = self._lanes.get(name)
        for item in lane.waiting if lane else ():
            if lane and item.number == number:
                lane.waiting.remove(item)
                self._forget(name, item)
                return

    # What is to be done

    def next(self, now: float) -> Iterator[Run | Fetch]:
        """A turn for each lane in turn, until all have what they may have."""
        while self._alarms and self._alarms[0][0] <= now:
            self._ring(heapq.heappop(self._alarms)[1])
        blocked: list[str] = []
        while self._turns:
            name = next(iter(self._turns))
            del self._turns[name]
            lane = self._lanes.get(name)
            if lane is None:
                continue
            if self._wants_more(lane, now):
                lane.fetching, lane.more_due = True, inf
                yield Fetch(name, WINDOW + len(lane.held))
            if self._may_run(lane, now):
                if not self._has_room(lane.waiting[0]):
                    blocked.append(name)
                    continue
                yield Run(name, self._started(lane))
                self._turns.setdefault(name)  # behind the others
            else:
                self._rest(name, lane, now)
        self._turns.update(dict.fromkeys(blocked))

    def wake_at(self) -> float:
        """When `next`, which has just ended, has more to say; inf: not before it is told something."""
        return self._alarms[0][0] if self._alarms else inf

    def _wants_more(self, lane: _Lane, now: float) -> bool:
        return not lane.fetching and lane.more_due <= now and len(lane.waiting) < WINDOW // 2

    def _may_run(self, lane: _Lane, now: float) -> bool:
        if not lane.waiting or now < lane.paused_until:
            return False
        share = self._most_bytes // SHARES
        fits = not lane.running or lane.bytes + lane.waiting[0].size <= share
        return fits and lane.running < lane.width

    def _has_room(self, item: Item) -> bool:
        if self.running >= self._most_running:
            return False
        return not self.running or self.bytes + item.size <= self._most_bytes

    def _started(self, lane: _Lane) -> Item:
        item = lane.waiting.popleft()
        lane.running += 1
        lane.bytes += item.size
        self.running += 1
        self.bytes += item.size
        return item

    def _rest(self, name: str, lane: _Lane, now: float) -> None:
        """Nothing can be done for it now: until when?"""
        paused = now < lane.paused_until
        if lane.idle and not paused:
            del self._lanes[name]
            return
        at = lane.paused_until if paused else lane.more_due
        if now < at < lane.alarm:
            lane.alarm = at
            heapq.heappush(self._alarms, (at, name))

    def _ring(self, name: str) -> None:
        if name in self._lanes:
            self._lanes[name].alarm = inf
            self._turns.setdefault(name)

    def _stopped(self, name: str, item: Item) -> None:
        lane = self._lanes[name]
        lane.running -= 1
        lane.bytes -= item.size
        self.running -= 1
        self.bytes -= item.size

    def _forget(self, name: str, item: Item) -> None:
        self._lanes[name].held.discard(item.number)
        self._turns.setdefault(name)
