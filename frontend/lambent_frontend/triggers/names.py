"""What a trigger's source is called, and where it is.

AWS's own kinds have AWS's ARNs. Those that AWS does not have are
`arn:aws:lambent-redis:REGION:ACCOUNT:NAME/STREAM`, `arn:aws:lambent-nats:...`,
`arn:aws:lambent-kafka:REGION:ACCOUNT:NAME` and `arn:aws:lambent-folder:REGION:ACCOUNT:NAME/PREFIX`, of a form
that AWS's tools take; a bucket of S3 has AWS's own ARN, and may have `/PREFIX` behind it. A Kafka may be
named by its servers too. Where a source is, and with which password, each frontend is told by its setting
`sources`: `NAME=URL`. An ARN of SQS, Kinesis or S3 is looked for at the URL called `sqs`, `kinesis` or `s3`,
and at AWS without one; a broker, a Redis, a NATS, a Kafka and a folder by the name in its ARN.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from lambent_proto.errors import InvalidRequest
from lambent_proto.ids import ACCOUNT, REGION

_ARN: Final = re.compile(r"arn:aws[a-zA-Z0-9-]*:([a-zA-Z0-9-]+):([a-z0-9-]*):(\d{12})?:(\S{1,500})")
_REST: Final = {
    "sqs": re.compile(r"([a-zA-Z0-9_-]{1,80}(?:\.fifo)?)"),
    "s3": re.compile(r"([a-z0-9][a-z0-9.-]{2,62})(?:/(\S{1,400}))?"),
    "kinesis": re.compile(r"stream/([a-zA-Z0-9_.-]{1,128})"),
    "mq": re.compile(r"broker:([a-zA-Z0-9_-]{1,50}):\S+"),
    "lambent-folder": re.compile(r"([a-zA-Z0-9_-]{1,64})(?:/(\S{1,400}))?"),
    "lambent-kafka": re.compile(r"([a-zA-Z0-9_-]{1,64})"),
    "lambent-redis": re.compile(r"([a-zA-Z0-9_-]{1,64})/(\S{1,200})"),
    "lambent-nats": re.compile(r"([a-zA-Z0-9_-]{1,64})/([^\s.*>/\\]{1,200})"),
}
_KINDS: Final = {
    "sqs": "sqs",
    "s3": "s3",
    "kinesis": "kinesis",
    "mq": "rabbitmq",
    "lambent-folder": "folder",
    "lambent-kafka": "kafka",
    "lambent-redis": "redis",
    "lambent-nats": "nats",
}


class SourceName(NamedTuple):
    kind: str
    region: str
    account: str
    name: str
    """Of the queue or stream at AWS's kinds, else of the broker."""
    stream: str
    """At a Redis or NATS; of a folder or a bucket what keys begin with."""


def source_named(arn: str) -> SourceName:
    """Raises InvalidRequest."""
    found = _ARN.fullmatch(arn)
    if found is None:
        raise InvalidRequest(f"Unrecognized event source: {arn[:200]!r} is not an ARN")
    service, region, account, rest = found.groups(default="")
    if service not in _REST:
        raise InvalidRequest(
            f"Unrecognized event source: of {service[:80]!r} none is there, but of {', '.join(_REST)}"
        )
    named = _REST[service].fullmatch(rest)
    if named is None:
        raise InvalidRequest(f"Unrecognized event source: {arn[:200]!r} is no ARN of {service}")
    name, *stream = named.groups(default="")
    return SourceName(_KINDS[service], region, account, name, stream[0] if stream else "")


_SCHEMES: Final = {
    "sqs": ("http", "https"),
    "kinesis": ("http", "https"),
    "s3": ("http", "https"),
}
_OTHERS: Final = ("redis", "rediss", "nats", "tls", "amqp", "amqps", "kafka", "kafkas", "file")
_SERVER: Final = re.compile(r"[a-zA-Z0-9_.-]{1,253}:[0-9]{1,5}")
_NAME: Final = re.compile(r"[a-zA-Z0-9_.-]{1,64}")
_BEGINS: Final = re.compile(r"[a-zA-Z0-9_.-]*=")
KAFKA: Final = ("kafka://", "kafkas://")


def parse_sources(given: Sequence[str]) -> Mapping[str, str]:
    """The URLs by name. Raises ValueError, whose message never shows a URL: it may have a password."""
    sources: dict[str, str] = {}
    for each in _whole(given):
        name, equals, url = each.partition("=")
        if not (equals and _NAME.fullmatch(name)):
            raise ValueError(
                "sources: each is NAME=URL, and a name has the characters a-z, A-Z, 0-9, -, _ and ."
            )
        if name in sources:
            raise ValueError(f"sources: {name} is there twice")
        schemes = _SCHEMES.get(name, _OTHERS)
        if url.partition("://")[0] not in schemes or not url.partition("://")[2]:
            raise ValueError(
                f"sources: the URL of {name} begins with {' or '.join(f'{it}://' for it in schemes)}"
            )
        if not _can_be_read(url):
            raise ValueError(
                f"sources: the URL of {name} cannot be read: it is SCHEME://USER:PASSWORD@HOST:PORT/..., and "
                "in a password everything but letters and digits is written as %XX"
            )
        sources[name] = url
    return sources


def _whole(given: Sequence[str]) -> list[str]:
    """A Kafka's URL has commas between its servers, and the setting may have been taken apart there."""
    whole: list[str] = []
    for each in given:
        if whole and not _BEGINS.match(each) and whole[-1].partition("=")[2].startswith(KAFKA):
            whole[-1] += f",{each}"
        else:
            whole.append(each)
    return whole


def _can_be_read(url: str) -> bool:
    """What the libraries say of one that cannot be has parts of the password, and would be shown."""
    try:
        parts = urlsplit(url)
        if parts.scheme == "file":
            return not parts.netloc and parts.path.startswith("/")
        if url.startswith(KAFKA):
            return all(_SERVER.fullmatch(it) for it in kafka_servers(url))
        return bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        return False


def folders_of(sources: Mapping[str, str]) -> frozenset[str]:
    """The names of those that are on this machine."""
    return frozenset(name for name, url in sources.items() if url.startswith("file://"))


def kafka_servers(url: str) -> tuple[str, ...]:
    """Of a URL with several of them, HOST:PORT each."""
    return tuple(urlsplit(url).netloc.rpartition("@")[2].split(","))


def kafka_with(servers: Sequence[str], sources: Mapping[str, str]) -> str:
    """The ARN of the Kafka that has all these servers. Raises InvalidRequest if none of `sources` does."""
    for name, url in sources.items():
        if url.startswith(KAFKA) and set(servers) <= set(kafka_servers(url)):
            return f"arn:aws:lambent-kafka:{REGION}:{ACCOUNT}:{name}"
    raise InvalidRequest(
        f"no Kafka with the servers {', '.join(servers)[:500]} is known here: the setting `sources` of the "
        "frontends says which there are, NAME=kafka://HOST:PORT,HOST:PORT"
    )
