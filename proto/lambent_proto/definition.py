"""What functions and versions of layers are: the values kept in etcd, for all parts alike."""

from dataclasses import asdict, dataclass, field
from typing import Any

import msgpack

from lambent_proto.ids import LATEST as LATEST
from lambent_proto.ids import FunctionName, VersionKey

DEFAULT_MEMORY_MB = 128
DEFAULT_TIMEOUT_S = 3.0
DEFAULT_TMP_MB = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerVersion:
    """One version of a layer, as a function refers to it."""

    name: str
    version: int
    code_sha256: str
    """Hex SHA-256 of its ZIP: its name in the package store."""
    code_size: int
    """Bytes of the ZIP."""
    unzipped_size: int = 0
    """Bytes of its files."""

    @classmethod
    def known(cls, fields: dict[str, Any]) -> "LayerVersion":
        """Fields of a newer release are ignored, those of an older one take their defaults."""
        return cls(**{name: fields[name] for name in cls.__dataclass_fields__ if name in fields})


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedLayer:
    """One version of a layer as published. It never changes."""

    layer: LayerVersion
    description: str = ""
    compatible_runtimes: tuple[str, ...] = ()
    compatible_architectures: tuple[str, ...] = ()
    license: str = ""
    created_at: float = 0.0
    """Unix time in seconds."""

    def encode(self) -> bytes:
        return bytes(msgpack.packb(asdict(self)))

    @classmethod
    def decode(cls, value: bytes) -> "PublishedLayer":
        fields: dict[str, Any] = msgpack.unpackb(value)
        fields["layer"] = LayerVersion.known(fields["layer"])
        for name in ("compatible_runtimes", "compatible_architectures"):
            fields[name] = tuple(fields.get(name, ()))
        return cls(**{name: fields[name] for name in cls.__dataclass_fields__ if name in fields})


@dataclass(frozen=True, slots=True, kw_only=True)
class Definition:
    """One function as deployed. Names and defaults are Lambda's.

    `revision` is another one whenever code or configuration change, so that no two revisions of a name,
    not even over a delete and a new create, ever share one. `concurrency` is not part of it: a limit may
    change without a new instance.
    """

    name: FunctionName
    revision: str
    runtime: str
    handler: str
    code_sha256: str
    """Hex SHA-256 of the ZIP: its name in the package store."""
    code_size: int
    """Bytes of the ZIP."""
    unzipped_size: int = 0
    """Bytes of its files."""
    memory_mb: int = DEFAULT_MEMORY_MB
    timeout_s: float = DEFAULT_TIMEOUT_S
    environment: dict[str, str] = field(default_factory=dict, repr=False)
    """Values may be sealed: `lambent_proto.sealed`. They are not to be in a log by chance."""
    description: str = ""
    concurrency: int | None = None
    """Its reservation, and the most instances over the whole fleet; None shares what nobody reserves, 0
    switches the function off."""
    layers: tuple[LayerVersion, ...] = ()
    """At most five, merged at `/opt` in this order: of two files with one name the later layer's stays."""
    tmp_mb: int = DEFAULT_TMP_MB
    """Size of an instance's `/tmp`, Lambda's EphemeralStorage."""
    network: bool = False
    """Whether its instances reach the network outside of their host."""
    snapstart: bool = False
    """Whether its instances are forked from one that has imported its code."""
    require: tuple[str, ...] = ()
    """Labels without which a node is not taken, sorted."""
    prefer: tuple[str, ...] = ()
    """Nodes that have more of these labels are taken first; sorted."""
    apart: bool = False
    """Whether its instances are kept on different nodes, as far as that goes."""
    dead_letter: str = ""
    """Where events of asynchronous calls go that were given up: an ARN or a URL; empty: nowhere."""
    role: str = ""
    """Kept and shown, as Lambda's clients want it; it gives no rights."""
    tags: dict[str, str] = field(default_factory=dict)
    """Like `concurrency` no part of the revision."""
    version: str = LATEST
    modified_at: float = 0.0
    """Unix time in seconds."""
    made: str = ""
    """Its first revision: it tells a function from one that had the name before. Versions have it too."""

    @property
    def package(self) -> str:
        """What a node has to fetch for it, code and layers: another package is another text."""
        return " ".join([self.code_sha256, *(layer.code_sha256 for layer in self.layers)])

    @property
    def key(self) -> VersionKey:
        return VersionKey(f"{self.name}:{self.version}:{self.revision}")

    def encode(self) -> bytes:
        return bytes(msgpack.packb(asdict(self)))

    @classmethod
    def decode(cls, value: bytes) -> "Definition":
        """Fields of a newer release are ignored, those of an older one take their defaults."""
        fields: dict[str, Any] = msgpack.unpackb(value)
        fields["layers"] = tuple(LayerVersion.known(layer) for layer in fields.get("layers", ()))
        fields["require"] = tuple(fields.get("require", ()))
        fields["prefer"] = tuple(fields.get("prefer", ()))
        return cls(**{name: fields[name] for name in cls.__dataclass_fields__ if name in fields})
