"""Function URLs, as etcd has them."""

from dataclasses import asdict, dataclass
from typing import Any, Final

import msgpack

NONE: Final = "NONE"
AWS_IAM: Final = "AWS_IAM"
AUTH_TYPES: Final = (NONE, AWS_IAM)
"""Who is asked who they are: nobody, or everybody."""

BUFFERED: Final = "BUFFERED"
RESPONSE_STREAM: Final = "RESPONSE_STREAM"
INVOKE_MODES: Final = (BUFFERED, RESPONSE_STREAM)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cors:
    """What web pages of other origins may do, as Lambda's Cors has it. None allows nothing."""

    allow_credentials: bool | None = None
    allow_headers: tuple[str, ...] | None = None
    allow_methods: tuple[str, ...] | None = None
    allow_origins: tuple[str, ...] | None = None
    expose_headers: tuple[str, ...] | None = None
    max_age_s: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionUrl:
    """One address of a function or of an alias."""

    id: str
    """What stands before the domain: 32 of a-z and 2-7, by chance."""
    auth_type: str
    invoke_mode: str = BUFFERED
    cors: Cors | None = None
    created_at: float
    """Unix time, seconds."""
    modified_at: float
    revision: str
    """Another one with every change."""

    def encode(self) -> bytes:
        return bytes(msgpack.packb(asdict(self)))

    @classmethod
    def decode(cls, value: bytes) -> "FunctionUrl":
        """Fields of a newer release are ignored."""
        fields: dict[str, Any] = msgpack.unpackb(value)
        if fields.get("cors") is not None:
            fields["cors"] = _cors(fields["cors"])
        return cls(**{name: fields[name] for name in cls.__dataclass_fields__ if name in fields})


def _cors(fields: dict[str, Any]) -> Cors:
    known: dict[str, Any] = {name: fields[name] for name in Cors.__dataclass_fields__ if name in fields}
    known |= {name: tuple(it) for name, it in known.items() if isinstance(it, list)}
    return Cors(**known)
