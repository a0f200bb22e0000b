"""What a worker is told at its start."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from lambent_chassis.settings import BadSettings, CommaSeparated, Port, Settings
from lambent_proto import labels
from lambent_proto.ids import MIN_MEMORY_MB
from lambent_proto.shards import MOST_SHARDS, Shard

if TYPE_CHECKING:
    from lambent_chassis.sealing import Opener

_MB: Final = 1024 * 1024

_GROUP_LIMITS: Final = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)
"""Of cgroup v2 and v1, as seen from inside a container."""


def memory_for_instances_mb() -> int:
    """Three quarters of what this machine, or the container around the worker, has."""
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    texts = [path.read_text().strip() for path in _GROUP_LIMITS if path.exists()]
    groups = [int(text) for text in texts if text.isdigit()]  # v2 says "max" for no limit
    return min(machine, *groups) * 3 // 4 // _MB


def _labels(given: list[str]) -> list[str]:
    if wrong := [label for label in given if not labels.is_label(label)]:
        raise ValueError(f"{wrong[0]!r} is not {labels.FORM}")
    if len(given) > labels.MOST:
        raise ValueError(f"there are {len(given)} labels, {labels.MOST} are allowed")
    return sorted(set(given))


class WorkerSettings(Settings):
    host: str = "127.0.0.1"
    """Where it listens, and what it tells the other parts to call."""
    data_port: Port = 0
    control_port: Port = 0
    metrics_port: Port = 0
    data: Path
    """Folder for the code cache, the instances' files and the logs; no other worker's."""
    packages: str
    """The package store: a folder, or a URL such as `s3://bucket/prefix`; the same for all parts."""
    environment_key: Path | None = None
    """PEM file of the private keys that open functions' environment variables: docs/security.md. None:
    functions whose variables are sealed do not start here."""
    otlp_endpoint: str = ""
    """As the frontends': collector for OpenTelemetry's spans of runs. Empty: none are made."""
    memory_mb: int = Field(default_factory=memory_for_instances_mb, ge=MIN_MEMORY_MB)
    """For all instances together."""
    shards: int = Field(default=1, ge=1, le=MOST_SHARDS)
    """How many the fleet has: docs/shards.md."""
    shard: int = Field(default=0, ge=0)
    """Which one it belongs to; the first is 0. A host that is to serve several has a worker for each."""
    labels: Annotated[CommaSeparated, AfterValidator(_labels)] = Field(default=[])
    """What functions may require or prefer of a node, each `KEY=VALUE`, such as `gpu=true`."""
    code_cache_mb: int = Field(default=10_240, ge=1)
    """For unpacked packages and layers; what instances use stays above it."""
    lease_ttl_s: float = Field(default=10.0, ge=5, le=30)
    """How long after the loss of a worker the others may count its instances as gone.

    It is renewed after a third of the time, and the instances are killed two seconds before its end: below
    five seconds one slow renewal would cost them all.
    """
    drain_s: float = Field(default=30.0, ge=0)
    """How long a worker that is told to stop may take until nothing is left on it; then it ends what is."""
    sandbox: Literal["namespaces", "bwrap", "gvisor", "landlock", "process"] = "namespaces"
    """What isolates instances. namespaces: all that a shared kernel can; process: nothing."""
    require_isolation: Literal["none", "landlock", "namespaces-user", "namespaces", "gvisor"] = "namespaces"
    """It does not start where its sandbox reaches less."""

    def opener(self) -> "Opener | None":
        """Raises BadSettings if the file of private keys cannot be used."""
        if self.environment_key is None:
            return None
        from lambent_chassis.sealing import BadKeys, Opener  # megabytes, for those alone who use it

        try:
            return Opener(self.environment_key)
        except BadKeys as bad:
            raise BadSettings(f"environment_key: {bad}") from bad

    @model_validator(mode="after")
    def _shard_is_there(self) -> Self:
        Shard(self.shard, self.shards)
        return self
