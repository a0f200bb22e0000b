"""What is configured for the asynchronous calls of a function, a version or an alias: a value in etcd."""

from dataclasses import asdict, dataclass
from typing import Any

import msgpack


@dataclass(frozen=True, slots=True, kw_only=True)
class EventInvoke:
    """Lambda's event invoke config. What is None or empty is as if nothing were configured."""

    retries: int | None = None
    """After the function failed. Lambda's API takes 0 to 2."""
    most_age_s: int | None = None
    """How old an event may become."""
    delays_s: tuple[float, ...] = ()
    """Before each retry; the last one goes for all that follow."""
    on_success: str = ""
    """Where the record of an event goes that succeeded: an ARN or a URL."""
    on_failure: str = ""
    """Where that of one goes that was given up."""
    revision: str = ""
    """Another one with each change."""
    modified_at: float = 0.0
    """Unix time in seconds."""

    def encode(self) -> bytes:
        return bytes(msgpack.packb(asdict(self)))

    @classmethod
    def decode(cls, value: bytes) -> "EventInvoke":
        """Fields of a newer release are ignored, those of an older one take their defaults."""
        fields: dict[str, Any] = msgpack.unpackb(value)
        fields["delays_s"] = tuple(fields.get("delays_s", ()))
        return cls(**{name: fields[name] for name in cls.__dataclass_fields__ if name in fields})
