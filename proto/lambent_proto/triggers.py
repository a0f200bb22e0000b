"""Triggers: which source's records a function is called with, and how. The values kept in etcd."""

from dataclasses import asdict, dataclass
from typing import Any, Final

import msgpack

from lambent_proto.ids import FunctionName

KINDS: Final = ("sqs", "kinesis", "kafka", "rabbitmq", "redis", "nats", "folder", "s3")
STREAMS: Final = ("kinesis", "kafka")
"""Kinds that keep their records, and that are read in order; the others are queues."""
OBJECTS: Final = ("folder", "s3")
"""Kinds whose records are files or objects that appear."""

UNLIMITED: Final = -1


class BadTrigger(ValueError):
    """What is stored as a trigger is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trigger:
    """One trigger. Names and defaults are Lambda's, as far as it has them."""

    id: str
    """A UUID."""
    function: FunctionName
    qualifier: str = ""
    kind: str
    source: str
    """ARN of the queue, stream or broker."""
    queue: str = ""
    """Of a message broker; of Kafka the topic."""
    servers: tuple[str, ...] = ()
    """Of Kafka, HOST:PORT each, where whoever made it named it by them."""
    consumer_group: str = ""
    """Of Kafka; empty: one of its own."""
    access: tuple[tuple[str, str], ...] = ()
    """Lambda's SourceAccessConfigurations, type and URI. Only VIRTUAL_HOST has an effect."""
    starting_position: str = ""
    """TRIM_HORIZON or LATEST, of streams also AT_TIMESTAMP; empty for queues."""
    starting_at: float = 0.0
    """Unix seconds, with AT_TIMESTAMP."""
    enabled: bool = True
    batch_size: int
    window_s: float = 0.0
    filters: tuple[str, ...] = ()
    """Patterns, JSON."""
    partial: bool = False
    """Whether answers report which records failed: ReportBatchItemFailures."""
    max_concurrency: int = 0
    """Batches at one time of a queue; 0: no limit of its own."""
    parallelization: int = 1
    """Batches at one time of a shard."""
    max_retries: int = UNLIMITED
    max_age_s: int = UNLIMITED
    bisect: bool = False
    on_failure: str = ""
    """ARN of what is told of records that were given up."""
    pending: str = "Creating"
    """What it is called until a frontend has done what was asked last."""
    modified_at: float = 0.0
    """Unix time in seconds."""

    @property
    def is_stream(self) -> bool:
        return self.kind in STREAMS

    @property
    def group(self) -> str:
        """What it is called at a source that keeps how far each of its readers is."""
        return self.consumer_group or f"lambent-{self.id}"

    @property
    def asked(self) -> str:
        """The function as invocations name it."""
        return f"{self.function}:{self.qualifier}" if self.qualifier else self.function

    def encode(self) -> bytes:
        return bytes(msgpack.packb(asdict(self)))

    @classmethod
    def decode(cls, value: bytes) -> "Trigger":
        """Fields of a newer release are ignored, those of an older one are defaults. Raises BadTrigger."""
        try:
            fields: dict[str, Any] = msgpack.unpackb(value)
            fields["filters"] = tuple(fields.get("filters", ()))
            fields["servers"] = tuple(fields.get("servers", ()))
            fields["access"] = tuple((kind, uri) for kind, uri in fields.get("access", ()))
            return cls(**{name: fields[name] for name in cls.__dataclass_fields__ if name in fields})
        except (ValueError, TypeError, AttributeError, msgpack.UnpackException) as error:
            raise BadTrigger(f"{type(error).__name__}: {error}") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class TriggerStatus:
    """What the frontend that has a trigger says of it, for people."""

    revision: int = 0
    """Of the trigger's key in etcd: that which has been put into effect."""
    frontend: str = ""
    result: str = ""
    """Of the last call, as Lambda's LastProcessingResult has it."""
    error: str = ""
    """The last one, of a call or of the source; empty once things go well again."""
    lag: int | None = None
    """Records in the source that were not read yet, where it says."""
    rate: float = 0.0
    """Records a second that were done with, of late."""
    records: int = 0
    """Done with since this frontend has the trigger."""
    at: float = 0.0
    """Unix seconds."""

    def encode(self) -> bytes:
        return bytes(msgpack.packb(asdict(self)))

    @classmethod
    def decode(cls, value: bytes) -> "TriggerStatus":
        fields: dict[str, Any] = msgpack.unpackb(value)
        return cls(**{name: fields[name] for name in cls.__dataclass_fields__ if name in fields})
