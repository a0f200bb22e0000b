"""What a trigger may be like: Lambda's rules by kind, and Lambent's for the kinds that Lambda has not.

InvalidRequest says what is allowed.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from lambent_frontend.triggers.core.pattern import BadPattern, parse_all
from lambent_proto.errors import InvalidRequest
from lambent_proto.triggers import KINDS, OBJECTS, STREAMS, UNLIMITED, Trigger

MAX_BATCH: Final = 10_000
MAX_FIFO_BATCH: Final = 10
MAX_WINDOW_S: Final = 300
POSITIONS: Final = ("TRIM_HORIZON", "LATEST", "AT_TIMESTAMP")
CONCURRENCY: Final = (2, 1000)
LANES: Final = (1, 10)
MAX_RETRIES: Final = 10_000
AGES_S: Final = (60, 604_800)
_TOPIC: Final = re.compile(r"[a-zA-Z0-9_-][a-zA-Z0-9._-]{0,248}")
_GROUP: Final = re.compile(r"[a-zA-Z0-9/*:_+=.@-]{1,200}")
"""Both Lambda's."""


@dataclass(frozen=True, slots=True)
class _Default:
    batch_size: int
    window_s: float


_DEFAULTS: Final[Mapping[str, _Default]] = {
    "sqs": _Default(10, 0.0),
    "kinesis": _Default(100, 0.0),
    "kafka": _Default(100, 0.5),
    "rabbitmq": _Default(100, 0.5),
    "redis": _Default(100, 0.0),
    "nats": _Default(100, 0.0),
    "folder": _Default(1, 0.0),
    "s3": _Default(1, 0.0),
}


def with_defaults(trigger: Trigger) -> Trigger:
    """Where `batch_size` is 0 and `window_s` is below 0 they were not given. Objects begin with new
    ones, which are those that S3 tells of."""
    default = _DEFAULTS[trigger.kind]
    return replace(
        trigger,
        batch_size=trigger.batch_size or default.batch_size,
        window_s=default.window_s if trigger.window_s < 0 else trigger.window_s,
        starting_position=trigger.starting_position or ("LATEST" if trigger.kind in OBJECTS else ""),
    )


def check(trigger: Trigger) -> None:
    """Raises InvalidRequest."""
    _check_source(trigger)
    _check_batches(trigger)
    _check_failures(trigger)
    try:
        parse_all(trigger.filters)
    except BadPattern as error:
        raise InvalidRequest(f"Invalid filter pattern definition: {error}") from None


def _check_source(trigger: Trigger) -> None:
    assert trigger.kind in KINDS
    for what, given, kinds in (
        ("a queue (Queues) or a topic (Topics)", trigger.queue, ("rabbitmq", "kafka")),
        ("a StartingPosition", trigger.starting_position, (*STREAMS, *OBJECTS)),
    ):
        if trigger.kind in kinds and not given:
            raise InvalidRequest(f"a trigger of {trigger.kind} needs {what}")
        if given and trigger.kind not in kinds:
            raise InvalidRequest(f"a trigger of {trigger.kind} has no {what.partition(' ')[2]}")
    _check_kafka(trigger)
    _check_position(trigger)


def _check_kafka(trigger: Trigger) -> None:
    if trigger.kind == "kafka":
        if not _TOPIC.fullmatch(trigger.queue):
            raise InvalidRequest(f"Topics: {trigger.queue[:300]!r} is no name of a topic")
        if trigger.consumer_group and not _GROUP.fullmatch(trigger.consumer_group):
            raise InvalidRequest(f"ConsumerGroupId: {trigger.consumer_group[:300]!r} is no name of one")
    elif trigger.servers or trigger.consumer_group:
        raise InvalidRequest(f"a trigger of {trigger.kind} has no servers and no ConsumerGroupId: Kafka has")


def _check_position(trigger: Trigger) -> None:
    position = trigger.starting_position
    if position and position not in POSITIONS:
        raise InvalidRequest(f"StartingPosition is {position[:80]!r}: it is one of {', '.join(POSITIONS)}")
    if position == "AT_TIMESTAMP" and trigger.kind in OBJECTS:
        raise InvalidRequest(f"a trigger of {trigger.kind} begins at TRIM_HORIZON or at LATEST")
    if (position == "AT_TIMESTAMP") != (trigger.starting_at > 0):
        raise InvalidRequest(
            "StartingPositionTimestamp goes with StartingPosition AT_TIMESTAMP, and only with it"
        )


def _check_batches(trigger: Trigger) -> None:
    _within("BatchSize", trigger.batch_size, 1, MAX_BATCH)
    _within("MaximumBatchingWindowInSeconds", trigger.window_s, 0, MAX_WINDOW_S)
    _within("ParallelizationFactor", trigger.parallelization, *LANES)
    if trigger.kind == "sqs":
        fifo = trigger.source.endswith(".fifo")
        if fifo and (trigger.batch_size > MAX_FIFO_BATCH or trigger.window_s):
            raise InvalidRequest(
                f"a FIFO queue has a BatchSize of {MAX_FIFO_BATCH} at most, and no "
                "MaximumBatchingWindowInSeconds"
            )
        if trigger.batch_size > MAX_FIFO_BATCH and trigger.window_s < 1:
            raise InvalidRequest(
                "Maximum batch window in seconds must be greater than 0 if maximum batch size is greater "
                "than 10"
            )
    if trigger.parallelization > 1 and trigger.kind != "kinesis":
        raise InvalidRequest(f"a trigger of {trigger.kind} has no ParallelizationFactor")
    if trigger.max_concurrency:
        if trigger.kind in STREAMS:
            raise InvalidRequest(f"a trigger of {trigger.kind} has no MaximumConcurrency")
        _within("MaximumConcurrency", trigger.max_concurrency, *CONCURRENCY)


def _check_failures(trigger: Trigger) -> None:
    if trigger.max_retries != UNLIMITED:
        _within("MaximumRetryAttempts", trigger.max_retries, 0, MAX_RETRIES)
    if trigger.max_age_s != UNLIMITED:
        _within("MaximumRecordAgeInSeconds", trigger.max_age_s, *AGES_S)
    if trigger.kind not in STREAMS and (trigger.bisect or trigger.max_age_s != UNLIMITED):
        raise InvalidRequest(
            f"a trigger of {trigger.kind} has no BisectBatchOnFunctionError and no "
            "MaximumRecordAgeInSeconds: a queue gives a record that failed out again by itself"
        )
    if trigger.kind == "sqs" and (trigger.max_retries != UNLIMITED or trigger.on_failure):
        raise InvalidRequest(
            "a trigger of sqs has no MaximumRetryAttempts and no destination: the queue's own redrive policy "
            "says how often a message is given out, and where it goes then"
        )


def _within(what: str, value: float, least: float, most: float) -> None:
    if not least <= value <= most:
        raise InvalidRequest(f"{what} is {value:g}; allowed: {least:,} to {most:,}")
