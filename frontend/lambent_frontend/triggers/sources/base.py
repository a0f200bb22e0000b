"""What a poller wants of a source, whatever it is: records of its lines, and a way to be done with them.

A line is what has an order of its own: a queue is one, each shard of a stream is one.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any, Final, Protocol

from lambent_frontend.triggers.core.messages import Record
from lambent_proto.triggers import Trigger

DEFAULT_DELIVERIES: Final = 5
"""Of queues that do not count for themselves, where the trigger does not say: what AWS advises for SQS."""


class SourceFailed(Exception):
    """The source cannot be used, none of its lines. The message says why, and whose fault it is."""


class LineEnded(Exception):
    """The line will never have another record, and all it had were read."""


@dataclass(frozen=True, slots=True)
class Item:
    record: Record
    body: bytes
    """The record as it stands in the event, JSON."""
    view: Mapping[str, Any]
    """What filters see of it."""


class Kept(Protocol):
    """What is kept of one trigger for whoever has it next, in etcd. To write raises NotOurs once that is
    somebody else."""

    async def places(self) -> Mapping[str, str]:
        """By line, up to where all is done with; and what else a source keeps there."""

    async def place(self, line: str, at: str) -> None: ...

    async def failures(self) -> Mapping[str, bytes]:
        """By line, how often what fails there has failed."""

    async def keep_failures(self, line: str, failures: bytes) -> None: ...


class Source(ABC):
    """Of one trigger. What fails raises SourceFailed, or what its library raises: of a stream that is for one
    line alone, and the others go on."""

    def __init__(self, trigger: Trigger, url: str) -> None:
        """`url` is where it is, empty for AWS itself."""
        self.trigger = trigger
        self.url = url
        self._closing = AsyncExitStack()

    @abstractmethod
    async def open(self) -> None:
        """Puts what has to be ended into `_closing`, as soon as it is there."""

    async def close(self) -> None:
        """However far it was opened."""
        await self._closing.aclose()

    async def forget(self) -> None:
        """Takes away what the source keeps for this trigger alone, which is being deleted. It was not opened,
        as that may leave something behind; what is opened here is put into `_closing` as well."""
        return

    @abstractmethod
    async def read(self, line: str, most: int) -> list[Item]:
        """At most so many; waits a few seconds for the first. Raises LineEnded."""

    @abstractmethod
    def event(self, items: Sequence[Item]) -> bytes:
        """What the function is called with."""

    @abstractmethod
    async def lag(self) -> int | None:
        """Records that were not read yet; None if the source does not say."""


class QueueSource(Source):
    """It gives records out, and out again those that are not done with. What was read is ours for as long as
    the source is open."""

    deliveries: int | None = None
    """After so many a record that fails is given up; None: the queue has rules of its own for that."""

    @abstractmethod
    async def done(self, ids: Sequence[str]) -> None:
        """It need not keep these."""

    @abstractmethod
    async def give_back(self, ids: Sequence[str], pause_s: float | None) -> None:
        """It shall give these out again, after a pause; None: after its own."""

    @abstractmethod
    async def give_up(self, ids: Sequence[str]) -> None:
        """It shall not give these out again, as they failed too often."""


class StreamSource(Source):
    """It keeps its records, and is told how far all is done with."""

    @abstractmethod
    async def lines(self) -> Sequence[str]:
        """The shards or partitions that may be read now; not those that ended and were done with."""

    @abstractmethod
    def rewind(self, line: str) -> None:
        """The line is to be read anew behind its last checkpoint, while others of its lines go on."""

    @abstractmethod
    async def checkpoint(self, line: str, place: str) -> None:
        """All of the line up to and with this record is done with."""

    @abstractmethod
    async def ended(self, line: str) -> None:
        """The line has ended, and all of it is done with."""


def records_event(items: Sequence[Item]) -> bytes:
    """`{"Records": [...]}`."""
    return b'{"Records":[' + b",".join(item.body for item in items) + b"]}"
