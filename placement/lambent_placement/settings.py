"""What a placement is told at its start."""

from typing import Literal

from pydantic import Field

from lambent_chassis.settings import Port, Settings


class PlacementSettings(Settings):
    host: str = "127.0.0.1"
    """Where it listens, and what it tells the other parts to call."""
    port: Port = 0
    starts: int = Field(default=1000, ge=1)
    """How many instances one function may start in ten seconds: Lambda's scaling rate."""
    keep_alive: Literal["fixed", "greedy-dual", "histogram"] = "fixed"
    """What becomes of an instance that nobody calls: docs/decisions/0012."""
    keep_alive_s: float = Field(default=3600.0, ge=0)
    """How long it is kept, unless its memory is needed: docs/decisions/0011. With `histogram`, if nothing can
    be told of its function."""
    new_instances: Literal["spread", "pack"] = "spread"
    """To the emptiest nodes; or to the fullest that have room, which leaves whole nodes empty. All else being
    equal: docs/placement.md."""
    lease_ttl_s: float = Field(default=2.0, ge=1)
    """How long after the end of a leading placement the next one may lead; renewed after a third."""
