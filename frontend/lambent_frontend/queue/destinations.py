"""Where records go: what a destination is called, and which adapter takes it there.

An adapter is a small file that gives one record to one kind of destination, and raises Refused if it was not
taken. It may be given the same record again: who takes it can tell by its id.
"""

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Final

from lambent_frontend.queue.records import Record
from lambent_frontend.wire import new_request_id
from lambent_proto.errors import InvalidRequest, LambentError
from lambent_proto.ids import RequestId

Adapter = Callable[[str, Record], Awaitable[None]]
"""Of the destination and the record."""

MOST_LENGTH: Final = 350
"""Characters of a destination's name: Lambda's."""

PutRecord = Callable[[str, str, bytes, RequestId], Awaitable[None]]
"""Of a function's name, the qualifier, the event, and the id that it gets."""

_TO_FUNCTION: Final = "function"
_RECORD: Final = ">"
_DEAD_LETTER: Final = "!"
"""Before a destination, what makes the name of its lane: no function's name begins so."""

_FUNCTION: Final = re.compile(
    r"arn:aws[a-zA-Z0-9-]*:lambda:[a-z0-9-]+:\d{12}:function:([a-zA-Z0-9-_]{1,64})"
    r"(?::(\$LATEST|[a-zA-Z0-9-_]{1,128}))?"
)


class Refused(Exception):
    """The destination did not take it. The message says why; it may take it another time."""


def lane_of_record(destination: str) -> str:
    return _RECORD + destination


def lane_of_dead_letter(destination: str) -> str:
    return _DEAD_LETTER + destination


def is_delivery(lane: str) -> bool:
    return lane[0] in (_RECORD, _DEAD_LETTER)


def is_dead_letter(lane: str) -> bool:
    return lane[0] == _DEAD_LETTER


def destination_of(lane: str) -> str:
    return lane[1:]


def function_of_arn(destination: str) -> tuple[str, str] | None:
    """Name and qualifier of a function that is a destination; None if it is none."""
    found = _FUNCTION.fullmatch(destination)
    return (found[1], found[2] or "") if found else None


def kind_of(destination: str) -> str:
    """Which adapter it needs: `function`, `sqs` and so on for ARNs, else the scheme of the URL."""
    if function_of_arn(destination):
        return _TO_FUNCTION
    if destination.startswith("arn:"):
        return destination.split(":", 3)[2]
    return destination.partition("://")[0] if "://" in destination else ""


class Destinations:
    """`allowed` are patterns, as of file names, of what records may be sent to beside functions."""

    def __init__(self, adapters: Mapping[str, Adapter], allowed: Sequence[str]) -> None:
        self.put_record: PutRecord | None = None
        """Into the queue, for a function; None where there is no queue, and nothing to deliver."""
        self._adapters = adapters
        self._allowed = allowed

    def check(self, destination: str) -> None:
        """Raises InvalidRequest for what is none, or is not allowed here."""
        if len(destination) > MOST_LENGTH or not destination.isprintable():
            raise InvalidRequest(
                f"the destination {destination[:80]!r} has more than {MOST_LENGTH} characters"
            )
        kind = kind_of(destination)
        if kind != _TO_FUNCTION and kind not in self._adapters:
            raise InvalidRequest(
                f"{destination[:200]!r} is no destination: docs/async.md has their forms, such as a "
                "function's ARN or the URL of a webhook"
            )
        if kind != _TO_FUNCTION and not self.allows(destination):
            raise InvalidRequest(
                f"this fleet sends nothing to {destination[:200]!r}: whoever runs it has to allow that, with "
                "the frontends' setting `destinations`"
            )

    def allows(self, destination: str) -> bool:
        return any(fnmatchcase(destination, pattern) for pattern in self._allowed)

    async def deliver(self, lane: str, record: Record) -> None:
        """Raises Refused."""
        destination = destination_of(lane)
        if function := function_of_arn(destination):
            await self._to_function(*function, record)
            return
        adapter = self._adapters.get(kind_of(destination))
        if adapter is None or not self.allows(destination):
            raise Refused(f"this frontend sends nothing to {destination}")
        await adapter(destination, record)

    async def _to_function(self, name: str, qualifier: str, record: Record) -> None:
        assert self.put_record is not None
        try:
            await self.put_record(name, qualifier, record.body, new_request_id())
        except LambentError as error:
            raise Refused(error.message) from error
