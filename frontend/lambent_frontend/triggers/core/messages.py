"""What the engines of queues and of streams have in common: records, what happens to them, and what to do.

Payloads stay in the shell: an engine knows records by their ids, sizes and keys. Times are seconds of one
clock that only grows, but `written_at`, which is Unix time as the source has it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

MAX_BATCH_BYTES: Final = 6 * 1024 * 1024
"""Of the records of one event, Lambda's limit; what is around them fits into what an event may have more."""

MAX_HELD_BYTES: Final = 4 * MAX_BATCH_BYTES
"""Of records that were read and are not done with: as long as there are more, none are read."""

LONGEST_PAUSE_S: Final = 60.0
"""Between two attempts, Lambda's for streams."""


@dataclass(frozen=True, slots=True)
class Record:
    id: str
    """What a function calls it where it reports which failed; in a stream also its place."""
    size: int
    """Bytes in the event."""
    key: str = ""
    """Records of one key are called with one after the other, in their order; empty: it has none."""
    written_at: float = 0.0
    """Unix seconds."""
    deliveries: int = 1
    """How often a queue has given it out, this time included."""
    wanted: bool = True
    """Whether the filters take it."""


@dataclass(frozen=True, slots=True)
class Batch:
    number: int
    records: tuple[Record, ...]
    attempts: int = 0
    """Calls with these records that failed before, splits not counted."""

    @property
    def ids(self) -> tuple[str, ...]:
        return tuple(record.id for record in self.records)


@dataclass(frozen=True, slots=True)
class Tally:
    """Of records of a stream that were called with together and failed. Whoever reads them next calls with
    them together again, and goes on counting."""

    first: str
    """Its id."""
    records: int
    """How many, with those behind it that are called with in a row."""
    attempts: int
    """As of a batch."""
    calls: int
    """All of them, those before a split included."""
    since: float
    """When they first failed, Unix seconds."""


class Outcome(Enum):
    ENDED = "ended"
    """The function answered; what it reported as failed is said beside."""
    FAILED = "failed"
    """It failed, or nobody knows how it ended: all of the batch counts as failed."""
    NEVER_RAN = "never ran"
    """Throttled, or nothing could run it. That is no attempt."""
    TOO_LARGE = "too large"
    """The event is larger than one may be."""


# What happens


@dataclass(frozen=True, slots=True)
class Read:
    """Records came, in their order. Calls begin with the next Tick."""

    records: Sequence[Record]
    now: float


@dataclass(frozen=True, slots=True)
class Called:
    """The call with a batch is over."""

    number: int
    outcome: Outcome
    now: float
    unix: float
    failed: frozenset[str] = frozenset()
    """With ENDED: the ids that the function reported."""


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed."""

    now: float
    unix: float


@dataclass(frozen=True, slots=True)
class Stop:
    """No call begins any more. What is not under way is given back."""


Event = Read | Called | Tick | Stop


# What to do


@dataclass(frozen=True, slots=True)
class Call:
    batch: Batch


@dataclass(frozen=True, slots=True)
class Done:
    """A queue need not keep these: they were processed, or no filter takes them."""

    ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class GiveBack:
    """A queue shall give these out again, after a pause; None: after what the queue itself is set to."""

    ids: tuple[str, ...]
    pause_s: float | None


@dataclass(frozen=True, slots=True)
class Discard:
    """These are given up. Whoever is to be told is told, and only then they are done with."""

    batch: Batch
    condition: str
    """As Lambda's record has it."""
    calls: int
    """How often the function was called with them."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Of a stream: all up to and with this one is done with."""

    id: str


@dataclass(frozen=True, slots=True)
class Tallied:
    """Of a stream: what has failed and is to be called with again, all of it."""

    tallies: tuple[Tally, ...]


Command = Call | Done | GiveBack | Discard | Checkpoint | Tallied

EXHAUSTED: Final = "RetryAttemptsExhausted"
TOO_OLD: Final = "RecordAgeExceeded"
OVERSIZED: Final = "PayloadTooLarge"
"""Ours: no call can be made with it."""


def pause_s(attempts: int) -> float:
    """After so many attempts: 1, 2, 4 … seconds."""
    return min(float(2 ** min(attempts - 1, 10)), LONGEST_PAUSE_S)
