"""What the queue keeps, and the interface of a store for it. `tests/integration/queue` is what one must do.

Of each event there is one row, from its 202 until `forget` has it deleted. While something is to be done with
it, it is in a lane, by its due time: that of its function to be run, then that of a destination its record
goes to. What a method has returned from is on disk and stays there, through the death of any process.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from enum import Enum
from typing import Any, Final, NamedTuple, Protocol

import msgpack

from lambent_frontend.queue.core.lanes import Item, Run
from lambent_frontend.queue.core.verdict import Tally
from lambent_proto.ids import FunctionName, RequestId


class State(Enum):
    """Of an event, as the store knows it; that it runs just now only its frontend knows."""

    QUEUED = "queued"
    RETRYING = "retrying"
    """It has been tried, and waits to be tried again."""
    DELIVERING = "delivering"
    """It has ended, and its record is on its way to a destination."""
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    """It was given up, and its record was taken by a destination or a dead-letter queue."""
    DEAD = "dead"
    """It was given up, and nobody took its record."""
    CANCELLED = "cancelled"


GIVEN_UP = (State.FAILED, State.DEAD)
"""Those that keep their event, and can be run again."""


@dataclass(frozen=True, slots=True)
class Asked:
    """An event as it came, without its payload."""

    function: FunctionName
    qualifier: str
    """A version or an alias; empty: none."""
    client_context: str = ""
    priority: int = 0
    """As in invoke.proto."""
    tenant: str = ""
    sticky_key: str = ""
    turn: int = 0
    """How many events led to this one, each as the record of the one before that came to its function."""
    trace: str = ""
    """As a call carries it; empty: its caller gave none."""

    def encode(self) -> bytes:
        told = [self.qualifier, self.client_context, self.priority, self.tenant, self.sticky_key, self.turn]
        if self.trace:  # without it the release before can read the event
            told.append(self.trace)
        return bytes(msgpack.packb(told))

    @classmethod
    def decode(cls, function: FunctionName, value: bytes) -> "Asked":
        """Fields of a newer release are ignored."""
        return cls(function, *msgpack.unpackb(value)[:_ASKED])


_ASKED: Final = len(fields(Asked)) - 1
"""Fields that are encoded: all but the function."""


@dataclass(frozen=True, slots=True)
class Ending:
    """How an event ended, and where its record still goes."""

    state: State
    """Once the record has gone everywhere."""
    condition: str
    """Of verdict.Condition."""
    targets: tuple[str, ...] = ()
    """Destinations that its record still goes to, each by the name of its lane."""
    failed: bool = False
    """The answer is Lambda's error document."""
    version: str = ""
    """That ran."""
    message: str = ""
    """What the platform had to say."""
    running_ms: float = 0.0
    ended: float = 0.0
    """Unix seconds."""
    deliveries: int = 0
    """How often the next target has failed in a row."""

    def encode(self) -> bytes:
        fields: list[Any] = [
            self.state.value,
            self.condition,
            self.targets,
            self.failed,
            self.version,
            self.message,
            self.running_ms,
            self.ended,
            self.deliveries,
        ]
        return bytes(msgpack.packb(fields))

    @classmethod
    def decode(cls, value: bytes) -> "Ending":
        state, condition, targets, *rest = msgpack.unpackb(value)
        return cls(State(state), condition, tuple(targets), *rest)

    def without_first_target(self) -> "Ending":
        return replace(self, targets=self.targets[1:], deliveries=0)


@dataclass(frozen=True, slots=True)
class Event:
    """A row."""

    item: Item
    id: RequestId
    asked: Asked
    state: State
    tally: Tally
    ending: Ending | None = None
    message: str = ""
    """What became of the last attempt, if it is not over."""


@dataclass(frozen=True, slots=True)
class Key:
    """A caller's idempotency key: what was asked with it first is all that is ever done for it."""

    text: str
    """With what tells its function from one that had the name before."""
    digest: bytes
    """Of what was asked: the same key for something else is a mistake."""
    now: float
    """Unix seconds."""
    until: float
    """Forgotten after that."""


@dataclass(frozen=True, slots=True)
class Kept:
    """What an idempotency key stands for."""

    id: RequestId
    digest: bytes
    answer: bytes | None
    """Of a synchronous call: what it was answered, once it was."""
    at: str = ""
    """The frontend that has it under way, if it is another one than this."""


class Taken(NamedTuple):
    """What `put` made of an event."""

    number: int
    """0 if nothing was stored, because of the key."""
    before: Kept | None = None
    """What the key stood for already."""


class Counts(NamedTuple):
    by_state: Mapping[str, int]
    bytes: int
    """In use on disk."""
    most_bytes: int
    """That it may grow to."""
    oldest: float | None = None
    """Unix seconds at which the oldest event came with which something is still to be done; None: there is
    none. One that was redriven came then, and keeps its place."""


class Store(Protocol):
    """Methods raise QueueFull for what there is no room for, and NotReady when the store fails."""

    async def put(self, event: RequestId, asked: Asked, payload: bytes, now: float, key: Key | None) -> Taken:
        """A new event, due at once, unless the key is known."""

    async def lanes(self) -> Sequence[tuple[str, float]]:
        """Every lane that has something, and when its first is due."""

    async def next(self, lane: str, most: int) -> Sequence[Item]:
        """The first ones of a lane, by due time and number."""

    async def load(self, runs: Sequence[Run]) -> Sequence[tuple[Event, bytes, bytes]]:
        """Those that still wait in that lane for that time, each with its payload and its answer."""

    async def again(self, run: Run, due: float, tally: Tally, message: str) -> bool:
        """To be run again. False, and nothing is changed, if it is no longer what was run: it was cancelled,
        or another frontend has run it meanwhile.
        """

    async def end(
        self, run: Run, ending: Ending, tally: Tally, due: float, answer: bytes | None = None
    ) -> bool:
        """Its run is over. With targets left it goes on in the lane of the first, due then.

        `answer` None leaves the one that is there. False as for `again`.
        """

    async def cancel(self, function: FunctionName, event: RequestId, now: float) -> Event | None:
        """As it was before, which says whether there was anything to cancel; None if it is not known."""

    async def redrive(self, function: FunctionName, event: RequestId, now: float) -> Event | None:
        """One that was given up is due again, as if it had just come; answers as `cancel`."""

    async def get(self, function: FunctionName, event: RequestId) -> tuple[Event, bytes] | None:
        """With its answer."""

    async def list(
        self, function: FunctionName, state: State | None, after: int, most: int
    ) -> Sequence[Event]:
        """By number, those above `after`."""

    async def reserve(self, function: FunctionName, key: Key, event: RequestId) -> Kept | None:
        """Keeps the key for a synchronous call, or tells what it stands for."""

    async def answered(self, function: FunctionName, key: Key, answer: bytes | None) -> None:
        """What that call was answered; None: it never ran, and the key is free again."""

    async def forget(self, ended_before: float, given_up_before: float, most_ended: int, now: float) -> bool:
        """Deletes some of what ended before then, and of more than `most_ended` the oldest; and old keys.

        True if there may be more.
        """

    async def counts(self) -> Counts: ...

    async def close(self) -> None: ...
