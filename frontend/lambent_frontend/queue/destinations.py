"""Where records go: what a destination is called, and which adapter takes it there.

An adapter is a small file that gives one record to one kind of destination. It may be given the same record
again: who takes it can tell by its id.
"""

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Final, NamedTuple, Protocol

from lambent_frontend.queue.records import Record
from lambent_proto.errors import InvalidRequest, LambentError

MOST_LENGTH: Final = 350
"""Characters of a destination's name: Lambda's."""

PutRecord = Callable[[str, str, Record], Awaitable[None]]
"""Of a function's name, the qualifier, and what it is to get as an event."""

MOST_TURNS: Final = 16
"""Events in a row of which each is the record of the one before: about as many as Lambda lets go round."""

_TO_FUNCTION: Final = "function"
_RECORD: Final = ">"
_DEAD_LETTER: Final = "!"
"""Before a destination, what makes the name of its lane: no function's name begins so."""

_FUNCTION: Final = re.compile(
    r"arn:aws[a-zA-Z0-9-]*:lambda:[a-z0-9-]+:\d{12}:function:([a-zA-Z0-9-_]{1,64})"
    r"(?::(\$LATEST|[a-zA-Z0-9-_]{1,128}))?"
)


_SQS: Final = re.compile(r"arn:aws[a-zA-Z0-9-]*:sqs:([a-z0-9-]+):(\d{12}):([a-zA-Z0-9_-]{1,80}(?:\.fifo)?)")
_OF_BROKER: Final = re.compile(
    r"arn:aws[a-zA-Z0-9-]*:lambent-(nats|redis|rabbitmq):[a-z0-9-]*:\d*:([a-zA-Z0-9_-]{1,64})/(\S{1,200})"
)
_NO_SUBJECT: Final = re.compile(r"^\$|[*>]")
"""Those of NATS itself, with which its streams are changed and emptied, and patterns."""

_WEBHOOK: Final = re.compile(
    r"(https?://(?:[A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::\d{1,5})?)([/?][!-~]*)?"
)
"""Without a user or a password, which the function's configuration would show."""
_PATTERN: Final = re.compile(r"([^/]*://[^/]*)(.*)")


class Adapter(Protocol):
    async def deliver(self, destination: str, record: Record) -> None:
        """Raises whatever says that it was not taken, within a minute."""

    async def close(self) -> None:
        """Nothing is delivered any more."""


class Refused(Exception):
    """The destination did not take it. The message says why; it may take it another time."""


class GoesRound(Refused):
    """Nor will it take it another time: functions are each other's destinations."""


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


class Place(NamedTuple):
    """Of a broker of one's own: where it is, and the subject, stream or queue there."""

    url: str
    what: str


def place_of(arn: str, sources: Mapping[str, str]) -> Place:
    """Raises Refused for a broker that this frontend was not told of."""
    found = _of_broker(arn)
    if found is None or found[0] not in sources:
        raise Refused(f"this frontend's `sources` do not say where {arn} is")
    return Place(sources[found[0]], found[1])


def queue_of_sqs(arn: str) -> tuple[str, str, str]:
    """Region, account and name. Raises Refused."""
    found = _SQS.fullmatch(arn)
    if found is None:
        raise Refused(f"{arn} is no queue of SQS")
    return found[1], found[2], found[3]


def shown(destination: str) -> str:
    """As logs and messages may name it: what stands behind a webhook's host is often all that keeps
    strangers from using it."""
    found = _WEBHOOK.fullmatch(destination)
    return found[1] if found else destination


def kind_of(destination: str) -> str:
    """Which adapter it needs: `function`, or the service of an ARN, or the scheme of a URL; empty if none."""
    if function_of_arn(destination):
        return _TO_FUNCTION
    if destination.startswith("arn:"):
        return f"{destination}:::".split(":")[2]
    return destination.partition("://")[0] if "://" in destination else ""


class Destinations:
    """Functions, what the frontend's `sources` name, and what a pattern in `allowed` is for."""

    def __init__(
        self, adapters: Mapping[str, Adapter], allowed: Sequence[str], sources: Mapping[str, str]
    ) -> None:
        self._sources = sources
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
        if not (kind == _TO_FUNCTION or (kind in self._adapters and _has_its_form(kind, destination))):
            raise InvalidRequest(
                f"{destination[:200]!r} is no destination: docs/async.md has their forms, such as a "
                "function's ARN or the URL of a webhook"
            )
        if kind != _TO_FUNCTION and not self.allows(destination):
            raise InvalidRequest(
                f"this fleet sends nothing to {destination[:200]!r}: whoever runs it has to allow that, with "
                "the frontends' setting `sources` for a broker, or `destinations`"
            )

    def allows(self, destination: str) -> bool:
        """A broker by its being named."""
        if found := _of_broker(destination):
            return found[0] in self._sources
        if _SQS.fullmatch(destination) and "sqs" in self._sources:
            return True
        return any(_matches(destination, pattern) for pattern in self._allowed)

    async def deliver(self, lane: str, record: Record) -> None:
        """Raises Refused, or whatever else the adapter's library raises, if it was not taken."""
        destination = destination_of(lane)
        if function := function_of_arn(destination):
            await self._to_function(*function, record)
            return
        adapter = self._adapters.get(kind_of(destination))
        if adapter is None or not self.allows(destination):
            raise Refused(f"this frontend sends nothing to {shown(destination)}")
        await adapter.deliver(destination, record)

    async def close(self) -> None:
        for adapter in set(self._adapters.values()):
            await adapter.close()

    async def _to_function(self, name: str, qualifier: str, record: Record) -> None:
        assert self.put_record is not None
        if record.turn + 1 >= MOST_TURNS:
            raise GoesRound(
                f"the event is the {MOST_TURNS}th in a row of functions that are each other's destinations: "
                f"its record does not go on to {name}"
            )
        try:
            await self.put_record(name, qualifier, record)
        except LambentError as error:
            raise Refused(error.message) from error


def _has_its_form(kind: str, destination: str) -> bool:
    if kind == "sqs":
        return _SQS.fullmatch(destination) is not None
    if kind in ("http", "https"):
        return _WEBHOOK.fullmatch(destination) is not None
    return _of_broker(destination) is not None


def _of_broker(arn: str) -> tuple[str, str] | None:
    """A broker's name, and the subject, stream or queue there; None if it is none."""
    found = _OF_BROKER.fullmatch(arn)
    if found is None or (found[1] == "nats" and _NO_SUBJECT.search(found[3])):
        return None
    return found[2], found[3]


def _matches(destination: str, pattern: str) -> bool:
    """Of a URL the host and what stands behind it each by themselves, so that a `*` for hosts is for nothing
    that another host's path says."""
    of_url = _PATTERN.fullmatch(pattern)
    if of_url is None:
        return fnmatchcase(destination, pattern)
    webhook = _WEBHOOK.fullmatch(destination)
    if webhook is None:
        return False
    behind = of_url[2] or ("*" if of_url[1].endswith("*") else "")
    return fnmatchcase(webhook[1], of_url[1]) and fnmatchcase(webhook[2] or "", behind)
